// The package in Node, on Dawn: a conversation that continues in another process, and prompts that end during prefill.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create, globals } from "webgpu";
import { Headstart } from "headstart/node";
import { UNCHANGING } from "../support/fields.mjs";
import { HELLOS, chatGguf } from "../support/gguf.mjs";
import { abortsPrompt, disposesInPrompt } from "../support/long-prompt.mjs";
import { sample } from "../support/readme.mjs";
import { readPrompt } from "../support/read-prompt.mjs";
import { shallowModel, tinyModel } from "../support/tiny.mjs";

const scratch = mkdtempSync(join(tmpdir(), "headstart node-"));
// Not the user's own directories.
process.env.HEADSTART_KV_KEY = join(scratch, "kv.key");
const [model, shallow] = ["model", "shallow"].map((name) => join(scratch, name));
before(() => {
  for (const [folder, files] of [[model, tinyModel()], [shallow, shallowModel()]]) {
    mkdirSync(folder);
    for (const [name, bytes] of Object.entries(files)) {
      writeFileSync(join(folder, name), bytes);
      utimesSync(join(folder, name), 1, 1);
    }
  }
});
after(() => rmSync(scratch, { recursive: true, force: true }));

/** The output of a process that must end by itself. */
async function turns(options, ...questions) {
  const script = fileURLToPath(new URL("turns.mjs", import.meta.url));
  const args = [script, JSON.stringify({ messages: [], ...options }), ...questions];
  return JSON.parse((await promisify(execFile)(process.execPath, args, { timeout: 300_000 })).stdout);
}

test("two turns, and the third in another process, whose prompt is on disk", async () => {
  const directory = join(scratch, "cache", "kv");
  const first = await turns({ model, cache: { directory } }, "Why is the sky blue, and the sea?", "And at night?");
  assert.deepEqual(first.answers.map(({ usage }) => usage.completion_tokens), [8, 8]);
  assert.deepEqual(first.stages, ["upload", "compile"]);
  const [one, two] = first.answers;
  assert.equal(one.sources.computed, one.usage.prompt_tokens);
  assert.ok(two.sources.gpu >= one.usage.prompt_tokens - 16, JSON.stringify(two));
  assert.equal(first.store.name, "directory");
  assert.deepEqual(first.globals, [], "of a page");

  const options = { model: pathToFileURL(`${model}/`).href, messages: first.messages };
  const third = await turns({ ...options, cache: { directory } }, "And on Mars?");
  const [answer] = third.answers;
  // All of both turns, except what follows an answer whose text tokenizes differently.
  assert.ok(answer.sources.disk >= two.usage.prompt_tokens, JSON.stringify(answer));
  assert.equal(answer.usage.prompt_tokens_details.cached_tokens, answer.sources.disk);
  const cold = await turns({ ...options, cache: false }, "And on Mars?");
  assert.equal(cold.answers[0].sources.computed, answer.usage.prompt_tokens);
  assert.equal(cold.answers[0].text, answer.text);
  // Hashed by the package, remembered, and hashed by the engine.
  assert.deepEqual([first, third, cold].map(({ model, digest }) => [model, digest]), Array(3).fill(["model", first.digest]));
  const { entries } = JSON.parse(readFileSync(join(directory, "weights.json"), "utf8"));
  assert.equal(entries.length, readdirSync(model).filter((name) => name.endsWith(".safetensors")).length);

  const folders = [directory, join(directory, "kv")];
  assert.deepEqual(folders.map((path) => statSync(path).mode & 0o777), [0o700, 0o700]);
  const modes = readdirSync(folders[1]).map((name) => statSync(join(folders[1], name)).mode & 0o777);
  assert.ok(modes.length > 2 && modes.every((mode) => mode === 0o600), String(modes));
});

// Its devices do not outlive it.
const dawn = create([]);

const user = (content) => [{ role: "user", content }];

/** What `work` gives, the shaders that it compiles, and their device. */
async function watched(work) {
  const { prototype } = globals.GPUDevice;
  const { createShaderModule } = prototype;
  const shaders = [];
  let device;
  prototype.createShaderModule = function (descriptor) {
    shaders.push(descriptor.code);
    device = this;
    return createShaderModule.call(this, descriptor);
  };
  try {
    return [await work(), shaders, device];
  } finally {
    prototype.createShaderModule = createShaderModule;
  }
}

