//! Chooses the experts of each row by the router's scores: see `shaders/moe_route.wgsl`.

use std::sync::Arc;

use super::{Experts, Span};
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// The choice of experts of one layer.
#[derive(Debug, Clone)]
pub struct MoeRoute {
    experts: Experts,
    kernel: Arc<Kernel>,
}

/// Most experts of a layer, since their scores are in workgroup memory.
pub(crate) const MAX_EXPERTS: usize = 1024;

/// Bytes of the choices of `rows` rows. A choice is an expert and its weight.
pub fn choice_bytes(experts: Experts, rows: usize) -> u64 {
    (8 * rows * experts.used) as u64
}

impl MoeRoute {
    /// `normalized`: whether the weights of the chosen experts add up to 1.
    pub fn new(experts: Experts, normalized: bool, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let mut defines = vec![("LANES", lanes), ("NORMALIZED", u32::from(normalized))];
        defines.extend(experts.defines());
        let bindings = &[Access::Read, Access::Read, Access::ReadWrite];
        Self { experts, kernel: Arc::new(Kernel { name: "moe_route", defines, bindings }) }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `scores: [span rows, experts]` f32; `choices: [span rows, used]` of an expert and the bits of its weight, the highest first.
    pub fn record(&self, recording: &mut Recording, span: &Span, scores: Slice, choices: Slice) {
        let read = (span.rows * self.experts.count * 4) as u64;
        let cost = Cost { read, written: choice_bytes(self.experts, span.rows), flops: 0 };
        recording.dispatch(&self.kernel, vec![span.step, scores, choices], [span.rows as u32, 1, 1], cost);
    }
}
