/** From options to a running core: WebAssembly, the model's files, the store, the engine. */

import { type Disk, openDisk } from "../disk/disk.js";
import { checkSignal, toError } from "../errors.js";
import { type Sign, signOrigin } from "../kv/key.js";
import { DiskStore } from "../kv/store.js";
import { isWeights } from "../model/shards.js";
import { openModel } from "../model/source.js";
import type { CacheStats, Progress } from "../types.js";
import type * as Wasm from "../wasm/headstart.js";
import { requireWebGpu } from "../webgpu.js";
import type { CoreOptions } from "./core.js";
import { LocalCore } from "./local.js";

type StoreName = NonNullable<CacheStats["store"]>["name"];

/** The engine's module. It is a parameter so that tests can pass another one. */
export type WasmModule = Pick<typeof Wasm, "WasmEngine" | "Sha256" | "createOptions" | "judge" | "hubName" | "hubFile">;

/** The platform: it provides WebGPU, the files of a model and a disk. There is one for browsers and one for Node. */
export interface Host {
  /** Rejects if there is no usable WebGPU. */
  requireWebGpu(): Promise<void>;
  openModel: typeof openModel;
  openDisk(what: "kv" | "weights"): Promise<Disk | undefined>;
  /** Authenticates the KV of this origin, or of this user. */
  openSign(): Promise<Sign>;
}

const BROWSER: Host = { requireWebGpu, openModel, openDisk, openSign: signOrigin };

const GIB = 1 << 30;

export async function openCore(
  options: CoreOptions,
  loadWasm: (source: CoreOptions["wasm"]) => Promise<WasmModule>,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal | undefined,
  host = BROWSER,
): Promise<LocalCore> {
  await host.requireWebGpu();
  checkSignal(signal);
  const wasm = await loadWasm(options.wasm);
  const { WasmEngine, Sha256, createOptions, judge } = wasm;
  const { settings, kv, salt, caches, persistWeights } = createOptions(options.given);
  const model = await host.openModel(options.model, {
    disk: persistWeights ? await host.openDisk("weights") : undefined,
    hash: () => new Sha256(),
    hub: { base: options.hub, names: wasm },
    judge,
    headers: options.headers,
    signal,
    onProgress: (loaded, total) => onProgress({ stage: "download", loaded, total }),
  });
  try {
    const store = kv ? await openStore(kv, host) : undefined;
    const weights = model.files.filter(({ name }) => isWeights(name));
    const digest = weights.length === 1 ? weights[0]!.sha256 : undefined;
    const files = model.files.map((file) => ({
      ...file,
      read(offset: number, length: number) {
        checkSignal(signal);
        return file.read(offset, length);
      },
    }));
    const core = await LocalCore.create({
      load: () =>
        WasmEngine.load(
          { ...settings, files, name: model.name, store, weightsDigest: digest },
          ({ stage, done, total }) => onProgress({ stage, loaded: done, total }),
        ),
      store: store && (() => ({ ...store.usage(), name: store.name as StoreName, budget_bytes: store.budget })),
      salt,
      noCache: !caches,
      close: async () => {
        await store?.flush();
        await model.close();
      },
    });
    if (signal?.aborted) await core.dispose();
    checkSignal(signal);
    // From now on files are read only after a lost device, where the signal has no effect.
    signal = undefined;
    return core;
  } catch (thrown) {
    const error = toError(thrown);
    await model.close(error);
    checkSignal(signal);
    throw error;
  }
}

async function openStore(kv: NonNullable<Wasm.CheckedOptions["kv"]>, host: Host): Promise<DiskStore | undefined> {
  const disk = await host.openDisk("kv");
  if (!disk) return undefined;
  const room = (await disk.available()) ?? Infinity;
  const budgetBytes = kv.budgetBytes ?? Math.min(GIB, room / 2);
  return DiskStore.open(disk, { budgetBytes, ttlMs: kv.ttlMs, sign: await host.openSign() });
}
