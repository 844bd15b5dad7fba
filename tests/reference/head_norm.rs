//! RMSNorm of one head, or of several together, and a head in 8 bits.

use super::{Bounded, ULP};

/// `x`, `gains`: `[length]`.
pub fn norm(x: &[f32], gains: &[f32], epsilon: f32) -> Vec<Bounded> {
    let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (mean + f64::from(epsilon)).sqrt();
    let length = x.len() as f64;
    let one = |(&x, &gain): (&f32, &f32)| {
        let value = f64::from(x) * f64::from(gain) * factor;
        // Each of the n sums of squares rounds once, and the root halves that error; then the root, a quotient and two
        // products.
        Bounded { value, error: ULP * (length / 2.0 + 8.0) * value.abs() }
    };
    x.iter().zip(gains).map(one).collect()
}

/// The number of which these bits are the upper half.
pub fn factor(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// A head's values in 8 bits: for 32 of them the least factor of 16 bits of which 127 reach the largest magnitude, and for each
/// value the nearest multiple, the upper one of two. Four multiples are a word, then two factors.
pub fn quantize(values: &[f32]) -> Vec<u32> {
    let (mut bytes, mut factors) = (Vec::new(), Vec::new());
    let all: Vec<u32> = (0..0x4400).collect();
    for block in values.chunks(32) {
        let block: Vec<f32> = block.iter().map(|x| x.clamp(-127.0 * 510.0, 127.0 * 510.0)).collect();
        let most = block.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        let least = all.partition_point(|&bits| 127.0 * f64::from(factor(bits)) < f64::from(most)) as u32;
        let bits = if most < 1e-20 { 0 } else { least };
        let multiple = |x: f32| (f64::from(x) / f64::from(factor(bits)) + 0.5).floor() as i8;
        bytes.extend(block.iter().map(|&x| if bits == 0 { 0 } else { multiple(x) }));
        factors.push(bits);
    }
    let word = |four: &[i8]| u32::from_le_bytes([0, 1, 2, 3].map(|i| four[i] as u8));
    let pair = |two: &[u32]| two[0] | two.get(1).unwrap_or(&0) << 16;
    bytes.chunks(4).map(word).chain(factors.chunks(2).map(pair)).collect()
}

pub fn dequantize(head_dim: usize, words: &[u32]) -> Vec<f32> {
    let (bytes, factors) = words.split_at(head_dim / 4);
    let value = |dim: usize| {
        let multiple = bytes[dim / 4].to_le_bytes()[dim % 4] as i8;
        // A larger factor than can be is read as the largest.
        f32::from(multiple) * factor(((factors[dim / 64] >> (dim / 32 % 2 * 16)) & 0xffff).min(0x43ff))
    };
    (0..head_dim).map(value).collect()
}

/// What the cache keeps in 8 bits: the value rounded to a multiple of a factor that is at most 1/128 larger than need be.
pub fn kept(values: &[Bounded]) -> Vec<Bounded> {
    let kept = |block: &[Bounded]| {
        let most = block.iter().map(|x| x.value.abs() + x.error).fold(0.0, f64::max).min(127.0 * 510.0);
        let half = most / 127.0 * (1.0 + 1.0 / 128.0) / 2.0 + 1e-20;
        let one = |x: &Bounded| Bounded { value: x.value.clamp(-127.0 * 510.0, 127.0 * 510.0), error: x.error + half };
        block.iter().map(one).collect::<Vec<_>>()
    };
    values.chunks(32).flat_map(kept).collect()
}
