//! The reference sampler. The GPU's sampling kernel follows its formula, and it is used itself when whole logits are
//! read back to the CPU.
//!
//! Order, as in Hugging Face transformers (`GenerationMixin._get_logits_processor`) and llama.cpp's default chain:
//! repetition, presence and frequency penalties, logit bias, then argmax or temperature, top-k, softmax, top-p, min-p,
//! draw. Top-p is a share of what top-k left; min-p compares with the best candidate, which no filter removes. vLLM has
//! min-p before top-k and top-p, which differs only where top-p would be a share of what min-p left.
//!
//! Candidates are ordered by (logit descending, id ascending), a total order, so ties never depend on how they were
//! found. One draw costs O(vocabulary) with top-k, O(vocabulary · log vocabulary) without.

use std::ops::{Add, Mul};

use super::params::{MAX_GPU_TOP_K, SamplingParams};

/// Chooses the next token of a sequence from its logits, which are changed in place by penalties and biases.
///
/// `logits: [vocab]`; `prompt` and `generated` are the tokens so far. The randomness is
/// `uniform(params.seed, generated.len())`.
pub fn sample(logits: &mut [f32], params: &SamplingParams, prompt: &[u32], generated: &[u32]) -> u32 {
    adjust(logits, params, prompt, generated);
    if params.is_greedy() {
        return argmax(logits);
    }
    let candidates = top_candidates(logits, params.top_k.map_or(logits.len(), |k| k as usize));
    draw(&candidates, params, uniform(params.seed, generated.len() as u64))
}

/// Applies penalties and biases in place. `logits: [vocab]`; ids outside it are ignored.
///
/// Repetition (Keskar et al. 2019, CTRL; transformers' `RepetitionPenaltyLogitsProcessor`): once per distinct token of
/// prompt and answer, `l < 0 ? l·r : l/r`. Presence and frequency (OpenAI): `l -= presence + count·frequency` for the
/// tokens of the answer. Then `l += bias`.
pub fn adjust(logits: &mut [f32], params: &SamplingParams, prompt: &[u32], generated: &[u32]) {
    if !params.adjusts_logits() {
        return;
    }
    let mut counts = vec![0u32; logits.len()];
    for &id in generated {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
    let mut seen = vec![false; logits.len()];
    for &id in prompt.iter().chain(generated) {
        let id = id as usize;
        if id >= logits.len() || std::mem::replace(&mut seen[id], true) {
            continue;
        }
        let logit = &mut logits[id];
        *logit = if *logit < 0.0 { *logit * params.repetition_penalty } else { *logit / params.repetition_penalty };
        if counts[id] > 0 {
            *logit -= params.presence_penalty + counts[id] as f32 * params.frequency_penalty;
        }
    }
    for &(id, bias) in &params.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
}

/// The id of the largest logit; on ties the lowest id. NaN is never the largest; if there is nothing else, 0.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0 as u32
}

/// The `k` best as (id, logit), by (logit descending, id ascending). NaN counts as -∞.
pub fn top_candidates(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut keys: Vec<u64> = logits.iter().zip(0..).map(|(&logit, id)| sort_key(id, logit)).collect();
    let k = k.min(keys.len());
    if 0 < k && k < keys.len() {
        keys.select_nth_unstable(k - 1);
    }
    keys.truncate(k);
    keys.sort_unstable();
    let candidate = |key: u64| {
        let logit = logits[key as u32 as usize];
        (key as u32, if logit.is_nan() { f32::NEG_INFINITY } else { logit })
    };
    keys.into_iter().map(candidate).collect()
}

/// An integer that sorts ascending as (logit descending, id ascending).
fn sort_key(id: u32, logit: f32) -> u64 {
    // -0 becomes +0, so that both tie as they do on the GPU.
    let bits = if logit.is_nan() { f32::NEG_INFINITY.to_bits() } else { (logit + 0.0).to_bits() };
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | u64::from(id)
}

/// Draws one of `candidates`, which top-k left in order, with `u` in [0, 1).
///
/// With `w_i = exp((l_i - l_0) / temperature)` and `S_i = w_0 + … + w_i`, summed in order:
/// top-p keeps `i` while `S_(i-1) < top_p · S_last`; min-p keeps `i` while `w_i ≥ min_p` (the best has weight 1); the
/// first is always kept. Of the `n` kept, the answer is the first with `S_i > u · S_(n-1)`, or the last of them.
///
/// Up to [`MAX_GPU_TOP_K`] candidates, the sums are in f32 as on the GPU; longer lists sum in f64, so that the tail of a
/// large vocabulary is not rounded away. An empty list gives 0.
pub fn draw(candidates: &[(u32, f32)], params: &SamplingParams, u: f32) -> u32 {
    let Some(&(first, best)) = candidates.first() else { return 0 };
    if params.is_greedy() || !best.is_finite() {
        return first;
    }
    let weights: Vec<f32> = candidates.iter().map(|&(_, logit)| ((logit - best) / params.temperature).exp()).collect();
    let index = if weights.len() <= MAX_GPU_TOP_K as usize {
        pick::<f32>(&weights, params, u)
    } else {
        pick::<f64>(&weights, params, u)
    };
    candidates[index].0
}

fn pick<S>(weights: &[f32], params: &SamplingParams, u: f32) -> usize
where
    S: Copy + Default + From<f32> + PartialOrd + Add<Output = S> + Mul<Output = S>,
{
    let sums: Vec<S> = weights
        .iter()
        .scan(S::default(), |sum, &weight| {
            *sum = *sum + S::from(weight);
            Some(*sum)
        })
        .collect();
    let last = weights.len() - 1;
    let nucleus = S::from(params.top_p) * sums[last];
    let top_p_keeps = |i: usize| params.top_p >= 1.0 || sums[i - 1] < nucleus;
    let kept = (1..=last).find(|&i| !top_p_keeps(i) || weights[i] < params.min_p).unwrap_or(weights.len());
    let target = S::from(u) * sums[kept - 1];
    sums[..kept].iter().position(|&sum| sum > target).unwrap_or(kept - 1)
}

/// The random number for token `step` of a request: 24 bits in [0, 1), a pure function (SplitMix64's finaliser, Steele
/// et al. 2014, over a counter offset by the mixed seed, so that near seeds share no stretch of numbers).
pub fn uniform(seed: u64, step: u64) -> f32 {
    let mix = |mut z: u64| {
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;
    let bits = mix(mix(seed.wrapping_add(STRIDE)).wrapping_add(step.wrapping_mul(STRIDE)));
    (bits >> 40) as f32 / (1u64 << 24) as f32
}
