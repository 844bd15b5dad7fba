//! Combines the partial results of a decode row's splits, in order: see `shaders/attention_merge.wgsl`.

use std::sync::Arc;

use super::{
    Heads, Span,
    attention::{Scores, split, split_defines},
};
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

#[derive(Debug, Clone)]
pub struct AttentionMerge {
    heads: Heads,
    scores: Scores,
    split: usize,
    kernel: Arc<Kernel>,
}

impl AttentionMerge {
    pub fn new(heads: Heads, scores: Scores, context: usize, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let split = split(caps.kind, context);
        let mut defines = vec![("LANES", lanes), ("HEADS", heads.heads as u32), ("HEAD_DIM", heads.head_dim as u32)];
        defines.extend(split_defines(caps.kind, context));
        if let Some(window) = scores.window {
            defines.push(("WINDOW", window as u32));
        }
        let bindings = &[Access::Read, Access::Read, Access::ReadWrite];
        let kernel = Arc::new(Kernel { name: "attention_merge", defines, bindings });
        Self { heads, scores, split, kernel }
    }

    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `partials` as attention wrote them; `out: [batch rows, heads, head_dim]`.
    pub fn record(&self, recording: &mut Recording, span: &Span, partials: Slice, out: Slice) {
        let row = (self.heads.heads * self.heads.head_dim * 4) as u64;
        let partials_read = (span.rows * self.scores.splits(span.context, self.split)) as u64;
        let cost = Cost {
            read: partials_read * row,
            written: span.rows as u64 * row,
            flops: 2 * partials_read * (self.heads.heads * self.heads.head_dim) as u64,
        };
        let groups = [self.heads.heads as u32, span.tiles as u32, 1];
        recording.dispatch(&self.kernel, vec![span.step, partials, out], groups, cost);
    }
}
