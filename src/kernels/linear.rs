//! Every matrix of the network: y = f(W · norm(x) + bias), see `shaders/linear.wgsl`.
//!
//! One kernel has six shapes. `Rows`: lanes are rows; for CPU adapters and any class of rows. `Staged`: lanes run
//! along the columns, with x in workgroup memory and one reduction; for decoding on a GPU. `Vector`: the same without
//! workgroup memory, for formats and sizes that cannot be loaded four words at a time. `Tile`: register-blocked tiles
//! in workgroup memory; for prompts on a GPU. `Fragments`: f16 tiles that subgroups multiply as matrices; for prompts
//! on GPUs that support it. `Bytes`: 8-bit tiles; for prompts where they are requested. A norm before the last two is a
//! separate dispatch, since x is rounded after it.
//! Within a shape the order of every sum is fixed, whatever the number of rows, so a row's bits are the same alone and
//! in a batch. [`plan`] chooses the permutation.

use std::sync::Arc;

use super::{
    Class, Experts, Heads, Matrix, Part, Rotation, Span, moe_group,
    norm::{Norm, Rounding},
    plan::{self, FRAGMENT_LANES, Ladder, Product, STAGED_QUADS, staged_granule},
};
use crate::{
    gpu::{Access, Caps, Cost, Fragments, Kernel, PromptProducts, Recording, Slice},
    quant::UNIT,
};

/// What happens to the sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Epilogue {
    /// `y: [span rows, rows]`, by position in the span.
    Store,
    /// `y: [batch rows, rows]`, to which the sums are added.
    Residual,
    /// `y: [span rows, rows]`, by position in the span, with `cap`: `cap · tanh(y / cap)`.
    Logits { cap: Option<f32> },
    /// `y: [batch rows, rows / 2]`; rows alternate between gate and up.
    Gated(Activation),
    /// `y: [batch rows, rows]`, the gate's function of the sums; ups are another matrix with [`Epilogue::Times`].
    Gate(Activation),
    /// `y: [batch rows, rows]`, which the sums multiply.
    Times,
    /// `y`: queries `[batch rows, heads · head_dim]`; keys and values are stored in their pages.
    Qkv(Heads, Rotation),
}

/// The activation of a gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x · sigmoid(x)` (arXiv 1702.03118).
    Silu,
    /// The approximation of `x · Φ(x)` by tanh (arXiv 1606.08415).
    GeluTanh,
}

impl Activation {
    /// The definition that `linear/epilogue.wgsl` needs.
    fn define(self) -> (&'static str, u32) {
        let number = match self {
            Activation::Silu => 1,
            Activation::GeluTanh => 2,
        };
        ("ACTIVATION", number)
    }
}

/// The stacked matrices of a mixture's experts. A row of x goes through a few of them, and each such choice has its own
/// row in y.
#[derive(Debug, Clone, Copy)]
pub struct Routed {
    pub experts: Experts,
    /// Whether a row of x belongs to a token and is read by all its chosen experts; otherwise each choice has its own
    /// row of x.
    pub from_tokens: bool,
}

/// A matrix with the operations that are fused before and after it.
#[derive(Debug, Clone)]
pub struct Linear {
    matrix: Matrix,
    routed: Option<Routed>,
    consts: Slice,
    is_normed: bool,
    /// The dispatch that precedes products with rounded x.
    rounding: Option<Norm>,
    /// By part, then by class.
    kernels: Vec<Vec<(Class, Ladder<Permutation>)>>,
}

type Permutation = (Variant, Arc<Kernel>);

/// The operations before and after the product, and their constants.
#[derive(Debug, Clone, Copy)]
pub struct Fusion {
    pub epilogue: Epilogue,
    /// RMSNorm of x with this epsilon.
    pub norm: Option<f32>,
    pub bias: bool,
    /// The factor of sums and biases.
    pub scale: f32,
    /// f32: gains `[cols]` when there is a norm, then biases `[rows]` when there are any.
    pub consts: Slice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Rows,
    Vector,
    /// The number of lanes along the columns: part or all of a workgroup.
    Staged {
        along: usize,
    },
    Tile,
    Fragments,
    Bytes,
}

/// The input of a product: f32 `[batch rows, cols]`, or `[span rows, used, cols]` if rows are choices.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    pub x: Slice,
    /// A buffer for x in the form of [`Rounding`], if prompts are multiplied in f16 or 8 bits.
    pub rounded: Slice,
}

