//! The best candidates of a row of logits, and the sampled one.

use headstart::sample::{SamplingParams, draw};

/// The result for a row with a logit that is not finite.
pub const NOT_FINITE: u32 = u32::MAX;

/// The `k` best as (id, logit): the largest first, of equal ones the lower id. Both zeros are equal.
pub fn best(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.sort_by(|a, b| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

/// The token that the engine's sampler draws, and whether `u` is so near a boundary that rounding may decide.
pub fn drawn(logits: &[f32], params: &SamplingParams, u: f32) -> (u32, bool) {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return (NOT_FINITE, false);
    }
    let candidates = best(logits, params.top_k.map_or(1, |k| k as usize));
    let near = |u: f32, top_p: f32, min_p: f32| {
        let params = SamplingParams { top_p, min_p, ..params.clone() };
        draw(&candidates, &params, u)
    };
    let id = draw(&candidates, params, u);
    let nudged = [-1e-5, 1e-5].into_iter().flat_map(|by: f32| {
        let top_p = if params.top_p < 1.0 { params.top_p + by } else { params.top_p };
        let min_p = if params.min_p > 0.0 { params.min_p + by } else { 0.0 };
        [
            near((u + by).clamp(0.0, 0.999_999), params.top_p, params.min_p),
            near(u, top_p, params.min_p),
            near(u, params.top_p, min_p),
        ]
    });
    (id, nudged.into_iter().any(|other| other != id))
}
