//! Pipelines, and bind groups by dispatch site. A site is identified by the address of its kernel, so that a steady
//! step hashes no definitions and copies no key.

use std::{collections::HashMap, sync::Arc};

use super::{Dispatch, Kernel, Slice};

pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

#[derive(Default)]
pub(super) struct Sites {
    pipelines: Vec<Pipeline>,
    by_kernel: HashMap<Arc<Kernel>, usize>,
    by_address: HashMap<usize, Site>,
}

struct Site {
    /// Kept alive, so that its address stays unique.
    kernel: Arc<Kernel>,
    pipeline: usize,
    /// A few bind groups, one for each span that the site is recorded with.
    groups: Vec<(Vec<Slice>, wgpu::BindGroup)>,
}

impl Sites {
    pub(super) fn has(&self, kernel: &Arc<Kernel>) -> bool {
        self.by_kernel.contains_key(kernel)
    }

    pub(super) fn add(&mut self, kernel: Arc<Kernel>, pipeline: Pipeline) {
        self.by_kernel.insert(kernel, self.pipelines.len());
        self.pipelines.push(pipeline);
    }

    /// The pipeline and bind group for a dispatch of a compiled kernel. `make` creates the bind group if there is none
    /// yet.
    pub(super) fn bind(
        &mut self,
        dispatch: &Dispatch,
        make: impl FnOnce(&wgpu::BindGroupLayout) -> wgpu::BindGroup,
    ) -> (&wgpu::ComputePipeline, &wgpu::BindGroup) {
        let Dispatch { kernel, bindings, .. } = dispatch;
        let site = self.by_address.entry(Arc::as_ptr(kernel).addr()).or_insert_with(|| Site {
            kernel: Arc::clone(kernel),
            pipeline: self.by_kernel[kernel],
            groups: Vec::new(),
        });
        debug_assert!(Arc::ptr_eq(&site.kernel, kernel));
        let pipeline = &self.pipelines[site.pipeline];
        let known = site.groups.iter().position(|(slices, _)| slices == bindings);
        let index = known.unwrap_or_else(|| {
            site.groups.push((bindings.clone(), make(&pipeline.layout)));
            site.groups.len() - 1
        });
        (&pipeline.raw, &site.groups[index].1)
    }

    /// Drops the bind groups that refer to a buffer.
    pub(super) fn forget(&mut self, buffer: u32) {
        for site in self.by_address.values_mut() {
            site.groups.retain(|(slices, _)| slices.iter().all(|slice| slice.buffer.id != buffer));
        }
    }
}
