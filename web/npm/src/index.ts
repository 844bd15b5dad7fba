/** headstart, with the engine in this thread. A page that people see should use `headstart/worker`, which keeps this thread free. */

import { Client, coreOptions, keepsDownloads } from "./client.js";
import { openCore } from "./core/open.js";
import { persist } from "./disk/disk.js";
import type { CreateOptions } from "./types.js";
import { loadWasm } from "./wasm/load.js";

export { HeadstartError } from "./errors.js";
export { type KeptModel, clearWeights, listWeights } from "./model/weights.js";
export type * from "./types.js";
export { requireWebGpu } from "./webgpu.js";

export class Headstart extends Client {
  static async create(options: CreateOptions): Promise<Headstart> {
    const core = coreOptions(options);
    if (keepsDownloads(core)) void persist();
    return new Headstart(await openCore(core, loadWasm, options.onProgress ?? (() => undefined), options.signal)).loadPacks(options);
  }
}
