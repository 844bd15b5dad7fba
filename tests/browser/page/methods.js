// What the tests do with the wasm face as it is, in a page or in Node, over files that come by HTTP.

/** A file of a model: fetched whole, read in pieces. */
async function file(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const blob = await response.blob();
  return {
    name: decodeURIComponent(url.pathname.split("/").pop()),
    size: blob.size,
    read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
  };
}

const HMAC = { name: "HMAC", hash: "SHA-256" };
const storeKey = crypto.subtle.importKey("raw", new Uint8Array(32), HMAC, false, ["sign"]);

/** Vouches for what a store keeps. */
export async function sign(message) {
  return new Uint8Array(await crypto.subtle.sign("HMAC", await storeKey, message));
}

/** A block, or a pack, with another last bit and the digest that it then has: what somebody writes who has no key. */
async function forged(whole) {
  const bytes = whole.slice();
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))));
  const field = (name) => {
    const at = header.indexOf(`"${name}":"`);
    return at < 0 ? new Uint8Array() : bytes.subarray(8 + at + name.length + 4).subarray(0, 64);
  };
  const [digest, mac] = [field("digest"), field("mac")];
  const kept = mac.slice();
  bytes[bytes.length - 1] ^= 1;
  digest.fill(0x30);
  mac.fill(0x30);
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.subarray(8)));
  digest.set(new TextEncoder().encode(Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("")));
  mac.set(kept);
  return bytes;
}

/** What was thrown, as plain data. */
function plain(error) {
  const { code, message, bytes } = error ?? {};
  return { code, message: message ?? String(error), bytes };
}

/**
 * The methods, over files that lie at `origin`. `loadWasm` gives the module's exports and `memory`, a function; `openStore` a
 * store by name, whose content outlives these methods.
 */
export const methods = ({ origin, loadWasm, openStore }) => ({
  engines: [],

  async init() {
    this.wasm ??= await loadWasm();
    return this.wasm;
  },

  /** A new engine's number and what loading took. */
  async load(urls, { store, ...options } = {}) {
    const { WasmEngine } = await this.init();
    const files = await Promise.all(urls.map((url) => file(new URL(url, origin))));
    const began = performance.now();
    const progress = [];
    const engine = await WasmEngine.load(
      { files, ...options, store: store && (await openStore(store)) },
      (told) => progress.push(told),
    );
    const stages = Object.fromEntries(progress.map((told) => [told.stage, told]));
    this.engines.push(engine);
    return { engine: this.engines.length - 1, ms: performance.now() - began, info: engine.info(), stages, memory: this.memory() };
  },

  /** Puts other KV in the place of all blocks of a store, whole by their digests. How many there were. */
  async forge(name) {
    const store = await openStore(name);
    const blocks = store.keys().filter((key) => !key.endsWith("6d616e6966657374"));
    for (const key of blocks) await store.put(key, await forged(await store.get(key)));
    return blocks.length;
  },

  async forgedPack(pack) {
    return [...(await forged(Uint8Array.from(pack)))];
  },

  /** Bytes of the module's memory, which never shrinks. */
  memory() {
    return this.wasm.memory();
  },

  /** An answer whole, of its logits the digests, and the `first` themselves. `lose`: the device goes after so many tokens. */
  async answer(at, request, { lose = Infinity } = {}) {
    const engine = this.engines[at];
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
          out.logits.push(this.hash(new Uint8Array(event.logits.buffer)));
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
      const engine = this.engines[at];
      const result = await (method in engine ? engine : engine.host())[method](...rest);
      return { result: ArrayBuffer.isView(result) ? Array.from(result) : result };
    } catch (error) {
      return { error: plain(error) };
    }
  },

  /** Frees an engine. */
  free(at) {
    this.engines[at].free();
    this.engines[at] = undefined;
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
    const shaders = await (await fetch(new URL(url, origin))).json();
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

  /** The SHA-256 of bytes. */
  hash(bytes) {
    const hash = new this.wasm.Sha256();
    hash.update(bytes);
    return hash.digest();
  },

  async prefixKeys(fields, tokens) {
    const { prefixKeys } = await this.init();
    return prefixKeys(fields, Uint32Array.from(tokens));
  },
});
