//! Adds the weighted outputs of a row's experts to the residual stream: see `shaders/moe_combine.wgsl`.

use std::sync::Arc;

use super::{Experts, Span, moe_route::choice_bytes};
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// The weighted sum of one layer's experts.
#[derive(Debug, Clone)]
pub struct MoeCombine {
    experts: Experts,
    cols: usize,
    lanes: usize,
    kernel: Arc<Kernel>,
}

impl MoeCombine {
    /// `scale` multiplies the sum.
    pub fn new(experts: Experts, cols: usize, scale: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let mut defines = vec![("LANES", lanes), ("COLS", cols as u32), ("SCALE", scale.to_bits())];
        defines.extend(experts.defines());
        let bindings = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];
        let kernel = Arc::new(Kernel { name: "moe_combine", defines, bindings });
        Self { experts, cols, lanes: lanes as usize, kernel }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `choices`: the output of [`MoeRoute`](super::moe_route::MoeRoute); `x: [span rows, used, cols]`; `hidden: [batch
    /// rows, cols]`, to which the sum is added.
    pub fn record(&self, recording: &mut Recording, span: &Span, choices: Slice, x: Slice, hidden: Slice) {
        let row = (self.cols * 4) as u64;
        let cost = Cost {
            read: choice_bytes(self.experts, span.rows) + (span.rows * (self.experts.used + 1)) as u64 * row,
            written: span.rows as u64 * row,
            // A multiply-add a choice, and one to add their sum.
            flops: (2 * span.rows * (self.experts.used + 1) * self.cols) as u64,
        };
        let groups = (self.cols / 4).div_ceil(self.lanes);
        let bindings = vec![span.step, choices, x, hidden];
        recording.dispatch(&self.kernel, bindings, [groups as u32, span.rows as u32, 1], cost);
    }
}
