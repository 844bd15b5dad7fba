//! `q4_0`: blocks of 32 nibbles under one f16 scale: `x = d · (q − 8)`. 18 bytes a block in the file and on the GPU.
//!
//! Layout and rounding: ggml, `block_q4_0` and `quantize_row_q4_0_ref` (ggml/src/ggml-quants.c).

use half::f16;

use super::{
    Codec,
    shared::{f16_at, nibble_of, pack_halves, push_nibbles, repack_nibbles, scale_of, u16_at},
};

pub(crate) struct Q4_0;

impl Codec for Q4_0 {
    const NAME: &'static str = "q4_0";
    const GGUF: u32 = 2;
    const SAFETENSORS: Option<&'static str> = None;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 18;
    const UNIT_WORDS: usize = 1;
    const SCALE_HALVES: usize = 1;

    fn dequantize(raw: &[u8], out: &mut [f32]) {
        for (block, out) in raw.chunks_exact(18).zip(out.chunks_exact_mut(32)) {
            let d = f16_at(block, 0);
            for (j, &byte) in block[2..].iter().enumerate() {
                out[j] = (f32::from(byte & 15) - 8.0) * d;
                out[j + 16] = (f32::from(byte >> 4) - 8.0) * d;
            }
        }
    }

    /// `d = e / −8`, where e is the element of the largest magnitude (the first of equals) with its sign, so that e
    /// itself becomes nibble 0; `q = min(15, trunc(x / d + 8.5))`, with `1 / d` in f32 before d is rounded to f16.
    fn quantize(elements: &[f32], out: &mut Vec<u8>) {
        for block in elements.chunks_exact(32) {
            let extreme = block.iter().fold(0f32, |e, &x| if e.abs() < x.abs() { x } else { e });
            let d = extreme / -8.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            out.extend(f16::from_f32(d).to_le_bytes());
            push_nibbles(out, |i| ((block[i] * inverse + 8.5) as u8).min(15));
        }
    }

    fn pack(raw: &[u8], values: &mut [u32], scales: &mut [u32]) {
        for (block, units) in raw.chunks_exact(18).zip(values.chunks_exact_mut(4)) {
            repack_nibbles(&block[2..], units);
        }
        pack_halves(raw.chunks_exact(18).map(|block| u16_at(block, 0)), scales);
    }

    fn unpack(values: &[u32], scales: &[u32], out: &mut [f32]) {
        for (i, x) in out.iter_mut().enumerate() {
            *x = (nibble_of(values, i) as f32 - 8.0) * scale_of(scales, i / 32);
        }
    }
}
