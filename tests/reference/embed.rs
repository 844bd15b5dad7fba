//! Rows of a matrix by token id.

use super::{Bounded, ULP};

/// `weights: [vocab, cols]`. A shader may round `q · d + m` once or twice; `largest` bounds `|q · d| + |m|`.
pub fn embed(weights: &[f32], cols: usize, token: u32, largest: f64) -> Vec<Bounded> {
    let row = &weights[token as usize * cols..][..cols];
    row.iter().map(|&value| Bounded { value: f64::from(value), error: 2.0 * ULP * largest }).collect()
}
