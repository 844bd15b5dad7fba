//! The only plan of kernels: which permutation runs for a matrix, a class and a number of rows on an adapter. It is a
//! pure function.
//!
//! A plan is a [`Ladder`] of permutations by the number of rows. All rungs are compiled, and one of them runs. Within a
//! class, a row's bits are the same on every rung.

use super::{
    Class,
    linear::{Shape, Variant},
};
use crate::{
    gpu::{AdapterKind, Caps, PromptProducts},
    quant::{Format, Layout, UNIT},
};

/// Permutations, each used from some number of rows on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder<V> {
    /// Ordered by the least number of rows; the first starts at one.
    rungs: Vec<(usize, V)>,
}

impl<V> Ladder<V> {
    /// `first`, followed by others, each from its number of rows on, in ascending order.
    pub fn new(first: V, others: impl IntoIterator<Item = (usize, V)>) -> Self {
        let rungs: Vec<_> = std::iter::once((1, first)).chain(others).collect();
        debug_assert!(rungs.windows(2).all(|pair| pair[0].0 < pair[1].0));
        Self { rungs }
    }

    /// The permutation for `rows` rows, at least one.
    pub fn at(&self, rows: usize) -> &V {
        &self.rungs[self.rungs.partition_point(|(least, _)| *least <= rows).saturating_sub(1)].1
    }

    /// Each rung with its least number of rows.
    pub fn rungs(&self) -> impl Iterator<Item = (usize, &V)> {
        self.rungs.iter().map(|(least, variant)| (*least, variant))
    }

    pub(super) fn map<W>(&self, mut to: impl FnMut(&V) -> W) -> Ladder<W> {
        Ladder { rungs: self.rungs.iter().map(|(least, variant)| (*least, to(variant))).collect() }
    }
}

/// The properties of a matrix that decide the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Rows that one row of x is multiplied by: those of the matrix or of one expert.
    pub rows: usize,
    pub cols: usize,
    pub format: Format,
    /// Whether its words can be loaded four at a time: each row and plane has a multiple of four.
    pub fours: bool,
    /// Whether it holds a mixture's experts.
    pub routed: bool,
}

impl Product {
    /// Whether prompts may be multiplied in 8 bits: if its elements are integers with a scale.
    fn in_bytes(&self) -> bool {
        self.format.block() > 1
    }

    /// Whether prompts may be multiplied in f16. A matrix stored in f32, such as a router, needs its precision.
    fn in_halves(&self) -> bool {
        self.routed || self.format != Format::F32
    }
}

/// Most prompt rows of a step by default: enough to keep the adapter busy.
pub fn chunk(caps: &Caps) -> usize {
    match caps.kind {
        AdapterKind::Cpu => 128,
        AdapterKind::Gpu if caps.fragments().is_some() => 1024,
        AdapterKind::Gpu => 512,
    }
}

/// How a matrix of `format` with rows of `cols` elements is stored: for the shape that [`linear`] chooses for decoding.
pub fn layout(caps: &Caps, format: Format, cols: usize) -> Layout {
    match caps.kind {
        AdapterKind::Cpu if format.values_words(cols).is_multiple_of(4) => Layout::Bands,
        _ => Layout::Rows,
    }
}

/// Choices of an expert that a workgroup computes at once. Decoding tokens seldom share an expert.
pub fn expert_tile(caps: &Caps, class: Class) -> Ladder<usize> {
    match (caps.kind, class) {
        (_, Class::Decode) => Ladder::new(1, []),
        (_, Class::Prompt) if caps.prompts != PromptProducts::F32 => Ladder::new(32, []),
        (AdapterKind::Cpu, Class::Prompt) => Ladder::new(1, [(3, 4)]),
        (AdapterKind::Gpu, Class::Prompt) => Ladder::new(32, []),
    }
}

