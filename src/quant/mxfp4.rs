//! `mxfp4`: blocks of 32 floats of 4 bits (1 sign, 2 exponent, 1 mantissa) under a power of two, after OCP's Microscaling
//! specification: 17 bytes a block in the file and on the GPU. Read-only.
//!
//! Layout: ggml, `block_mxfp4`, `kvalues_mxfp4` and `ggml_e8m0_to_fp32_half`: levels are doubled, and powers halved for it.

use super::{affine::Affine, shared::nibbles};

pub(crate) struct Mxfp4;

const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Affine for Mxfp4 {
    const NAME: &'static str = "mxfp4";
    const GGUF: u32 = 39;
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 17;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 1;
    const WIDE_ROWS: usize = 2;

    fn level(q: u8) -> f32 {
        f32::from(LEVELS[usize::from(q)])
    }

    fn quants(block: &[u8], out: &mut [u8]) {
        nibbles(&block[1..], out);
    }

    fn scale(block: &[u8], _group: usize) -> (f32, f32) {
        (half_power(block[0]), 0.0)
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        words.fill(0);
        for (i, block) in row.chunks_exact(17).enumerate() {
            words[i / 4] |= u32::from(block[0]) << (8 * (i % 4));
        }
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        (half_power((words[group / 4] >> (8 * (group % 4))) as u8), 0.0)
    }
}

/// `2^(e − 128)`: the two smallest are subnormal.
fn half_power(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => (u32::from(exponent) - 1) << 23,
    })
}
