//! What a device is asked for, of what its adapter has.

use super::{AdapterKind, Caps, Fragments, Preset};
use crate::error::{Error, Result};

/// A device to request, and what it can do.
pub(super) struct Wanted {
    pub(super) features: wgpu::Features,
    pub(super) experimental_features: wgpu::ExperimentalFeatures,
    pub(super) limits: wgpu::Limits,
    pub(super) caps: Caps,
}

impl Wanted {
    /// # Errors
    /// [`Error::NoAdapter`] where the adapter cannot do what `preset` asks for.
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
        let fragments = match preset {
            Preset::F32 | Preset::Portable => None,
            // One on the CPU has them too, and is faster without.
            Preset::Auto if kind == AdapterKind::Cpu => None,
            Preset::Auto => cooperative(adapter),
            Preset::F16 if has(wgpu::Features::SHADER_F16) => {
                cooperative(adapter).or(Some(Fragments { side: 16, emulated: Some(32) }))
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
        if let Some(Fragments { emulated, .. }) = fragments {
            features |= wgpu::Features::SHADER_F16;
            if emulated.is_none() {
                features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            }
            limits.max_compute_workgroup_storage_size = supported.max_compute_workgroup_storage_size;
        }
        let experimental_features = match features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            // SAFETY: kernels load and store matrices within their own workgroup memory only, and prove themselves before use.
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        };
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        let caps = Caps {
            kind,
            subgroup: (features.contains(wgpu::Features::SUBGROUP) && fixed).then_some(info.subgroup_min_size),
            fragments,
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

/// The matrices that subgroups of the adapter multiply, of f16 with sums in f32: the largest.
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
