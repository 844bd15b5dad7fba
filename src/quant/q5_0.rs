//! `q5_0`: blocks of 32 numbers of 5 bits under an f16 scale: `x = d · (q − 16)`. 22 bytes a block in the file and on
//! the GPU. Read-only.
//!
//! Layout: ggml, `block_q5_0` (ggml/src/ggml-common.h).

use super::{
    affine::Affine,
    shared::{f16_at, five_bits, pack_halves, scale_of, u16_at},
};

pub(crate) struct Q5_0;

impl Affine for Q5_0 {
    const NAME: &'static str = "q5_0";
    const GGUF: u32 = 6;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 22;
    const PLANES: &'static [usize] = &[4, 1];
    const SCALE_BYTES: usize = 2;

    fn quants(block: &[u8], out: &mut [u8]) {
        five_bits(&block[2..], out);
    }

    fn scale(block: &[u8], _group: usize) -> (f32, f32) {
        centred(f16_at(block, 0))
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        pack_halves(row.chunks_exact(22).map(|block| u16_at(block, 0)), words);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        centred(scale_of(words, group))
    }
}

/// `d · (q − 16)` is `d · q − 16 · d`: both are exact in f32 (11 + 5 bits).
fn centred(d: f32) -> (f32, f32) {
    (d, -16.0 * d)
}
