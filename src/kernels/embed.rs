//! Looks up token ids in the embedding matrix; the rows are dequantised and scaled.

use std::sync::Arc;

use super::{Matrix, Span};
use crate::{
    gpu::{Access, AdapterKind, Buffer, Caps, Cost, Kernel, Recording, Slice},
    quant::UNIT,
};

/// Set in the word of a token that the host does not know yet. The other bits are the row of the previous step that
/// draws it.
const DRAWN: u32 = 1 << 31;

/// Stands for a token id: the token that row `row` of the previous step draws.
pub fn drawn(row: usize) -> u32 {
    DRAWN | row as u32
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];

#[derive(Debug, Clone)]
pub struct Embed {
    cols: usize,
    lanes: usize,
    parts: Vec<(Arc<Kernel>, Buffer, u64)>,
}

impl Embed {
    /// `scale` multiplies the rows.
    pub fn new(matrix: &Matrix, scale: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8) as usize,
            AdapterKind::Gpu => 64,
        };
        let part = |part: &super::Part| {
            let mut defines = part.defines(matrix.cols);
            defines.extend([("LANES", lanes as u32), ("DRAWN", DRAWN)]);
            if scale != 1.0 {
                defines.extend([("SCALED", 1), ("SCALE", scale.to_bits())]);
            }
            let kernel = Kernel { name: "embed", defines, bindings: BINDINGS };
            (Arc::new(kernel), part.buffer, part.row_bytes(matrix.cols))
        };
        Self { cols: matrix.cols, lanes, parts: matrix.parts.iter().map(part).collect() }
    }

    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.parts.iter().map(|(kernel, ..)| kernel)
    }

    /// `drawn`: token ids of the previous step, for rows that refer to it, see [`drawn`]. `hidden: [batch rows, cols]`
    /// f32; writes the span's rows.
    pub fn record(&self, recording: &mut Recording, span: &Span, drawn: Slice, hidden: Slice) {
        let units = self.cols.div_ceil(UNIT);
        for (kernel, weights, row_bytes) in &self.parts {
            let rows = span.rows as u64;
            let cost = Cost { read: rows * row_bytes, written: rows * (self.cols * 4) as u64, flops: 0 };
            let groups = [units.div_ceil(self.lanes) as u32, span.rows as u32, 1];
            recording.dispatch(kernel, vec![span.step, weights.whole(), drawn, hidden], groups, cost);
        }
    }
}
