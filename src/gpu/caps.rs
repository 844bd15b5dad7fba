//! What an adapter can do, as plain data: choosing a kernel variant is a pure function of a shape and these.

/// Where shaders run. A CPU adapter (lavapipe, SwiftShader) wants other tile shapes than a GPU does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdapterKind {
    /// A driver that runs shaders on the processor.
    Cpu,
    /// Anything else: discrete, integrated or virtual.
    Gpu,
}

/// Limits and features of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// What tile shapes are chosen for.
    pub kind: AdapterKind,
    /// Size of a subgroup when subgroup operations can be used and every subgroup has that size.
    pub subgroup: Option<u32>,
    /// Largest storage binding, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Largest number of workgroups along one dimension of a dispatch.
    pub max_groups: u32,
    /// Workgroup (shared) memory, bytes.
    pub workgroup_memory: u32,
    /// Alignment of the offset of a storage binding, bytes.
    pub binding_alignment: u64,
}

impl Caps {
    /// The guaranteed limits of WebGPU, without subgroups: what every browser gives.
    pub fn webgpu_default(kind: AdapterKind) -> Self {
        Self {
            kind,
            subgroup: None,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_groups: 65_535,
            workgroup_memory: 16 << 10,
            binding_alignment: 256,
        }
    }
}
