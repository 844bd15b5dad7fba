//! Attention over pages: see `shaders/attention.wgsl`.
//!
//! Prompt rows traverse everything they see in one pass. A decode row's long context is cut into splits, whose partial
//! results `attention_merge` combines exactly. Rows that share the pages of a split may read it [together](cascade).

pub mod cascade;

use std::sync::Arc;

use super::{Class, Heads, KvFormat, PAGE, Span};
use crate::gpu::{Access, AdapterKind, Caps, Cost, Fragments, Kernel, Recording, Slice};

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite];
/// With the pages once more, for loads of four words.
const FOURS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::Read];

/// How the products of queries and keys become scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// The factor of the products.
    pub scale: f32,
    /// If set, scores become `cap · tanh(score / cap)` (Gemma 2, arXiv 2408.00118).
    pub cap: Option<f32>,
    /// The number of last tokens that a token sees, including itself (sliding windows, arXiv 2004.05150); `None` for
    /// all.
    pub window: Option<usize>,
}

impl Scores {
    /// Full context, scaled by the root of a head's size.
    pub fn of(head_dim: usize) -> Self {
        Self { scale: 1.0 / (head_dim as f32).sqrt(), cap: None, window: None }
    }

    /// Most tokens that a row with `context` tokens sees.
    fn seen(&self, context: usize) -> usize {
        self.window.map_or(context, |window| window.min(context))
    }

    /// Total tokens that the rows of a span see. It is exact for rows of one sequence. For several, each decode row
    /// counts with the longest context, and prompt rows count as its last rows.
    fn seen_by(&self, span: &Span) -> u64 {
        let by_all_up_to = |tokens: usize| {
            let (most, tokens) = (self.seen(tokens) as u64, tokens as u64);
            most * (most + 1) / 2 + (tokens - most) * most
        };
        match span.class {
            Class::Prompt => by_all_up_to(span.context) - by_all_up_to(span.context.saturating_sub(span.rows)),
            Class::Decode => (span.rows * self.seen(span.context)) as u64,
        }
    }

    /// Most splits of at least `split` tokens for a row of at most `context` tokens.
    pub(super) fn splits(&self, context: usize, split: usize) -> usize {
        context.div_ceil(split).min((self.seen(context) - 1).div_ceil(split) + 1).min(MOST_SPLITS)
    }
}

/// How the lanes of a workgroup share data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Through the registers of one subgroup: `shaders/attention/rows.wgsl`.
    Rows,
    /// Through workgroup memory: `shaders/attention/group.wgsl`.
    Group,
    /// Through f16 matrices that subgroups multiply: `shaders/attention/fragments.wgsl`.
    Fragments,
}

/// How a tile of query rows traverses the tokens that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    pub shape: Shape,
    pub lanes: usize,
    /// Query rows of a tile: all of one sequence, or one each of sequences that [share](shared) splits.
    pub rows: usize,
    /// Least tokens of each split, see [`split`]; `None` for one pass.
    pub split: Option<usize>,
}

/// The variant for a span of `class` with the longest context `context`, where the buffer of partial results fits
/// contexts of `room` tokens. Within a class and a room all variants have the same lanes, and one pass equals one
/// split, so a row's bits do not depend on the rows beside it.
pub fn choose(heads: &Heads, caps: &Caps, class: Class, room: usize, context: usize) -> Variant {
    let rows = tile_rows(caps, heads, class);
    let split = split(caps.kind, room);
    let (shape, lanes) = match caps.kind {
        _ if class == Class::Prompt && Flash::of(heads, caps).is_some() => (Shape::Fragments, FLASH_LANES),
        AdapterKind::Cpu => cpu_lanes(caps).map_or((Shape::Group, PAGE), |lanes| (Shape::Rows, lanes)),
        // There are few decode rows, so workgroup memory may allow one lane for each token of a split.
        AdapterKind::Gpu => {
            let fits = Group::of(heads, rows, 128).bytes(heads) <= caps.workgroup_memory as usize;
            (Shape::Group, if class == Class::Decode && split >= 128 && fits { 128 } else { 64 })
        }
    };
    let split = (class == Class::Decode && context > split).then_some(split);
    Variant { shape, lanes, rows, split }
}

/// The variant for decode rows that share splits, where a tile has room for several: the one of [`choose`] with more
/// rows.
pub fn shared(heads: &Heads, caps: &Caps, room: usize) -> Option<Variant> {
    let alone = choose(heads, caps, Class::Decode, room, room);
    let fits = |&rows: &usize| {
        alone.shape == Shape::Rows || Group::of(heads, rows, alone.lanes).bytes(heads) <= caps.workgroup_memory as usize
    };
    let rows = (2..=float_rows(caps, heads)).rev().find(fits).filter(|_| alone.split.is_some())?;
    Some(Variant { rows, ..alone })
}

