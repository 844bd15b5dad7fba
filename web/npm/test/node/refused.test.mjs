// Refusals before a download, by the engine and without a GPU: files that are no model, models that
// cannot run, and invalid names.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { Headstart } from "headstart/node";
import { chatGguf, string } from "../support/gguf.mjs";
import { serve } from "../support/server.mjs";
import { tinyModel } from "../support/tiny.mjs";

const NAME = "tiny-qwen3-f16";
const [file] = Object.values(chatGguf(NAME));
const changed = (change, shards) => Object.values(chatGguf(NAME, shards, change));
/** An adapter that reports itself and computes nothing. */
const gpu = { requestAdapter: async () => ({}) };
const directory = mkdtempSync(join(tmpdir(), "headstart refused-"));
const files = {};
let server;
before(async () => (server = await serve(files)));
after(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const create = (model, options) => Headstart.create({ model, gpu, cache: false, weights: { directory }, hub: server.origin, ...options });
/** Folders of kept files. */
const kept = () => readdirSync(directory, { recursive: true }).filter((name) => /weights./.test(name));

test("files that are no model, or cannot run, are refused with the reason, and nothing of them is kept", async () => {
  const shards = changed((fields) => fields.set("general.architecture", string("mamba")), 2);
  const models = {
    "json.gguf": [Buffer.from('{"error":"Entry not found"}'.padEnd(2000)), /not a GGUF file: it starts with/],
    "pointer.gguf": [Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 5\n`), /Git LFS pointer/],
    "empty.gguf": [Buffer.alloc(0), /empty/],
    "short.gguf": [file.subarray(0, file.length - 5000), /cut short/],
    "shorter.gguf": [file.subarray(0, 700), /cut short|damaged/],
    "architecture.gguf": [changed((fields) => fields.set("general.architecture", string("mamba")))[0], /mamba.* is not supported/],
    "tokenizer.gguf": [changed((fields) => fields.set("tokenizer.ggml.model", string("rwkv")))[0], /rwkv/],
    "format.gguf": [changed((_, tensors) => tensors.forEach(({ info }) => info[info.length - 4] === 1 && info.writeUInt32LE(99, info.length - 4)))[0], /type number 99 .*is not supported/],
    "shards-00001-of-00002.gguf": [shards[0], /mamba/],
    "shards-00002-of-00002.gguf": [shards[1], /mamba/],
  };
  for (const [name, [bytes]] of Object.entries(models)) files[`/${name}`] = bytes;
  for (const [name, [, reason]] of Object.entries(models)) {
    const began = server.log.length;
    await assert.rejects(create(`${server.origin}/${name}`), (error) => {
      assert.deepEqual([error.code, error.constructor.name], ["bad_model", "HeadstartError"], `${name}: ${error.message}`);
      assert.match(error.message, reason, name);
      return true;
    });
    assert.deepEqual(kept(), [], name);
    assert.ok(server.log.slice(began).length <= 2 * (name.startsWith("shards") ? 2 : 1), name);
  }
});

test("such a directory is refused the same way, and nothing of it is kept", async () => {
  const folder = tinyModel();
  const broken = {
    architecture: [{ "config.json": Buffer.from('{"architectures":["MambaForCausalLM"],"model_type":"mamba"}') }, /[Mm]amba/],
    error: [{ "config.json": Buffer.from('{"error":"not found"}') }, /config\.json/],
    tokenizer: [{ "tokenizer.json": Buffer.from('{"model":{"type":"Odd"}}') }, /tokenizer/],
    weights: [{ "model.safetensors.index.json": undefined, "model.safetensors": Buffer.from('{"error":"not found"}') }, /model\.safetensors/],
  };
  for (const [name, [other, reason]] of Object.entries(broken)) {
    for (const [file, bytes] of Object.entries({ ...folder, ...other })) files[`/${name}/${file}`] = bytes;
    await assert.rejects(create(`${server.origin}/${name}/`), { code: "bad_model", message: reason }, name);
    assert.deepEqual(kept().filter((path) => !path.endsWith("record.json")), [], name);
  }
});

test("options that are not known, or not allowed, are refused before anything is read", async () => {
  const began = server.log.length;
  const model = `${server.origin}/json.gguf`;
  const wrong = {
    "cache.budgetByte": [{ cache: { budgetByte: 5 } }, /did you mean cache\.budgetBytes\?/],
    "cache.budgetBytes": [{ cache: { budgetBytes: "1GB" } }, /number of bytes/],
    "cache.directory": [{ cache: { directory: 5 } }, /path of a directory/],
    "cache.directori": [{ cache: { directori: "/tmp" } }, /did you mean cache\.directory\?/],
    "cache.persist": [{ cache: { persist: null } }, /true or false/],
    "cache.memoryBytes": [{ cache: { memoryBytes: 0.5 } }, /whole number/],
    "cache.salt": [{ cache: { salt: 5 } }, /string/],
    "cache.ttlMs": [{ cache: { ttlMs: NaN } }, /milliseconds/],
    "weights.persists": [{ weights: { persists: false } }, /did you mean weights\.persist\?/],
    cache: [{ cache: "no" }, /false, or an object/],
    context: [{ context: "4096" }, /whole number of tokens/],
    headers: [{ headers: "x" }, /object of strings/],
    kernel: [{ kernel: "int8" }, /did you mean kernels\?/],
    kernels: [{ kernels: "int4" }, /none of auto, f32/],
    kv: [{ kv: "f32" }, /none of f16, q8/],
    kvTokens: [{ kvTokens: -5 }, /whole number/],
    maxTokens: [{ maxTokens: 5 }, /is no option/],
    onProgress: [{ onProgress: 5 }, /function/],
    prefixPacks: [{ prefixPacks: "x.pack" }, /list/],
    "prefixPacks[0]": [{ prefixPacks: ["./museum.kv.safetensors"] }, /^prefixPacks\[0\]: \/.*\/museum\.kv\.safetensors is missing/],
    "prefixPacks[1]": [{ prefixPacks: [new Blob(), { url: pathToFileURL("/none.pack"), key: "k" }] }, /\/none\.pack is missing/],
    "prefixPacks[2]": [{ prefixPacks: [new Blob(), "https://packs.example/a", 5] }, /URLs, Blobs/],
    signal: [{ signal: new AbortController() }, /AbortSignal/],
    wasm: [{ wasm: "./none.wasm" }, /^wasm: \/.*\/none\.wasm is missing/],
    weights: [{ weights: 5 }, /persist: false/],
  };
  for (const [field, [options, message]] of Object.entries(wrong)) await assert.rejects(create(model, options), { code: "bad_input", field, message }, field);
  for (const cache of [null, true, 5]) await assert.rejects(create(model, { cache }), { code: "bad_input", field: "cache" });
  for (const budgetBytes of [-1, NaN, Infinity, null]) await assert.rejects(create(model, { cache: { budgetBytes } }), { code: "bad_input", field: "cache.budgetBytes" });
  assert.equal(server.log.length, began);
  // All that there are.
  const all = { cache: { persist: false, budgetBytes: 1e9, ttlMs: 1e6, memoryBytes: 0, salt: "s", directory }, weights: { directory, persist: false } };
  const settings = { context: 64, kvTokens: 64, kv: "q8", kernels: "f32", headers: { authorization: "x" }, prefixPacks: [], onProgress() {}, signal: new AbortController().signal };
  await assert.rejects(create(model, { ...all, ...settings }), { code: "bad_model" });
});

test("the types name the values that the engine takes", async () => {
  const types = readFileSync(new URL("../../src/types.ts", import.meta.url), "utf8");
  for (const [option, type] of [["kernels", "Kernels"], ["kv", "KvFormat"]]) {
    const declared = new RegExp(`^export type ${type} = (.*);$`, "m").exec(types)[1].split(" | ").map((name) => JSON.parse(name));
    const message = `${option}: "other" is none of ${declared.join(", ")}`;
    await assert.rejects(create(`${server.origin}/json.gguf`, { [option]: "other" }), { field: option, message });
  }
});

test("the engine resolves names of the hub", async () => {
  const siblings = ["m-IQ4_0.gguf", "m-Q4_0.gguf", "mmproj-Q4_0.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
  files["/api/models/own/er/revision/main"] = Buffer.from(JSON.stringify({ siblings: siblings.map((rfilename) => ({ rfilename })) }));
  for (const name of siblings) files[`/own/er/resolve/main/${name}`] = files["/architecture.gguf"];
  const asked = async (name, error) => {
    const began = server.log.length;
    await assert.rejects(create(name), error);
    return server.log.slice(began).filter(({ method, path }) => method === "GET" && /resolve/.test(path)).map(({ path }) => path.split("/").at(-1));
  };
  assert.deepEqual(await asked("own/er:q4_0", { code: "bad_model" }), ["m-Q4_0.gguf"]);
  assert.deepEqual(await asked("own/er:Q8_0", { code: "bad_model" }), [siblings[3]]);
  assert.deepEqual(await asked("own/er", { code: "bad_input", message: /holds several models.*m-Q4_0\.gguf/ }), []);
  assert.deepEqual(await asked("own/er:Q2_K", { code: "bad_input", message: /no file Q2_K; its GGUF files are/ }), []);
  assert.deepEqual(await asked("own/er:../x.gguf", { code: "bad_input" }), []);
  assert.deepEqual(await asked("own/none", { code: "http_status", status: 404 }), []);
  process.env.HF_ENDPOINT = server.origin;
  assert.deepEqual(await asked("own/er:Q4_0", { code: "bad_model" }), ["m-Q4_0.gguf"]);
  await assert.rejects(create("own/er:Q4_0", { hub: undefined }), { code: "bad_model" });
  delete process.env.HF_ENDPOINT;
});
