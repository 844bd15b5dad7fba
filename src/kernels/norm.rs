//! RMSNorm of the residual stream, rounded to f16 for products of fragments: see `shaders/norm.wgsl`.

use std::sync::Arc;

use super::Span;
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// One norm.
#[derive(Debug, Clone)]
pub struct Norm {
    cols: usize,
    gains: Slice,
    kernel: Arc<Kernel>,
}

impl Norm {
    /// `gains`: begins with `[cols]` f32.
    pub fn new(cols: usize, gains: Slice, epsilon: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup.unwrap_or(8),
            AdapterKind::Gpu => 128,
        };
        let defines = vec![("LANES", lanes), ("COLS", cols as u32), ("EPSILON", epsilon.to_bits())];
        let bindings = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];
        Self { cols, gains, kernel: Arc::new(Kernel { name: "norm", defines, bindings }) }
    }

    /// Its one pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [batch rows, cols]` f32; `normed: [batch rows, cols]` f16. Writes the span's rows.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, normed: Slice) {
        let elements = (span.rows * self.cols) as u64;
        // A square, its sum, a factor and a gain an element.
        let cost = Cost { read: 4 * elements, written: 2 * elements, flops: 4 * elements };
        recording.dispatch(&self.kernel, vec![span.step, x, self.gains, normed], [span.rows as u32, 1, 1], cost);
    }
}
