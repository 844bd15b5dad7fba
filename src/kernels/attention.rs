//! Attention over pages: see `shaders/attention.wgsl`.
//!
//! Prompt rows go through all that they see in one pass; a decode row's long context is cut into splits, whose partial
//! results `attention_merge` joins exactly.

use std::sync::Arc;

use super::{Class, Heads, PAGE, Span};
use crate::gpu::{Access, AdapterKind, Caps, Cost, Kernel, Recording, Slice};

/// Tokens of a split when the longest context is `context`: 256, and more where that would make over 64 splits.
pub fn split(context: usize) -> usize {
    context.div_ceil(64).next_multiple_of(PAGE).max(256)
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];

/// What becomes of the products of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// They are multiplied by it.
    pub scale: f32,
    /// Then they become `cap · tanh(score / cap)` (Gemma 2, arXiv 2408.00118).
    pub cap: Option<f32>,
    /// The last tokens that a token sees, itself among them (sliding windows, arXiv 2004.05150); all where `None`.
    pub window: Option<usize>,
}

impl Scores {
    /// All that came before, by the root of a head's size.
    pub fn of(head_dim: usize) -> Self {
        Self { scale: 1.0 / (head_dim as f32).sqrt(), cap: None, window: None }
    }

    /// Tokens that a row behind `context` tokens sees at most.
    fn seen(&self, context: usize) -> usize {
        self.window.map_or(context, |window| window.min(context))
    }

    /// Splits of `split` tokens that a row of `context` tokens meets at most.
    pub(super) fn splits(&self, context: usize, split: usize) -> usize {
        context.div_ceil(split).min((self.seen(context) - 1).div_ceil(split) + 1)
    }
}

#[derive(Debug, Clone)]
pub struct Attention {
    heads: Heads,
    scores: Scores,
    /// Tokens of a split.
    split: usize,
    prompt: Arc<Kernel>,
    decode: Arc<Kernel>,
    split_decode: Arc<Kernel>,
}

/// Query rows of a tile: all of one sequence.
pub fn tile_rows(caps: &Caps, heads: &Heads, class: Class) -> usize {
    match (class, caps.kind) {
        (Class::Decode, _) => 1,
        // Rows × dims that still fit the registers of a CPU's vector unit and its first cache.
        (Class::Prompt, AdapterKind::Cpu) => (64 / (heads.group() * heads.head_dim.div_ceil(8))).clamp(1, 4),
        // 16 query rows share what is read of K and V, as long as they take no more than half of the workgroup memory.
        (Class::Prompt, AdapterKind::Gpu) => {
            let room = caps.workgroup_memory as usize / 8 / heads.head_dim;
            (room.min(16) / heads.group()).clamp(1, 8)
        }
    }
}

/// Bytes of the partial results of `rows` decode rows with contexts up to `context` tokens.
pub fn partial_bytes(heads: &Heads, rows: usize, context: usize) -> u64 {
    (rows * context.div_ceil(split(context))) as u64 * (heads.heads * (heads.head_dim + 2) * 4) as u64
}

impl Attention {
    /// `context`: the longest context that partial results have room for.
    pub fn new(heads: Heads, scores: Scores, context: usize, caps: &Caps) -> Self {
        let kernel = |class, split| Arc::new(kernel(&heads, scores, class, split, caps));
        let split = split(context);
        let splits = Some((split, context.div_ceil(split)));
        Self {
            heads,
            scores,
            split,
            prompt: kernel(Class::Prompt, None),
            decode: kernel(Class::Decode, None),
            split_decode: kernel(Class::Decode, splits),
        }
    }

    pub fn kernels(&self) -> [&Arc<Kernel>; 3] {
        [&self.prompt, &self.decode, &self.split_decode]
    }

    /// Whether the span's contexts are cut, so that [`Attention::record`] leaves partial results to be merged. One split
    /// needs no merge: its division is the merge's, bit for bit.
    pub fn splits(&self, span: &Span) -> bool {
        span.class == Class::Decode && span.context > self.split
    }

    /// `q: [batch rows, heads, head_dim]`, `kv`: the layer's pages; `out` like `q`, or where the span
    /// [splits](Attention::splits) partial results `[tiles, heads, splits, 2 + head_dim]`.
    pub fn record(&self, recording: &mut Recording, span: &Span, q: Slice, kv: Slice, out: Slice) {
        let (kernel, splits) = match span.class {
            Class::Prompt => (&self.prompt, 1),
            Class::Decode if self.splits(span) => (&self.split_decode, self.scores.splits(span.context, self.split)),
            Class::Decode => (&self.decode, 1),
        };
        let row = (self.heads.heads * self.heads.head_dim * 4) as u64;
        let token = self.heads.token_bytes();
        let cost = Cost {
            read: span.rows as u64 * row + span.tiles as u64 * self.scores.seen(span.context) as u64 * token,
            written: span.rows as u64 * row,
        };
        let groups = [self.heads.kv_heads as u32, span.tiles as u32, splits as u32];
        recording.dispatch(kernel, vec![span.step, q, kv, out], groups, cost);
    }
}

/// `split`: tokens of a split, and how many splits there is room for.
fn kernel(heads: &Heads, scores: Scores, class: Class, split: Option<(usize, usize)>, caps: &Caps) -> Kernel {
    let rows = caps.kind == AdapterKind::Cpu && matches!(caps.subgroup, Some(8 | 16));
    let lanes = match (rows, caps.subgroup) {
        (true, Some(size)) => size as usize,
        _ if caps.kind == AdapterKind::Cpu => PAGE,
        _ => 64,
    };
    let tile = tile_rows(caps, heads, class);
    let (pairs, quads) = (heads.head_dim / 2, (tile * heads.group()).div_ceil(4));
    // A power of two, and four tokens of each slice in a tile.
    let slices = (lanes / pairs).checked_ilog2().map_or(1, |log| 1 << log).min(lanes / 4);
    let mut defines = vec![
        ("SHAPE", u32::from(!rows)),
        ("LANES", lanes as u32),
        ("T", tile as u32),
        ("GROUP", heads.group() as u32),
        ("KV_HEADS", heads.kv_heads as u32),
        ("HEAD_DIM", heads.head_dim as u32),
        ("SCALE", scores.scale.to_bits()),
        ("TOKEN_STEPS", (PAGE / lanes.min(PAGE)) as u32),
        ("OUT_STEPS", pairs.div_ceil(lanes) as u32),
        ("QUADS", quads as u32),
        ("STRIDE", (quads | 1) as u32),
        ("SLICES", slices as u32),
        ("SLICED", u32::from(slices > 1)),
        ("PARTS", lanes.min(8) as u32),
    ];
    if let Some(window) = scores.window {
        defines.push(("WINDOW", window as u32));
    }
    if let Some(cap) = scores.cap {
        defines.extend([("CAPPED", 1), ("CAP", cap.to_bits())]);
    }
    if let Some((split, splits)) = split {
        defines.extend([("SPLIT", split as u32), ("SPLITS", splits as u32)]);
    }
    Kernel { name: "attention", defines, bindings: BINDINGS }
}
