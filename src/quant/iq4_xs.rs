//! `iq4_xs`: blocks of 256 numbers of 4 bits with the levels of [`iq4_nl`](super::iq4_nl), in groups of 32 whose scales are 6
//! bits each under an f16 scale of the block: `x = d · (s − 32) · level(q)`. 136 bytes a block in the file and on
//! the GPU. Read-only.
//!
//! Layout: ggml, `block_iq4_xs` (ggml/src/ggml-common.h). All products are exact in f32 (11 + 5 + 7 bits). On the GPU 2 words
//! a block, as in the file: d low and the high 2 bits of 8 scales, then their low 4 bits.

use half::f16;

use super::{
    affine::Affine,
    iq4_nl::Iq4Nl,
    shared::{nibbles, u32_at},
};

pub(crate) struct Iq4Xs;

const BYTES: usize = 136;

impl Affine for Iq4Xs {
    const NAME: &'static str = "iq4_xs";
    const GGUF: u32 = 23;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 8;
    const WIDE_ROWS: usize = 2;

    fn level(q: u8) -> f32 {
        Iq4Nl::level(q)
    }

    fn quants(block: &[u8], out: &mut [u8]) {
        block[8..].chunks_exact(16).zip(out.chunks_exact_mut(32)).for_each(|(bytes, out)| nibbles(bytes, out));
    }

    fn scale(block: &[u8], group: usize) -> (f32, f32) {
        Self::packed_scale(&[u32_at(block, 0), u32_at(block, 4)], group)
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        for (block, words) in row.chunks_exact(BYTES).zip(words.chunks_exact_mut(2)) {
            words.copy_from_slice(&[u32_at(block, 0), u32_at(block, 4)]);
        }
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        let (words, group) = (&words[group / 8 * 2..], group % 8);
        let scale = words[1] >> (4 * group) & 15 | (words[0] >> (16 + 2 * group) & 3) << 4;
        (f16::from_bits(words[0] as u16).to_f32() * (scale as f32 - 32.0), 0.0)
    }
}
