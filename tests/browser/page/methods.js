// The tests' methods on the WebAssembly interface, in a page or in Node. Files come over HTTP.

/** A file of a model. It is fetched as a whole and read in pieces. */
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

/** The next mapping of a buffer fails. */
function failToMap() {
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = async () => {
    GPUBuffer.prototype.mapAsync = mapAsync;
    throw new DOMException("no such buffer", "OperationError");
  };
}

const HMAC = { name: "HMAC", hash: "SHA-256" };
const storeKey = crypto.subtle.importKey("raw", new Uint8Array(32), HMAC, false, ["sign"]);

/** Authenticates the values of a store. */
export async function sign(message) {
  return new Uint8Array(await crypto.subtle.sign("HMAC", await storeKey, message));
}

/** A block or a pack with a changed last bit and the matching digest, as somebody without the key could write it. */
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

/** The keys of a store's blocks. */
const blocks = (store) => store.keys().filter((key) => !key.endsWith("6d616e6966657374"));

/** A thrown value as plain data. */
function plain(error) {
  const { code, message, bytes } = error ?? {};
  return { code, message: message ?? String(error), bytes };
}

/**
 * The methods, over files at `origin`. `loadWasm` returns the module's exports and `memory`, a function. `openStore` returns a store by
 * name, whose content outlives these methods.
 */
export const methods = ({ origin, loadWasm, openStore }) => ({
  engines: [],

  async init() {
    this.wasm ??= await loadWasm();
    return this.wasm;
  },

  /** Loads an engine. Returns its number and the costs of loading. */
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

  /** Replaces all blocks of a store by other KV with matching digests. Returns their number. */
  async forge(name) {
    const store = await openStore(name);
    const keys = blocks(store);
    for (const key of keys) await store.put(key, await forged(await store.get(key)));
    return keys.length;
  },

  /** Changes the last bit of a store's block `index`, in the order in which they were saved. */
  async damage(name, index) {
    const store = await openStore(name);
    const key = blocks(store)[index];
    const bytes = (await store.get(key)).slice();
    bytes[bytes.length - 1] ^= 1;
    await store.put(key, bytes);
  },

  /** From now on counts the digests that WebCrypto is asked for, and refuses them if `refuse`. */
  watchDigests(refuse = false) {
    const { digest } = SubtleCrypto.prototype;
    const count = () => ++this.digests;
    this.digests = 0;
    SubtleCrypto.prototype.digest = async function (...asked) {
      count();
      if (refuse) throw new DOMException("no digests", "OperationError");
      return digest.apply(this, asked);
    };
  },

  digestsAsked() {
    return this.digests;
  },

  async forgedPack(pack) {
    return [...(await forged(Uint8Array.from(pack)))];
  },

  /** Bytes of the module's memory. It never shrinks. */
  memory() {
    return this.wasm.memory();
  },

  /**
   * A whole answer with the digests of its logits, and the `first` logits. `lose`: the device is lost after so many tokens; `untold`: all
   * that is heard of it is that a buffer cannot be mapped.
   */
  async answer(at, request, { lose = Infinity, untold = false } = {}) {
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
          if (untold) failToMap();
          else engine.destroyDeviceForTest();
          lose = Infinity;
        }
      }
    } catch (error) {
      out.error = plain(error);
    }
    return out;
  },

  /** Calls a method of an engine or of its host. Returns its result or its error. */
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

  /** Limits later devices of this page to so many bytes. Beyond them they report an error as real devices do. */
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

  /** From now on makes shaders of that label invalid. */
  spoil(label) {
    const { createShaderModule } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      const code = descriptor.label === label ? `${descriptor.code}\nspoiled` : descriptor.code;
      return createShaderModule.call(this, { label: descriptor.label, code });
    };
  },

  /** The error with which loading fails. */
  async refusal(urls, options) {
    try {
      await this.load(urls, options);
    } catch (error) {
      return plain(error);
    }
  },

  /** Compiles all shaders, and builds a pipeline of one in `each`. Returns the refused ones with their errors. */
  async compile(url, each) {
    const adapter = await navigator.gpu.requestAdapter();
    const requiredFeatures = ["subgroups"].filter((feature) => adapter.features.has(feature));
    const device = await adapter.requestDevice({ requiredFeatures });
    const shaders = (await (await fetch(new URL(url, origin))).json()).filter(({ subgroups }) => !subgroups || requiredFeatures.length > 0);
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
    const compile = async ({ label, source, read_only, subgroups }, index) => {
      const module = device.createShaderModule({ code: subgroups ? `enable subgroups;\n${source}` : source });
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
