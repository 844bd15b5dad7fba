/** headstart in Node, on the package `webgpu`: the same interface, with models at paths and KV in a directory. */

import { existsSync } from "node:fs";
import process from "node:process";
import { Client, coreOptions } from "./client.js";
import { type Host, type WasmModule, openCore } from "./core/open.js";
import type { CoreOptions } from "./core/core.js";
import { signKey } from "./kv/key.js";
import { type KeptModel, clearKept, listKept } from "./model/weights.js";
import { HeadstartError } from "./errors.js";
import { Digests } from "./node/digests.js";
import { Directory, cacheDirectory } from "./node/directory.js";
import { isFile, openFiles, pathToUrl, pathsToUrls, readNamed, readPacks } from "./node/files.js";
import { openGpu, requireAdapter, withGpu } from "./node/gpu.js";
import { readKey } from "./node/key.js";
import { requireNode } from "./node/version.js";
import type { CacheOptions, CreateOptions, ModelSource, PackSource, SignedPack } from "./types.js";
import type * as Wasm from "./wasm/headstart.js";
import { loadWasm } from "./wasm/load.js";

export { HeadstartError } from "./errors.js";
export type { KeptModel } from "./model/weights.js";
export type * from "./types.js";

/** What `create` takes in Node. */
export interface NodeCreateOptions extends Omit<CreateOptions, "cache" | "weights"> {
  /**
   * As in browsers. A text that is no URL is the path of a GGUF file, or of a Hugging Face directory. Files are read in place, a range
   * at a time.
   */
  model: ModelSource;
  /** As in browsers. A text that is no URL is the path of a file, which must exist. */
  prefixPacks?: readonly (PackSource | SignedPack)[];
  cache?: (CacheOptions & {
    /** The directory for KV and for the digests of weights. Default: `headstart/node` in the platform's cache directory. */
    directory?: string;
  }) | false;
  weights?: {
    persist?: boolean;
    /** The directory for downloads. Default: `headstart/node` in the platform's cache directory. */
    directory?: string;
  };
  /** The WebGPU to compute on: a result of `create([…])` of the package `webgpu`. Default: `create([])`. */
  gpu?: object;
}

export class Headstart extends Client {
  /** Call `dispose()` at the end: Node does not exit while a device is open. */
  static async create(options: NodeCreateOptions): Promise<Headstart> {
    requireNode();
    const { wasm, gpu: given, prefixPacks, ...rest } = Object(options) as NodeCreateOptions;
    const [cache, kv] = placed("cache", rest.cache);
    const [weights, downloads] = placed("weights", rest.weights);
    const hub = rest.hub ?? process.env.HF_ENDPOINT;
    const packs = prefixPacks !== undefined && (await readPacks(prefixPacks));
    const core = coreOptions({ ...rest, ...packs, cache, weights, ...(hub && { hub }), model: pathsToUrls(rest.model), ...(wasm !== undefined && { wasm: pathToUrl(wasm) }) } as CreateOptions);
    const gpu = await openGpu(given);
    const roots = { kv, weights: downloads };
    const openDisk = (what: keyof typeof roots) => Directory.open(roots[what] ?? cacheDirectory());
    const openSign = async () => signKey(await readKey());
    const openDigests = async () => (keepsKv(core) ? new Digests(await openDisk("kv"), await openSign()) : undefined);
    const host: Host = {
      requireWebGpu: () => requireAdapter(gpu),
      openModel: async (sources, options) => openFiles(sources, options, await openDigests()),
      openDisk,
      openSign,
    };
    const { onProgress = () => undefined, signal } = options;
    return new Headstart(await openCore(core, (source) => loadEngine(source, gpu), onProgress, signal, host)).loadPacks({ ...options, ...packs });
  }
}

/** The downloaded models in a directory. Default: where `create` keeps them. */
export async function listWeights({ directory }: { directory?: string } = {}): Promise<KeptModel[]> {
  return listKept(await openKept(directory));
}

/**
 * Removes the downloaded files of a model, or of all models, from a directory. Default: where `create` keeps them. `model`: a name
 * on the hub, or the beginning of a URL.
 */
export async function clearWeights(model: string | URL = "", { directory }: { directory?: string } = {}): Promise<void> {
  await clearKept(await openKept(directory), model);
}

/** The disk of downloads; undefined if the directory does not exist. It is not created. */
async function openKept(root = cacheDirectory()): Promise<Directory | undefined> {
  requireNode();
  return existsSync(root) ? Directory.open(root) : undefined;
}

function keepsKv({ given: { cache } }: CoreOptions): boolean {
  return cache !== false && cache?.persist !== false;
}

/** An option without its directory, and the directory, which the engine knows nothing of. */
function placed<T>(name: string, option: T): [T, string | undefined] {
  if (!option || typeof option !== "object" || !("directory" in option)) return [option, undefined];
  const { directory, ...others } = option;
  if (directory === undefined || (typeof directory === "string" && directory)) return [others as T, directory];
  const field = `${name}.directory`;
  throw new HeadstartError("bad_input", `${field}: must be the path of a directory`, { field });
}

/** The engine's module, whose engines open their device on `gpu`. */
async function loadEngine(source: CoreOptions["wasm"], gpu: object): Promise<WasmModule> {
  const place = source ?? new URL("./wasm/headstart_bg.wasm", import.meta.url).href;
  const wasm = await loadWasm(isFile(place) ? await readNamed("wasm", place) : place);
  class Engine extends wasm.WasmEngine {
    static override load(...args: Parameters<typeof Wasm.WasmEngine.load>): Promise<Wasm.WasmEngine> {
      return withGpu(gpu, () => wasm.WasmEngine.load(...args));
    }
  }
  return { ...wasm, WasmEngine: Engine };
}
