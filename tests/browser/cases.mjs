// Properties that must hold on every WebGPU, in browsers and on Dawn in Node. Small models are used wherever they suffice.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";

import { decided, distance, json, row } from "./golden.mjs";
import { withProgram } from "./program.mjs";

const TOLERANCE = 0.05;
const MIB = 1 << 20;

const SMOLLM2 = ["/models/SmolLM2-135M-Instruct.Q4_1.gguf"];
const tiny = (name) =>
  ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"].map((file) => `/tiny/${name}/${file}`);
const ODD = tiny("tiny-odd-f16");
/** A model whose pages hold a state beside keys and values. */
const LFM2 = tiny("tiny-lfm2-f16");
const BLOCK = 16;

const CHAT = [
  { role: "system", content: "Answer as a pirate would, in one sentence, and never mention the sea." },
  { role: "user", content: "What is a parrot good for?" },
];

/** An answer without an error. */
async function answer(call, engine, request, options) {
  const told = await call("answer", engine, request, options);
  assert.equal(told.error, undefined, JSON.stringify(told.error));
  return told;
}

/** The result of a method. */
async function result(call, engine, method, ...rest) {
  const { result, error } = await call("call", engine, method, ...rest);
  assert.equal(error, undefined, `${method}: ${JSON.stringify(error)}`);
  return result;
}

