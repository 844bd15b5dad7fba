//! A row as f16, with or without RMSNorm.

use half::f16;

use super::{Bounded, head_norm};

/// `x`: `[cols]`; `norm`: gains `[cols]` and epsilon. Values out of range become the largest finite f16.
pub fn halves(x: &[f32], norm: Option<(&[f32], f32)>) -> Vec<Bounded> {
    let half = |mut y: Bounded| {
        y.value = y.value.clamp(-65504.0, 65504.0);
        let unit = (y.value.abs() / 2048.0).max(f64::from(f16::MIN_POSITIVE_SUBNORMAL.to_f32()));
        Bounded { value: y.value, error: y.error + unit }
    };
    let exact = || x.iter().map(|&x| Bounded { value: f64::from(x), error: 0.0 }).collect();
    norm.map_or_else(exact, |(gains, epsilon)| head_norm::norm(x, gains, epsilon)).into_iter().map(half).collect()
}