/// One point of the design space, see [`plan::linear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    pub shape: Shape,
    /// Invocations of a workgroup.
    pub lanes: usize,
    /// Matrix rows: of a lane (`Rows`), of a workgroup (other shapes).
    pub rows: usize,
    /// Batch rows of a workgroup.
    pub tokens: usize,
    /// Units of a lane in one pass of the loop along the columns; of a workgroup in `Tile`, `Fragments` and `Bytes`.
    pub step: usize,
    /// Whether lanes load four words at a time, and four units in one pass.
    pub wide: bool,
    pub subgroup: bool,
}

impl Variant {
    /// Matrix rows of a workgroup.
    pub(super) fn workgroup_rows(&self) -> usize {
        match self.shape {
            Shape::Rows => self.rows * self.lanes,
            _ => self.rows,
        }
    }
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite];
const BINDINGS_KV: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite];
const BINDINGS_ROUTED: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::Read];

impl Linear {
    pub fn new(matrix: Matrix, fusion: &Fusion, classes: &[Class], caps: &Caps) -> Self {
        Self::with(matrix, None, fusion, classes, caps)
    }

    /// The epilogue is any but [`Epilogue::Qkv`], whose rows are choices, without bias; no part of the matrix ends within an expert.
    pub fn routed(matrix: Matrix, routed: Routed, fusion: &Fusion, classes: &[Class], caps: &Caps) -> Self {
        Self::with(matrix, Some(routed), fusion, classes, caps)
    }

    fn with(matrix: Matrix, routed: Option<Routed>, fusion: &Fusion, classes: &[Class], caps: &Caps) -> Self {
        let of_part = |part: &Part| {
            // Classes may share permutations.
            let mut made: Vec<Permutation> = Vec::new();
            let mut permutation = |variant: &Variant| match made.iter().find(|(known, _)| known == variant) {
                Some(known) => known.clone(),
                None => {
                    let new = (*variant, Arc::new(kernel(&matrix, part, routed, fusion, *variant, caps)));
                    made.push(new.clone());
                    new
                }
            };
            let product = product(&matrix, part, routed);
            let mut ladder = |class| plan::linear(caps, class, &product).map(&mut permutation);
            classes.iter().map(|&class| (class, ladder(class))).collect()
        };
        let kernels: Vec<Vec<_>> = matrix.parts.iter().map(of_part).collect();
        let ladders = kernels.iter().flatten().map(|(_, ladder): &(_, Ladder<Permutation>)| ladder);
        let reads = |variant: &Variant| reads_rounded(variant, fusion.norm.is_some(), routed);
        let any = ladders.flat_map(Ladder::rungs).any(|(_, (variant, _))| reads(variant));
        let rounding = any.then(|| {
            let form = match caps.prompts {
                PromptProducts::Int8 => Rounding::Bytes,
                _ => Rounding::Halves,
            };
            let norm = Norm::new(matrix.cols, fusion.consts, fusion.norm, form, caps);
            match routed {
                Some(Routed { experts, from_tokens: false }) => norm.of_choices(experts.used),
                _ => norm,
            }
        });
        Self { consts: fusion.consts, is_normed: fusion.norm.is_some(), rounding, kernels, routed, matrix }
    }

