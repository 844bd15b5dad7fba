//! RMSNorm of one head, or of several together.

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
