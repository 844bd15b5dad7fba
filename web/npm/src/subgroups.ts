/**
 * Subgroups, which make decoding faster. The engine's wgpu cannot ask a browser for them (github.com/gfx-rs/wgpu/issues/10146); it uses
 * them where its device has them. Delete this module when wgpu asks.
 */

interface Gpu {
  requestAdapter(options?: object): Promise<Adapter | null>;
}

interface Adapter {
  readonly features: ReadonlySet<string>;
  readonly limits: object;
  readonly info: { readonly subgroupMinSize?: number };
  requestDevice(descriptor?: Descriptor): Promise<unknown>;
}

interface Descriptor {
  readonly requiredFeatures?: Iterable<string>;
}

/** With fewer lanes, as SwiftShader has, the engine does without. */
const LEAST_LANES = 8;

/** `gpu` as the engine needs it. Its devices have subgroups if the adapter has useful ones. */
export function withSubgroups(gpu: object): Gpu {
  return {
    async requestAdapter(options) {
      const adapter = await (gpu as Gpu).requestAdapter(options);
      if (!adapter?.features.has("subgroups") || (adapter.info.subgroupMinSize ?? 0) < LEAST_LANES) return adapter;
      const { features, limits, info } = adapter;
      const requestDevice = ({ requiredFeatures = [], ...rest }: Descriptor = {}) =>
        adapter.requestDevice({ ...rest, requiredFeatures: [...requiredFeatures, "subgroups"] });
      return { features, limits, info, requestDevice };
    },
  };
}
