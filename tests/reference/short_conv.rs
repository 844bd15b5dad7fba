//! A gated short convolution.

use super::{Bounded, ULP};

/// `c`: the gate. `newest`: the products of a token and those before it, newest first, with zeros before the first token.
/// `taps`: the weight of each.
pub fn mix(c: f32, newest: &[f32], taps: &[f32]) -> Bounded {
    let terms = newest.iter().zip(taps).map(|(&x, &tap)| f64::from(x) * f64::from(tap));
    let magnitude: f64 = terms.clone().map(f64::abs).sum();
    // Each product of B and X was rounded; then one rounding for every tap and one for the gate.
    let error = ULP * (taps.len() + 2) as f64 * magnitude * f64::from(c).abs();
    Bounded { value: f64::from(c) * terms.sum::<f64>(), error }
}
