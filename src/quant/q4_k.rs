//! `q4_k`: blocks of 256 nibbles in groups of 32, whose scales and minima are 6 bits each under an f16 scale and minimum of
//! the block: `x = d · s · q − m · t`. 144 bytes a block in the file and on the GPU. Only read.
//!
//! Layout: ggml, `block_q4_K` (ggml/src/ggml-common.h).

use super::{affine::Affine, k_scales};

pub(crate) struct Q4K;

const BYTES: usize = 144;

impl Affine for Q4K {
    const NAME: &'static str = "q4_k";
    const GGUF: u32 = 12;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 16;

    fn quants(block: &[u8], out: &mut [u8]) {
        k_scales::nibbles(&block[16..], out);
    }

    fn scale(block: &[u8], group: usize) -> (f32, f32) {
        k_scales::scale(block, group)
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        k_scales::pack(row, BYTES, words);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        k_scales::packed(words, group)
    }
}
