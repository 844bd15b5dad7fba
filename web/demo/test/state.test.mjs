// State without a page: merging two tabs' turns, fitting a context, download speed, and the kind of a dropped file.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const load = async (path) => (await runnerImport(fileURLToPath(new URL(path, import.meta.url)), { logLevel: "error" })).module;
const { merge } = await load("../src/state/merge.ts");
const { compose, prompt } = await load("../src/state/conversation.ts");
const { Room } = await load("../src/state/room.ts");
const { Pace, timeLeft } = await load("../src/state/pace.ts");
const { judge } = await load("../src/models/dropped.ts");

test("nothing in the page trusts that an element is still there", () => {
  const folder = new URL("../src/ui/", import.meta.url);
  const trusting = readdirSync(folder).filter((name) => /\.current!/.test(readFileSync(new URL(name, folder), "utf8")));
  assert.deepEqual(trusting, [], "a ref is null as soon as its element is gone, and handlers, observers and timers run behind that");
});

/** `q1` is a question, `a1` an answer; its text follows a colon. */
const turn = (word) => {
  const [id, content = id] = word.split(":");
  return id.startsWith("q") ? { role: "user", id, content } : { role: "assistant", id, content, end: "stop" };
};
const turns = (words) => words.split(" ").filter(Boolean).map(turn);

test("the changes of two tabs are merged, and nothing that either added is lost", () => {
  const table = [
    // What both know, what this tab shows, what is stored by now, and the result.
    ["q1 a1", "q1 a1 q2 a2", "q1 a1", "q1 a1 q2 a2"],
    ["q1 a1", "q1 a1", "q1 a1 q2 a2", "q1 a1 q2 a2"],
    ["q1 a1", "q1 a1 q3 a3", "q1 a1 q2 a2", "q1 a1 q2 a2 q3 a3"],
    ["q1 a1 q2 a2", "q1 a1", "q1 a1 q2 a2", "q1 a1"],
    ["q1 a1 q2 a2", "q1 a1 q2 a2", "q1 a1", "q1 a1"],
    ["q1 a1 q2 a2", "q5 a5", "q1 a1 q2 a2 q3 a3", "q3 a3 q5 a5"],
    ["q1 a1", "q1 a1:new", "q1 a1 q2", "q1 a1:new q2"],
    ["", "q1", "q2", "q2 q1"],
  ];
  for (const [base, mine, theirs, expected] of table) {
    const known = turns(base);
    const same = (list) => turns(list).map((turn) => known.find(({ id, content }) => id === turn.id && content === turn.content) ?? turn);
    const of = (turns, version) => ({ id: "c", title: "", named: false, updated: version, version, turns });
    const found = merge(of(known, 1), of(same(mine), 1), of(turns(theirs), 2));
    assert.equal(found.turns.map(({ id, content }) => (id === content ? id : `${id}:${content}`)).join(" "), expected);
    assert.equal(found.version, 2);
  }
  const [base, mine] = [{ id: "c", title: "Old", named: false, updated: 1, version: 1, turns: [] }, { id: "c", title: "Mine", named: true, updated: 1, version: 1, turns: [] }];
  assert.equal(merge(base, mine, { ...base, version: 2, title: "Theirs", named: true }).title, "Mine", "named here last");
  assert.equal(merge(base, base, { ...base, version: 2, title: "Theirs", named: true }).title, "Theirs");
});

test("a prompt omits refused, stopped and dropped turns, and never has two questions in a row", () => {
  const refused = { ...turn("a2:"), end: "refused" };
  const said = (turns) => prompt("", turns).map(({ content }) => content).join(" | ");
  assert.equal(said([...turns("q1 a1 q2"), refused, turn("q3")]), "q1 | a1 | q3");
  assert.equal(said([...turns("q1 a1"), turn("q2"), turn("a2:"), turn("q3")]), "q1 | a1 | q2\n\nq3");
  assert.equal(said(turns("q1 a1 q2 a2 q3").map((turn, index) => (index < 2 ? { ...turn, read: 0 } : turn))), "q2 | a2 | q3");
  assert.equal(said([{ ...turn("q1:abcdef"), read: 3 }]), "abc");
  const made = compose("Be brief.", [turn("q1:short"), turn("q2:much longer"), turn("a2")]);
  assert.deepEqual(made.turns.map((turn) => turn?.id ?? null), [null, "q2", "a2"], "a message counts for the turn that most of it is from");
});

/** One token for each character, and two around each message. */
const counting = (context) => ({
  context,
  renderPrompt: async (messages) => {
    const message = messages.flatMap(({ content }, index) => [-1, ...Array(content.length).fill(index), -1]);
    return { message, tokens: message.map(() => 0), pieces: [] };
  },
});

