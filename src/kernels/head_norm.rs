//! RMSNorm over each head of queries and keys, before they turn and go to their places: see `shaders/head_norm.wgsl`.

use std::sync::Arc;

use super::{Heads, Rotation, Span};
use crate::gpu::{Access, AdapterKind, Buffer, Caps, Cost, Kernel, Recording, Slice};

/// The norms of one layer's heads.
#[derive(Debug, Clone)]
pub struct HeadNorm {
    heads: Heads,
    gains: Buffer,
    kernel: Arc<Kernel>,
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite];

impl HeadNorm {
    /// `gains: [2, head_dim]` f32, those of queries before those of keys, in the order of the heads' dims.
    pub fn new(heads: Heads, rotation: Rotation, gains: Buffer, epsilon: f32, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup.unwrap_or(8),
            AdapterKind::Gpu => 64,
        };
        let mut defines = vec![("LANES", lanes), ("EPSILON", epsilon.to_bits())];
        defines.extend(heads.defines());
        defines.extend(rotation.defines());
        Self { heads, gains, kernel: Arc::new(Kernel { name: "head_norm", defines, bindings: BINDINGS }) }
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
        let cost = Cost { read: bytes, written: bytes };
        let bindings = vec![span.step, x, self.gains.whole(), queries, kv];
        recording.dispatch(&self.kernel, bindings, [heads as u32, span.rows as u32, 1], cost);
    }
}
