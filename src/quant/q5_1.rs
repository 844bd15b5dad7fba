//! `q5_1`: blocks of 32 numbers of 5 bits under an f16 scale and minimum: `x = d · q + m`. 24 bytes a block in the file and on
//! the GPU. Read-only.
//!
//! Layout: ggml, `block_q5_1` (ggml/src/ggml-common.h).

use super::{
    affine::Affine,
    shared::{f16_at, five_bits, scale_of, u32_at},
};

pub(crate) struct Q5_1;

impl Affine for Q5_1 {
    const NAME: &'static str = "q5_1";
    const GGUF: u32 = 7;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 24;
    const PLANES: &'static [usize] = &[4, 1];
    const SCALE_BYTES: usize = 4;

    fn quants(block: &[u8], out: &mut [u8]) {
        five_bits(&block[4..], out);
    }

    fn scale(block: &[u8], _group: usize) -> (f32, f32) {
        (f16_at(block, 0), f16_at(block, 2))
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        row.chunks_exact(24).zip(words).for_each(|(block, word)| *word = u32_at(block, 0));
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        (scale_of(words, 2 * group), scale_of(words, 2 * group + 1))
    }
}
