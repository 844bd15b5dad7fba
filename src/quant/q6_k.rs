//! `q6_k`: blocks of 256 numbers of 6 bits in groups of 16, whose scales are signed bytes under an f16 scale of the block:
//! `x = d · s · (q − 32)`. 210 bytes a block in the file and on the GPU. Read-only.
//!
//! Layout: ggml, `block_q6_K` (ggml/src/ggml-common.h). All products are exact in f32 (11 + 7 + 5 bits). On the GPU a row's
//! bytes, 4 words a block, stand before its f16, two blocks a word.

use super::{
    affine::Affine,
    shared::{f16_at, pack_halves, scale_of, u16_at, u32_at},
};

pub(crate) struct Q6K;

const BYTES: usize = 210;
/// The offsets of the groups' scales and of the block's.
const SCALES: usize = 192;
const D: usize = 208;

impl Affine for Q6K {
    const NAME: &'static str = "q6_k";
    const GGUF: u32 = 14;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[4, 2];
    const SCALE_BYTES: usize = 18;
    const GROUP: usize = 16;
    const HEADED: bool = true;
    const WIDE_ROWS: usize = 2;

    /// Each half of 128 has 64 bytes of nibbles, low ones of elements 0 to 63 and high ones of the rest, and 32 bytes of
    /// the upper bits of elements i, 32 + i, 64 + i and 96 + i.
    fn quants(block: &[u8], out: &mut [u8]) {
        let (low, high) = block[..SCALES].split_at(128);
        for (half, out) in out.chunks_exact_mut(128).enumerate() {
            let (low, high) = (&low[64 * half..], &high[32 * half..]);
            for (i, q) in out.iter_mut().enumerate() {
                *q = low[i % 64] >> (i / 64 * 4) & 15 | (high[i % 32] >> (i / 32 * 2) & 3) << 4;
            }
        }
    }

    fn scale(block: &[u8], group: usize) -> (f32, f32) {
        centred(f16_at(block, D), block[SCALES + group])
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        let blocks = row.chunks_exact(BYTES);
        let (bytes, halves) = words.split_at_mut(4 * blocks.len());
        for (block, words) in blocks.clone().zip(bytes.chunks_exact_mut(4)) {
            words.iter_mut().enumerate().for_each(|(i, word)| *word = u32_at(block, SCALES + 4 * i));
        }
        pack_halves(blocks.map(|block| u16_at(block, D)), halves);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        // 4 and a half words a block, rounded up.
        let blocks = words.len() * 2 / 9;
        let byte = words[group / 4] >> (8 * (group % 4));
        centred(scale_of(&words[4 * blocks..], group / 16), byte as u8)
    }
}

fn centred(d: f32, scale: u8) -> (f32, f32) {
    let d = d * f32::from(scale as i8);
    (d, -32.0 * d)
}
