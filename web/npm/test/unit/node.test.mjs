// Node without a graphics card: paths as models, KV in a directory, and modules for pages without Node's.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { open as openHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, mock, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Client, coreOptions } from "../../dist/client.js";
import { openCore } from "../../dist/core/open.js";
import { signKey } from "../../dist/kv/key.js";
import { DiskStore } from "../../dist/kv/store.js";
import { Digests } from "../../dist/node/digests.js";
import { Directory } from "../../dist/node/directory.js";
import { openFiles, pathsToUrls } from "../../dist/node/files.js";
import { readKey } from "../../dist/node/key.js";
import { nameSources } from "../../dist/model/source.js";
import { Sha256, mockWasm } from "../support/engine.mjs";
import { serve } from "../support/server.mjs";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const HOUR = 60 * 60 * 1000;
const key = (index) => index.toString(16).padStart(64, "0");

let root;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), "headstart node-"))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const open = (model, digests) => openFiles(nameSources(pathsToUrls(model)), { disk: undefined, hash: () => new Sha256(), onProgress: () => undefined, hub: undefined, judge: async () => undefined }, digests);
const openSign = () => signKey(new Uint8Array(32));
const names = ({ files }) => files.map(({ name }) => name);

test("a file is read in place, in ranges", async () => {
  const bytes = randomBytes(100_000);
  const path = join(root, "a #1 model%20.gguf");
  writeFileSync(path, bytes);
  for (const model of [path, [path], { "a #1 model%20.gguf": path }]) {
    const opened = await open(model);
    const [file] = opened.files;
    assert.deepEqual([file.name, file.size], ["a #1 model%20.gguf", bytes.length]);
    assert.deepEqual(Buffer.from(await file.read(12_345, 67_890)), bytes.subarray(12_345, 12_345 + 67_890));
    truncateSync(path, 50);
    await assert.rejects(file.read(40, 20), { code: "storage", message: /byte 50/ });
    writeFileSync(path, bytes);
    await opened.close();
  }
});

test("the path of one shard gives all of them, and names a missing one", async () => {
  const shards = [1, 2].map((number) => `m-0000${number}-of-00002.gguf`);
  writeFileSync(join(root, shards[0]), "one");
  await assert.rejects(open(join(root, shards[0])), { code: "bad_input", message: /m-00002-of-00002\.gguf is missing/ });
  writeFileSync(join(root, shards[1]), "two");
  for (const model of [join(root, shards[1]), pathToFileURL(join(root, shards[0])), root, shards.map((name) => join(root, name))]) {
    const opened = await open(model);
    assert.deepEqual(names(opened), shards);
    await opened.close();
  }
});

test("a directory gives its model's files", async () => {
  const wanted = ["config.json", "model.safetensors", "tokenizer.json"];
  for (const name of [...wanted, "README.md", "training_args.bin"]) writeFileSync(join(root, name), name);
  const opened = await open(root);
  assert.deepEqual(names(opened), wanted);
  await opened.close();
  mkdirSync(join(root, "empty"));
  await assert.rejects(open(join(root, "empty")), { code: "bad_model", message: /contains no model/ });
  await assert.rejects(open(join(root, "nothing.gguf")), { code: "bad_input", message: /nothing\.gguf is missing/, file: join(root, "nothing.gguf") });
});

test("a model is named by its directory, also where its file has a generic name", async () => {
  const folder = join(root, "Llama 1B");
  mkdirSync(folder);
  const names = ["config.json", "a.safetensors", "model.safetensors", "model-00001-of-00002.safetensors"];
  const [config, shard, single, first] = names.map((name) => join(folder, name));
  for (const path of [config, shard, single, first]) writeFileSync(path, "{}");
  const called = async (model) => {
    const { name, close } = await open(model);
    await close();
    return name;
  };
  for (const model of [folder, `${folder}/`, pathToFileURL(folder), single, [config, first], { "model.safetensors": shard }]) {
    assert.equal(await called(model), "Llama 1B", String(model));
  }
  assert.equal(await called([config, shard]), undefined);
});

