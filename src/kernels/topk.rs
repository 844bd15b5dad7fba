//! Finds the best candidates of each row of logits and draws among them, so that only 4 bytes a row are read back:
//! `shaders/topk.wgsl`.

use std::sync::Arc;

use super::Span;
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// Most candidates that a row can request.
pub const MAX_K: usize = 64;

/// Drawn from a row with a logit that is not finite. It is not a token.
pub const NOT_FINITE: u32 = u32::MAX;

/// Logits that one workgroup of the first stage scans.
const CHUNK: usize = 2048;

#[derive(Debug, Clone)]
pub struct TopK {
    vocab: usize,
    greedy: [Arc<Kernel>; 2],
    drawing: [Arc<Kernel>; 2],
}

/// Bytes of the candidate lists of `rows` rows: the chunks' lists and the final one.
pub fn list_bytes(vocab: usize, rows: usize) -> [u64; 2] {
    let list = rows as u64 * (MAX_K * 8) as u64;
    [list * vocab.div_ceil(CHUNK) as u64, list]
}

impl TopK {
    pub fn new(vocab: usize, caps: &Caps) -> Self {
        let lanes: u32 = match caps.kind {
            AdapterKind::Cpu => 8,
            AdapterKind::Gpu => 256,
        };
        let chunks = vocab.div_ceil(CHUNK);
        let stages = |k: u32| {
            let stage = |stage: u32| {
                let most = if stage == 0 { CHUNK } else { chunks * k as usize };
                let defines = vec![
                    ("STAGE", stage),
                    ("K", k),
                    ("LANES", lanes),
                    ("HALVINGS", lanes.ilog2()),
                    ("VOCAB", vocab as u32),
                    ("CHUNK", CHUNK as u32),
                    ("CHUNKS", chunks as u32),
                    ("MARKS", most.div_ceil(32) as u32),
                ];
                let bindings: &[Access] = match stage {
                    0 => &[Access::Read, Access::Read, Access::ReadWrite],
                    _ => &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
                };
                Arc::new(Kernel { name: "topk", defines, bindings })
            };
            [stage(0), stage(1)]
        };
        Self { vocab, greedy: stages(1), drawing: stages(MAX_K as u32) }
    }

    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.greedy.iter().chain(&self.drawing)
    }

    /// `logits: [span rows, vocab]`; `lists`: a buffer of [`list_bytes`]; `drawn: [span rows]` token ids, or
    /// [`NOT_FINITE`] for a row with a logit that is not finite. `greedy`: every row of the span needs only its best
    /// token.
    pub fn record(
        &self,
        recording: &mut Recording,
        span: &Span,
        greedy: bool,
        logits: Slice,
        lists: [Slice; 2],
        drawn: Slice,
    ) {
        let [first, second] = if greedy { &self.greedy } else { &self.drawing };
        let (rows, chunks) = (span.rows as u32, self.vocab.div_ceil(CHUNK));
        let k = if greedy { 1 } else { MAX_K };
        let list = span.rows as u64 * (chunks * k * 8) as u64;
        let cost = Cost { read: span.rows as u64 * (self.vocab * 4) as u64, written: list, flops: 0 };
        recording.dispatch(first, vec![span.step, logits, lists[0]], [chunks as u32, rows, 1], cost);
        let cost = Cost { read: list, written: (span.rows * 4) as u64, flops: 0 };
        recording.dispatch(second, vec![span.step, lists[0], lists[1], drawn], [1, rows, 1], cost);
    }
}
