//! Formats whose element is `d · level(q) + m`. q is an integer of a few bits, d and m belong to its group of elements,
//! and the level is q itself unless the format has a table.
//!
//! On the GPU the bits of q lie in planes, the low bits first. A plane of 4, 2 or 1 bits packs 1, 2 or 4 units of 8
//! elements into a u32. Each unit owns certain bits of every byte: element i (0..4) has the lower of them in byte i,
//! element 4 + i the upper. So a shader extracts four elements with one shift and one mask.

use super::{Codec, Quantize, UNIT, shared::u32_at};

/// The codec of such a format. The constants are those of [`Codec`]; blocks are bytes of a file.
pub(crate) trait Affine {
    const NAME: &'static str;
    const GGUF: u32;
    const BLOCK: usize;
    const BLOCK_BYTES: usize;
    /// Bits of the planes, the lowest first.
    const PLANES: &'static [usize];
    const SCALE_BYTES: usize;
    const QUANTIZE: Option<Quantize> = None;
    /// Elements that share d and m.
    const GROUP: usize = 32;
    const HEADED: bool = false;
    const WIDE_ROWS: usize = 4;

    /// The value that q stands for.
    fn level(q: u8) -> f32 {
        f32::from(q)
    }

    /// The q of every element of a block.
    fn quants(block: &[u8], out: &mut [u8]);
    /// d and m of a group of a block.
    fn scale(block: &[u8], group: usize) -> (f32, f32);
    /// The scales plane of a row.
    fn pack_scales(row: &[u8], words: &mut [u32]);
    /// d and m of a group of a row, from its scales plane: the twin of the shader's `load_scale`.
    fn packed_scale(words: &[u32], group: usize) -> (f32, f32);
}

/// The largest block.
const MAX_BLOCK: usize = 256;

impl<A: Affine> Codec for A {
    const NAME: &'static str = A::NAME;
    const GGUF: u32 = A::GGUF;
    const SAFETENSORS: Option<&'static str> = None;
    const BLOCK: usize = A::BLOCK;
    const BLOCK_BYTES: usize = A::BLOCK_BYTES;
    const PLANES: &'static [usize] = A::PLANES;
    const SCALE_BYTES: usize = A::SCALE_BYTES;
    const GROUP: usize = A::GROUP;
    const HEADED: bool = A::HEADED;
    const WIDE_ROWS: usize = A::WIDE_ROWS;
    const QUANTIZE: Option<Quantize> = A::QUANTIZE;

    fn dequantize(raw: &[u8], out: &mut [f32]) {
        let mut quants = [0; MAX_BLOCK];
        let quants = &mut quants[..A::BLOCK];
        for (block, out) in raw.chunks_exact(A::BLOCK_BYTES).zip(out.chunks_exact_mut(A::BLOCK)) {
            A::quants(block, quants);
            for (group, (quants, out)) in quants.chunks(A::GROUP).zip(out.chunks_mut(A::GROUP)).enumerate() {
                let (d, m) = A::scale(block, group);
                quants.iter().zip(out).for_each(|(&q, x)| *x = A::level(q) * d + m);
            }
        }
    }

    fn pack(raw: &[u8], values: &mut [u32], scales: &mut [u32]) {
        values.fill(0);
        let mut quants = [0; MAX_BLOCK];
        let quants = &mut quants[..A::BLOCK];
        let units = raw.len() / A::BLOCK_BYTES * (A::BLOCK / UNIT);
        for (index, block) in raw.chunks_exact(A::BLOCK_BYTES).enumerate() {
            A::quants(block, quants);
            for (unit, quants) in quants.chunks_exact(UNIT).enumerate() {
                put(index * (A::BLOCK / UNIT) + unit, quants, units, A::PLANES, values);
            }
        }
        A::pack_scales(raw, scales);
    }

    fn unpack(values: &[u32], scales: &[u32], out: &mut [f32]) {
        let units = out.len().div_ceil(UNIT);
        for (i, x) in out.iter_mut().enumerate() {
            let (d, m) = A::packed_scale(scales, i / A::GROUP);
            *x = A::level(quant_of(i, units, A::PLANES, values)) * d + m;
        }
    }
}

/// Writes the q of one unit of a row of `units` into planes that are zero there.
fn put(unit: usize, quants: &[u8], units: usize, planes: &[usize], values: &mut [u32]) {
    let (low, high) = (u32_at(quants, 0), u32_at(quants, 4));
    let (mut plane_at, mut taken) = (0, 0);
    for &bits in planes {
        let mask = 0x0101_0101 * ((1 << bits) - 1);
        let pair = ((low >> taken) & mask) | (((high >> taken) & mask) << bits);
        values[plane_at + unit * bits / 4] |= pair << (2 * bits * (unit % (4 / bits)));
        plane_at += units * bits / 4;
        taken += bits;
    }
}

/// The q of element `i` of a row of `units`.
fn quant_of(i: usize, units: usize, planes: &[usize], values: &[u32]) -> u8 {
    let (unit, lane) = (i / UNIT, i % UNIT);
    let (mut plane_at, mut taken, mut q) = (0, 0, 0);
    for &bits in planes {
        let bit = 8 * (lane % 4) + bits * (2 * (unit % (4 / bits)) + lane / 4);
        q |= (values[plane_at + unit * bits / 4] >> bit & ((1 << bits) - 1)) << taken;
        plane_at += units * bits / 4;
        taken += bits;
    }
    q as u8
}
