//! Chooses the experts of a row.

use super::{Bounded, ULP};

/// The `used` highest of `scores`, best first, of equal ones the lower index, with their weights: the softmax over all scores,
/// or with `normalized` over the chosen ones.
pub fn route(scores: &[f32], used: usize, normalized: bool) -> Vec<(usize, Bounded)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let chosen = &order[..used];
    let share = |expert: usize| f64::from(scores[expert] - scores[order[0]]).exp();
    let sum: f64 = if normalized { chosen } else { &order }.iter().map(|&expert| share(expert)).sum();
    let weight = |&expert: &usize| {
        let value = share(expert) / sum;
        // exp may be off by 3 + 2 |x| units in the last place (WGSL, accuracy of expressions), both in the weight and in the
        // sum. Then the sum rounds, and a division costs 2.5 units.
        let power = f64::from(scores[order[0]] - scores[expert]);
        let spread = f64::from(scores[order[0]] - scores[order[scores.len() - 1]]);
        let units = 2.0 * (3.0 + 2.0 * power + 3.0 + 2.0 * spread + 2.5) + scores.len() as f64;
        (expert, Bounded { value, error: units * ULP * value })
    };
    chosen.iter().map(weight).collect()
}