test("the part that is too long is named, and each offered way fits", async () => {
  const x = (length) => "x".repeat(length);
  const table = [
    // The context and the turns; the longest turn, how many turns to drop, and whether shortening helps.
    [100, `q1:${x(60)} a1:ok q2:${x(40)}`, "q1", 2, true],
    [100, `q1:${x(30)} a1:${x(10)} q2:${x(30)} a2:${x(10)} q3:${x(30)}`, "q1", 2, false],
    [100, `q1:hi a1:ok q2:${x(500)}`, "q2", null, true],
    // Hardly anything of the question would be left beside what precedes it.
    [100, `q1:${x(30)} a1:${x(30)} q2:${x(500)}`, "q2", null, true],
    [40, `q1:${x(20)} a1:${x(20)} q2:${x(25)}`, "q2", 2, true],
  ];
  for (const [context, list, long, leave, shorten] of table) {
    const [headstart, all] = [counting(context), turns(list)];
    const room = new Room(headstart, "", 20);
    const made = compose("", all);
    const found = await room.overflow(all, made, await headstart.renderPrompt(made.messages));
    assert.deepEqual([found.longest.turn, found.leave, found.shorten], [long, leave, shorten], list);
    const size = async (turns) => (await headstart.renderPrompt(prompt("", turns))).tokens.length;
    const [left, cut] = [await room.withoutOldest(all), await room.shortened(all)];
    assert.equal(left !== null, leave !== null);
    assert.equal(cut !== null, shorten);
    for (const fitting of [left, cut]) {
      if (!fitting) continue;
      assert.ok((await size(fitting)) <= context - Math.min(20, Math.floor(context / 4)), "with room for an answer");
      assert.deepEqual(fitting.map(({ content }) => content), all.map(({ content }) => content), "nothing that was said is lost");
    }
  }
  const alone = await new Room(counting(50), x(90), 20).overflow(turns("q1:hi"), compose(x(90), turns("q1:hi")), await counting(50).renderPrompt(prompt(x(90), turns("q1:hi"))));
  assert.deepEqual([alone.longest.turn, alone.leave, alone.shorten], [null, null, false], "the system prompt");
  const emoji = await new Room(counting(100), "", 20).shortened(turns(`q1:${"😀".repeat(80)}`));
  assert.equal(emoji[0].read % 2, 0, "not within a character");
});

test("the speed counts downloaded bytes alone, and gives the time left", () => {
  const pace = new Pace();
  assert.equal(pace.see(0, 0), null);
  assert.equal(pace.see(9e9, 400), null, "from the disk");
  assert.equal(pace.see(9e9 + 1e6, 900), null);
  assert.equal(pace.see(9e9 + 2e6, 1900), 1e6);
  for (let second = 3; second <= 20; second += 1) pace.see(9e9 + 2e6 + (second - 2) * 5e6, second * 1000);
  assert.equal(pace.see(9e9 + 2e6 + 19 * 5e6, 21_000), 5e6);
  assert.deepEqual([timeLeft(5, 1), timeLeft(47, 1), timeLeft(600, 1), timeLeft(9000, 1), timeLeft(5, 0)], ["a few seconds left", "45 s left", "10 min left", "3 h left", null]);
});

test("a file's kind is told by its first bytes, not by its name", async () => {
  const header = (text) => `\x7f\0\0\0\0\0\0\0${text}`;
  const table = [
    [{ "a.gguf": "GGUF..." }, "model"],
    [{ "a.bin": "GGUF...", "README.md": "read me" }, "model"],
    [{ "b-00001-of-00002.gguf": "GGUF", "b-00002-of-00002.gguf": "GGUF" }, "model"],
    [{ "model.safetensors": header("{}"), "config.json": "{}", "tokenizer.json": "{}" }, "model"],
    [{ "x.safetensors": header('{"__metadata__":{"digest":"0","format":"headstart-pack/1"}}') }, "pack"],
    [{ "b-00002-of-00003.gguf": "GGUF" }, /^2 parts of “b” are missing\. Choose or drop all 3 together\.$/],
    [{ "a.gguf": "GGUF", "b.gguf": "GGUF" }, /^These are 2 models\./],
    [{ "model.safetensors": header("{}") }, /“model\.safetensors” needs config\.json/],
    [{ "a.gguf": "" }, /^“a\.gguf” is empty\.$/],
    [{ "a.gguf": "\n<!DOCTYPE html>" }, /is a web page/],
    [{ "a.gguf": "version https://git-lfs.github.com/spec/v1" }, /Git LFS/],
    [{ "a.pth": "PK\u0003\u0004" }, /zip/],
    [{ "notes.txt": "Dear all" }, /^“notes\.txt” is not a model\. A model is a GGUF file, or safetensors with config\.json and tokenizer\.json\.$/],
    [{ "config.json": "{}" }, /is not a model/],
  ];
  for (const [files, expected] of table) {
    const found = await judge(Object.entries(files).map(([name, text]) => new File([text], name)));
    if (typeof expected === "string") assert.equal(found.kind, expected, Object.keys(files).join());
    else assert.match(found.why ?? found.kind, expected);
  }
  const folder = Object.assign(new File(["x"], "folder"), { slice: () => ({ arrayBuffer: () => Promise.reject(new Error("a folder")) }) });
  assert.match((await judge([folder])).why, /“folder” cannot be read\. Drop files, not a folder\./);
});
