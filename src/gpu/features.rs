//! Which of an adapter's features and limits a device requests.

use super::{AdapterKind, Caps, Fragments, Preset, PromptProducts};
use crate::error::{Error, Result};

/// The description of a device to request, and its capabilities.
pub(super) struct Wanted {
    pub(super) features: wgpu::Features,
    pub(super) experimental_features: wgpu::ExperimentalFeatures,
    pub(super) limits: wgpu::Limits,
    /// Without subgroups, see [`has_subgroups`].
    pub(super) caps: Caps,
}

impl Wanted {
    /// # Errors
    /// [`Error::NoAdapter`] if the adapter lacks what `preset` requires.
    pub(super) fn of(adapter: &wgpu::Adapter, preset: Preset) -> Result<Self> {
        let (info, supported) = (adapter.get_info(), adapter.limits());
        let kind = match info.device_type {
            wgpu::DeviceType::Cpu => AdapterKind::Cpu,
            _ => AdapterKind::Gpu,
        };
        let has = |feature| adapter.features().contains(feature);
        let mut features = wgpu::Features::empty();
        if preset != Preset::Portable {
            features |= adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY);
        }
        let prompts = match preset {
            Preset::F32 | Preset::Portable => PromptProducts::F32,
            Preset::Int8 => PromptProducts::Int8,
            // CPU adapters have subgroups too, but are faster without them.
            Preset::Auto if kind == AdapterKind::Cpu => PromptProducts::F32,
            Preset::Auto => cooperative(adapter).map_or(PromptProducts::F32, PromptProducts::F16),
            Preset::F16 if has(wgpu::Features::SHADER_F16) => {
                PromptProducts::F16(cooperative(adapter).unwrap_or(Fragments { side: 16, emulated: Some(32) }))
            }
            Preset::F16 => {
                let problem = format!("{} has no f16 in shaders: use the kernels f32", info.name);
                return Err(Error::NoAdapter { problem });
            }
        };
        let mut limits = wgpu::Limits {
            max_storage_buffer_binding_size: supported.max_storage_buffer_binding_size,
            max_buffer_size: supported.max_buffer_size,
            ..wgpu::Limits::default()
        };
        if let PromptProducts::F16(Fragments { emulated, .. }) = prompts {
            features |= wgpu::Features::SHADER_F16;
            if emulated.is_none() {
                features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            }
            limits.max_compute_workgroup_storage_size = supported.max_compute_workgroup_storage_size;
        }
        let experimental_features = match features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            // SAFETY: kernels load and store matrices only within their own workgroup memory, and are tested against a
            // known product before use.
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        };
        let caps = Caps {
            kind,
            subgroup_size: None,
            cluster_size: None,
            prompts,
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_groups: limits.max_compute_workgroups_per_dimension,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            binding_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        };
        Ok(Self { features, experimental_features, limits, caps })
    }
}

/// Whether `device` has subgroup operations. In browsers wgpu does not know the feature: whoever provides WebGPU adds it to
/// the request.
pub(super) fn has_subgroups(device: &wgpu::Device) -> bool {
    #[cfg(target_arch = "wasm32")]
    return device.as_webgpu().is_some_and(|device| device.features().has("subgroups"));
    #[cfg(not(target_arch = "wasm32"))]
    device.features().contains(wgpu::Features::SUBGROUP)
}

/// The largest f16 matrices with sums in f32 that the adapter's subgroups multiply.
fn cooperative(adapter: &wgpu::Adapter) -> Option<Fragments> {
    let needed =
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needed) {
        return None;
    }
    let properties = adapter.cooperative_matrix_properties();
    let has = |side: u32| {
        properties.iter().any(|of| {
            (of.m_size, of.n_size, of.k_size) == (side, side, side)
                && of.ab_type == wgpu::CooperativeScalarType::F16
                && of.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(|&side| has(side)).map(|side| Fragments { side, emulated: None })
}
