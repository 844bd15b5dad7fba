//! What Q4_K and Q5_K share: their scales and their nibbles. A block of 256 has an f16 d and m, and for each of its 8 groups
//! of 32 a number of 6 bits to multiply each by.
//!
//! On the GPU they are 4 words a block: d low and m high; the low 4 bits of both numbers of a group in a byte, groups 0
//! to 3, then 4 to 7; the high 2 bits of both in a nibble a group. 12 bytes, as in the file, in 3 loads without a branch.

use half::f16;

use super::shared::{f16_at, u32_at};

const WORDS: usize = 4;

/// The two numbers of a group from the 12 bytes of a file's block (ggml, `get_scale_min_k4`).
fn six_bits(bytes: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (bytes[group] & 63, bytes[group + 4] & 63),
        _ => {
            let (low, scale, minimum) = (bytes[group + 4], bytes[group - 4], bytes[group]);
            (low & 15 | scale >> 6 << 4, low >> 4 | minimum >> 6 << 4)
        }
    }
}

/// The 12 bytes of a file's block from the two numbers of each of its 8 groups.
pub(crate) fn put_six_bits(numbers: &[(u8, u8)]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (group, &(scale, minimum)) in numbers.iter().enumerate() {
        match group {
            0..4 => (bytes[group], bytes[group + 4]) = (bytes[group] | scale, bytes[group + 4] | minimum),
            _ => {
                bytes[group + 4] = scale & 15 | minimum << 4;
                bytes[group - 4] |= scale >> 4 << 6;
                bytes[group] |= minimum >> 4 << 6;
            }
        }
    }
    bytes
}

/// d and m of a group, both products exact in f32 (11 + 6 bits).
pub(crate) fn scale(block: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = six_bits(&block[4..16], group);
    (f16_at(block, 0) * f32::from(scale), -f16_at(block, 2) * f32::from(minimum))
}

/// The words of a row of blocks of `bytes` bytes.
pub(crate) fn pack(row: &[u8], bytes: usize, words: &mut [u32]) {
    for (block, words) in row.chunks_exact(bytes).zip(words.chunks_exact_mut(WORDS)) {
        words.copy_from_slice(&[u32_at(block, 0), 0, 0, 0]);
        for group in 0..8 {
            let (scale, minimum) = six_bits(&block[4..16], group);
            words[1 + group / 4] |= u32::from(scale & 15 | minimum << 4) << (8 * (group % 4));
            words[3] |= u32::from(scale >> 4 | minimum >> 4 << 2) << (4 * group);
        }
    }
}

/// d and m of a group of a row.
pub(crate) fn packed(words: &[u32], group: usize) -> (f32, f32) {
    let (words, group) = (&words[group / 8 * WORDS..], group % 8);
    let half = |shift: u32| f16::from_bits((words[0] >> shift) as u16).to_f32();
    let (low, high) = (words[1 + group / 4] >> (8 * (group % 4)), words[3] >> (4 * group));
    let (scale, minimum) = (low & 15 | (high & 3) << 4, low >> 4 & 15 | (high >> 2 & 3) << 4);
    (half(0) * scale as f32, -half(16) * minimum as f32)
}

/// 128 bytes of 256 nibbles: each 32 bytes hold a group in their low nibbles and the next in their high ones.
pub(crate) fn nibbles(bytes: &[u8], out: &mut [u8]) {
    for (bytes, out) in bytes.chunks_exact(32).zip(out.chunks_exact_mut(64)) {
        for (i, byte) in bytes.iter().enumerate() {
            (out[i], out[i + 32]) = (byte & 15, byte >> 4);
        }
    }
}
