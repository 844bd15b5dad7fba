//! Adds the RMSNorm of the output of attention or MLP to the residual stream: see `shaders/post_norm.wgsl`.

use std::sync::Arc;

use super::Span;
use crate::gpu::{Access, AdapterKind, Buffer, Caps, Cost, Kernel, Recording, Slice};

/// One norm.
#[derive(Debug, Clone)]
pub struct PostNorm {
    cols: usize,
    gains: Buffer,
    kernel: Arc<Kernel>,
}

impl PostNorm {
    /// `gains: [cols]` f32; `scale` multiplies the normalised row.
    pub fn new(cols: usize, gains: Buffer, epsilon: f32, scale: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let defines =
            vec![("LANES", lanes), ("COLS", cols as u32), ("EPSILON", epsilon.to_bits()), ("SCALE", scale.to_bits())];
        let bindings = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];
        Self { cols, gains, kernel: Arc::new(Kernel { name: "post_norm", defines, bindings }) }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [span rows, cols]`, by position in the span; `hidden: [batch rows, cols]`, to which the result is added.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, hidden: Slice) {
        let bytes = (span.rows * self.cols * 4) as u64;
        // A square, its sum, a factor, a gain and an addition for each element.
        let cost = Cost { read: 2 * bytes, written: bytes, flops: 5 * (span.rows * self.cols) as u64 };
        recording.dispatch(
            &self.kernel,
            vec![span.step, x, self.gains.whole(), hidden],
            [span.rows as u32, 1, 1],
            cost,
        );
    }
}