    /// Permutations that classes share are listed more than once.
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        let ladders = self.kernels.iter().flatten().map(|(_, ladder)| ladder);
        let own = ladders.flat_map(|ladder| ladder.rungs().map(|(_, (_, kernel))| kernel));
        own.chain(self.rounding.iter().map(Norm::kernel))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.matrix.bytes()
    }

    /// Rows of y that a workgroup computes of `span`.
    pub fn tokens(&self, span: &Span) -> usize {
        self.kernels.first().map_or(1, |ladders| chosen(ladders, span).0.tokens)
    }

    /// `y`: as the epilogue says. `beside`: the layer's pages for [`Epilogue::Qkv`]; for a matrix of experts, the
    /// output of [`MoeRoute`](super::moe_route::MoeRoute), or of [`MoeGroup`](super::moe_group::MoeGroup) if several
    /// choices are computed at once.
    pub fn record(
        &self,
        recording: &mut Recording,
        span: &Span,
        Input { x, rounded }: Input,
        y: Slice,
        beside: Option<Slice>,
    ) {
        let reads = |variant: &Variant| reads_rounded(variant, self.is_normed, self.routed);
        if self.kernels.iter().any(|ladders| reads(&chosen(ladders, span).0)) {
            self.rounding.iter().for_each(|before| before.record(recording, span, x, rounded));
        }
        for (part, ladders) in self.matrix.parts.iter().zip(&self.kernels) {
            let (variant, kernel) = chosen(ladders, span);
            let x = if reads(variant) { rounded } else { x };
            let mut bindings = vec![span.step, x, part.buffer.whole(), self.consts, y];
            bindings.extend(beside);
            let expert_count = self.routed.map_or(1, |routed| routed.experts.count);
            // Rows of y, how many workgroups share a row of the matrix, and the rows of it that each of those reads.
            let (taken, columns, own_rows) = match self.routed {
                None => (span.rows, span.rows.div_ceil(variant.tokens), part.rows),
                Some(Routed { experts, .. }) => {
                    let tiles = moe_group::tiles(experts, span.rows, variant.tokens);
                    (span.rows * experts.used, tiles, rows_met(&self.matrix, self.routed))
                }
            };
            let own_bytes = own_rows as u64 * part.row_bytes(self.matrix.cols);
            let cost = Cost {
                read: own_bytes * columns as u64 + taken as u64 * (self.matrix.cols * 4) as u64,
                written: taken as u64 * (own_rows * 4) as u64,
                // A choice uses one expert, which may be in another part.
                flops: 2 * (taken * self.matrix.cols) as u64 * part.rows as u64 / expert_count as u64,
            };
            let (across, down) = (own_rows.div_ceil(variant.workgroup_rows()) as u32, columns as u32);
            // Neighbouring tiles of fragments share rows of the matrix, since the matrix is too large for caches.
            let groups = if variant.shape == Shape::Fragments { [down, across, 1] } else { [across, down, 1] };
            recording.dispatch(kernel, bindings, groups, cost);
        }
    }
}

/// Whether an earlier dispatch rounds x: for f16 if a norm is a dispatch anyway, or if large tiles read x often.
fn reads_rounded(variant: &Variant, is_normed: bool, routed: Option<Routed>) -> bool {
    match variant.shape {
        Shape::Fragments => is_normed || (routed.is_none() && variant.tokens > 16),
        Shape::Bytes => true,
        _ => false,
    }
}

fn chosen<'a>(ladders: &'a [(Class, Ladder<Permutation>)], span: &Span) -> &'a Permutation {
    let own = ladders.iter().find(|(class, _)| *class == span.class);
    own.expect("the class is one that it was made for").1.at(span.rows)
}

/// Rows that one row of x is multiplied by: those of the matrix or of one expert.
fn rows_met(matrix: &Matrix, routed: Option<Routed>) -> usize {
    matrix.rows / routed.map_or(1, |routed| routed.experts.count)
}

fn product(matrix: &Matrix, part: &Part, routed: Option<Routed>) -> Product {
    let (cols, format) = (matrix.cols, part.format);
    let fours = cols.is_multiple_of(4 * UNIT)
        && format.values_words(cols).is_multiple_of(4)
        && part.buffer.size.is_multiple_of(16);
    Product { rows: rows_met(matrix, routed), cols, format, fours, routed: routed.is_some() }
}

