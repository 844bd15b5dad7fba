//! RMSNorm of a row, scaled and added to the old values.

use super::{Bounded, head_norm, linear};

/// `old`, `x`, `gains`: `[cols]`.
pub fn add(old: &[f32], x: &[f32], gains: &[f32], epsilon: f32, scale: f32) -> Vec<Bounded> {
    linear::residual(old, &linear::scaled(&head_norm::norm(x, gains, epsilon), scale))
}
