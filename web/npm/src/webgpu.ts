/** Whether a page can compute on a GPU at all, and what the engine asks of it beyond wgpu. */

import { HeadstartError } from "./errors.js";

/**
 * Resolves if this page can run a model. It avoids a useless download. `create` checks this too.
 *
 * @throws {HeadstartError} `no_webgpu`, `insecure` or `no_adapter`; the message says what is missing and what helps
 */
export async function requireWebGpu(): Promise<void> {
  const { gpu } = Object(globalThis.navigator) as { gpu?: { requestAdapter(): Promise<unknown> } };
  if (await gpu?.requestAdapter().catch(() => null)) return;
  if (gpu) throw new HeadstartError("no_adapter", NO_ADAPTER);
  throw globalThis.isSecureContext === false ? new HeadstartError("insecure", INSECURE) : new HeadstartError("no_webgpu", NO_API);
}

const NO_ADAPTER =
  "WebGPU finds no graphics card: update the graphics driver, or switch hardware acceleration on in the browser's " +
  "settings; on Linux WebGPU may have to be switched on as well";
const INSECURE = "browsers offer WebGPU and storage only to pages from https or localhost; open this page from such an address";
const NO_API =
  "this browser offers no WebGPU; Chrome and Edge have it from version 113, Safari from 26, Firefox from 141 on " +
  "Windows and from 145 on Macs with Apple silicon; on Linux it may have to be switched on";

interface Gpu {
  requestAdapter(options?: object): Promise<Adapter | null>;
}

interface Adapter {
  readonly features: ReadonlySet<string>;
  readonly info: { readonly subgroupMinSize: number };
  requestDevice(descriptor: { readonly requiredFeatures: Iterable<string> }): Promise<unknown>;
}

/**
 * `gpu` with devices that have subgroups, which make decoding faster, if they have at least the eight lanes that the engine needs. wgpu
 * uses them where its device has them, but cannot ask a browser for them (github.com/gfx-rs/wgpu/issues/10146).
 */
export const withSubgroups = (gpu: object): Gpu => ({
  async requestAdapter(options) {
    const adapter = await (gpu as Gpu).requestAdapter(options);
    if (adapter?.features.has("subgroups") && adapter.info.subgroupMinSize >= 8) {
      const request = adapter.requestDevice.bind(adapter);
      adapter.requestDevice = (wanted) => request({ ...wanted, requiredFeatures: [...wanted.requiredFeatures, "subgroups"] });
    }
    return adapter;
  },
});