/** The result of `work`, and how many bytes it reads of open files. */
async function reading(work) {
  const handle = await openHandle(fileURLToPath(import.meta.url));
  let read = 0;
  const { read: original } = Object.getPrototypeOf(handle);
  mock.method(Object.getPrototypeOf(handle), "read", async function (...args) {
    const done = await original.apply(this, args);
    read += done.bytesRead;
    return done;
  });
  await handle.close();
  try {
    return [await work(), read];
  } finally {
    mock.restoreAll();
  }
}

test("weights are hashed once, and again after a change", async () => {
  const path = join(root, "model.gguf");
  const size = 8 << 20;
  const list = join(root, "cache", "weights.json");
  const sha = () => createHash("sha256").update(readFileSync(path)).digest("hex");
  const write = (bytes, secondsAgo = 60) => {
    writeFileSync(path, bytes);
    const time = Math.floor(Date.now() / 1000) - secondsAgo;
    utimesSync(path, time, time);
  };
  /** Whether all of it is read, by the next start. */
  const start = async () => {
    const digests = new Digests(await Directory.open(join(root, "cache")), await openSign());
    const [found, read] = await reading(async () => {
      const { files, close } = await open(path, digests);
      await close();
      return files[0].sha256;
    });
    assert.equal(found, sha());
    assert.ok(read < size / 8 || read >= size, `${read} bytes`);
    return read >= size;
  };
  const bytes = randomBytes(size);
  write(bytes);
  assert.deepEqual([await start(), await start()], [true, false]);
  assert.equal(statSync(list).mode & 0o777, 0o600);
  // Between the sampled ranges, with the old size and time.
  bytes[(128 << 10) - 1] ^= 1;
  write(bytes);
  assert.deepEqual([await start(), await start()], [true, false]);
  // Not a file so new that another write could leave the same time.
  write(bytes, -60);
  assert.deepEqual([await start(), await start()], [true, true]);
  write(bytes);
  for (const damaged of ["{", "null", '{"version":2,"entries":[null,{}]}', ...[63, 64].map((length) => readFileSync(list, "utf8").replaceAll(sha(), "0".repeat(length)))]) {
    writeFileSync(list, damaged);
    assert.deepEqual([await start(), await start()], [true, false], damaged);
  }
  // If the list cannot be written, only time is lost.
  rmSync(list);
  mkdirSync(list);
  assert.deepEqual([await start(), await start()], [true, true]);
});

test("a URL beside a path is downloaded", async () => {
  const server = await serve({ "/tokenizer.json": Buffer.from("{}") }, {});
  writeFileSync(join(root, "model.safetensors"), "weights");
  try {
    const opened = await open([join(root, "model.safetensors"), `${server.origin}/tokenizer.json`]);
    assert.deepEqual(names(opened), ["model.safetensors", "tokenizer.json"]);
    assert.equal(new TextDecoder().decode(await opened.files[1].read(0, 2)), "{}");
    await opened.close();
  } finally {
    await server.close();
  }
});

test("KV is in a directory that only its owner can read, and is found again", async () => {
  const directory = join(root, "deep", "kv");
  const store = await DiskStore.open(await Directory.open(directory), { budgetBytes: 250, ttlMs: HOUR });
  for (let index = 0; index < 3; index++) await store.put(key(index), new Uint8Array(100).fill(index));
  await store.flush();
  const modes = (path) => statSync(path).mode & 0o777;
  assert.deepEqual([modes(directory), modes(join(directory, "kv"))], [0o700, 0o700]);
  for (const name of readdirSync(join(directory, "kv"))) assert.equal(modes(join(directory, "kv", name)), 0o600, name);
  assert.deepEqual(readdirSync(join(directory, "kv")).sort(), [key(1), key(2), "index.json"]);

  const again = await DiskStore.open(await Directory.open(directory), { budgetBytes: 250, ttlMs: HOUR });
  assert.deepEqual(await again.contains([key(0), key(1), key(2)]), [false, true, true]);
  assert.deepEqual(await again.get(key(2)), new Uint8Array(100).fill(2));
  assert.deepEqual(again.usage(), { entries: 2, bytes: 200, evicted: 0, failures: 0 });
  await again.clear();
  assert.deepEqual(readdirSync(directory), []);
});

