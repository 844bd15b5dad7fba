//! `q8_0`: blocks of 32 signed bytes under one f16 scale: `x = d · q`. 34 bytes a block in the file and on the GPU.
//!
//! Layout and rounding: ggml, `block_q8_0` and `quantize_row_q8_0_ref` (ggml/src/ggml-quants.c).

use half::f16;

use super::{
    Codec, Quantize,
    shared::{f16_at, pack_halves, scale_of, u16_at, u32_at},
};

pub(crate) struct Q8_0;

impl Codec for Q8_0 {
    const NAME: &'static str = "q8_0";
    const GGUF: u32 = 8;
    const SAFETENSORS: Option<&'static str> = None;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 34;
    const PLANES: &'static [usize] = &[8];
    const SCALE_BYTES: usize = 2;
    const WIDE_ROWS: usize = 2;
    const QUANTIZE: Option<Quantize> = Some(quantize);

    fn dequantize(raw: &[u8], out: &mut [f32]) {
        for (block, out) in raw.chunks_exact(34).zip(out.chunks_exact_mut(32)) {
            let d = f16_at(block, 0);
            for (&q, x) in block[2..].iter().zip(out) {
                *x = f32::from(q as i8) * d;
            }
        }
    }

    fn pack(raw: &[u8], values: &mut [u32], scales: &mut [u32]) {
        for (block, words) in raw.chunks_exact(34).zip(values.chunks_exact_mut(8)) {
            for (bytes, word) in block[2..].chunks_exact(4).zip(words) {
                *word = u32_at(bytes, 0);
            }
        }
        pack_halves(raw.chunks_exact(34).map(|block| u16_at(block, 0)), scales);
    }

    fn unpack(values: &[u32], scales: &[u32], out: &mut [f32]) {
        for (i, x) in out.iter_mut().enumerate() {
            let q = (values[i / 4] >> (8 * (i % 4))) as i8;
            *x = f32::from(q) * scale_of(scales, i / 32);
        }
    }
}

/// `d = max|x| / 127`, `q = round(x / d)` with halves away from zero; `x / d` is a product with `1 / d` in f32,
/// taken before d is rounded to f16.
fn quantize(elements: &[f32], out: &mut Vec<u8>) {
    for block in elements.chunks_exact(32) {
        let d = block.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out.extend(f16::from_f32(d).to_le_bytes());
        out.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
    }
}
