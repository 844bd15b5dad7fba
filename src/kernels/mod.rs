//! The Rust face of each WGSL kernel: its bindings, its grid and its cost. [`plan`] chooses the permutation. `x.rs`
//! here, `shaders/x.wgsl`, `tests/reference/x.rs` and the label `x` are one kernel.

pub mod attention;
pub mod attention_merge;
pub mod embed;
pub mod head_norm;
pub mod linear;
pub mod moe_combine;
pub mod moe_group;
pub mod moe_route;
pub mod norm;
pub mod plan;
pub mod post_norm;
pub mod short_conv;
pub mod topk;

use crate::{
    gpu::{Buffer, Slice, shader::Library},
    kv::BLOCK,
    quant::{BAND, Format, Layout, UNIT, grain},
};

macro_rules! library {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../shaders/", $path, ".wgsl")))),*] };
}

/// Every shader file, by path.
pub const SHADERS: Library = library![
    "attention",
    "attention/fragments",
    "attention/group",
    "attention/rows",
    "attention_merge",
    "embed",
    "head_norm",
    "head_norm/quantize",
    "linear",
    "linear/bytes",
    "linear/cluster",
    "linear/epilogue",
    "linear/fragments",
    "linear/routes",
    "linear/rows",
    "linear/staged",
    "linear/tile",
    "linear/vector",
    "moe_combine",
    "moe_group",
    "moe_route",
    "norm",
    "post_norm",
    "quant/affine",
    "quant/bf16",
    "quant/f16",
    "quant/f32",
    "quant/iq4_nl",
    "quant/iq4_xs",
    "quant/k_scales",
    "quant/levels",
    "quant/mxfp4",
    "quant/planes",
    "quant/q2_k",
    "quant/q3_k",
    "quant/q4_0",
    "quant/q4_1",
    "quant/q4_k",
    "quant/q5_0",
    "quant/q5_1",
    "quant/q5_k",
    "quant/q6_k",
    "quant/q8_0",
    "shared/dims",
    "shared/draw",
    "shared/halves",
    "shared/heads",
    "shared/matrix",
    "shared/page",
    "shared/rms",
    "shared/splits",
    "shared/step",
    "short_conv",
    "topk",
    "topk/greedy",
    "topk/select",
];

pub use crate::kv::{KvFormat, PAGE};

/// The purpose of a span of rows. Prompt rows and decode rows may run different kernels, which may round differently.
/// Within a class, a row's result does not depend on the rows beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Prompt,
    Decode,
}

/// Rows of a step that a kernel processes.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub class: Class,
    /// The step buffer, starting at this span's header.
    pub step: Slice,
    pub rows: usize,
    /// Tiles of query rows for attention.
    pub tiles: usize,
    /// Further tiles, of decode rows that share pages.
    pub cascade: attention::cascade::Cascade,
    /// Groups of rows of one sequence in one page, for kernels that keep a state there.
    pub runs: usize,
    /// The longest context of any row, in tokens.
    pub context: usize,
}

/// Sizes of the heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// How keys and values are stored.
    pub kv: KvFormat,
}

/// Which pairs of a head's dims RoPE rotates: the first `pairs`. Of the `all` angles that the step buffer has for each
/// row, they use those from index `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rotation {
    /// The number of rotated pairs.
    pub pairs: usize,
    /// The index of the first angle.
    pub first: usize,
    /// All angles of a row.
    pub all: usize,
}

impl Heads {
    /// The definitions that `shared/heads.wgsl` needs.
    fn defines(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.page_defines().into_iter().chain([("HEADS", self.heads as u32)])
    }

    /// The definitions that `shared/page.wgsl` needs.
    fn page_defines(&self) -> [(&'static str, u32); 6] {
        [
            ("KV_HEADS", self.kv_heads as u32),
            ("HEAD_DIM", self.head_dim as u32),
            ("KV_Q8", u32::from(self.kv == KvFormat::Q8)),
            ("WIDTH", self.kv.width() as u32),
            ("WORDS", self.kv.words(self.head_dim) as u32),
            ("BLOCK", BLOCK as u32),
        ]
    }

    /// Query heads that share a KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Words of K of one token, and as many of V.
    pub(crate) fn row_words(&self) -> usize {
        self.kv_heads * self.kv.words(self.head_dim)
    }

    /// Bytes of K and V of one token.
    pub(crate) fn token_bytes(&self) -> u64 {
        8 * self.row_words() as u64
    }
}

impl Rotation {
    /// The definitions that `shared/heads.wgsl` needs.
    fn defines(&self) -> [(&'static str, u32); 3] {
        [("ROTARY_PAIRS", self.pairs as u32), ("ROTARY_FIRST", self.first as u32), ("ROTARY_ALL", self.all as u32)]
    }
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Experts {
    /// The number of experts.
    pub count: usize,
    /// The number of experts that a token goes through.
    pub used: usize,
}

impl Experts {
    /// The definitions that the kernels of a mixture need.
    fn defines(self) -> [(&'static str, u32); 2] {
        [("EXPERTS", self.count as u32), ("USED", self.used as u32)]
    }
}

/// A weight matrix on the GPU. It is split by rows into parts of one format, each of which fits a binding.
#[derive(Debug, Clone)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub buffer: Buffer,
    pub format: Format,
    pub layout: Layout,
    /// The first row of the matrix in this part, and the number of rows.
    pub first: usize,
    pub rows: usize,
}

impl Matrix {
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.buffer.size).sum()
    }
}

impl Part {
    /// Bytes of a row of `cols` elements.
    fn row_bytes(&self, cols: usize) -> u64 {
        4 * (self.format.values_words(cols) + self.format.scales_words(cols)) as u64
    }

    /// The definitions that `shared/matrix.wgsl` needs.
    fn defines(&self, cols: usize) -> Vec<(&'static str, u32)> {
        let (value_words, scale_words) = (self.format.values_words(cols), self.format.scales_words(cols));
        let mut defines = vec![
            ("FORMAT", self.format.gguf()),
            ("UNITS", cols.div_ceil(UNIT) as u32),
            ("VALUE_WORDS", value_words as u32),
            ("SCALES_AT", (value_words as u64 * self.layout.padded(self.rows) as u64) as u32),
            ("SCALE_WORDS", scale_words as u32),
            ("FIRST", self.first as u32),
            ("ROWS_HERE", self.rows as u32),
        ];
        if self.layout == Layout::Bands {
            defines.extend([("BAND", BAND as u32), ("SCALE_GRAIN", grain(scale_words) as u32)]);
        }
        defines
    }
}
