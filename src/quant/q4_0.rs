//! `q4_0`: blocks of 32 nibbles under one f16 scale: `x = d · (q − 8)`. 18 bytes a block in the file and on the GPU.
//!
//! Layout and rounding: ggml, `block_q4_0` and `quantize_row_q4_0_ref` (ggml/src/ggml-quants.c).

use half::f16;

use super::{
    Quantize,
    affine::Affine,
    shared::{f16_at, nibbles, pack_halves, push_nibbles, scale_of, u16_at},
};

pub(crate) struct Q4_0;

impl Affine for Q4_0 {
    const NAME: &'static str = "q4_0";
    const GGUF: u32 = 2;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 18;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 2;
    const QUANTIZE: Option<Quantize> = Some(quantize);

    fn quants(block: &[u8], out: &mut [u8]) {
        nibbles(&block[2..], out);
    }

    fn scale(block: &[u8], _group: usize) -> (f32, f32) {
        centred(f16_at(block, 0))
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        pack_halves(row.chunks_exact(18).map(|block| u16_at(block, 0)), words);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        centred(scale_of(words, group))
    }
}

/// `d · (q − 8)` is `d · q − 8 · d`: both are exact in f32 (11 + 4 bits).
fn centred(d: f32) -> (f32, f32) {
    (d, -8.0 * d)
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
