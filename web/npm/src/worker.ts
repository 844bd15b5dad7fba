/** headstart, with the engine in a dedicated worker, so that the page stays free. The same interface as `headstart`. */

import { Client, coreOptions, keepsDownloads } from "./client.js";
import type { CoreOptions } from "./core/core.js";
import { RemoteCore } from "./core/remote.js";
import { persist } from "./disk/disk.js";
import type { CreateOptions } from "./types.js";

export { HeadstartError } from "./errors.js";
export { type KeptModel, clearWeights, listWeights } from "./model/weights.js";
export type * from "./types.js";
export { requireWebGpu } from "./webgpu.js";

export class Headstart extends Client {
  static async create(options: CreateOptions): Promise<Headstart> {
    const core = await crossing(coreOptions(options));
    // Only a page can ask for it.
    if (keepsDownloads(core)) void persist();
    const worker = new Worker(new URL("./worker-entry.js", import.meta.url), { type: "module" });
    const headstart = new Headstart(await RemoteCore.open(worker, core, options.onProgress ?? (() => undefined), options.signal));
    await headstart.loadPacks(options.prefixPacks ?? [], options.signal);
    return headstart;
  }
}

/** Streams as Blobs where the browser does not hand streams over. */
async function crossing(options: CoreOptions): Promise<CoreOptions> {
  if (streamsCross()) return options;
  const model = options.model.map(async ({ name, source }) => ({
    name,
    source: source instanceof ReadableStream ? await new Response(source).blob() : source,
  }));
  return { ...options, model: await Promise.all(model) };
}

function streamsCross(): boolean {
  const stream = new ReadableStream();
  try {
    structuredClone(stream, { transfer: [stream] });
    return true;
  } catch {
    return false;
  }
}
