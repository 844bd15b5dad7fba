//! `q5_k`: as [`q4_k`](super::q4_k) with a fifth bit: 176 bytes a block in the file and on the GPU. Read-only.
//!
//! Layout: ggml, `block_q5_K` (ggml/src/ggml-common.h).

use super::{affine::Affine, k_scales};

pub(crate) struct Q5K;

const BYTES: usize = 176;

impl Affine for Q5K {
    const NAME: &'static str = "q5_k";
    const GGUF: u32 = 13;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[4, 1];
    const SCALE_BYTES: usize = 16;
    const HEADED: bool = true;

    fn quants(block: &[u8], out: &mut [u8]) {
        let (high, low) = block[16..].split_at(32);
        k_scales::nibbles(low, out);
        // Bit g of byte i is of element i of group g.
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            out.iter_mut().zip(high).for_each(|(q, high)| *q |= (high >> group & 1) << 4);
        }
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