/** Cases that may depend on the WebGPU implementation or on the storage. */
export const EVERYWHERE = {
  "tiny models answer as transformers does": async ({ visit, name: where }) => {
    const call = await visit();
    // The pipelines of each model take seconds, so Node does not repeat what browsers test. The package's tests cover Qwen 3 without experts.
    const models = { dawn: ["tiny-odd-f16", "tiny-lfm2-f16"] }[where] ?? ["tiny-qwen3-moe-f16", "tiny-gemma3-f16", "tiny-lfm2-f16"];
    for (const name of models) {
      const { engine } = await call("load", tiny(name));
      const reference = await json(`${name}/reference.json`);
      const tolerance = 3 * reference.half_cache_max_delta;
      const told = await answer(call, engine, { tokens: reference.ids, max_tokens: 16, logits: true });
      const apart = distance(told.first, await row(`${name}/logits.npy`));
      assert.ok(apart < tolerance, `${name}: logits are ${apart} apart, allowed ${tolerance}`);
      const expected = decided(reference.greedy32, reference.greedy_top2_gap, tolerance, 16);
      assert.ok(expected.length >= 10, `${name}: only ${expected.length} tokens are decided`);
      assert.deepEqual(told.tokens.slice(0, expected.length), expected, name);
      await call("free", engine);
    }
  },

  "every shader compiles": async ({ visit, name, say }) => {
    const call = await visit();
    // A pipeline takes a second on SwiftShader and some tenths on Mesa, so only a sample is built.
    const each = { chromium: 60, firefox: 10, dawn: 30 }[name];
    const { compiled, refused } = await call("compile", "/made/permutations.json", each);
    assert.deepEqual(refused, []);
    assert.ok(compiled > 1000, `only ${compiled} shaders`);
    say(`${compiled} shaders, a pipeline of one in ${each}`);
  },

  "the real model: golden tokens and logits, warm as cold, in little memory": async ({ visit, name, say }) => {
    const call = await visit();
    const loaded = await call("load", SMOLLM2, { context: 1024 });
    const { engine } = loaded;
    say(`${loaded.info.adapter.name || "unnamed"} (${loaded.info.adapter.driver}), loaded in ${(loaded.ms / 1000).toFixed(1)} s`);
    assert.equal(loaded.stages.upload.done, loaded.stages.upload.total);
    assert.equal(loaded.stages.compile.done, loaded.stages.compile.total);
    const { prompts } = await json("golden.json");
    // A CPU computes four prompt tokens per second. So the long prompt of 602 tokens runs on request, and browsers run one prompt.
    const all = Object.keys(prompts);
    const short = name === "dawn" ? all.filter((prompt) => prompt !== "long") : ["chat"];
    for (const prompt of process.env.GOLDEN === "all" ? all : short) {
      const { ids, greedy32, greedy_top2_gap, logits_file } = prompts[prompt];
      const expected = decided(greedy32, greedy_top2_gap, TOLERANCE, 7);
      const request = { tokens: ids, max_tokens: expected.length, logits: true };
      const cold = await answer(call, engine, request);
      const apart = distance(cold.first, await row(logits_file));
      assert.ok(apart < TOLERANCE, `${prompt}: logits are ${apart} apart`);
      assert.deepEqual(cold.tokens, expected, prompt);
      assert.equal(cold.finish.usage.prompt_tokens_details.cached_tokens, 0);
      const warm = await answer(call, engine, { ...request, max_tokens: 1 });
      assert.equal(warm.finish.usage.prompt_tokens_details.cached_tokens, ids.length);
      assert.equal(warm.finish.cache.sources.gpu, ids.length);
      assert.equal(warm.logits[0], cold.logits[0], `${prompt}: warm differs from cold`);
      const { prefill_tok_s, decode_tok_s } = cold.finish.timings;
      const speed = `${prefill_tok_s.toFixed(1)} tokens/s prefill, ${decode_tok_s.toFixed(1)} decode`;
      say(`${prompt}: ${expected.length} tokens, logits at most ${apart.toFixed(4)} apart; ${speed}`);
    }
    const memory = await call("memory");
    say(`wasm memory ${(memory / MIB).toFixed(0)} MiB`);
    assert.ok(memory < 200 * MIB, `${memory} bytes of wasm memory`);
    await call("free", engine);
  },

  "a reload finds on disk what was computed, bit for bit": async ({ visit }) => {
    // A longer prompt than that of other cases, since little KV is verified without WebCrypto.
    const long = { ...CHAT[1], content: `${CHAT[1].content} And what are two good for?` };
    const request = { messages: [CHAT[0], long], max_tokens: 4, logits: true };
    let call = await visit();
    let { engine } = await call("load", LFM2, { store: "kv-reload" });
    const cold = await answer(call, engine, request);
    const { prompt_tokens } = cold.finish.usage;
    assert.equal(cold.finish.cache.sources.computed, prompt_tokens);
    await result(call, engine, "persist");

    call = await visit();
    ({ engine } = await call("load", LFM2, { store: "kv-reload" }));
    await call("watchDigests");
    const warm = await answer(call, engine, request);
    assert.ok((await call("digestsAsked")) > 0, "WebCrypto verified nothing");
    assert.equal(warm.finish.usage.prompt_tokens_details.cached_tokens, prompt_tokens, JSON.stringify(warm.finish.cache));
    assert.equal(warm.finish.cache.sources.disk, prompt_tokens);
    assert.deepEqual(warm.logits, cold.logits);
    assert.deepEqual(warm.tokens, cold.tokens);

    // Blocks that somebody else wrote are refused and computed.
    call = await visit();
    const forged = await call("forge", "kv-reload");
    assert.ok(forged > 0);
    ({ engine } = await call("load", LFM2, { store: "kv-reload" }));
    const own = await answer(call, engine, request);
    assert.equal(own.finish.cache.sources.disk, 0, JSON.stringify(own.finish.cache));
    assert.deepEqual(own.logits, cold.logits);
    const kept = (await result(call, engine, "stats")).tiers.find(({ name }) => name === "opfs");
    assert.ok(kept.rejected.forged > 0, JSON.stringify(kept));

    await result(call, engine, "clear");
    call = await visit();
    ({ engine } = await call("load", LFM2, { store: "kv-reload" }));
    const again = await answer(call, engine, request);
    assert.equal(again.finish.cache.sources.computed, prompt_tokens, "cleared KV came back");
    assert.deepEqual(again.logits, cold.logits);
  },

  "an answer goes on with the same tokens on a new device": async ({ visit }) => {
    const call = await visit();
    const sampled = { temperature: 1.5, top_k: 40, seed: 7, repetition_penalty: 1.1 };
    const { engine } = await call("load", ODD);
    for (const [sampling, untold] of [[{}, false], [sampled, true]]) {
      const request = { tokens: [...Array(40).keys()].map((token) => (token * 37) % 250), max_tokens: 24, logits: true, ...sampling };
      const whole = await answer(call, engine, { ...request, no_cache: true });
      const cut = await answer(call, engine, { ...request, no_cache: true }, { lose: 9, untold });
      assert.deepEqual([cut.tokens, cut.logits, cut.text], [whole.tokens, whole.logits, whole.text]);
      const { usage, reason, recovered } = cut.finish;
      assert.deepEqual([usage.completion_tokens, reason, recovered], [24, "length", 1]);
    }
  },

  "a shader that is refused beside others is named": async ({ visit }) => {
    const call = await visit();
    await call("spoil", "attention");
    const error = await call("refusal", ODD);
    assert.equal(error?.code, "shader", JSON.stringify(error));
    assert.match(error.message, /^shader attention\{[^]*parsing/i);
  },

  "more memory than there is": async ({ visit }) => {
    const call = await visit();
    await call("limit", MIB);
    const error = await call("refusal", ODD);
    assert.equal(error?.code, "out_of_memory", JSON.stringify(error));
    assert.ok(error.bytes > 0 && error.bytes < 16 * MIB, `${error.bytes} bytes`);
    assert.match(error.message, new RegExp(`${error.bytes} bytes`));
  },
};

/** Cases that do not depend on the WebGPU implementation. They run once. */
export const ONCE = {
  "prefixes have the names that they have natively": async ({ visit }) => {
    const call = await visit();
    const { vectors } = await json("hash_vectors.json");
    for (const { fields, tokens, namespace, keys } of vectors) {
      assert.deepEqual(await call("prefixKeys", fields, tokens), [namespace, ...keys]);
    }
  },

  "files that are no model": async ({ visit }) => {
    const call = await visit();
    const gguf = await call("refusal", ["/golden/golden.json"]);
    assert.equal(gguf?.code, "bad_model", JSON.stringify(gguf));
    assert.match(gguf.message, /golden\.json/);
    const without = await call("refusal", ODD.filter((file) => !file.endsWith("/config.json")));
    assert.equal(without?.code, "bad_model", JSON.stringify(without));
    const none = await call("refusal", []);
    assert.equal(none?.code, "bad_request", JSON.stringify(none));
  },

  "keys and values in 8 bits are kept, found apart from others, and not used once damaged": async ({ visit, name }) => {
    const store = `${name}-q8`;
    const request = { messages: CHAT, max_tokens: 4, logits: true };
    let call = await visit();
    let { engine } = await call("load", ODD, { kv: "q8", store });
    // The engine computes digests itself, which WebCrypto then confirms.
    await call("watchDigests", true);
    const cold = await answer(call, engine, request);
    await result(call, engine, "persist");
    assert.ok((await call("digestsAsked")) > 0, "WebCrypto was asked for nothing");

    call = await visit();
    const whole = 5;
    await call("damage", store, whole);
    ({ engine } = await call("load", ODD, { kv: "q8", store }));
    const warm = await answer(call, engine, request);
    assert.equal(warm.finish.cache.sources.disk, whole * BLOCK, JSON.stringify(warm.finish.cache));
    assert.deepEqual(warm.logits, cold.logits);
    const kept = (await result(call, engine, "stats")).tiers.find(({ name }) => name === "opfs");
    assert.deepEqual(kept.rejected, { digest: 1 });
    ({ engine } = await call("load", ODD, { store }));
    const usual = await answer(call, engine, request);
    assert.equal(usual.finish.cache.sources.computed, cold.prompt, JSON.stringify(usual.finish.cache));
    const apart = distance(usual.first, cold.first);
    assert.ok(apart > 0 && apart < 0.2, `logits are ${apart} apart`);
    const refused = await call("refusal", ODD, { kv: "q4" });
    assert.equal(refused?.code, "bad_request", JSON.stringify(refused));
    assert.match(refused.message, /kv.*q4.*f16, q8/);
  },

  "prompts in 8 bits are close to the reference and kept apart": async ({ visit, name, say }) => {
    const store = `${name}-int8`;
    const call = await visit();
    const { ids, logits_file } = (await json("golden.json")).prompts.english;
    const request = { tokens: ids, max_tokens: 1, logits: true };
    let { engine, info } = await call("load", SMOLLM2, { kernels: "int8", context: 512, store });
    assert.deepEqual([info.adapter.numerics, info.adapter.notes], ["int8", []]);
    const cold = await answer(call, engine, request);
    const apart = distance(cold.first, await row(logits_file));
    say(`logits at most ${apart.toFixed(4)} apart`);
    assert.ok(apart > 0 && apart < 1, `logits are ${apart} apart`);
    const warm = await answer(call, engine, request);
    assert.equal(warm.finish.cache.sources.gpu, ids.length);
    assert.equal(warm.logits[0], cold.logits[0]);
    await result(call, engine, "persist");
    await call("free", engine);
    ({ engine } = await call("load", SMOLLM2, { context: 512, store }));
    assert.equal((await answer(call, engine, request)).finish.cache.sources.computed, ids.length);
    const refused = await call("refusal", ODD, { kernels: "int4" });
    assert.equal(refused?.code, "bad_request", JSON.stringify(refused));
    assert.match(refused.message, /kernels.*int4.*auto, f32, f16, int8, portable/);
  },

  "requests that cannot be answered": async ({ visit }) => {
    const call = await visit();
    const { engine } = await call("load", ODD);
    const refused = async (request) => (await call("answer", engine, request)).error?.code;
    assert.equal(await refused({}), "bad_request");
    assert.equal(await refused({ messages: [] }), "bad_request");
    assert.equal(await refused({ messages: [{ role: "user" }] }), "bad_request");
    assert.equal(await refused({ prompt: "a", tokens: [1] }), "bad_request");
    assert.equal(await refused({ tokens: [5000] }), "bad_request");
    assert.equal(await refused({ prompt: "a", temperature: -1 }), "bad_request");
    assert.equal(await refused({ prompt: "a", max_tokens: 0 }), "bad_request");
    assert.equal(await refused({ prompt: "a".repeat(600) }), "bad_request");
    await answer(call, engine, { prompt: "a", max_tokens: 1 });
  },

  "an answer that is cancelled keeps its KV, and a stop string is left out": async ({ visit, browser }) => {
    const call = await visit();
    const { engine } = await call("load", ODD);
    const whole = await answer(call, engine, { messages: CHAT, max_tokens: 24 });
    const cancelled = await call("call", engine, "submit", { messages: CHAT, max_tokens: 24, no_cache: true });
    await result(call, engine, "step");
    const [finish] = (await result(call, engine, "cancel", cancelled.result)).slice(-1);
    assert.equal(finish.type, "finish");
    assert.equal(finish.reason, "cancelled");
    assert.deepEqual(await result(call, engine, "cancel", cancelled.result), []);
    const stop = whole.text.slice(5, 7);
    const stopped = await answer(call, engine, { messages: CHAT, max_tokens: 24, stop: [stop] });
    assert.equal(stopped.text, whole.text.slice(0, whole.text.indexOf(stop)), browser.name);
    assert.equal(stopped.finish.reason, "stop");
  },

  "packs go from engine to engine, whole and of the same model only": async ({ visit }) => {
    let call = await visit();
    const prefix = { messages: CHAT.slice(0, 1) };
    let { engine } = await call("load", ODD);
    const cold = await answer(call, engine, { messages: CHAT, max_tokens: 4, logits: true, no_cache: true });
    const pack = await result(call, engine, "exportPack", { ...prefix, name: "pirate" });

    call = await visit();
    ({ engine } = await call("load", ODD));
    const taken = await call("call", engine, "importPack", pack);
    assert.equal(taken.error, undefined, JSON.stringify(taken.error));
    assert.equal(taken.result.name, "pirate");
    assert.equal(taken.result.bytes, pack.length);
    const warm = await answer(call, engine, { messages: CHAT, max_tokens: 4, logits: true });
    assert.equal(warm.finish.cache.sources.pack, taken.result.tokens, JSON.stringify(warm.finish.cache));
    assert.deepEqual(warm.logits, cold.logits);

    const nonce = "audit of a test";
    const audited = await result(call, engine, "auditPack", pack, nonce, { blocks: 100 });
    assert.deepEqual([audited.exact, audited.checked.length], [true, audited.blocks], JSON.stringify(audited));
    const changed = await call("forgedPack", pack);
    const found = await call("call", engine, "auditPack", changed, `${nonce}, of another`, { blocks: 100 });
    assert.equal(found.error?.code, "pack_rejected", JSON.stringify(found));
    assert.match(found.error.message, /is not what this machine computes/);
    const unsigned = await call("call", engine, "importPack", pack, { key: "ab".repeat(32) });
    assert.match(unsigned.error?.message ?? "", /not signed|key/);
    const tampered = pack.with(pack.length - 9, pack.at(-9) ^ 1);
    assert.equal((await call("call", engine, "importPack", tampered)).error?.code, "pack_rejected");
    assert.equal((await call("call", engine, "importPack", pack.slice(0, 1000))).error?.code, "pack_rejected");
    ({ engine } = await call("load", tiny("tiny-wide-bf16")));
    assert.equal((await call("call", engine, "importPack", pack)).error?.code, "pack_rejected");
  },

  "packs go from and to the program": async ({ visit }) => {
    const call = await visit();
    const { engine } = await call("load", ODD);
    await withProgram(async (run, folder) => {
      const prefix = { messages: CHAT.slice(0, 1) };
      await writeFile(`${folder}/system.json`, JSON.stringify(prefix.messages));
      const native = `${folder}/native.kv.safetensors`;
      let cache = ["--cache-dir", `${folder}/first`];
      await run("prefix", "export", `${folder}/system.json`, "--model", `${folder}/model`, "--output", native, ...cache);
      const { tokens } = await result(call, engine, "importPack", [...(await readFile(native))]);
      const told = await answer(call, engine, { messages: CHAT, max_tokens: 8 });
      assert.equal(told.finish.cache.sources.pack, tokens, JSON.stringify(told.finish.cache));

      cache = ["--cache-dir", `${folder}/second`];
      const browsers = `${folder}/browser.kv.safetensors`;
      await result(call, engine, "clear");
      const pack = Buffer.from(await result(call, engine, "exportPack", { ...prefix, name: "pirate" }));
      await writeFile(browsers, pack);
      await run("prefix", "import", browsers, "--model", `${folder}/model`, ...cache);
      pack[pack.length - 9] ^= 1;
      await writeFile(browsers, pack);
      await assert.rejects(run("prefix", "import", browsers, "--model", `${folder}/model`, ...cache));

      const question = `${folder}/question.json`;
      await writeFile(question, JSON.stringify(CHAT));
      const greedily = ["--max-tokens", "8", "--temperature", "0", "--json", ...cache];
      const answered = JSON.parse(await run("generate", "--messages", question, "--model", `${folder}/model`, ...greedily));
      assert.equal(answered.cache.sources.disk, tokens, JSON.stringify(answered.cache));
      assert.equal(answered.token_ids[0], told.tokens[0]);
    });
  },

  "prefixes are warmed, explained and shown": async ({ visit }) => {
    const call = await visit();
    const { engine, info } = await call("load", ODD);
    assert.match(info.weightsDigest, /^[0-9a-f]{64}$/);
    assert.equal(info.hasTemplate, true);
    const { sources } = await result(call, engine, "warm", { messages: CHAT.slice(0, 1) });
    assert.ok(sources.computed > 60, JSON.stringify(sources));
    const told = await answer(call, engine, { messages: CHAT, max_tokens: 1 });
    assert.equal(told.finish.cache.sources.gpu, sources.computed);

    const other = [CHAT[0], { role: "user", content: "What is a crow good for?" }];
    const explained = await result(call, engine, "explain", { messages: CHAT }, { messages: other });
    assert.equal(explained.divergence.owner, "message");
    assert.equal(explained.divergence.message, 1);
    const parted = await answer(call, engine, { messages: other, max_tokens: 1 });
    assert.equal(parted.finish.cache.divergence.message, 1, JSON.stringify(parted.finish.cache));
    assert.equal(parted.finish.cache.divergence.token, explained.shared_tokens);

    const shown = await result(call, engine, "renderPrompt", CHAT);
    assert.equal(shown.tokens.length, told.prompt);
    assert.equal(shown.pieces.join("").includes(CHAT[1].content), true);
    assert.deepEqual([...new Set(shown.message)].sort(), [-1, 0, 1]);
    const stats = await result(call, engine, "stats");
    assert.ok(stats.pages.cached > 0 && stats.pages.total > stats.pages.cached, JSON.stringify(stats.pages));
    assert.deepEqual(await result(call, engine, "tokenize", "ab"), [97, 98]);
    assert.equal(await result(call, engine, "countTokens", CHAT), told.prompt);
  },
};
