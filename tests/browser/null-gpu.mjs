// A WebGPU that does nothing and has no memory. It counts what it is asked to do, so models of any size can be loaded.

const MIB = 1 << 20;

/** Limits of a usual graphics card. */
const LIMITS = {
  maxTextureDimension1D: 8192, maxTextureDimension2D: 8192, maxTextureDimension3D: 2048, maxTextureArrayLayers: 256, maxBindGroups: 4,
  maxBindGroupsPlusVertexBuffers: 24, maxBindingsPerBindGroup: 1000, maxDynamicUniformBuffersPerPipelineLayout: 8,
  maxDynamicStorageBuffersPerPipelineLayout: 4, maxSampledTexturesPerShaderStage: 16, maxSamplersPerShaderStage: 16,
  maxStorageBuffersPerShaderStage: 8, maxStorageTexturesPerShaderStage: 4, maxUniformBuffersPerShaderStage: 12,
  maxUniformBufferBindingSize: 65_536, maxStorageBufferBindingSize: 128 * MIB, minUniformBufferOffsetAlignment: 256,
  minStorageBufferOffsetAlignment: 256, maxVertexBuffers: 8, maxBufferSize: 256 * MIB, maxVertexAttributes: 16,
  maxVertexBufferArrayStride: 2048, maxInterStageShaderVariables: 16, maxColorAttachments: 8, maxColorAttachmentBytesPerSample: 32,
  maxComputeWorkgroupStorageSize: 16_384, maxComputeInvocationsPerWorkgroup: 256, maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256, maxComputeWorkgroupSizeZ: 64, maxComputeWorkgroupsPerDimension: 65_535,
};

/** `buffers`: the created buffers, each with its `label`, `size`, and the number of bytes `written` to it. `device`: the only device. */
export function nullGpu(limits = {}) {
  const all = { ...LIMITS, ...limits };
  const buffers = [];
  const device = {
    features: new Set(),
    limits: all,
    adapterInfo: { vendor: "none", architecture: "null", device: "", description: "" },
    lost: new Promise(() => {}),
    queue: {
      writeBuffer(buffer, offset, _, __, length) {
        if (offset + length > buffer.size) throw new RangeError(`${offset + length} bytes of ${buffer.size}`);
        buffer.written += length;
      },
      submit() {},
    },
    createBuffer({ label, size, usage }) {
      if (size > all.maxBufferSize) throw new RangeError(`a buffer of ${size} bytes`);
      const buffer = { label, size, usage, written: 0, destroy() {} };
      buffers.push(buffer);
      return buffer;
    },
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({}),
    createComputePipelineAsync: async () => ({}),
    createBindGroup: () => ({}),
    createCommandEncoder: () => ({}),
    pushErrorScope() {},
    popErrorScope: async () => null,
    destroy() {},
  };
  const adapter = {
    features: new Set(),
    limits: all,
    info: { vendor: "none", architecture: "null", device: "", description: "" },
    requestDevice: async () => device,
  };
  return { gpu: { requestAdapter: async () => adapter }, buffers, device };
}
