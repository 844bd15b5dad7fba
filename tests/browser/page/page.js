// What the tests do in a page: the wasm face as it is, over files that come by HTTP and a store in the origin's file system.

import init, { Sha256, WasmEngine, prefixKeys } from "/wasm/headstart.js";

/** A file of a model: fetched whole, read in pieces. */
async function file(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const blob = await response.blob();
  return {
    name: decodeURIComponent(new URL(url, location.href).pathname.split("/").pop()),
    size: blob.size,
    read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
  };
}

/** The least that keeps KV over a reload. */
class FolderStore {
  name = "opfs";
  #folder;
  #keys;

  static async open(name) {
    const store = new FolderStore();
    store.#folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create: true });
    store.#keys = new Set();
    for await (const key of store.#folder.keys()) store.#keys.add(key);
    return store;
  }

  async get(key) {
    if (!this.#keys.has(key)) return undefined;
    const file = await (await this.#folder.getFileHandle(key)).getFile();
    return new Uint8Array(await file.arrayBuffer());
  }

  async put(key, bytes) {
    const writable = await (await this.#folder.getFileHandle(key, { create: true })).createWritable();
    await writable.write(bytes);
    await writable.close();
    this.#keys.add(key);
  }

  async contains(keys) {
    return keys.map((key) => this.#keys.has(key));
  }

  async remove(key) {
    if (this.#keys.delete(key)) await this.#folder.removeEntry(key);
  }

  async clear() {
    for (const key of [...this.#keys]) await this.remove(key);
  }

  touch() {}

  async flush() {}

  usage() {
    return { entries: this.#keys.size, bytes: 0, evicted: 0, failures: 0 };
  }
}

let wasm;
const engines = [];

/** What was thrown, as plain data. */
function plain(error) {
  const { code, message, bytes } = error ?? {};
  return { code, message: message ?? String(error), bytes };
}

const hex = (bytes) => {
  const hash = new Sha256();
  hash.update(bytes);
  return hash.digest();
};

globalThis.hs = {
  async init() {
    wasm ??= await init({ module_or_path: "/wasm/headstart_bg.wasm" });
  },

  /** A new engine's number and what loading took. */
  async load(urls, { store, ...options } = {}) {
    await this.init();
    const files = await Promise.all(urls.map(file));
    const began = performance.now();
    const progress = [];
    const engine = await WasmEngine.load(
      { files, ...options, store: store && (await FolderStore.open(store)) },
      (told) => progress.push(told),
    );
    const stages = Object.fromEntries(progress.map((told) => [told.stage, told]));
    engines.push(engine);
    return { engine: engines.length - 1, ms: performance.now() - began, info: engine.info(), stages, memory: this.memory() };
  },

  /** Bytes of the module's memory, which never shrinks. */
  memory: () => wasm.memory.buffer.byteLength,

  /** An answer whole, of its logits the digests, and the `first` themselves. `lose`: the device goes after so many tokens. */
  async answer(at, request, { lose = Infinity } = {}) {
    const engine = engines[at];
    const out = { tokens: [], text: "", logits: [] };
    try {
      const id = engine.submit(request);
      out.prompt = engine.promptTokens(id).length;
      while (!out.finish) {
        for (const event of await engine.step()) {
          if (event.id !== id) continue;
          if (event.type === "failed") throw event.error;
          if (event.type === "finish") out.finish = event;
          if (event.type !== "text") continue;
          out.text += event.text;
          if (event.token !== undefined) out.tokens.push(event.token);
          if (!event.logits) continue;
          out.first ??= Array.from(event.logits);
          out.logits.push(hex(new Uint8Array(event.logits.buffer)));
        }
        if (out.tokens.length >= lose) {
          engine.destroyDeviceForTest();
          lose = Infinity;
        }
      }
    } catch (error) {
      out.error = plain(error);
    }
    return out;
  },

  /** Calls a method of an engine or of its host: what it gives, or what it throws. */
  async call(at, method, ...rest) {
    try {
      const engine = engines[at];
      const result = await (method in engine ? engine : engine.host())[method](...rest);
      return { result: ArrayBuffer.isView(result) ? Array.from(result) : result };
    } catch (error) {
      return { error: plain(error) };
    }
  },

  /** Frees an engine. */
  free(at) {
    engines[at].free();
  },

  /** From now on devices of this page have so many bytes, and say so as real ones do when there are no more. */
  limit(bytes) {
    const { createBuffer, popErrorScope } = GPUDevice.prototype;
    let left = bytes;
    let refused = false;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      left -= descriptor.size;
      refused ||= left < 0;
      return createBuffer.call(this, descriptor);
    };
    GPUDevice.prototype.popErrorScope = async function () {
      const error = await popErrorScope.call(this);
      return refused ? new GPUOutOfMemoryError("no more memory") : error;
    };
  },

  /** Why loading fails. */
  async refusal(urls, options) {
    try {
      await this.load(urls, options);
    } catch (error) {
      return plain(error);
    }
  },

  /** Compiles shaders, and makes a pipeline of one in `each`: which of them this browser refuses, and why. */
  async compile(url, each) {
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const shaders = await (await fetch(url)).json();
    const refused = [];
    const pipeline = async (module, readOnly) => {
      const entries = readOnly.map((read, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: read ? "read-only-storage" : "storage" },
      }));
      const layout = device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
      await device.createComputePipelineAsync({ layout, compute: { module, entryPoint: "main" } });
    };
    const compile = async ({ label, source, read_only }, index) => {
      const module = device.createShaderModule({ code: source });
      const { messages } = await module.getCompilationInfo();
      const errors = messages.filter((told) => told.type === "error").map((told) => told.message);
      try {
        if (index % each === 0) await pipeline(module, read_only);
      } catch (error) {
        errors.push(error.message);
      }
      if (errors.length > 0) refused.push(`${label}: ${errors.join("; ")}`);
    };
    await Promise.all(shaders.map(compile));
    device.destroy();
    return { compiled: shaders.length - refused.length, refused };
  },

  async prefixKeys(fields, tokens) {
    await this.init();
    return prefixKeys(fields, Uint32Array.from(tokens));
  },
};
globalThis.ready = true;