/// All variants that [`choose`] and [`shared`] can return.
pub fn variants(heads: &Heads, caps: &Caps, room: usize) -> Vec<Variant> {
    let chosen = [(Class::Prompt, room), (Class::Decode, 1), (Class::Decode, usize::MAX)]
        .map(|(class, context)| choose(heads, caps, class, room, context));
    chosen.into_iter().chain(shared(heads, caps, room)).collect()
}

/// Query rows of a tile: all of one sequence.
pub fn tile_rows(caps: &Caps, heads: &Heads, class: Class) -> usize {
    if class == Class::Prompt
        && let Some(flash) = Flash::of(heads, caps)
    {
        return flash.rows / heads.group();
    }
    if class == Class::Decode { 1 } else { float_rows(caps, heads) }
}

/// Lanes of [`Shape::Rows`]; `None` if it does not suit a CPU adapter.
fn cpu_lanes(caps: &Caps) -> Option<usize> {
    caps.subgroup_size.filter(|size| matches!(size, 8 | 16)).map(|size| size as usize)
}

/// Query rows that share each read of K and V in f32.
fn float_rows(caps: &Caps, heads: &Heads) -> usize {
    match caps.kind {
        // 4 KiB of sums fit a CPU's first-level cache: four rows of three heads took 0.73 of the time of two. Without
        // subgroups they take too long to compile.
        AdapterKind::Cpu => {
            let sums = if cpu_lanes(caps).is_some() { 1024 } else { 512 };
            (sums / (heads.group() * heads.head_dim)).clamp(1, 4)
        }
        // 16 with the heads of a group, if they take at most half of the workgroup memory.
        AdapterKind::Gpu => {
            let room = caps.workgroup_memory as usize / 8 / heads.head_dim;
            (room.min(16) / heads.group()).clamp(1, 8)
        }
    }
}

/// Most splits of a row.
const MOST_SPLITS: usize = 64;

/// Least tokens of a split, where the longest context is `room`. Short splits keep a GPU's many units busy. A row that
/// would have over [`MOST_SPLITS`] of them gets longer ones, see `shaders/shared/splits.wgsl`.
pub fn split(kind: AdapterKind, room: usize) -> usize {
    match kind {
        AdapterKind::Cpu => 256,
        AdapterKind::Gpu if room <= 1024 => 64,
        AdapterKind::Gpu => 128,
    }
}

/// Most splits of any row, where the longest context is `room`.
pub fn most_splits(kind: AdapterKind, room: usize) -> usize {
    room.div_ceil(split(kind, room)).min(MOST_SPLITS)
}

