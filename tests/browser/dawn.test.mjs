// The WebAssembly interface in Node on Dawn, Chromium's WebGPU, with any Vulkan driver.
//
//     node --test tests/browser/dawn.test.mjs        --test-name-pattern=golden to narrow it

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { create, globals } from "webgpu";

import { EVERYWHERE, ONCE } from "./cases.mjs";
import { methods, sign } from "./page/methods.js";
import { serve } from "./server.mjs";
import { installGpu, loadWasm } from "./wasm.mjs";

/** A store in memory. It outlives the module as a folder outlives a page. */
class MapStore {
  name = "opfs";
  #files = new Map();
  sign = sign;

  async get(key) {
    return this.#files.get(key);
  }
  async put(key, bytes) {
    this.#files.set(key, bytes.slice());
  }
  async contains(keys) {
    return keys.map((key) => this.#files.has(key));
  }
  async remove(key) {
    return this.#files.delete(key);
  }
  async clear() {
    this.#files.clear();
  }
  keys() {
    return [...this.#files.keys()];
  }
  touch() {}
  async flush() {}
  usage() {
    return { entries: this.#files.size, bytes: 0, evicted: 0, failures: 0 };
  }
}

const stores = new Map();
const openStore = async (name) => stores.get(name) ?? stores.set(name, new MapStore()).get(name);
let server;
let visited;

before(async () => {
  Object.assign(globalThis, globals);
  server = await serve();
});

after(() => {
  server.close();
  leave();
  installGpu(undefined);
});

/** Ends the last visit like a closed page: destroys its devices. */
function leave() {
  for (const engine of visited?.engines ?? []) engine?.destroyDeviceForTest();
}

const { createBuffer, createShaderModule, popErrorScope } = globals.GPUDevice.prototype;
const { digest } = SubtleCrypto.prototype;
/** The WebGPU of every visit. Dawn crashes when it is collected while its devices still compile. */
const opened = [];

/** Loads a fresh copy of the module, an unchanged WebGPU and an unchanged WebCrypto. */
async function visit() {
  leave();
  Object.assign(GPUDevice.prototype, { createBuffer, createShaderModule, popErrorScope });
  Object.assign(SubtleCrypto.prototype, { digest });
  opened.push(create([]));
  installGpu(opened.at(-1));
  visited = methods({ origin: server.origin, loadWasm, openStore });
  return async (method, ...rest) => visited[method](...rest);
}

for (const [title, run] of Object.entries({ ...EVERYWHERE, ...ONCE })) {
  test(title, async (context) => {
    await run({ visit, origin: server.origin, browser: { name: "dawn" }, name: "dawn", say: (text) => context.diagnostic(text) });
  });
}

test("no WebGPU", async () => {
  const call = await visit();
  installGpu(undefined);
  const error = await call("refusal", ["config.json", "model.safetensors", "tokenizer.json"].map((file) => `/tiny/tiny-odd-f16/${file}`));
  assert.equal(error?.code, "no_webgpu");
});

test("a store that cannot sign is a miss, and leaves no rejection that nobody awaits", async () => {
  const model = ["config.json", "model.safetensors", "tokenizer.json"].map((file) => `/tiny/tiny-odd-f16/${file}`);
  const request = { tokens: Array.from({ length: 100 }, (_, token) => (token * 37) % 250), max_tokens: 2 };
  let call = await visit();
  let { engine } = await call("load", model, { store: "kv-unsigned" });
  await call("answer", engine, request);
  await call("call", engine, "persist");
  stores.get("kv-unsigned").sign = async () => {
    throw new Error("no key");
  };
  const lost = [];
  const onLost = (error) => lost.push(error);
  process.on("unhandledRejection", onLost);
  try {
    call = await visit();
    ({ engine } = await call("load", model, { store: "kv-unsigned" }));
    const { finish } = await call("answer", engine, request);
    assert.equal(finish.cache.sources.computed, 100, JSON.stringify(finish.cache));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(lost, []);
  } finally {
    process.off("unhandledRejection", onLost);
  }
});
