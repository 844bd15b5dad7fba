// Answers, over both cores: shapes, streams, aborts, errors, several at once, a lost device.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { HeadstartError } from "../../dist/errors.js";
import { installBrowser } from "../support/fakes.mjs";
import { collect, local, remote, say, textOf } from "../support/create.mjs";

beforeEach(() => installBrowser());

const rejectsWith = (promise, code, fields = {}) =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof HeadstartError, String(error));
    assert.equal(error.code, code, error.message);
    for (const [name, value] of Object.entries(fields)) assert.equal(error[name], value);
    return true;
  });

for (const [name, create] of Object.entries({ local, remote })) {
  describe(name, () => {
    test("a whole answer has OpenAI's shape and the account", async () => {
      const headstart = await create();
      const answer = await headstart.chat.completions.create({ messages: say("hello") });
      assert.equal(answer.object, "chat.completion");
      assert.match(answer.id, /^chatcmpl-/);
      assert.deepEqual(answer.choices, [{ index: 0, message: { role: "assistant", content: "hello" }, finish_reason: "length" }]);
      assert.deepEqual(answer.usage, { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10, prompt_tokens_details: { cached_tokens: 0 } });
      assert.equal(answer.headstart.cache.sources.computed, 5);
      assert.equal(answer.headstart.finish, "length");
      await headstart.dispose();
    });

    test("a stream begins with the role and ends with reason, usage and account", async () => {
      const headstart = await create();
      const chunks = await collect(await headstart.chat.completions.create({ messages: say("hey"), stream: true }));
      assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
      assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
      assert.equal(textOf(chunks), "hey");
      const last = chunks.at(-1);
      assert.equal(last.choices[0].finish_reason, "length");
      assert.equal(last.usage.completion_tokens, 3);
      assert.ok(chunks.slice(0, -1).every(({ usage, choices: [choice] }) => !usage && choice.finish_reason === null));
      await headstart.dispose();
    });

    test("completions take text and tokens", async () => {
      const headstart = await create();
      const text = await headstart.completions.create({ prompt: "abc" });
      assert.deepEqual([text.object, text.choices[0].text, text.usage.total_tokens], ["text_completion", "abc", 6]);
      const tokens = await headstart.completions.create({ prompt: new Uint32Array([120, 121]), stream: true });
      assert.equal(textOf(await collect(tokens)), "xy");
      await headstart.dispose();
    });

    test("every field of a request reaches the engine, which knows the fields", async () => {
      const control = {};
      const headstart = await create(control, { cache: { salt: "tenant" } });
      await headstart.chat.completions.create({
        messages: say("x"), model: "any", stop: "end", max_tokens: 9, max_completion_tokens: 2, seed: 7, temperature: 0, cache_salt: "user",
      });
      assert.deepEqual(control.requests[0], {
        messages: say("x"), model: "any", stop: "end", max_tokens: 9, max_completion_tokens: 2, seed: 7, temperature: 0, cache_salt: '["tenant","user"]',
      });
      await headstart.dispose();
    });

    test("cache: false asks for no cache each time and opens no store", async () => {
      const control = {};
      const headstart = await create(control, { cache: false });
      await headstart.chat.completions.create({ messages: say("x") });
      assert.equal(control.requests[0].no_cache, true);
      assert.equal(control.options.store, undefined);
      assert.equal(control.options.memoryBytes, 0);
      await headstart.dispose();
    });

    test("unknown fields reach it too, and values that are no data are refused", async () => {
      const control = {};
      const headstart = await create(control);
      await headstart.chat.completions.create({ messages: say("x"), max_token: 5, n: 2, onToken() {}, signal: new AbortController().signal, onPromptProgress() {} });
      assert.deepEqual(control.requests.pop(), { messages: say("x"), max_token: 5, n: 2, onToken: "a function" });
      await headstart.completions.create({ prompt: new Uint8Array([120]), echo: true });
      assert.deepEqual(control.requests.pop(), { tokens: [120], echo: true });
      await headstart.prefix.warm({ messages: say("x"), tool: [] });
      assert.deepEqual(control.requests.pop(), { messages: say("x"), tool: [] });
      await headstart.chat.completions.create({ messages: say("x"), max_tokens: undefined, top_p: NaN, top_k: Infinity });
      assert.deepEqual(control.requests.pop(), { messages: say("x"), top_p: "NaN", top_k: "Infinity" });
      const circular = {};
      circular.itself = circular;
      for (const value of [1n, circular]) await rejectsWith(headstart.chat.completions.create({ messages: say("x"), metadata: value }), "bad_request");
      assert.equal((await headstart.chat.completions.create({ messages: say("on") })).choices[0].message.content, "on");
      await headstart.dispose();
    });

    test("several answers advance together", async () => {
      const control = {};
      const headstart = await create(control);
      const words = ["one", "three", "seventeen"];
      const answers = await Promise.all(words.map((word) => headstart.chat.completions.create({ messages: say(word) })));
      assert.deepEqual(answers.map(({ choices: [{ message }] }) => message.content), words);
      assert.ok(control.steps < 17, `${control.steps} steps for 17 tokens`);
      await headstart.dispose();
    });

    test("leaving the loop frees the sequence", async () => {
      const control = {};
      const headstart = await create(control);
      for await (const chunk of await headstart.chat.completions.create({ messages: say("abcdefgh"), max_tokens: 10_000, stream: true })) {
        if (chunk.choices[0].delta.content) break;
      }
      await headstart.prefix.clear();
      assert.equal(control.cancelled, 1, "what needs the engine comes after the cancel");
      const { steps } = control;
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.ok(control.steps - steps <= 1, "it goes on stepping");
      await headstart.dispose();
    });

    test("a signal ends an answer with an error: before it, during it, and a whole one", async () => {
      const control = {};
      const headstart = await create(control);
      await rejectsWith(headstart.chat.completions.create({ messages: say("x"), signal: AbortSignal.abort() }), "aborted");
      const stop = new AbortController();
      const read = async () => {
        for await (const chunk of await headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, stream: true, signal: stop.signal })) {
          if (chunk.choices[0].delta.content) stop.abort();
        }
      };
      await rejectsWith(read(), "aborted");
      await rejectsWith(headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, signal: AbortSignal.timeout(20) }), "aborted");
      await headstart.prefix.clear();
      assert.equal(control.cancelled, 2);
      await headstart.dispose();
    });

    test("abort() ends a stream with its account and no error", async () => {
      const headstart = await create();
      const stream = await headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, stream: true });
      const chunks = [];
      for await (const chunk of stream) {
        chunks.push(chunk);
        if (chunks.length === 3) stream.abort();
      }
      assert.equal(chunks.at(-1).headstart.finish, "cancelled");
      assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
      assert.ok(chunks.at(-1).usage.completion_tokens < 100);
      await headstart.dispose();
    });

    test("toReadableStream gives the same chunks, and cancelling it cancels", async () => {
      const control = {};
      const headstart = await create(control);
      const stream = await headstart.chat.completions.create({ messages: say("abc"), stream: true });
      assert.equal(textOf(await collect(stream.toReadableStream())), "abc");
      const reader = (await headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, stream: true })).toReadableStream().getReader();
      await reader.read();
      await reader.cancel();
      await headstart.prefix.clear();
      assert.equal(control.cancelled, 1);
      await headstart.dispose();
    });

    test("errors keep code, message and fields, and other answers continue", async () => {
      const headstart = await create();
      const good = headstart.chat.completions.create({ messages: say("fine") });
      await rejectsWith(headstart.chat.completions.create({ messages: say("x"), temperature: -1 }), "bad_request", { field: "temperature" });
      assert.equal((await good).choices[0].message.content, "fine");
      await headstart.dispose();
    });

    test("create throws for a stream that the engine refuses", async () => {
      const headstart = await create();
      await rejectsWith(headstart.chat.completions.create({ messages: say("x"), temperature: -1, stream: true }), "bad_request", { field: "temperature" });
      await rejectsWith(headstart.completions.create({ prompt: "x", temperature: -1, stream: true }), "bad_request", { field: "temperature" });
      await headstart.dispose();
      await rejectsWith(headstart.chat.completions.create({ messages: say("x"), stream: true }), "disposed");
    });

    test("a stream can be read once", async () => {
      const headstart = await create();
      const twice = (error) => error.code === "bad_input" && /once/.test(error.message);
      const stream = await headstart.chat.completions.create({ messages: say("abc"), stream: true });
      assert.equal(textOf(await collect(stream)), "abc");
      await assert.rejects(collect(stream), twice);
      assert.throws(() => stream.toReadableStream(), twice);
      const left = await headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, stream: true });
      for await (const _ of left) break;
      await assert.rejects(collect(left), twice);
      await headstart.dispose();
    });

    test("a stream that nobody reads pauses, others continue, and it resumes where it paused", async () => {
      const control = {};
      const headstart = await create(control);
      const request = { messages: say("abc"), max_tokens: 1000, stream: true };
      const [unread, other] = [await headstart.chat.completions.create(request), await headstart.chat.completions.create(request)];
      let steps = -1;
      const settle = async () => {
        while (control.steps !== steps) {
          steps = control.steps;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      await settle();
      assert.ok(steps < 200, `${steps} steps for nobody`);
      assert.equal(textOf(await collect(other)).length, 1000);
      await settle();
      const before = steps;
      const chunks = unread[Symbol.asyncIterator]();
      assert.equal((await chunks.next()).value.choices[0].delta.role, "assistant");
      let text = "";
      while (text.length < 400) text += (await chunks.next()).value.choices[0].delta.content;
      assert.equal(text, "abc".repeat(134).slice(0, 400));
      await settle();
      assert.ok(steps - before < 600, `${steps - before} steps for 400 pieces`);
      // Left while it stands still, and while it is waited for.
      await chunks.return();
      await headstart.prefix.clear();
      assert.equal(control.cancelled, 1);
      const waiting = (await headstart.chat.completions.create(request))[Symbol.asyncIterator]();
      await waiting.return();
      await headstart.prefix.clear();
      assert.deepEqual([control.cancelled, await waiting.next()], [2, { done: true, value: undefined }]);
      await headstart.dispose();
    });

    test("answers go on after a call that holds the engine for a while", async () => {
      const control = {};
      const headstart = await create(control);
      const request = { messages: say("abc"), max_tokens: 60, stream: true };
      let cleared;
      let text = "";
      for await (const chunk of await headstart.chat.completions.create(request)) {
        text += chunk.choices[0].delta.content ?? "";
        // From the middle of a step on, and while the loop is between two.
        if (text.length === 8 || text.length === 9) cleared = headstart.prefix.clear();
        if (text.length === 20) await (cleared = headstart.prefix.clear());
      }
      assert.equal(text, "abc".repeat(20));
      await cleared;
      assert.equal((await headstart.chat.completions.create({ messages: say("next") })).choices[0].message.content, "next");
      await headstart.dispose();
    });

    test("a stream that was garbage-collected ends", async () => {
      setFlagsFromString("--expose-gc");
      const collectGarbage = runInNewContext("gc");
      const control = {};
      const headstart = await create(control);
      await headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, stream: true });
      await headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000, stream: true }).then((stream) => stream[Symbol.asyncIterator]().next());
      while (control.cancelled < 2) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        collectGarbage();
      }
      await headstart.dispose();
    });

    test("a lack of memory ends the current answers and no later ones", async () => {
      const control = {};
      const headstart = await create(control);
      control.failStep = { code: "out_of_memory", message: "no room", bytes: 4096 };
      await rejectsWith(headstart.chat.completions.create({ messages: say("x") }), "out_of_memory", { bytes: 4096 });
      control.failStep = undefined;
      assert.equal((await headstart.chat.completions.create({ messages: say("again") })).choices[0].message.content, "again");
      await headstart.dispose();
    });

    test("a fault of the engine ends everything", async () => {
      const control = {};
      const headstart = await create(control);
      control.failStep = new Error("unreachable");
      await rejectsWith(headstart.chat.completions.create({ messages: say("x") }), "internal");
      await rejectsWith(headstart.tokenize("x"), "internal");
      await headstart.dispose();
    });

    test("a failed step ends each answer with the engine's error", async () => {
      const control = {};
      const headstart = await create(control);
      control.failStep = { code: "device_lost", message: "the GPU was lost" };
      const answers = ["x", "y"].map((content) => rejectsWith(headstart.chat.completions.create({ messages: say(content) }), "device_lost"));
      await Promise.all(answers);
      assert.equal(control.loads, 1);
      await headstart.dispose();
    });

    test("a stream survives a lost device, and reports it", async () => {
      const control = { loseAt: [3, 6] };
      const headstart = await create(control);
      const read = [];
      const onPromptProgress = (progress) => read.push(progress);
      const chunks = await collect(await headstart.chat.completions.create({ messages: say("abcdefgh"), stream: true, onPromptProgress }));
      assert.equal(textOf(chunks), "abcdefgh");
      assert.equal(chunks.at(-1).headstart.recovered, 2);
      assert.deepEqual(read, Array(3).fill({ done: 8, total: 8 }));
      await headstart.dispose();
    });

    test("the progress of a prompt comes before its text, and a listener that throws does no harm", async () => {
      const told = [];
      const headstart = await create();
      const onPromptProgress = (progress) => {
        told.push(progress);
        throw new Error("a listener's own");
      };
      const answer = await headstart.completions.create({ prompt: "abc", onPromptProgress });
      assert.equal(answer.choices[0].text, "abc");
      assert.deepEqual(told, [{ done: 3, total: 3 }]);
      await headstart.dispose();
    });

    test("calls that need no GPU do not wait for a step", async () => {
      let release;
      const control = { hold: new Promise((resolve) => (release = resolve)) };
      const headstart = await create(control);
      const answer = headstart.chat.completions.create({ messages: say("held") });
      while (!control.inFlight) await new Promise((resolve) => setTimeout(resolve, 1));
      assert.equal(await headstart.detokenize(await headstart.tokenize("now")), "now");
      assert.equal((await headstart.renderPrompt(say("ab"))).tokens.length, 2);
      assert.deepEqual((await headstart.prefix.explain(say("a"), say("b"))).known, { messages: say("a") });
      assert.equal((await headstart.prefix.stats()).pages.total, 1);
      assert.equal(control.inFlight, 1);
      release();
      assert.equal((await answer).choices[0].message.content, "held");
      await headstart.dispose();
    });

    test("dispose ends answers, saves waiting KV, and refuses later calls", async () => {
      const control = {};
      const headstart = await create(control);
      const answer = headstart.chat.completions.create({ messages: say("abc"), max_tokens: 10_000 });
      const ended = rejectsWith(answer, "disposed");
      await headstart.dispose();
      await ended;
      assert.deepEqual([control.persisted, control.freed, control.hostsFreed], [1, 1, 1]);
      await rejectsWith(headstart.tokenize("x"), "disposed");
      await rejectsWith(headstart.chat.completions.create({ messages: say("x") }), "disposed");
      await headstart.dispose();
    });

    test("the other methods reach the engine", async () => {
      const control = {};
      const headstart = await create(control);
      assert.equal(await headstart.detokenize(await headstart.tokenize("täglich")), "täglich");
      assert.equal((await headstart.renderPrompt(say("ab"))).pieces.join(""), "ab");
      assert.equal((await headstart.prefix.warm(say("s"))).prompt_tokens, 1);
      const pack = await headstart.prefix.export(say("s"), { name: "p" });
      assert.deepEqual(await headstart.prefix.import(pack, { key: () => "k", cache_salt: NaN, kee: 5 }), { name: "p", tokens: 16, bytes: 4 });
      assert.deepEqual(control.importOptions, { key: "a function", cache_salt: "NaN", kee: 5 });
      await rejectsWith(headstart.prefix.import(new Blob(["other"])), "pack_rejected");
      const { packs, store } = await headstart.prefix.stats();
      assert.deepEqual([packs.length, store.name], [1, "opfs"]);
      assert.deepEqual((await headstart.prefix.explain(say("a"), { messages: say("b"), cache_salt: "s" })).prompt, { messages: say("b"), cache_salt: "s" });
      await headstart.prefix.clear();
      assert.equal(control.cleared, true);
      assert.deepEqual((await headstart.prefix.stats()).packs, []);
      await headstart.dispose();
    });
  });
}