/// The permutations of [`Linear`](super::linear::Linear).
pub fn linear(caps: &Caps, class: Class, product: &Product) -> Ladder<Variant> {
    use PromptProducts::{F16, F32, Int8};
    match (caps.kind, class, caps.prompts) {
        (_, Class::Prompt, F16(_)) if product.in_halves() => fragments(caps, product),
        (_, Class::Prompt, Int8) if product.in_bytes() => bytes(product),
        (_, Class::Prompt, Int8) | (AdapterKind::Gpu, Class::Prompt, F16(_) | F32) => tiles(caps, product),
        (AdapterKind::Cpu, _, _) => rows(caps, class, product),
        (AdapterKind::Gpu, Class::Decode, _) => vectors(caps, product),
    }
}

/// Lanes are rows. From three tokens on, four share each read of the weights. Eight, which took four fifths of the time
/// on lavapipe, share it if enough workgroups are left for its threads.
fn rows(caps: &Caps, class: Class, product: &Product) -> Ladder<Variant> {
    let subgroup = caps.subgroup_size.filter(|&size| size >= 8);
    let of = |rows, tokens| {
        // A lane with more sums has no registers left for the values of four units.
        let wide = subgroup.is_some() && product.fours && rows <= product.format.wide_rows() && tokens <= 4;
        let (units, group) = (product.cols.div_ceil(UNIT), product.format.group());
        let step = match subgroup {
            _ if wide => 4,
            // With more of x at once, the shader takes seconds to compile.
            None => 1,
            // The elements that share a scale, if their number divides the row.
            Some(_) => [4, 2].into_iter().find(|step| units.is_multiple_of(*step) && step * UNIT <= group).unwrap_or(1),
        };
        let lanes = subgroup.unwrap_or(4) as usize;
        Variant { shape: Shape::Rows, lanes, rows, tokens, step, wide, subgroup: subgroup.is_some() }
    };
    let (alone, four, eight) = (of(2, 1), of(4, 4), of(4, 8));
    if product.routed && class == Class::Decode {
        return Ladder::new(alone, []);
    }
    // Two rows loaded four words at a time leave registers for the sums.
    let shared = if four.wide { of(2, 4) } else { four };
    let least = least(product, &eight, 64);
    let large = (subgroup.is_some() && !product.routed && least <= chunk(caps)).then_some((least, eight));
    Ladder::new(alone, [(3, shared)].into_iter().chain(large))
}

/// Tiles of 64 rows and 32 tokens, or of 128 tokens, which took 0.51 to 0.82 of the time on an H200.
fn tiles(caps: &Caps, product: &Product) -> Ladder<Variant> {
    let of =
        |tokens, step| Variant { shape: Shape::Tile, lanes: 128, rows: 64, tokens, step, wide: false, subgroup: false };
    let (small, large) = (of(32, 4), of(128, 2));
    let least = least(product, &large, 64);
    Ladder::new(small, (!product.routed && least <= chunk(caps)).then_some((least, large)))
}

/// The fewest tokens for which a product has `groups` workgroups, enough to keep an adapter busy.
fn least(product: &Product, variant: &Variant, groups: usize) -> usize {
    variant.tokens * groups.div_ceil(product.rows.div_ceil(variant.workgroup_rows())).max(1)
}

/// Tiles in 8 bits. With 64 tokens an H200 did 55 to 79 tera-operations a second, with the large tile of f32 17 to 39.
fn bytes(product: &Product) -> Ladder<Variant> {
    let of =
        |tokens| Variant { shape: Shape::Bytes, lanes: 128, rows: 64, tokens, step: 4, wide: false, subgroup: false };
    if product.routed { Ladder::new(of(32), []) } else { Ladder::new(of(16), [(17, of(64))]) }
}

