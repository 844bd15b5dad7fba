//! `q2_k`: blocks of 256 numbers of 2 bits in groups of 16, whose scales and minima are 4 bits each under an f16 scale and
//! minimum of the block: `x = d · s · q − m · t`. 84 bytes a block in the file and on the GPU. Read-only.
//!
//! Layout: ggml, `block_q2_K` (ggml/src/ggml-common.h). On the GPU 5 words a block: a byte a group, s low and t high, then d
//! low and m high.

use super::{
    affine::Affine,
    shared::{f16_at, scale_of, two_bits, u32_at},
};

pub(crate) struct Q2K;

const BYTES: usize = 84;
const WORDS: usize = 5;
/// The offset of d and m.
const D: usize = 80;

impl Affine for Q2K {
    const NAME: &'static str = "q2_k";
    const GGUF: u32 = 10;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[2];
    const SCALE_BYTES: usize = 4 * WORDS;
    const GROUP: usize = 16;
    const WIDE_ROWS: usize = 2;

    fn quants(block: &[u8], out: &mut [u8]) {
        two_bits(&block[16..D], out);
    }

    fn scale(block: &[u8], group: usize) -> (f32, f32) {
        both(f16_at(block, D), f16_at(block, D + 2), block[group])
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        for (block, words) in row.chunks_exact(BYTES).zip(words.chunks_exact_mut(WORDS)) {
            words.iter_mut().zip([0, 4, 8, 12, D]).for_each(|(word, at)| *word = u32_at(block, at));
        }
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        let (words, group) = (&words[group / 16 * WORDS..], group % 16);
        both(scale_of(&words[4..], 0), scale_of(&words[4..], 1), (words[group / 4] >> (8 * (group % 4))) as u8)
    }
}

fn both(d: f32, m: f32, group: u8) -> (f32, f32) {
    (d * f32::from(group & 15), -m * f32::from(group >> 4))
}