test("files without an index entry age from their modification time, and half-written ones last an hour", async () => {
  const disk = await Directory.open(root);
  await disk.write("kv", key(1), new Uint8Array(10));
  await disk.write("kv", key(2), new Uint8Array(10));
  const half = ["old.tmp", "new.tmp"].map((name) => join(root, "kv", name));
  for (const path of half) writeFileSync(path, "half");
  const old = new Date(Date.now() - 2 * HOUR);
  for (const path of [half[0], join(root, "kv", key(1))]) utimesSync(path, old, old);
  const store = await DiskStore.open(disk, { budgetBytes: 1000, ttlMs: HOUR });
  assert.deepEqual(await store.contains([key(1), key(2)]), [false, true]);
  assert.deepEqual(readdirSync(join(root, "kv")).sort(), [key(2), "index.json", "new.tmp"]);
});

test("a directory that others can read is closed to them, and one that they can write to is refused", { skip: process.platform === "win32" }, async () => {
  const directory = join(root, "kv");
  mkdirSync(directory);
  chmodSync(directory, 0o755);
  await Directory.open(directory);
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  for (const mode of [0o777, 0o720]) {
    chmodSync(directory, mode);
    await assert.rejects(Directory.open(directory), { code: "storage", message: /other users can write to it.*another directory/ });
  }
});

test("a directory that cannot be created", async () => {
  writeFileSync(join(root, "file"), "");
  await assert.rejects(Directory.open(join(root, "file", "kv")), { code: "storage", message: /another directory/ });
});

test("the user's key is created once, for the user alone, and signs as HMAC does", async () => {
  const path = join(root, "deep", "kv.key");
  const made = await Promise.all(Array.from({ length: 8 }, () => readKey(path)));
  for (const secret of made) assert.deepEqual(secret, made[0]);
  writeFileSync(path, readFileSync(path, "utf8").toUpperCase());
  assert.deepEqual(await readKey(path), made[0]);
  assert.ok(made[0].length === 32 && made[0].some((byte) => byte !== 0));
  assert.deepEqual(readdirSync(join(root, "deep")), ["kv.key"]);
  assert.deepEqual([path, join(root, "deep")].map((path) => statSync(path).mode & 0o777), [0o600, 0o700]);
  const message = randomBytes(100);
  const mac = await (await signKey(made[0]))(Uint8Array.from(message));
  assert.deepEqual(Buffer.from(mac), createHmac("sha256", made[0]).update(message).digest());

  chmodSync(path, 0o644);
  await assert.rejects(readKey(path), { code: "storage", message: /others may read or write it.*HEADSTART_KV_KEY/ });
  chmodSync(path, 0o600);
  writeFileSync(path, "a".repeat(63));
  await assert.rejects(readKey(path), { code: "storage", message: /64 hexadecimal digits/ });
});

test("an engine over a path and a directory", async () => {
  const path = join(root, "model.gguf");
  writeFileSync(path, randomBytes(3 << 20));
  const control = {};
  const host = { requireWebGpu: async () => undefined, openModel: openFiles, openDisk: () => Directory.open(join(root, "cache")), openSign };
  const core = await openCore(coreOptions({ model: pathsToUrls(path) }), async () => mockWasm(control), () => undefined, undefined, host);
  const client = new Client(core);
  const { text } = (await client.completions.create({ prompt: "abc", max_tokens: 3 })).choices[0];
  assert.equal(text, "abc");
  const { store } = await client.prefix.stats();
  assert.equal(store.name, "directory");
  await control.options.store.put(key(1), new Uint8Array(5));
  await client.dispose();
  assert.ok(readdirSync(join(root, "cache", "kv")).includes(key(1)), "dispose writes what waits");
});

/** The package alone, without its engine, which another build makes. */
function alone() {
  cpSync(DIST, join(root, "dist"), { recursive: true });
  writeFileSync(join(root, "package.json"), '{ "type": "module" }');
  writeFileSync(join(root, "dist/wasm/headstart.js"), "export default 0; export class WasmEngine {} export class Sha256 {} export let createOptions, judge, hubName, hubFile");
  return import(pathToFileURL(join(root, "dist/node.js")).href);
}

test("without the package webgpu, the error says how to install it", async () => {
  const { Headstart } = await alone();
  await assert.rejects(Headstart.create({ model: "m.gguf" }), { code: "no_webgpu", message: /npm i webgpu/ });
});

