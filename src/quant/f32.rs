//! `f32`: the bits as they are. Costs 4 bytes an element in the file and on the GPU.

use super::{Codec, Quantize, shared::u32_at};

pub(crate) struct F32;

impl Codec for F32 {
    const NAME: &'static str = "f32";
    const GGUF: u32 = 0;
    const SAFETENSORS: Option<&'static str> = Some("F32");
    const BLOCK: usize = 1;
    const BLOCK_BYTES: usize = 4;
    const PLANES: &'static [usize] = &[32];
    const SCALE_BYTES: usize = 0;
    const WIDE_ROWS: usize = 0;
    const QUANTIZE: Option<Quantize> = Some(quantize);

    fn dequantize(raw: &[u8], out: &mut [f32]) {
        for (bytes, x) in raw.chunks_exact(4).zip(out) {
            *x = f32::from_bits(u32_at(bytes, 0));
        }
    }

    fn pack(raw: &[u8], values: &mut [u32], _scales: &mut [u32]) {
        values.fill(0);
        for (bytes, word) in raw.chunks_exact(4).zip(values) {
            *word = u32_at(bytes, 0);
        }
    }

    fn unpack(values: &[u32], _scales: &[u32], out: &mut [f32]) {
        for (&word, x) in values.iter().zip(out) {
            *x = f32::from_bits(word);
        }
    }
}

fn quantize(elements: &[f32], out: &mut Vec<u8>) {
    out.extend(elements.iter().flat_map(|x| x.to_le_bytes()));
}