test("packs that are none are refused before the model is loaded", async () => {
  for (const create of [local, remote]) {
    const control = {};
    const key = "ab".repeat(32);
    const [pack, url] = [new Blob(["pack"]), "https://packs.example/p"];
    for (const prefixPacks of ["x.pack", { 0: pack }]) await rejectsWith(create(control, { prefixPacks }), "bad_input", { field: "prefixPacks" });
    for (const [prefixPacks, index] of [[[5], 0], [[pack, "./p.kv.safetensors"], 1], [[pack, pack, { url }], 2], [[{ url, key: 5 }], 0], [[{ url: 5, key }], 0]]) {
      await rejectsWith(create(control, { prefixPacks }), "bad_input", { field: `prefixPacks[${index}]` });
    }
    assert.equal(control.loads, 0);
    const headstart = await create(control, { prefixPacks: [pack, new Blob(["other"]), { url: pack, key }] });
    const { packs: kept } = await headstart.prefix.stats();
    assert.deepEqual(kept.map(({ source, error }) => [source, error?.code]), [["prefixPacks[0]", undefined], ["prefixPacks[1]", "pack_rejected"], ["prefixPacks[2]", undefined]]);
    assert.deepEqual(control.importOptions, { key });
    await headstart.dispose();
  }
});

test("an engine whose packs cannot be loaded is not left behind", async () => {
  const control = {};
  const stop = new AbortController();
  const prefixPacks = [new Blob(["pack"])];
  prefixPacks[0].arrayBuffer = async () => {
    stop.abort();
    throw stop.signal.reason;
  };
  await rejectsWith(local(control, { prefixPacks, signal: stop.signal }), "aborted");
  assert.equal(control.freed, 1);
  // The list is the caller's, who may change it meanwhile.
  const changed = [];
  await rejectsWith(local(control, { prefixPacks: changed, onProgress: () => (changed[0] = 5) }), "bad_input", { field: "prefixPacks[0]" });
  assert.equal(control.freed, 2);
});

test("loading reports its stages, and its failures keep their codes", async () => {
  for (const create of [local, remote]) {
    const stages = [];
    const headstart = await create({}, { model: new Blob(["m"]), onProgress: ({ stage }) => stages.push(stage) });
    assert.deepEqual(stages, ["upload", "compile"]);
    await headstart.dispose();
    await rejectsWith(create({ failLoad: { code: "bad_model", message: "m: no GGUF" } }), "bad_model");
    await rejectsWith(create({ failLoad: { code: "device_lost", message: "lost" } }), "device_lost");
    await rejectsWith(create({}, { signal: AbortSignal.abort() }), "aborted");
    for (const model of [undefined, {}, [], 7, "http://["]) await rejectsWith(create({}, { model }), "bad_input");
    for (const [gpu, secure, code] of [[false, true, "no_webgpu"], [false, false, "insecure"], ["no adapter", true, "no_adapter"]]) {
      installBrowser({ gpu });
      globalThis.isSecureContext = secure;
      await rejectsWith(create(), code);
    }
    delete globalThis.isSecureContext;
    installBrowser();
  }
});