test("no graphics card, and unknown options", async () => {
  const { Headstart } = await alone();
  const gpu = { requestAdapter: async () => null };
  await assert.rejects(Headstart.create({ model: "m.gguf", gpu }), { code: "no_adapter", message: /Vulkan/ });
  await assert.rejects(Headstart.create(), { code: "bad_input" });
  await assert.rejects(Headstart.create({ gpu }), { code: "bad_input" });
});

test("downloads in a directory are listed and removed", async () => {
  const bytes = randomBytes(9 << 20);
  const server = await serve({ "/m.gguf": bytes, "/n.gguf": bytes }, {});
  const [kept, other] = ["m", "n"].map((name) => `${server.origin}/${name}.gguf`);
  const directory = join(root, "headstart", "node");
  try {
    for (const url of [kept, other]) {
      const options = { disk: await Directory.open(directory), hash: () => new Sha256(), onProgress: () => undefined, hub: undefined, judge: async () => undefined };
      await (await openFiles(nameSources(url), options)).close();
    }
  } finally {
    await server.close();
  }
  const { clearWeights, listWeights } = await alone();
  const sources = async (options) => (await listWeights(options)).map(({ source }) => source).sort();
  assert.deepEqual(await sources({ directory }), [kept, other]);
  await clearWeights(other, { directory });
  assert.deepEqual(await listWeights({ directory }), [{ source: kept, name: "m.gguf", size: bytes.length, loaded: bytes.length, complete: true }]);
  assert.deepEqual([await sources({ directory: join(root, "none") }), readdirSync(root).includes("none")], [[], false]);
  if (process.platform !== "linux") return;
  const { XDG_CACHE_HOME } = process.env;
  process.env.XDG_CACHE_HOME = root;
  try {
    assert.deepEqual(await sources(), [kept], "where `create` keeps them");
    await clearWeights();
  } finally {
    if (XDG_CACHE_HOME === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = XDG_CACHE_HOME;
  }
  assert.deepEqual(await sources({ directory }), []);
});

/** Resolves Node's modules to what Node 18 has. */
const OLD_NODE = `
import * as fs from "node:fs";
import * as promises from "node:fs/promises";
const found = { "node:fs": fs, "node:fs/promises": promises };
export const resolve = (name, context, next) =>
  name in found && !context.parentURL?.startsWith("old:") ? { url: "old:" + name, shortCircuit: true } : next(name, context);
export function load(url, context, next) {
  const name = url.replace("old:", "");
  if (name === url) return next(url, context);
  const names = Object.keys(found[name]).filter((name) => !["openAsBlob", "statfs"].includes(name));
  return { format: "module", shortCircuit: true, source: "export { " + names + " } from " + JSON.stringify(name) };
}`;

test("an older Node loads the package, and is told which version it needs", async () => {
  await alone();
  const { engines } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  writeFileSync(join(root, "hooks.mjs"), OLD_NODE);
  writeFileSync(
    join(root, "main.mjs"),
    `import { register } from "node:module";
    register("./hooks.mjs", import.meta.url);
    Object.defineProperty(process, "versions", { value: { ...process.versions, node: "18.19.1" } });
    const { Headstart, clearWeights, listWeights } = await import("./dist/node.js");
    const told = [];
    for (const call of [() => Headstart.create({ model: "m.gguf" }), listWeights, clearWeights]) await call().catch((error) => told.push(error));
    console.log(JSON.stringify(told.map(({ name, code, message }) => [name, code, message])));`,
  );
  const told = JSON.parse(execFileSync(process.execPath, [join(root, "main.mjs")], { encoding: "utf8" }));
  const message = `headstart needs Node ${engines.node.replace(">=", "")} or newer, and this is Node 18.19.1; update Node`;
  assert.deepEqual(told, Array(3).fill(["HeadstartError", "old_node", message]));
});

test("modules for pages use nothing of Node", () => {
  const scripts = readdirSync(DIST, { recursive: true }).filter((name) => name.endsWith(".js") && !/^node(\.js$|[\\/])/.test(name));
  assert.ok(scripts.includes("index.js") && scripts.includes("worker-entry.js"));
  for (const name of scripts) assert.doesNotMatch(readFileSync(join(DIST, name), "utf8"), /["'](node:|\.{1,2}\/node[./])/, name);
});
