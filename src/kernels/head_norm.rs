//! RMSNorm over queries and keys, before RoPE and before they are stored: see `shaders/head_norm.wgsl`.

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

/// The norms of one layer's queries and keys.
#[derive(Debug, Clone)]
pub struct HeadNorm {
    heads: Heads,
    rotation: Rotation,
    gains: Buffer,
    kernel: Arc<Kernel>,
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite];

impl HeadNorm {
    /// `gains`: f32, queries before keys, in the order of the heads' dims: `[2, head_dim]`, or `[heads + kv_heads,
    /// head_dim]` if heads are normalised together.
    pub fn new(norm: QkNorm, heads: Heads, rotation: Rotation, gains: Buffer, epsilon: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let mut defines =
            vec![("LANES", lanes), ("EPSILON", epsilon.to_bits()), ("WHOLE", u32::from(norm == QkNorm::Whole))];
        defines.extend(heads.defines());
        defines.extend(rotation.defines());
        Self { heads, rotation, gains, kernel: Arc::new(Kernel { name: "head_norm", defines, bindings: BINDINGS }) }
    }

    /// Its one pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `x: [span rows, heads + 2 kv_heads, head_dim]` f32, by position in the span; `queries: [batch rows, heads, head_dim]`;
    /// keys and values go to the layer's pages, `kv`.
    pub fn record(&self, recording: &mut Recording, span: &Span, x: Slice, queries: Slice, kv: Slice) {
        let heads = self.heads.heads + 2 * self.heads.kv_heads;
        let bytes = (span.rows * heads * self.heads.head_dim * 4) as u64;
        // A square, its sum, a factor and a gain an element; four products and two sums a rotated pair.
        let normed = span.rows * (self.heads.heads + self.heads.kv_heads);
        let flops = (normed * (4 * self.heads.head_dim + 6 * self.rotation.pairs)) as u64;
        let cost = Cost { read: bytes, written: bytes, flops };
        let bindings = vec![span.step, x, self.gains.whole(), queries, kv];
        recording.dispatch(&self.kernel, bindings, [heads as u32, span.rows as u32, 1], cost);
    }
}