/** The engine lives on after values that it cannot read, and reads halves of surrogate pairs. */
async function refusesArguments(headstart) {
  const { chat, completions, prefix } = headstart;
  const ask = (fields) => chat.completions.create({ messages: user("a"), max_tokens: 1, ...fields });
  const half = "smile 😀".slice(0, -1);
  const [ids, whole] = await Promise.all([half, "smile \ufffd"].map((text) => headstart.tokenize(text)));
  assert.deepEqual([ids, await headstart.detokenize([...ids])], [whole, "smile \ufffd"]);
  assert.deepEqual(await headstart.renderPrompt(user(`\\ud83d ${half}`)), await headstart.renderPrompt(user("\\ud83d smile \ufffd")));
  for (const fields of [{ messages: user(half) }, { cache_salt: half }, { stop: half }, { metadata: { [half]: half } }]) await ask(fields);
  await completions.create({ prompt: half, max_tokens: 1 });
  await prefix.warm(user(half));
  await prefix.explain(user(half), { messages: user("x"), cache_salt: half });

  const pack = new Blob(["no pack"]);
  let deep = [];
  for (let depth = 0; depth < 200; depth++) deep = [deep];
  const refused = {
    text: [5, undefined, null, {}].map((text) => () => headstart.tokenize(text)),
    tokens: [5, undefined, "x", [-1], [1.5], ["a"], {}, [1e9], [1e10]].map((tokens) => () => headstart.detokenize(tokens)),
    options: [() => headstart.renderPrompt(user("a"), 5), () => prefix.import(pack, "k"), () => prefix.audit(pack, [])],
    key: [5, null, NaN, {}, () => "k"].map((key) => () => prefix.import(pack, { key })),
    keys: [() => prefix.import(pack, { keys: "k" })],
    cache_salt: [() => prefix.import(pack, { cache_salt: 5 }), () => prefix.audit(pack, { cache_salt: null }), () => ask({ cache_salt: 5 })],
    blocks: [0, -1, NaN, "8", null].map((blocks) => () => prefix.audit(pack, { blocks })),
    otherAdapter: [() => prefix.audit(pack, { otherAdapter: 1 })],
    metadata: [() => ask({ metadata: deep })],
    max_tokens: [NaN, Infinity].map((max_tokens) => () => ask({ max_tokens })),
    temperature: [() => ask({ temperature: NaN })],
    name: [() => prefix.export(user("a"), { name: 5n })],
    messages: [() => prefix.warm("x"), () => prefix.warm(null)],
    signal: [() => ask({ signal: {} })],
  };
  for (const [field, calls] of Object.entries(refused)) {
    for (const call of calls) {
      await assert.rejects(call, (error) => {
        assert.ok(/^bad_(input|request)$/.test(error.code), `${call}: ${error.code}: ${error.message}`);
        assert.equal(error.field, field, `${call}: ${error.message}`);
        return true;
      });
    }
  }
  for (const call of [() => ask({ metadata: 1n }), () => prefix.warm(), () => prefix.explain(user("a")), () => chat.completions.create()]) {
    await assert.rejects(call, { name: "HeadstartError", code: "bad_request" });
  }
  await assert.rejects(prefix.import(pack, { key: "zz" }), { field: "key" });
  await assert.rejects(headstart.detokenize([5, 1e9]), { code: "bad_input", message: /^tokens: token id 1000000000 is outside the vocabulary of \d+$/ });
  // No flag of the command line.
  await assert.rejects(ask({ messages: user("a".repeat(200)) }), { field: "prompt", message: /with a longer context, up to \d+$/ });
}

test("loads that end while kernels are compiled do not end the process", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const { prototype } = globals.GPUDevice;
  const { createShaderModule } = prototype;
  prototype.createShaderModule = function ({ label, code }) {
    return createShaderModule.call(this, { label, code: label === "attention" ? "spoiled" : code });
  };
  try {
    for (let load = 0; load < 12; load++) {
      const gpu = load % 2 ? create([]) : undefined;
      await assert.rejects(Headstart.create({ model, gpu, cache: false }), { code: "shader" });
      for (let turn = 0; turn < 3; turn++) {
        collect();
        await setImmediate();
      }
    }
  } finally {
    prototype.createShaderModule = createShaderModule;
  }
});