/// The definitions for `shared/splits.wgsl` and for the layout of partial results.
pub(super) fn split_defines(kind: AdapterKind, room: usize) -> [(&'static str, u32); 4] {
    [
        ("SPLIT", split(kind, room) as u32),
        ("SPLITS", most_splits(kind, room) as u32),
        ("MOST_SPLITS", MOST_SPLITS as u32),
        ("PAGE_TOKENS", PAGE as u32),
    ]
}

/// Bytes of the partial results of `rows` decode rows with contexts up to `room` tokens.
pub fn partial_bytes(kind: AdapterKind, heads: &Heads, rows: usize, room: usize) -> u64 {
    let splits = most_splits(kind, room);
    (rows * splits) as u64 * (heads.heads * (heads.head_dim + 2) * 4) as u64
}

/// The layout of workgroup memory, see `shaders/attention/group.wgsl`.
struct Group {
    lanes: usize,
    quads: usize,
    stride: usize,
    slices: usize,
    parts: usize,
}

impl Group {
    fn of(heads: &Heads, rows: usize, lanes: usize) -> Self {
        let quads = (rows * heads.group()).div_ceil(4);
        // A power of two, and four tokens of each slice in a tile.
        let slices = (lanes / dim_words(heads)).checked_ilog2().map_or(1, |log| 1 << log).min(lanes / 4);
        Self { lanes, quads, stride: quads | 1, slices, parts: lanes.min(8) }
    }

    fn bytes(&self, heads: &Heads) -> usize {
        let vectors = heads.head_dim * self.quads + self.lanes * self.stride + self.quads * self.parts;
        16 * vectors + (4 * self.lanes.div_ceil(PAGE)).next_multiple_of(16)
    }
}

/// Lanes of a workgroup of fragments.
const FLASH_LANES: usize = 128;
/// Parts of its output; on most adapters, one for each subgroup.
const FLASH_PARTS: usize = FLASH_LANES / 32;

/// A tile of fragments: see `shaders/attention/fragments.wgsl`.
#[derive(Clone, Copy)]
struct Flash {
    rows: usize,
    tokens: usize,
    side: usize,
    emulated: Option<u32>,
    /// Parts along the dims.
    across: usize,
}

impl Flash {
    /// The largest tile that divides the heads and fits workgroup memory.
    fn of(heads: &Heads, caps: &Caps) -> Option<Self> {
        let Fragments { side, emulated } = caps.fragments()?;
        let side = side as usize;
        let of = |(rows, tokens): (usize, usize)| {
            let across = FLASH_PARTS / FLASH_PARTS.min(rows / side);
            Self { rows, tokens, side, emulated, across }
        };
        let fits = |flash: &Self| {
            heads.group() <= flash.rows
                && heads.head_dim.is_multiple_of(side * flash.across)
                && flash.bytes(heads) <= caps.workgroup_memory as usize
        };
        [(64, 64), (64, 32), (32, 32), (32, 16)].map(of).into_iter().find(fits)
    }

    /// Halves for keys, later reused for weights.
    fn keys(&self, heads: &Heads) -> usize {
        (heads.head_dim * (self.tokens + 8)).max(self.tokens * (self.rows + 8))
    }

    /// Words for scores, later reused for matrices of the output.
    fn scores(&self) -> usize {
        (self.rows * self.tokens).max(FLASH_PARTS * self.side * self.side)
    }

    fn bytes(&self, heads: &Heads) -> usize {
        let halves = (self.rows + self.tokens) * (heads.head_dim + 8) + self.keys(heads);
        2 * halves + 4 * self.scores() + 8 * FLASH_LANES + 16
    }

    fn defines(&self, heads: &Heads) -> [(&'static str, u32); 12] {
        let numbers = |number: usize| number as u32;
        [
            ("EMULATED", self.emulated.unwrap_or(0)),
            ("FRAGMENT", numbers(self.side)),
            ("ROWS", numbers(self.rows)),
            ("TOKENS", numbers(self.tokens)),
            ("OUTPUT_PARTS", numbers(FLASH_PARTS)),
            ("ACROSS", numbers(self.across)),
            ("PART_ROWS", numbers(self.rows / self.side * self.across / FLASH_PARTS)),
            ("PART_DIMS", numbers(heads.head_dim / self.side / self.across)),
            ("SCORES_OF_A_LANE", numbers(self.rows * self.tokens / FLASH_LANES)),
            ("LOADS", numbers((self.tokens * dim_words(heads)).div_ceil(FLASH_LANES))),
            ("KEYS", numbers(self.keys(heads))),
            ("SCORES", numbers(self.scores())),
        ]
    }
}

#[derive(Debug, Clone)]
pub struct Attention {
    heads: Heads,
    scores: Scores,
    caps: Caps,
    /// The longest context that the buffer of partial results fits.
    room: usize,
    kernels: Vec<(Variant, Arc<Kernel>)>,
}

impl Attention {
    /// `context` is the longest context that the buffer of partial results fits.
    pub fn new(heads: Heads, scores: Scores, context: usize, caps: &Caps) -> Self {
        let kernel = |variant| (variant, Arc::new(kernel(&heads, scores, variant, context, caps)));
        let kernels = variants(&heads, caps, context).into_iter().map(kernel).collect();
        Self { heads, scores, caps: caps.clone(), room: context, kernels }
    }

    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.iter().map(|(_, kernel)| kernel)
    }

    fn choose(&self, span: &Span) -> Variant {
        choose(&self.heads, &self.caps, span.class, self.room, span.context)
    }

    /// Whether the span's contexts are split, so that [`Attention::record`] writes partial results that must be merged.
    /// A single split needs no merge: it divides exactly as the merge would, bit for bit.
    pub fn splits(&self, span: &Span) -> bool {
        self.choose(span).split.is_some()
    }

    /// `q: [batch rows, heads, head_dim]`; `kv`: the layer's pages; `out`: as `q`, or, if the span
    /// [splits](Attention::splits), partial results `[tiles, heads, splits, 2 + head_dim]`.
    pub fn record(&self, recording: &mut Recording, span: &Span, q: Slice, kv: Slice, out: Slice) {
        let chosen = self.choose(span);
        let mut splits = chosen.split.map_or(1, |split| self.scores.splits(span.context, split));
        let (mut read, mut seen) = (span.tiles * self.scores.seen(span.context), self.scores.seen_by(span));
        let cascade = span.cascade;
        // Whether any window begins before the end of what is shared.
        if cascade.tiles > 0 && self.scores.window.is_none_or(|window| cascade.first + 1 < cascade.end + window) {
            // At most what a window of the longest context leaves of the shared splits.
            let left = cascade.end.saturating_sub(span.context - self.scores.seen(span.context));
            let own = cascade.read.min(cascade.tiles * left);
            let spared = cascade.spared.min(cascade.rows * left);
            (read, seen) = (read - spared, seen - spared as u64);
            let tiles = [cascade.tiles, cascade.splits.min(splits)];
            let variant = Variant { rows: cascade.tile_rows, ..chosen };
            self.dispatch(recording, variant, tiles, [cascade.rows, own, spared], [span.step, q, kv, out]);
            splits = splits.min(cascade.alone);
        }
        let counts = [span.rows, read, seen as usize];
        self.dispatch(recording, chosen, [span.tiles, splits], counts, [span.step, q, kv, out]);
    }

    /// `tiles`: their number, and the splits of each; `counts`: query rows, tokens that are read, and products of a row
    /// and a token.
    fn dispatch(
        &self,
        recording: &mut Recording,
        variant: Variant,
        tiles: [usize; 2],
        counts: [usize; 3],
        slices: [Slice; 4],
    ) {
        let (_, kernel) = self.kernels.iter().find(|(own, _)| *own == variant).expect("all variants are compiled");
        let again = (kernel.bindings == FOURS).then_some(slices[2]);
        let bindings = slices.into_iter().chain(again).collect();
        let width = (self.heads.heads * self.heads.head_dim) as u64;
        let [rows, read, seen] = counts.map(|count| count as u64);
        let cost = Cost {
            read: rows * 4 * width + read * self.heads.token_bytes(),
            written: rows * 4 * width,
            // A multiply-add each for the score and for the value, a dim.
            flops: 4 * width * seen,
        };
        let groups = [self.heads.kv_heads, tiles[0], tiles[1]].map(|count| count as u32);
        recording.dispatch(kernel, bindings, groups, cost);
    }
}

/// Words that hold a head's dims.
fn dim_words(heads: &Heads) -> usize {
    heads.head_dim / heads.kv.width()
}

/// Whether lanes load values four words at a time: each has words to load, and none needs a factor.
fn loads_fours(heads: &Heads, lanes: usize) -> bool {
    heads.kv == KvFormat::F16 && dim_words(heads).is_multiple_of(4 * lanes)
}

fn kernel(heads: &Heads, scores: Scores, variant: Variant, room: usize, caps: &Caps) -> Kernel {
    let Variant { shape, lanes, rows, split } = variant;
    let Group { quads, stride, slices, parts, .. } = Group::of(heads, rows, lanes);
    let fours = shape == Shape::Rows && loads_fours(heads, lanes);
    let all_rows = rows * heads.group();
    let mut defines = vec![
        ("SHAPE", shape as u32),
        ("LANES", lanes as u32),
        ("T", rows as u32),
        ("GROUP", heads.group() as u32),
        ("SCALE", scores.scale.to_bits()),
        ("TOKEN_STEPS", (PAGE / lanes.min(PAGE)) as u32),
        ("OUT_STEPS", dim_words(heads).div_ceil(lanes) as u32),
        ("QUERY_ROWS", all_rows as u32),
        ("EIGHTS", (lanes / 2) as u32),
        ("QUERY_LOADS", all_rows.div_ceil(lanes / 2) as u32),
        ("FOURS", u32::from(fours)),
        ("QUADS", quads as u32),
        ("STRIDE", stride as u32),
        ("SLICES", slices as u32),
        ("SLICED", u32::from(slices > 1)),
        ("PARTS", parts as u32),
    ];
    defines.extend(heads.page_defines());
    if let Some(window) = scores.window {
        defines.push(("WINDOW", window as u32));
    }
    if let Some(cap) = scores.cap {
        defines.extend([("CAPPED", 1), ("CAP", cap.to_bits())]);
    }
    if split.is_some() {
        defines.extend(split_defines(caps.kind, room));
        defines.push(("CASCADE", u32::from(rows > 1)));
    }
    if let Some(flash) = Flash::of(heads, caps).filter(|_| shape == Shape::Fragments) {
        defines.extend(flash.defines(heads));
    }
    Kernel { name: "attention", defines, bindings: if fours { FOURS } else { BINDINGS } }
}
