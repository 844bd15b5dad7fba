// From accounts to cells: a table, and properties of every account.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const { module } = await runnerImport(fileURLToPath(new URL("../src/cache/strip.ts", import.meta.url)), { logLevel: "error" });
const { cells, runs, ownership } = module;

const sources = (some) => ({ gpu: 0, memory: 0, disk: 0, remote: 0, pack: 0, computed: 0, ...some });
const load = (tier, tokens, load = true) => ({ tier, tokens, load, load_ms: null, prefill_ms: null });
const short = (found) => found.map(({ source, tokens }) => `${source} ${tokens}`).join(", ");

test("runs keep the order in which tiers were loaded, if it is known", () => {
  const table = [
    [{ sources: sources({ computed: 9 }) }, "computed 9"],
    [{ sources: sources({ gpu: 32, computed: 1 }) }, "gpu 32, computed 1"],
    [
      { sources: sources({ gpu: 16, memory: 32, disk: 16, computed: 4 }), choices: [load("memory", 16), load("disk", 16), load("memory", 16)] },
      "gpu 16, memory 16, disk 16, memory 16, computed 4",
    ],
    // Tokens that were chosen and could not be loaded leave the order unknown: nearest first.
    [{ sources: sources({ memory: 16, disk: 16, computed: 20 }), choices: [load("disk", 32), load("memory", 16)] }, "memory 16, disk 16, computed 20"],
    [{ sources: sources({ pack: 16, computed: 33 }), choices: [load("pack", 16), load("disk", 32, false)] }, "pack 16, computed 33"],
  ];
  for (const [account, expected] of table) assert.equal(short(runs(account)), expected);
});

test("cells cover each token once, never span two sources or two messages, and stay within bounds", () => {
  let seed = 7;
  const random = (below) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
  for (let round = 0; round < 300; round += 1) {
    const all = ["gpu", "disk", "computed"].map((source) => ({ source, tokens: 1 + random(900) })).slice(random(3));
    const total = all.reduce((sum, run) => sum + run.tokens, 0);
    const message = Array.from({ length: total }, () => 0).map((_, at) => Math.floor(at / (20 + (round % 50))));
    const owned = round % 3 === 0 ? [] : ownership(message);
    const limit = 1 + random(400);
    const found = cells(all, owned, limit);
    assert.ok(found.length <= limit + all.length + owned.length);
    const source = all.flatMap((run) => Array(run.tokens).fill(run.source));
    let at = 0;
    for (const cell of found) {
      assert.equal(cell.from, at);
      for (let token = at; token < at + cell.tokens; token += 1) {
        assert.equal(source[token], cell.source);
        if (owned.length > 0) assert.equal(message[token], cell.message);
      }
      assert.equal(cell.opens, owned.length > 0 && at > 0 && message[at] !== message[at - 1]);
      at += cell.tokens;
    }
    assert.equal(at, total);
  }
});

test("cells gather the runs of one owner", () => {
  assert.deepEqual(ownership([0, 0, -1, 1, 1, 1]), [
    { message: 0, tokens: 2 },
    { message: -1, tokens: 1 },
    { message: 1, tokens: 3 },
  ]);
  assert.deepEqual(ownership([]), []);
});
