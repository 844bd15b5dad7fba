//! `q4_1`: blocks of 32 nibbles under an f16 scale and minimum: `x = d · q + m`. 20 bytes a block in the file and on
//! the GPU.
//!
//! Layout and rounding: ggml, `block_q4_1` and `quantize_row_q4_1_ref` (ggml/src/ggml-quants.c). `d · q` is exact in
//! f32 (11 + 4 bits), so fused and separate multiply-add agree.

use half::f16;

use super::{
    Quantize,
    affine::Affine,
    shared::{f16_at, nibbles, push_nibbles, scale_of, u32_at},
};

pub(crate) struct Q4_1;

impl Affine for Q4_1 {
    const NAME: &'static str = "q4_1";
    const GGUF: u32 = 3;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 20;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 4;
    const QUANTIZE: Option<Quantize> = Some(quantize);

    fn quants(block: &[u8], out: &mut [u8]) {
        nibbles(&block[4..], out);
    }

    fn scale(block: &[u8], _group: usize) -> (f32, f32) {
        (f16_at(block, 0), f16_at(block, 2))
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        row.chunks_exact(20).zip(words).for_each(|(block, word)| *word = u32_at(block, 0));
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        (scale_of(words, 2 * group), scale_of(words, 2 * group + 1))
    }
}

/// `m = min x`, `d = (max x − m) / 15`, `q = min(15, trunc((x − m) / d + 0.5))`, with `1 / d` in f32 before d and m
/// are rounded to f16.
fn quantize(elements: &[f32], out: &mut Vec<u8>) {
    for block in elements.chunks_exact(32) {
        let min = block.iter().fold(f32::MAX, |min, &x| if x < min { x } else { min });
        let max = block.iter().fold(f32::MIN, |max, &x| if x > max { x } else { max });
        let d = (max - min) / 15.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out.extend(f16::from_f32(d).to_le_bytes());
        out.extend(f16::from_f32(min).to_le_bytes());
        push_nibbles(out, |i| (((block[i] - min) * inverse + 0.5) as u8).min(15));
    }
}
