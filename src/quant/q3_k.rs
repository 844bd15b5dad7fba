//! `q3_k`: blocks of 256 numbers of 3 bits in groups of 16, whose scales are 6 bits each under an f16 scale of the block:
//! `x = d · (s − 32) · (q − 4)`. 110 bytes a block in the file and on the GPU. Read-only.
//!
//! Layout: ggml, `block_q3_K` (ggml/src/ggml-common.h). All products are exact in f32 (11 + 5 + 3 bits). On the GPU a row's
//! groups, 3 words a block, stand before its f16, two blocks a word: the low 4 bits of groups 0 to 7, then 8 to 15, then the
//! high 2 bits of all.

use super::{
    affine::Affine,
    shared::{f16_at, pack_halves, scale_of, two_bits, u16_at},
};

pub(crate) struct Q3K;

const BYTES: usize = 110;
/// The offsets of the groups' scales and of the block's.
const SCALES: usize = 96;
const D: usize = 108;

impl Affine for Q3K {
    const NAME: &'static str = "q3_k";
    const GGUF: u32 = 11;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[2, 1];
    const SCALE_BYTES: usize = 14;
    const GROUP: usize = 16;
    const WIDE_ROWS: usize = 2;

    /// 32 bytes of third bits, bit k of byte i that of element 32 k + i; then 64 of the lower two.
    fn quants(block: &[u8], out: &mut [u8]) {
        let (high, low) = block[..SCALES].split_at(32);
        two_bits(low, out);
        out.iter_mut().enumerate().for_each(|(i, q)| *q |= (high[i % 32] >> (i / 32) & 1) << 2);
    }

    fn scale(block: &[u8], group: usize) -> (f32, f32) {
        centred(f16_at(block, D), six_bits(block, group))
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        words.fill(0);
        let blocks = row.chunks_exact(BYTES);
        let (groups, halves) = words.split_at_mut(3 * blocks.len());
        for (block, words) in blocks.clone().zip(groups.chunks_exact_mut(3)) {
            for group in 0..16 {
                let scale = u32::from(six_bits(block, group));
                words[group / 8] |= (scale & 15) << (4 * (group % 8));
                words[2] |= scale >> 4 << (2 * group);
            }
        }
        pack_halves(blocks.map(|block| u16_at(block, D)), halves);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        // 3 and a half words a block, rounded up.
        let blocks = words.len() * 2 / 7;
        let (block, group) = (group / 16, group % 16);
        let own = &words[3 * block..];
        let scale = own[group / 8] >> (4 * (group % 8)) & 15 | (own[2] >> (2 * group) & 3) << 4;
        centred(scale_of(&words[3 * blocks..], block), scale as u8)
    }
}

/// The scale of a group: its low 4 bits in the nibbles of 8 bytes, its high 2 in 4 bytes more.
fn six_bits(block: &[u8], group: usize) -> u8 {
    let (low, high) = (block[SCALES + group % 8], block[SCALES + 8 + group % 4]);
    low >> (group / 8 * 4) & 15 | (high >> (group / 4 * 2) & 3) << 4
}

fn centred(d: f32, scale: u8) -> (f32, f32) {
    let d = d * (f32::from(scale) - 32.0);
    (d, -4.0 * d)
}
