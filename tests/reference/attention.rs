//! `softmax(cap(q kᵀ · scale)) v` for one query head, and the layout of the cache's pages.

use half::f16;

use headstart::kernels::{Heads, KvFormat, PAGE, attention::Scores};

use super::{Bounded, ULP, head_norm};

/// Rounding errors, each relative to Σ p |v|: a few for exp and the sums, and more in proportion to the scores, since an
/// absolute error of a score is a relative error of its weight.
const ROUNDINGS: f64 = 16.0;

/// Half the distance from 1 to the next f16.
const HALF_ULP: f64 = 1.0 / 2048.0;

/// `q: [head_dim]`; `keys`, `values`: `[tokens][head_dim]`, the tokens that the row attends to. `halves`: factors are rounded
/// to f16, and the cache has this format.
pub fn attend(
    scores: &Scores,
    q: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    halves: Option<KvFormat>,
) -> Vec<Bounded> {
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
        // A query's or key's rounding is a relative error of each term of a score, a weight's or value's one of itself.
        let rounded = match halves {
            None => 0.0,
            Some(KvFormat::F16) => HALF_ULP * (2.0 + 2.0 * size),
            Some(KvFormat::Q8) => HALF_ULP * (3.0 + 4.0 * size),
        };
        Bounded { value, error: (ULP * (ROUNDINGS + 4.0 * size) + rounded) * sum }
    };
    (0..q.len()).map(dim).collect()
}

/// Where a word of a head of a token lies in a layer's pages: K `[page, kv_head, word, token]` before V
/// `[page, kv_head, token, word]`.
pub fn k_word(heads: &Heads, slot: usize, head: usize, word: usize) -> usize {
    page_words(heads) * (slot / PAGE) + (head * words(heads) + word) * PAGE + slot % PAGE
}

pub fn v_word(heads: &Heads, slot: usize, head: usize, word: usize) -> usize {
    let page = page_words(heads);
    page * (slot / PAGE) + page / 2 + (head * PAGE + slot % PAGE) * words(heads) + word
}

pub fn page_words(heads: &Heads) -> usize {
    2 * heads.kv_heads * words(heads) * PAGE
}

/// Words of a head's key, or of its value, for a token.
pub fn words(heads: &Heads) -> usize {
    match heads.kv {
        KvFormat::F16 => heads.head_dim / 2,
        KvFormat::Q8 => heads.head_dim / 4 + heads.head_dim.div_ceil(64),
    }
}

/// A head's key or value as the cache keeps it.
pub fn stored(heads: &Heads, values: &[f32]) -> Vec<u32> {
    match heads.kv {
        KvFormat::F16 => values.chunks(2).map(|pair| pack([pair[0], pair[1]])).collect(),
        KvFormat::Q8 => head_norm::quantize(values),
    }
}

pub fn read(heads: &Heads, words: &[u32]) -> Vec<f32> {
    match heads.kv {
        KvFormat::F16 => words.iter().copied().flat_map(unpack).collect(),
        KvFormat::Q8 => head_norm::dequantize(heads.head_dim, words),
    }
}

pub fn pack(pair: [f32; 2]) -> u32 {
    let [low, high] = pair.map(|value| u32::from(f16::from_f32(value).to_bits()));
    low | high << 16
}

pub fn unpack(word: u32) -> [f32; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32())
}
