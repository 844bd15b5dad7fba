//! RMSNorm of a row as f16.

use half::f16;

use super::{Bounded, head_norm};

/// `x`, `gains`: `[cols]`.
pub fn halves(x: &[f32], gains: &[f32], epsilon: f32) -> Vec<Bounded> {
    let half = |y: Bounded| {
        let unit = (y.value.abs() / 2048.0).max(f64::from(f16::MIN_POSITIVE_SUBNORMAL.to_f32()));
        Bounded { value: y.value, error: y.error + unit }
    };
    head_norm::norm(x, gains, epsilon).into_iter().map(half).collect()
}
