//! The weighted sum of a row's experts.

use super::{Bounded, ULP};

/// `old + scale · sum of weight · x` for one element; `terms`: (weight, x).
pub fn combine(old: f32, terms: &[(f32, f32)], scale: f32) -> Bounded {
    let (scale, old) = (f64::from(scale), f64::from(old));
    let products = terms.iter().map(|&(weight, x)| f64::from(weight) * f64::from(x));
    let size: f64 = products.clone().map(f64::abs).sum::<f64>() * scale.abs();
    let value = old + scale * products.sum::<f64>();
    Bounded { value, error: ULP * ((terms.len() + 2) as f64 * size + value.abs()) }
}
