//! Prepares the input of products in f16 or 8 bits: rows rounded, after RMSNorm or as they are. See
//! `shaders/norm.wgsl`.

use std::sync::Arc;

use super::Span;
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// The form of rounded rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// `[rows, cols]` f16.
    Halves,
    /// `[rows, cols / 32, 12]` words: see `shaders/linear/bytes.wgsl`.
    Bytes,
}

impl Rounding {
    /// Bytes of `elements` elements.
    fn bytes(self, elements: u64) -> u64 {
        match self {
            Self::Halves => 2 * elements,
            Self::Bytes => 48 * elements / 32,
        }
    }
}

/// One norm, or none, and the rounding after it.
#[derive(Debug, Clone)]
pub struct Norm {
    cols: usize,
    gains: Slice,
    is_norm: bool,
    rounding: Rounding,
    /// Rows for each row of the span; `None` if they are rows of the batch.
    choices: Option<usize>,
    kernel: Arc<Kernel>,
}

impl Norm {
    /// `epsilon` is set if there is a norm; `gains` then begins with `[cols]` f32. For 8 bits, `cols` is a multiple of
    /// 32.
    pub fn new(cols: usize, gains: Slice, epsilon: Option<f32>, rounding: Rounding, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 128,
        };
        let mut defines = vec![("LANES", lanes), ("COLS", cols as u32)];
        if let Some(epsilon) = epsilon {
            defines.extend([("NORM", 1), ("EPSILON", epsilon.to_bits())]);
        }
        if rounding == Rounding::Bytes {
            defines.push(("BYTES", 1));
        }
        let bindings = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];
        let kernel = Arc::new(Kernel { name: "norm", defines, bindings });
        Self { cols, gains, is_norm: epsilon.is_some(), rounding, choices: None, kernel }
    }

    /// The same for rows that are choices of experts, `used` for each row of the span.
    pub fn of_choices(self, used: usize) -> Self {
        let mut kernel = Kernel::clone(&self.kernel);
        kernel.defines.push(("CHOICES", 1));
        Self { choices: Some(used), kernel: Arc::new(kernel), ..self }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [rows, cols]` f32; `rounded`: as [`Rounding`] says. Writes the span's rows, or their choices.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, rounded: Slice) {
        let rows = span.rows * self.choices.unwrap_or(1);
        let elements = (rows * self.cols) as u64;
        // A square, its sum, a factor and a gain an element of a norm.
        let flops = if self.is_norm { 4 * elements } else { 0 };
        let cost = Cost { read: 4 * elements, written: self.rounding.bytes(elements), flops };
        // Without a norm nothing reads gains.
        let gains = if self.is_norm { self.gains } else { x };
        recording.dispatch(&self.kernel, vec![span.step, x, gains, rounded], [rows as u32, 1, 1], cost);
    }
}
