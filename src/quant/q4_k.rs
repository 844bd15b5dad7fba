//! `q4_k`: blocks of 256 nibbles in groups of 32, whose scales and minima are 6 bits each under an f16 scale and minimum of
//! the block: `x = d · s · q − m · t`. 144 bytes a block in the file and on the GPU.
//!
//! Layout and rounding: ggml, `block_q4_K` (ggml/src/ggml-common.h), `quantize_row_q4_K_ref` and `make_qkx2_quants`
//! (ggml/src/ggml-quants.c).

use half::f16;

use super::{Quantize, affine::Affine, k_scales};

pub(crate) struct Q4K;

const BYTES: usize = 144;

impl Affine for Q4K {
    const NAME: &'static str = "q4_k";
    const GGUF: u32 = 12;
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = BYTES;
    const PLANES: &'static [usize] = &[4];
    const SCALE_BYTES: usize = 16;
    const HEADED: bool = true;
    const QUANTIZE: Option<Quantize> = Some(quantize);

    fn quants(block: &[u8], out: &mut [u8]) {
        k_scales::nibbles(&block[16..], out);
    }

    fn scale(block: &[u8], group: usize) -> (f32, f32) {
        k_scales::scale(block, group)
    }

    fn pack_scales(row: &[u8], words: &mut [u32]) {
        k_scales::pack(row, BYTES, words);
    }

    fn packed_scale(words: &[u32], group: usize) -> (f32, f32) {
        k_scales::packed(words, group)
    }
}

/// The largest nibble, and the largest number of a group.
const MOST: f32 = 15.0;
const MOST_OF_GROUP: f32 = 63.0;
/// Candidate step sizes around the plain one, tried for each group.
const TRIED: usize = 21;

fn quantize(elements: &[f32], out: &mut Vec<u8>) {
    for block in elements.chunks_exact(256) {
        let fits: Vec<Fit> = block.chunks_exact(32).map(Fit::of).collect();
        let scale = fits.iter().fold(0f32, |most, fit| if fit.scale > most { fit.scale } else { most });
        let minimum = fits.iter().fold(0f32, |most, fit| if fit.minimum > most { fit.minimum } else { most });
        let inverse = |most: f32| if most > 0.0 { MOST_OF_GROUP / most } else { 0.0 };
        let number = |inverse: f32, of: f32| (inverse * of).round_ties_even().min(MOST_OF_GROUP) as u8;
        let (by_scale, by_minimum) = (inverse(scale), inverse(minimum));
        let numbers = fits.iter().map(|fit| (number(by_scale, fit.scale), number(by_minimum, fit.minimum)));
        let begin = out.len();
        out.extend(f16::from_f32(scale / MOST_OF_GROUP).to_le_bytes());
        out.extend(f16::from_f32(minimum / MOST_OF_GROUP).to_le_bytes());
        out.extend(k_scales::put_six_bits(&numbers.collect::<Vec<_>>()));

        let mut nibbles = [0; 256];
        for (group, fit) in fits.iter().enumerate() {
            let (d, m) = k_scales::scale(&out[begin..], group);
            let own = &mut nibbles[32 * group..][..32];
            for ((nibble, x), fitted) in own.iter_mut().zip(&block[32 * group..]).zip(fit.nibbles) {
                *nibble = if d == 0.0 { fitted } else { nearest((x - m) / d) };
            }
        }
        for pair in nibbles.chunks_exact(64) {
            out.extend((0..32).map(|i| pair[i] | pair[i + 32] << 4));
        }
    }
}

fn nearest(x: f32) -> u8 {
    x.round_ties_even().clamp(0.0, MOST) as u8
}

/// The best `x ≈ scale · nibble − minimum` for 32 elements, by least squares in which large elements weigh more.
struct Fit {
    scale: f32,
    minimum: f32,
    nibbles: [u8; 32],
}

impl Fit {
    fn of(x: &[f32]) -> Self {
        let spread = (sum(x.iter().map(|x| x * x)) / 32.0).sqrt();
        let weights: Vec<f32> = x.iter().map(|x| spread + x.abs()).collect();
        let least = x.iter().fold(x[0], |least, &x| if x < least { x } else { least });
        let most = x.iter().fold(x[0], |most, &x| if x > most { x } else { most });
        let least = if least > 0.0 { 0.0 } else { least };
        if most == least {
            return Self { scale: 0.0, minimum: -least, nibbles: [0; 32] };
        }
        let put = |steps: f32, least: f32| -> [u8; 32] {
            std::array::from_fn(|i| nearest(steps / (most - least) * (x[i] - least)))
        };
        let error = |scale: f32, offset: f32, nibbles: &[u8; 32]| {
            let one = |((x, w), &q): ((&f32, &f32), &u8)| {
                let apart = scale * f32::from(q) + offset - x;
                w * (apart * apart)
            };
            sum(x.iter().zip(&weights).zip(nibbles).map(one))
        };
        let weighted = |of: &dyn Fn(usize) -> f32| sum((0..32).map(of));
        let (sum_w, sum_x) = (weighted(&|i| weights[i]), weighted(&|i| weights[i] * x[i]));

        let mut best = Self { scale: 1.0 / (MOST / (most - least)), minimum: -least, nibbles: put(MOST, least) };
        let mut smallest = error(best.scale, least, &best.nibbles);
        for step in 0..TRIED {
            // From the best offset so far, as ggml does.
            let nibbles = put(-1.0 + 0.1 * step as f32 + MOST, -best.minimum);
            let q = |i: usize| f32::from(nibbles[i]);
            let sum_q = weighted(&|i| weights[i] * q(i));
            let sum_qq = weighted(&|i| weights[i] * q(i) * q(i));
            let sum_xq = weighted(&|i| weights[i] * q(i) * x[i]);
            let determinant = sum_w * sum_qq - sum_q * sum_q;
            if determinant <= 0.0 {
                continue;
            }
            let mut scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
            let mut offset = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
            if offset > 0.0 {
                (offset, scale) = (0.0, sum_xq / sum_qq);
            }
            let found = error(scale, offset, &nibbles);
            if found < smallest {
                smallest = found;
                best = Self { scale, minimum: -offset, nibbles };
            }
        }
        best
    }
}

/// Sums the terms one after another, starting from 0.
fn sum(terms: impl Iterator<Item = f32>) -> f32 {
    terms.fold(0.0, |sum, term| sum + term)
}
