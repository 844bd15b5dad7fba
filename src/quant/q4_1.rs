//! `q4_1`: blocks of 32 nibbles under an f16 scale and minimum: `x = d · q + m`. 20 bytes a block in the file and on
//! the GPU.
//!
//! Layout and rounding: ggml, `block_q4_1` and `quantize_row_q4_1_ref` (ggml/src/ggml-quants.c). `d · q` is exact in
//! f32 (11 + 4 bits), so fused and separate multiply-add agree.

use half::f16;

use super::{
    Codec,
    shared::{f16_at, nibble_of, push_nibbles, repack_nibbles, scale_of, u32_at},
};

pub(crate) struct Q4_1;

impl Codec for Q4_1 {
    const NAME: &'static str = "q4_1";
    const GGUF: u32 = 3;
    const SAFETENSORS: Option<&'static str> = None;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 20;
    const UNIT_WORDS: usize = 1;
    const SCALE_HALVES: usize = 2;

    fn dequantize(raw: &[u8], out: &mut [f32]) {
        for (block, out) in raw.chunks_exact(20).zip(out.chunks_exact_mut(32)) {
            let (d, m) = (f16_at(block, 0), f16_at(block, 2));
            for (j, &byte) in block[4..].iter().enumerate() {
                out[j] = f32::from(byte & 15) * d + m;
                out[j + 16] = f32::from(byte >> 4) * d + m;
            }
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

    fn pack(raw: &[u8], values: &mut [u32], scales: &mut [u32]) {
        for ((block, units), scale) in raw.chunks_exact(20).zip(values.chunks_exact_mut(4)).zip(scales) {
            repack_nibbles(&block[4..], units);
            *scale = u32_at(block, 0);
        }
    }

    fn unpack(values: &[u32], scales: &[u32], out: &mut [f32]) {
        for (i, x) in out.iter_mut().enumerate() {
            let block = i / 32;
            *x = nibble_of(values, i) as f32 * scale_of(scales, 2 * block) + scale_of(scales, 2 * block + 1);
        }
    }
}