/// Tiles of f16 matrices. Tiles of 128 rows and 128 tokens, if workgroup memory suffices, took a tenth of the time of
/// f32 tiles on an H200. Fewer tokens get smaller tiles. Taking 64 columns at a time, if they fit, took 0.74 of the
/// time of 32. The tiles differ in what lies beside a row, never in the order of its sums.
fn fragments(caps: &Caps, product: &Product) -> Ladder<Variant> {
    let subgroup = caps.fragments().is_some_and(|fragments| fragments.emulated.is_none());
    let of = |tokens, rows, parts, step| {
        let (shape, lanes) = (Shape::Fragments, parts * FRAGMENT_LANES);
        Variant { shape, lanes, rows, tokens, step, wide: false, subgroup }
    };
    let fits = |variant: &Variant| fragment_bytes(caps, variant) <= caps.workgroup_memory as usize;
    let first = |variants: &[Variant]| variants.iter().copied().find(fits);
    let of_64_rows = |tokens| first(&[of(tokens, 64, 4, 8)]).unwrap_or(of(tokens, 64, 4, 4));
    if product.routed {
        return Ladder::new(of_64_rows(32), []);
    }
    let large = first(&[of(128, 128, 8, 8), of(128, 128, 8, 4), of(128, 64, 4, 4)]);
    // On an H200, 96 workgroups of large tiles took 0.7 of the time of four times as many small ones; 64 took 1.35.
    let large = large.map(|large| (least(product, &large, 96), large)).filter(|(least, _)| *least <= chunk(caps));
    Ladder::new(of_64_rows(16), [(17, of_64_rows(64))].into_iter().chain(large))
}

/// Lanes of a workgroup for each part of a tile; on most adapters, one subgroup.
pub(super) const FRAGMENT_LANES: usize = 32;

/// Workgroup memory of a tile of fragments: see `shaders/linear/fragments.wgsl`.
fn fragment_bytes(caps: &Caps, variant: &Variant) -> usize {
    let side = caps.fragments().map_or(16, |fragments| fragments.side as usize);
    let tiles = (variant.rows + variant.tokens) * (variant.step + 1) * UNIT * 2;
    tiles + variant.lanes / FRAGMENT_LANES * side * side * 4 + 16
}

/// Lanes run along the columns. Several tokens share each read of the weights.
fn vectors(caps: &Caps, product: &Product) -> Ladder<Variant> {
    if product.fours && product.format.wide_rows() > 0 {
        return staged(caps, product);
    }
    let (lanes, subgroup) = (64, caps.cluster_size.is_some());
    let step = product.cols.div_ceil(UNIT).div_ceil(lanes).clamp(1, 2);
    let of = |tokens| Variant { shape: Shape::Vector, lanes, rows: 4, tokens, step, wide: false, subgroup };
    if product.routed { Ladder::new(of(1), []) } else { Ladder::new(of(1), [(2, of(4))]) }
}

/// Teams of 32 or 64 lanes share x, with more lanes along long columns and more rows if the matrix has many. An H200
/// decoded at 1.08 (1B) and 1.04 (8B) of the rate of [`Shape::Vector`] with two rows.
fn staged(caps: &Caps, product: &Product) -> Ladder<Variant> {
    let (lanes, subgroup) = (128, caps.cluster_size.is_some());
    let along = if product.cols >= 2 * product.rows { 64 } else { 32 };
    let each = if product.rows >= 8192 { 4 } else { 2 };
    let of = |tokens| {
        let (shape, rows) = (Shape::Staged { along }, lanes / along * each);
        Variant { shape, lanes, rows, tokens, step: 4, wide: true, subgroup }
    };
    if product.routed { Ladder::new(of(1), []) } else { Ladder::new(of(1), [(2, of(4))]) }
}

/// Quads of x, over all tokens, that [`Shape::Staged`] keeps in workgroup memory at once. With the sums of squares they
/// take less than 11 KiB.
pub(super) const STAGED_QUADS: usize = 512;

/// Quads of four units of x that neighbouring lanes share. The order of the squares depends on it.
pub(super) fn staged_granule(lanes: usize, along: usize) -> usize {
    (lanes / along).max(2)
}
