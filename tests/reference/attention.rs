//! `softmax(cap(q kᵀ · scale)) v` for one query head, and the layout of the cache's pages.

use half::f16;

use super::{Bounded, ULP};
use headstart::kernels::{Heads, PAGE, attention::Scores};

/// Rounding errors, each relative to Σ p |v|: a few for exp and the sums, and more in proportion to the scores, since an
/// absolute error of a score is a relative error of its weight.
const ROUNDINGS: f64 = 16.0;

/// Half the distance from 1 to the next f16.
const HALF_ULP: f64 = 1.0 / 2048.0;

/// `q: [head_dim]`; `keys`, `values`: `[tokens][head_dim]`, the tokens that the row attends to. `halves`: factors are rounded
/// to f16.
pub fn attend(scores: &Scores, q: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], halves: bool) -> Vec<Bounded> {
    let scale = f64::from(scores.scale);
    let cap = |score: f64| scores.cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
    let dot = |key: &[f32], term: fn(f64) -> f64| -> f64 {
        q.iter().zip(key).map(|(&q, &k)| term(f64::from(q) * f64::from(k) * scale)).sum()
    };
    // The cap's own error is proportional to the cap.
    let capping = scores.cap.map_or(0.0, f64::from);
    let scores: Vec<f64> = keys.iter().map(|key| cap(dot(key, |term| term))).collect();
    let size = keys.iter().map(|key| dot(key, f64::abs)).fold(capping, f64::max);
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    let dim = |d: usize| {
        let terms = weights.iter().zip(values).map(|(p, v)| p / total * f64::from(v[d]));
        let (value, sum) = terms.fold((0.0, 0.0), |(value, sum), term| (value + term, sum + f64::abs(term)));
        // Rounding a query is a relative error of each term of a score; rounding a weight is a relative error of that weight.
        let rounded = if halves { HALF_ULP * (2.0 + 2.0 * size) } else { 0.0 };
        Bounded { value, error: (ULP * (ROUNDINGS + 4.0 * size) + rounded) * sum }
    };
    (0..q.len()).map(dim).collect()
}

/// Word index of a token's pair of dims in a layer's pages: K `[page, kv_head, pair, token]` before V `[page, kv_head, token,
/// pair]`.
pub fn k_word(heads: &Heads, slot: usize, head: usize, pair: usize) -> usize {
    page_words(heads) * (slot / PAGE) + (head * heads.head_dim / 2 + pair) * PAGE + slot % PAGE
}

pub fn v_word(heads: &Heads, slot: usize, head: usize, pair: usize) -> usize {
    let words = page_words(heads);
    words * (slot / PAGE) + words / 2 + (head * PAGE + slot % PAGE) * heads.head_dim / 2 + pair
}

pub fn page_words(heads: &Heads) -> usize {
    heads.kv_heads * heads.head_dim * PAGE
}

pub fn pack(pair: [f32; 2]) -> u32 {
    let [low, high] = pair.map(|value| u32::from(f16::from_f32(value).to_bits()));
    low | high << 16
}

pub fn unpack(word: u32) -> [f32; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32())
}