test("the path of one shard loads the whole model, with the same digest as its directory", async () => {
  const folder = join(scratch, "shards");
  mkdirSync(folder);
  const shards = Object.entries(chatGguf("tiny-qwen3-f16", 2));
  for (const [name, bytes] of shards) writeFileSync(join(folder, name), bytes);
  const open = (model) => Headstart.create({ model, cache: false, context: 200 });
  const [headstart, shaders, device] = await watched(() => open(join(folder, shards[1][0])));
  const { features, info } = await dawn.requestAdapter();
  const useful = features.has("subgroups") && info.subgroupMinSize >= 8;
  assert.equal(shaders.some((code) => /^enable subgroups;[^]*subgroup(Broadcast|ShuffleXor)\(/.test(code)), useful);
  assert.equal(headstart.model, shards[0][0]);
  const request = { messages: [{ role: "user", content: "hello there" }], max_tokens: 8 };
  const { choices } = await headstart.chat.completions.create(request);
  assert.equal(choices[0].message.content, HELLOS["tiny-qwen3-f16"]);
  // The model is loaded again when its device is lost.
  device.destroy();
  assert.deepEqual((await headstart.chat.completions.create(request)).choices[0].message, choices[0].message);
  // Unsupported fields are refused by name, also in a stream.
  for (const [fields, field, meant] of [[{ n: 2 }, "n", /ask again/], [{ max_token: 3 }, "max_token", /did you mean max_tokens/], [{ onToken() {} }, "onToken", /leave it out/]]) {
    for (const stream of [false, true]) await assert.rejects(headstart.chat.completions.create({ ...request, ...fields, stream }), { code: "bad_request", field, message: meant });
  }
  await assert.rejects(headstart.prefix.warm({ messages: request.messages, tool: [] }), { code: "bad_request", field: "tool", message: /tools/ });
  await refusesArguments(headstart);
  await headstart.chat.completions.create({ ...request, ...UNCHANGING });
  // A stream that nobody reads pauses, while others are answered.
  const unread = await headstart.chat.completions.create({ ...request, max_tokens: 150, temperature: 1, seed: 1, logit_bias: { 2: -100 }, stream: true });
  await headstart.chat.completions.create({ ...request, max_tokens: 120, logit_bias: { 2: -100 } });
  const { pages } = await headstart.prefix.stats();
  assert.ok(pages.used > 0, "the one that stands still has ended");
  let last;
  for await (last of unread);
  assert.equal(last.usage.completion_tokens, 150);
  const { weightsDigest } = headstart;
  await headstart.dispose();
  // As some repositories on the hub have it.
  writeFileSync(join(folder, "config.json"), "{}");
  const whole = await open(folder);
  assert.equal(whole.weightsDigest, weightsDigest);
  await whole.dispose();
});

/** Of somebody who signed nothing here, in capitals. */
const STRANGER = "D75A980182B10AB7D54BFED3C964073A0EE172F3DAA62325AF021A68F707511A";

/** The result of `work` with the model under other options, and with the KV of earlier visits. */
async function visit(options, work) {
  const headstart = await Headstart.create({ model, cache: { directory: join(scratch, "visits") }, kernels: "f32", ...options });
  try {
    return await work(headstart);
  } finally {
    await headstart.dispose();
  }
}

const messages = user("Which settings did the last visit have? ".repeat(8));
const account = async ({ chat }) => (await chat.completions.create({ messages, max_tokens: 1 })).headstart.cache;

test("the account names the setting of an earlier visit whose KV is of no use", async () => {
  const [cold] = (await visit({}, account)).misses;
  assert.equal(cold.reason, "cold");
  for (const [options, field] of [[{ kv: "q8" }, "kv_dtype"], [{ kernels: "f16" }, "numerics"]]) {
    const { misses } = await visit(options, account);
    assert.deepEqual(misses, [{ ...cold, reason: "namespace_changed", field }]);
  }
});

test("packs are read from paths", async () => {
  const path = join(scratch, "museum #1.kv.safetensors");
  const pack = await visit({ cache: false }, ({ prefix }) => prefix.export(messages));
  writeFileSync(path, new Uint8Array(await pack.arrayBuffer()));
  const prefixPacks = [path, pathToFileURL(path), { url: path, key: STRANGER }];
  await visit({ prefixPacks, cache: { persist: false } }, async (headstart) => {
    const { packs } = await headstart.prefix.stats();
    assert.deepEqual(packs.map(({ name, error }) => name ?? error.code), ["prefix", "prefix", "pack_rejected"]);
    assert.ok((await account(headstart)).sources.pack > 16);
  });
});

test("the README's program answers unchanged", async () => {
  const folder = join(scratch, "readme");
  for (const name of ["models", "node_modules"]) mkdirSync(join(folder, name), { recursive: true });
  symlinkSync(fileURLToPath(new URL("../..", import.meta.url)), join(folder, "node_modules/headstart"), "junction");
  const [bytes] = Object.values(chatGguf("tiny-qwen3-f16"));
  writeFileSync(join(folder, "models/SmolLM2-135M-Instruct.Q4_1.gguf"), bytes);
  writeFileSync(join(folder, "chat.mjs"), sample("// chat.mjs"));
  const run = async () => {
    // Compiled shaders stay in the cache of the other tests' processes.
    const MESA_SHADER_CACHE_DIR = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
    const env = { ...process.env, MESA_SHADER_CACHE_DIR, XDG_CACHE_HOME: join(folder, "cache") };
    const { stdout } = await promisify(execFile)(process.execPath, ["chat.mjs", "Why is the sea blue?"], { cwd: folder, env, timeout: 300_000 });
    return /^([^]+)\n(\d+) prompt tokens were reused\n$/.exec(stdout);
  };
  const [[, first, computed], [, second, reused]] = [await run(), await run()];
  assert.deepEqual([second, computed], [first, "0"]);
  assert.ok(Number(reused) > 0, reused);
});

test("an abort or a dispose ends a prompt within two chunks, and the next prompt continues from there", async () => {
  const open = () => Headstart.create({ model: shallow, cache: { directory: join(scratch, "prompts") } });
  let headstart = await open();
  const calls = { readPrompt: (request) => readPrompt(headstart, request), clear: () => headstart.prefix.clear() };
  const call = (name, argument) => calls[name](argument);
  await abortsPrompt(call);
  await headstart.prefix.clear();
  await disposesInPrompt(call, async () => (headstart = await open()));
  await headstart.dispose();
});
