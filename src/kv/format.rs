//! The number formats of keys and values. Everything that depends on the size of a token's KV, from shaders to packs,
//! follows from [`KvFormat::words`].
//!
//! A head of a token is a row of words, for its key and for its value. In f16 a word has two neighbouring dims. In q8 a
//! word has four, as signed bytes, low byte first; behind them two words of each four have the factors of [`BLOCK`] dims, the
//! first in the low half. A factor is the upper half of an f32: the least of which 127 reach the largest magnitude of
//! its block. A dim is the nearest multiple of it, the upper one of two (`shaders/head_norm/quantize.wgsl`). Every word
//! decodes to finite numbers, whoever wrote it.
//!
//! Keys are stored as attention multiplies them, after their norm and RoPE.

use std::fmt;

use half::{bf16, f16};

/// Dims that share a factor.
pub(crate) const BLOCK: usize = 32;

/// The largest factor, so that every multiple is an f16.
const MOST_FACTOR: u16 = 0x43ff;

/// How keys and values are stored, wherever they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// 16 bits an element.
    #[default]
    F16,
    /// 8 bits an element, and a factor of 16 bits for 32 of them: 0.53 of the bytes.
    Q8,
}

impl KvFormat {
    /// All formats by name.
    pub const ALL: [(&'static str, Self); 2] = [("f16", Self::F16), ("q8", Self::Q8)];

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(own, _)| *own == name).map(|(_, format)| format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }

    /// Dims in a word.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::Q8 => 4,
        }
    }

    /// Words of a head's key, and of its value, for one token. `head_dim` is a multiple of 8.
    pub fn words(self, head_dim: usize) -> usize {
        let factors = if self == Self::Q8 { head_dim.div_ceil(2 * BLOCK) } else { 0 };
        head_dim / self.width() + factors
    }

    /// The numbers of rows of words as above, in order.
    pub(crate) fn floats(self, head_dim: usize, words: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => words.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect(),
            Self::Q8 => words.chunks_exact(4 * self.words(head_dim)).flat_map(|row| multiples(head_dim, row)).collect(),
        }
    }
}

/// The numbers of one row in q8.
fn multiples(head_dim: usize, row: &[u8]) -> impl Iterator<Item = f32> {
    let (quants, factors) = row.split_at(head_dim);
    let factor = |bits: &[u8; 2]| bf16::from_bits(u16::from_le_bytes(*bits).min(MOST_FACTOR)).to_f32();
    let blocks = quants.chunks(BLOCK).zip(factors.as_chunks().0);
    blocks.flat_map(move |(quants, bits)| quants.iter().map(move |&quant| f32::from(quant as i8) * factor(bits)))
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
