//! What happens to whole heads of queries, keys and values between their matrix and their places: RMSNorm over queries
//! and keys, if the model has one, RoPE, and keys and values in 8 bits. See `shaders/head_norm.wgsl`.

use std::sync::Arc;

use super::{Heads, Rotation, Span};
use crate::gpu::{Access, AdapterKind, Buffer, Caps, Cost, Kernel, Recording, Slice};

/// What is normalised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QkNorm {
    /// Each head on its own (Qwen 3, Gemma 3).
    Head,
    /// All query heads of a row, and all its key heads (OLMo 2, arXiv 2501.00656).
    Whole,
}

/// The heads of one layer.
#[derive(Debug, Clone)]
pub struct HeadNorm {
    heads: Heads,
    rotation: Rotation,
    gains: Option<Buffer>,
    kernel: Arc<Kernel>,
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite, Access::Read];

impl HeadNorm {
    /// The gains of the norm, f32, have queries before keys, in the order of the heads' dims: `[2, head_dim]`, or
    /// `[heads + kv_heads, head_dim]` if heads are normalised together.
    pub fn new(norm: Option<(QkNorm, Buffer)>, heads: Heads, rotation: Rotation, epsilon: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let (norm, gains) = norm.unzip();
        let mut defines = vec![("LANES", lanes)];
        if let Some(norm) = norm {
            let whole = u32::from(norm == QkNorm::Whole);
            defines.extend([("NORMED", 1), ("EPSILON", epsilon.to_bits()), ("WHOLE", whole)]);
        }
        defines.extend(heads.defines());
        defines.extend(rotation.defines());
        let bindings = if norm.is_some() { BINDINGS } else { &BINDINGS[..4] };
        Self { heads, rotation, gains, kernel: Arc::new(Kernel { name: "head_norm", defines, bindings }) }
    }

    /// Its one pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [span rows, heads + 2 kv_heads, head_dim]` f32, by position in the span; `queries: [batch rows, heads, head_dim]`;
    /// keys and values go to the layer's pages, `kv`.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, queries: Slice, kv: Slice) {
        let heads = self.heads.heads + 2 * self.heads.kv_heads;
        let bytes = |heads: usize| (span.rows * heads * self.heads.head_dim * 4) as u64;
        // A square, its sum, a factor and a gain an element; four products and two sums a rotated pair.
        let turned = span.rows * (self.heads.heads + self.heads.kv_heads);
        let normed = if self.gains.is_some() { 4 * self.heads.head_dim } else { 0 };
        let cost = Cost {
            read: bytes(heads),
            written: bytes(self.heads.heads) + span.rows as u64 * self.heads.token_bytes(),
            flops: (turned * (normed + 6 * self.rotation.pairs)) as u64,
        };
        let mut bindings = vec![span.step, x, queries, kv];
        bindings.extend(self.gains.map(|gains| gains.whole()));
        recording.dispatch(&self.kernel, bindings, [heads as u32, span.rows as u32, 1], cost);
    }
}
