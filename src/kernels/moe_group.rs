//! Groups the choices of a span by expert, so that an expert is read once for several rows: see
//! `shaders/moe_group.wgsl`.

use std::sync::Arc;

use super::{Experts, Span, moe_route::choice_bytes};
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// The tiles of one layer's experts.
#[derive(Debug, Clone)]
pub struct MoeGroup {
    experts: Experts,
    tokens: usize,
    kernel: Arc<Kernel>,
}

/// Most tiles of `tokens` choices for `rows` rows: all full ones, and one partial tile for each expert.
pub fn tiles(experts: Experts, rows: usize, tokens: usize) -> usize {
    let choices = rows * experts.used;
    if tokens == 1 { choices } else { choices / tokens + choices.min(experts.count) }
}

/// Bytes of the tiles of `rows` rows.
pub fn tile_bytes(experts: Experts, rows: usize, tokens: usize) -> u64 {
    (4 * tiles(experts, rows, tokens) * (1 + tokens)) as u64
}

impl MoeGroup {
    /// `tokens`: choices in a tile, at least 2.
    pub fn new(experts: Experts, tokens: usize, caps: &Caps) -> Self {
        let lanes = match caps.kind {
            AdapterKind::Cpu => caps.subgroup_size.unwrap_or(8),
            AdapterKind::Gpu => 128,
        };
        let mut defines = vec![("LANES", lanes), ("T", tokens as u32)];
        defines.extend(experts.defines());
        let bindings = &[Access::Read, Access::Read, Access::ReadWrite];
        Self { experts, tokens, kernel: Arc::new(Kernel { name: "moe_group", defines, bindings }) }
    }

    /// Its only pipeline.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// `choices`: the output of [`MoeRoute`](super::moe_route::MoeRoute); `tiles: [tiles, 1 + tokens]`: an expert,
    /// followed by the indices of its choices, [`u32::MAX`] for none.
    pub fn record(&self, recording: &mut Recording, span: &Span, choices: Slice, tiles: Slice) {
        let cost = Cost {
            read: choice_bytes(self.experts, span.rows),
            written: tile_bytes(self.experts, span.rows, self.tokens),
            flops: 0,
        };
        recording.dispatch(&self.kernel, vec![span.step, choices, tiles], [1, 1, 1], cost);
    }
}
