//! Blocks of every weight format, including formats without a quantiser.

use half::f16;
use headstart::quant::Format;

/// Offsets of the f16 numbers in a block, with values that make elements of about −1 to 1.
pub fn halves(format: Format) -> &'static [(usize, f32)] {
    match format {
        Format::Q8_0 | Format::Q4_0 => &[(0, 1.0 / 8.0)],
        Format::Q4_1 => &[(0, 1.0 / 8.0), (2, -1.0)],
        Format::Q5_0 => &[(0, 1.0 / 16.0)],
        Format::Q5_1 => &[(0, 1.0 / 16.0), (2, -1.0)],
        Format::Q4K => &[(0, 1.0 / 512.0), (2, 1.0 / 64.0)],
        Format::Q5K => &[(0, 1.0 / 1024.0), (2, 1.0 / 64.0)],
        Format::Q6K => &[(208, 1.0 / 4096.0)],
        Format::Q3K => &[(108, 1.0 / 128.0)],
        Format::Q2K => &[(80, 1.0 / 32.0), (82, 1.0 / 16.0)],
        Format::Iq4Nl => &[(0, 1.0 / 128.0)],
        Format::Iq4Xs => &[(0, 1.0 / 4096.0)],
        Format::Mxfp4 | Format::F32 | Format::F16 | Format::Bf16 => &[],
    }
}

/// The bytes of `elements` times `size`. For a read-only format, the bytes of other elements of about that size, derived from
/// the bits of `elements`.
pub fn of(format: Format, elements: &[f32], size: f32) -> Vec<u8> {
    if format.quantizes() {
        return format.quantize(&elements.iter().map(|x| x * size).collect::<Vec<_>>());
    }
    let bits = elements.iter().flat_map(|x| x.to_bits().wrapping_mul(0x9e37_79b1).to_le_bytes());
    let mut raw: Vec<u8> = bits.take(format.file_bytes(elements.len())).collect();
    for block in raw.chunks_exact_mut(format.file_bytes(format.block())) {
        for &(at, number) in halves(format) {
            block[at..at + 2].copy_from_slice(&f16::from_f32(number * size).to_le_bytes());
        }
        if format == Format::Mxfp4 {
            block[0] = (124.0 + size.log2()) as u8;
        }
    }
    raw
}
