//! `bf16`: the upper half of an f32. Costs 2 bytes an element in the file and on the GPU; rounds to nearest, ties to even.

use half::bf16;

use super::{
    Codec, Quantize,
    shared::{half_of, pack_halves, u16_at},
};

pub(crate) struct Bf16;

impl Codec for Bf16 {
    const NAME: &'static str = "bf16";
    const GGUF: u32 = 30;
    const SAFETENSORS: Option<&'static str> = Some("BF16");
    const BLOCK: usize = 1;
    const BLOCK_BYTES: usize = 2;
    const PLANES: &'static [usize] = &[16];
    const SCALE_BYTES: usize = 0;
    const WIDE_ROWS: usize = 0;
    const QUANTIZE: Option<Quantize> = Some(quantize);

    fn dequantize(raw: &[u8], out: &mut [f32]) {
        for (bytes, x) in raw.chunks_exact(2).zip(out) {
            *x = bf16::from_bits(u16_at(bytes, 0)).to_f32();
        }
    }

    fn pack(raw: &[u8], values: &mut [u32], _scales: &mut [u32]) {
        pack_halves(raw.chunks_exact(2).map(|bytes| u16_at(bytes, 0)), values);
    }

    fn unpack(values: &[u32], _scales: &[u32], out: &mut [f32]) {
        for (i, x) in out.iter_mut().enumerate() {
            *x = bf16::from_bits(half_of(values, i)).to_f32();
        }
    }
}

fn quantize(elements: &[f32], out: &mut Vec<u8>) {
    out.extend(elements.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()));
}
