/** Whether a page can compute on a GPU at all. */

import { HeadstartError } from "./errors.js";

/**
 * Resolves where this page can run a model; for asking before somebody downloads one in vain. `create` asks too.
 *
 * @throws {HeadstartError} `no_webgpu`; the message says what is lacking and which browsers have it
 */
export async function requireWebGpu(): Promise<void> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  if (await gpu?.requestAdapter().catch(() => null)) return;
  throw new HeadstartError("no_webgpu", gpu ? NO_ADAPTER : globalThis.isSecureContext === false ? INSECURE : NO_API);
}

const NO_ADAPTER = "WebGPU is there, but no graphics card for it: update the graphics driver, or switch hardware acceleration on in the browser's settings";
const INSECURE = "WebGPU is only there for pages from https or localhost; open this page from such an address";
const NO_API =
  "this browser offers no WebGPU; Chrome and Edge have it from version 113, Safari from 26, Firefox from 141 on " +
  "Windows and from 145 on Macs with Apple silicon; on Linux it may have to be switched on";
