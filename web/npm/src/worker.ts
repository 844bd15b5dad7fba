/** headstart, with the engine in a dedicated worker, so that the page stays free. The same interface as `headstart`. */

import { Client, coreOptions, keepsDownloads } from "./client.js";
import type { CoreOptions } from "./core/core.js";
import { RemoteCore, SERVE } from "./core/remote.js";
import { persist } from "./disk/disk.js";
import { HeadstartError } from "./errors.js";
import { Policy } from "./policy.js";
import type { CreateOptions } from "./types.js";

export { HeadstartError } from "./errors.js";
export { type KeptModel, clearWeights, listWeights } from "./model/weights.js";
export type * from "./types.js";
export { requireWebGpu } from "./webgpu.js";

export class Headstart extends Client {
  static async create(options: CreateOptions): Promise<Headstart> {
    const core = await crossing(coreOptions(options));
    // Only a page can ask for persistent storage.
    if (keepsDownloads(core)) void persist();
    return new Headstart(await open(core, options)).loadPacks(options);
  }
}

async function open(core: CoreOptions, { onProgress = () => undefined, signal }: CreateOptions): Promise<RemoteCore> {
  const policy = new Policy();
  try {
    return await RemoteCore.open(startWorker(), core, onProgress, signal);
  } catch (error) {
    const { code } = error as HeadstartError;
    if (code !== "worker" || !(await policy.forbids("worker-src"))) throw error;
    throw new HeadstartError("csp", FORBIDDEN, { directive: "worker-src" }, error);
  } finally {
    policy.stop();
  }
}

function startWorker(): Worker {
  try {
    return new Worker(new URL("./worker-entry.js", import.meta.url), { type: "module" });
  } catch (error) {
    if (error instanceof TypeError && "trustedTypes" in globalThis) throw new HeadstartError("trusted_types", UNTRUSTED, {}, error);
    throw new HeadstartError("worker", `the worker did not start: ${String(error)}; ${SERVE}`, {}, error);
  }
}

const NO_WORKER = 'or import Headstart from "headstart", which needs none';
const FORBIDDEN = `this page's Content-Security-Policy forbids the worker: add 'self' to worker-src, ${NO_WORKER}`;
const UNTRUSTED = `this page's Trusted Types forbid the worker: let a default policy allow its address, ${NO_WORKER}`;

/** Turns streams into Blobs if the browser cannot transfer streams. */
async function crossing(options: CoreOptions): Promise<CoreOptions> {
  if (streamsCross()) return options;
  const model = options.model.map(async (file) => ({
    ...file,
    source: file.source instanceof ReadableStream ? await new Response(file.source).blob() : file.source,
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