fn kernel(
    matrix: &Matrix,
    part: &Part,
    routed: Option<Routed>,
    fusion: &Fusion,
    variant: Variant,
    caps: &Caps,
) -> Kernel {
    let units = matrix.cols.div_ceil(UNIT);
    let Variant { step, wide, .. } = variant;
    let mut defines = part.defines(matrix.cols);
    if let Some(Routed { experts, from_tokens }) = routed {
        defines.extend([("ROUTED", 1), ("FROM_TOKENS", u32::from(from_tokens))]);
        defines.extend(experts.defines());
    }
    defines.extend([
        ("COLS", (units * UNIT) as u32),
        ("ROWS", rows_met(matrix, routed) as u32),
        ("NORM", u32::from(fusion.norm.is_some())),
        ("X_ROUNDED", u32::from(reads_rounded(&variant, fusion.norm.is_some(), routed))),
        ("EPSILON", fusion.norm.unwrap_or(0.0).to_bits()),
        ("BIAS", u32::from(fusion.bias)),
        ("LANES", variant.lanes as u32),
        ("R", variant.rows as u32),
        ("T", variant.tokens as u32),
        ("STEP", step as u32),
        ("TOKEN_LANES", u32::from(variant.shape == Shape::Rows && variant.subgroup && variant.tokens == 8)),
        ("UNROLLED", if wide { step as u32 } else { 1 }),
        ("SIDE", (variant.rows * variant.tokens / variant.lanes).isqrt() as u32),
        ("SHARE", step.min(part.format.group() / UNIT) as u32),
        ("WIDE", u32::from(wide)),
        ("HEADED", u32::from(wide && part.format.headed())),
        ("SUBGROUP", u32::from(variant.subgroup)),
    ]);
    let constants = [(fusion.norm.is_some(), units * UNIT), (fusion.bias, matrix.rows)];
    let constants: usize = constants.into_iter().filter(|(present, _)| *present).map(|(_, length)| length).sum();
    defines.push(("CONST_FOURS", u32::from(constants.is_multiple_of(4))));
    let plain = if routed.is_some() { BINDINGS_ROUTED } else { BINDINGS };
    let (epilogue, bindings) = match fusion.epilogue {
        Epilogue::Store => (0, plain),
        Epilogue::Residual => (1, plain),
        Epilogue::Logits { cap } => {
            if let Some(cap) = cap {
                defines.extend([("CAPPED", 1), ("CAP", cap.to_bits())]);
            }
            (0, plain)
        }
        Epilogue::Gated(activation) => {
            defines.push(activation.define());
            (2, plain)
        }
        Epilogue::Gate(activation) => {
            defines.push(activation.define());
            (4, plain)
        }
        Epilogue::Times => (5, plain),
        Epilogue::Qkv(heads, rotation) => {
            defines.extend(heads.defines());
            defines.extend(rotation.defines());
            (3, BINDINGS_KV)
        }
    };
    if fusion.scale != 1.0 {
        defines.extend([("SCALED", 1), ("SCALE", fusion.scale.to_bits())]);
    }
    defines.push(("EPILOGUE", epilogue));
    defines.push(match variant.shape {
        Shape::Rows => ("SHAPE", 0),
        Shape::Vector => ("SHAPE", 1),
        Shape::Tile => ("SHAPE", 2),
        Shape::Fragments => ("SHAPE", 3),
        Shape::Staged { .. } => ("SHAPE", 4),
        Shape::Bytes => ("SHAPE", 5),
    });
    if variant.shape == Shape::Bytes {
        let each = if variant.tokens < 64 { 4 } else { 8 };
        defines.extend([
            ("GROUP", part.format.group() as u32),
            ("ROWS_EACH", each as u32),
            ("TOKENS_EACH", (variant.rows * variant.tokens / variant.lanes / each) as u32),
        ]);
    }
    if variant.shape == Shape::Fragments
        && let Some(Fragments { side, emulated }) = caps.fragments()
    {
        let parts = variant.lanes / FRAGMENT_LANES;
        let (along, side) = ((variant.tokens / 32).clamp(1, 4), side as usize);
        let across = parts / along;
        defines.extend([
            ("HALVES", 1),
            ("EMULATED", emulated.unwrap_or(0)),
            ("FRAGMENT", side as u32),
            ("PARTS", parts as u32),
            ("ACROSS", across as u32),
            ("TOKEN_FRAGMENTS", (variant.tokens / along / side) as u32),
            ("ROW_FRAGMENTS", (variant.rows / across / side) as u32),
        ]);
    }
    if let Shape::Staged { along } = variant.shape {
        let teams = variant.lanes / along;
        let granule = staged_granule(variant.lanes, along);
        // Quads that a lane takes of x of a token at once: of four units, or of as many fours as a row has.
        let quads = (STAGED_QUADS / (variant.tokens * along)).max(granule);
        let (taken, passes) = (quads.min(8), (quads / 8).clamp(1, units.div_ceil(4 * along)));
        defines.extend([
            ("ALONG", along as u32),
            ("TEAMS", teams as u32),
            ("EACH", (variant.rows / teams) as u32),
            ("GRANULE", granule as u32),
            ("TAKEN", taken as u32),
            ("PASSES", passes as u32),
            ("LAST", (8 / taken - 1) as u32),
        ]);
    }
    if let (Shape::Vector | Shape::Staged { .. }, true, Some(size)) =
        (variant.shape, variant.subgroup, caps.cluster_size)
    {
        defines.extend([("CLUSTER", size), ("CLUSTER_STEPS", size.ilog2())]);
    }
    Kernel { name: "linear", defines, bindings }
}
