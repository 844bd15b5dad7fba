//! The softmax-weighted mean of splits, each given by its largest score, the sum of its weights and its unnormalised output.

use super::{Bounded, ULP};

/// `splits: [(max, sum, values)]`.
pub fn merge(splits: &[(f32, f32, Vec<f32>)]) -> Vec<Bounded> {
    let top = splits.iter().map(|split| f64::from(split.0)).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = splits.iter().map(|split| (f64::from(split.0) - top).exp()).collect();
    let total: f64 = weights.iter().zip(splits).map(|(w, split)| w * f64::from(split.1)).sum();
    // Only differences of scores matter: exp is off by 3 + 2 |difference| units in the last place.
    let spread = splits.iter().map(|split| top - f64::from(split.0)).fold(0.0, f64::max);
    let dim = |d: usize| {
        let terms = weights.iter().zip(splits).map(|(w, split)| w * f64::from(split.2[d]) / total);
        let (value, size) = terms.fold((0.0, 0.0), |(value, size), term| (value + term, size + f64::abs(term)));
        Bounded { value, error: ULP * 4.0 * (4.0 + spread + splits.len() as f64) * size }
    };
    (0..splits[0].2.len()).map(dim).collect()
}
