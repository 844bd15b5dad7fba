//! Prepares the input of fragments: rows rounded to f16, after RMSNorm or as they are. See `shaders/norm.wgsl`.

use std::sync::Arc;

use super::Span;
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// One norm, or none.
#[derive(Debug, Clone)]
pub struct Norm {
    cols: usize,
    gains: Slice,
    is_norm: bool,
    kernel: Arc<Kernel>,
}

impl Norm {
    /// `epsilon` is set if there is a norm; `gains` then begins with `[cols]` f32.
    pub fn new(cols: usize, gains: Slice, epsilon: Option<f32>, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 128,
        };
        let mut defines = vec![("LANES", lanes), ("COLS", cols as u32)];
        if let Some(epsilon) = epsilon {
            defines.extend([("NORM", 1), ("EPSILON", epsilon.to_bits())]);
        }
        let bindings = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];
        Self { cols, gains, is_norm: epsilon.is_some(), kernel: Arc::new(Kernel { name: "norm", defines, bindings }) }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [batch rows, cols]` f32; `normed: [batch rows, cols]` f16. Writes the span's rows.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, normed: Slice) {
        let elements = (span.rows * self.cols) as u64;
        // A square, its sum, a factor and a gain an element of a norm.
        let flops = if self.is_norm { 4 * elements } else { 0 };
        let cost = Cost { read: 4 * elements, written: 2 * elements, flops };
        // Without a norm nothing reads gains.
        let gains = if self.is_norm { self.gains } else { x };
        recording.dispatch(&self.kernel, vec![span.step, x, gains, normed], [span.rows as u32, 1, 1], cost);
    }
}
