//! Gated short convolutions, and their state in the pages: see `shaders/short_conv.wgsl`.

use std::sync::Arc;

use super::Span;
use crate::gpu::{Access, AdapterKind, Buffer, Caps, Cost, Kernel, Recording, Slice};

/// The convolution of one layer.
#[derive(Debug, Clone)]
pub struct ShortConv {
    cols: usize,
    count: usize,
    taps: Buffer,
    lanes: usize,
    kernel: Arc<Kernel>,
}

/// Words of state in a page: the f32 products of its last `taps - 1` tokens, `[taps - 1, cols]`.
pub(crate) fn page_words(cols: usize, taps: usize) -> usize {
    (taps - 1) * cols
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite];

impl ShortConv {
    /// `taps: [count, cols]` f32: the tap of the row itself first, then those of the rows before it; `count` is at
    /// least 2.
    pub fn new(cols: usize, count: usize, taps: Buffer, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let defines = vec![("LANES", lanes), ("COLS", cols as u32), ("KEPT", count as u32 - 1)];
        let kernel = Arc::new(Kernel { name: "short_conv", defines, bindings: BINDINGS });
        Self { cols, count, taps, lanes: lanes as usize, kernel }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [span rows, 3, cols]` by position in the span, and `y: [batch rows, cols]`, f32; `pages`: the layer's.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, y: Slice, pages: Slice) {
        let bytes = (span.rows * self.cols * 4) as u64;
        // A gate before and one after the multiply-adds of the taps.
        let flops = (span.rows * self.cols * (2 * self.count + 2)) as u64;
        let cost = Cost { read: 3 * bytes, written: bytes, flops };
        let groups = (self.cols / 4).div_ceil(self.lanes);
        let bindings = vec![span.step, x, self.taps.whole(), y, pages];
        recording.dispatch(&self.kernel, bindings, [groups as u32, span.runs as u32, 1], cost);
    }
}
