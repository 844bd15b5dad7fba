//! The capabilities of an adapter as plain data. The choice of a kernel variant is a pure function of a shape and
//! these.

use std::fmt;

use crate::error::{Error, Result};

/// Where shaders run. A CPU adapter (lavapipe, SwiftShader) needs other tile shapes than a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdapterKind {
    /// A driver that runs shaders on the processor.
    Cpu,
    /// Anything else: discrete, integrated or virtual.
    Gpu,
}

/// How prompts are multiplied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PromptProducts {
    /// In f32.
    #[default]
    F32,
    /// In f16 with sums in f32.
    F16(Fragments),
    /// In 8 bits where weights are quantised, else in f32.
    Int8,
}

/// A subgroup multiplies matrices of `side` × `side` × `side` cooperatively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragments {
    /// 16, or 8, as on Metal.
    pub side: u32,
    /// The adapter has no such matrices, and the shader emulates them slowly, with subgroups of so many lanes.
    pub emulated: Option<u32>,
}

/// Which kernels run if the adapter leaves a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preset {
    /// Prompts in f16 if the adapter has cooperative matrices, else in f32.
    #[default]
    Auto,
    /// Everything in f32.
    F32,
    /// Prompts in f16, emulated if the adapter has no cooperative matrices.
    F16,
    /// Prompts in 8 bits where weights are quantised, else in f32.
    Int8,
    /// Kernels that run on every adapter: f32, without subgroups.
    Portable,
}

impl Preset {
    /// All presets by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("f32", Self::F32),
        ("f16", Self::F16),
        ("int8", Self::Int8),
        ("portable", Self::Portable),
    ];

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(own, _)| *own == name).map(|(_, preset)| preset)
    }

    /// The requested preset, else the one that the variable `HEADSTART_KERNELS` names, else the default.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown name.
    pub(crate) fn chosen(asked: Option<Self>) -> Result<Self> {
        let named = std::env::var("HEADSTART_KERNELS").ok().filter(|name| asked.is_none() && !name.is_empty());
        let Some(name) = named else { return Ok(asked.unwrap_or_default()) };
        Self::named(&name).ok_or_else(|| {
            let problem = format!("{name:?} is none of {}", Self::ALL.map(|(name, _)| name).join(", "));
            Error::Request { field: "HEADSTART_KERNELS", problem }
        })
    }
}

/// Limits and features of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// The kind of adapter, which decides the tile shapes.
    pub kind: AdapterKind,
    /// Lanes of a subgroup, if subgroup operations are usable and all subgroups have this size.
    pub subgroup_size: Option<u32>,
    /// Lanes of a cluster, if subgroup operations are usable: neighbours by invocation index, aligned to their number,
    /// that are in one subgroup whatever size the driver chose for a pipeline. GPU kernels reduce within clusters, so
    /// that the order of their sums does not depend on that size.
    pub cluster_size: Option<u32>,
    /// How prompts are multiplied.
    pub prompts: PromptProducts,
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
    /// Whether the device has timestamps for the begin and end of a dispatch.
    pub timestamps: bool,
}

impl Caps {
    /// The limits that WebGPU guarantees in every browser, without subgroups.
    pub fn webgpu_default(kind: AdapterKind) -> Self {
        Self {
            kind,
            subgroup_size: None,
            cluster_size: None,
            prompts: PromptProducts::F32,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_groups: 65_535,
            workgroup_memory: 16 << 10,
            binding_alignment: 256,
            timestamps: false,
        }
    }

    /// The same with subgroups of `least` to `most` lanes, as the adapter reports them.
    pub fn with_subgroups(self, least: u32, most: u32) -> Self {
        let subgroup_size = (least == most).then_some(most);
        let cluster_size = [32, 16, 8].into_iter().find(|&size| size <= least);
        Self { subgroup_size, cluster_size, ..self }
    }

    /// The same without subgroups.
    pub fn without_subgroups(self) -> Self {
        Self { subgroup_size: None, cluster_size: None, ..self }
    }

    /// The matrices that prompts are multiplied in, if they are multiplied in f16.
    pub fn fragments(&self) -> Option<Fragments> {
        match self.prompts {
            PromptProducts::F16(fragments) => Some(fragments),
            PromptProducts::F32 | PromptProducts::Int8 => None,
        }
    }

    /// The numeric class of prompts. Within a class, a row's bits do not depend on what runs beside it.
    pub fn numerics(&self) -> Numerics {
        match self.prompts {
            PromptProducts::F32 => Numerics::F32,
            PromptProducts::F16(Fragments { side, .. }) => Numerics::F16 { fragment: side },
            PromptProducts::Int8 => Numerics::Int8,
        }
    }
}

/// What the bits of a prompt's rows depend on, besides the adapter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Numerics {
    /// Everything is f32.
    #[default]
    F32,
    /// The operands are f16.
    F16 {
        /// Products that are summed at a time.
        fragment: u32,
    },
    /// The operands are 8-bit integers with a scale for 32 elements of x, if the weights are quantised; else f32.
    Int8,
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 { .. } => "f16",
            Self::Int8 => "int8",
        })
    }
}

impl Numerics {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16 { fragment: 16 }, Self::F16 { fragment: 8 }, Self::Int8];
}
