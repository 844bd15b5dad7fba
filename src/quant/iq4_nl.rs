//! `iq4_nl`: blocks of 32 4-bit indices of uneven levels, under an f16 scale: `x = d · level(q)`. 18 bytes a
//! block in the file and on the GPU. Read-only.
//!
//! Layout and levels: ggml, `block_iq4_nl` and `kvalues_iq4nl` (ggml/src/ggml-common.h).

use super::{
    affine::Affine,
    shared::{f16_at, nibbles, pack_halves, scale_of, u16_at},
};

pub(crate) struct Iq4Nl;

/// The levels by index.
pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

impl Affine for Iq4Nl {
    const NAME: &'static str = "iq4_nl";
    const GGUF: u32 = 20;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 18;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 2;
    const WIDE_ROWS: usize = 2;

    fn level(q: u8) -> f32 {
        f32::from(LEVELS[usize::from(q)])
    }

    fn quants(block: &[u8], out: &mut [u8]) {
        nibbles(&block[2..], out);
    }

    fn scale(block: &[u8], _group: usize) -> (f32, f32) {
        (f16_at(block, 0), 0.0)
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        pack_halves(row.chunks_exact(18).map(|block| u16_at(block, 0)), words);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        (scale_of(words, group), 0.0)
    }
}
