//! The sampler compared with naive formulas on small vocabularies, and its frequencies with the probabilities.

use headstart::error::Error;
use headstart::sample::{SamplingParams, SamplingPlan, adjust, argmax, draw, sample, top_candidates, uniform};
use proptest::prelude::*;

fn hot() -> SamplingParams {
    SamplingParams { temperature: 1.0, ..Default::default() }
}

/// A direct implementation of the definitions in f64: the ids that may be drawn, with their probabilities.
fn naive(logits: &[f32], params: &SamplingParams) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    order.truncate(params.top_k.map_or(order.len(), |k| k as usize));
    let softmax = |ids: &[u32]| -> Vec<f64> {
        let scaled = |id: &u32| (f64::from(logits[*id as usize]) / f64::from(params.temperature)).exp();
        let total: f64 = ids.iter().map(scaled).sum();
        ids.iter().map(|id| scaled(id) / total).collect()
    };
    let probabilities = softmax(&order);
    let mut kept = Vec::new();
    let mut before = 0.0;
    for (&id, &probability) in order.iter().zip(&probabilities) {
        let nucleus = params.top_p == 1.0 || before < f64::from(params.top_p);
        let likely = probability >= f64::from(params.min_p) * probabilities[0];
        if kept.is_empty() || (nucleus && likely) {
            kept.push(id);
        }
        before += probability;
    }
    let probabilities = softmax(&kept);
    kept.into_iter().zip(probabilities).collect()
}

/// How far a case is from a filter's boundary, near which f32 and f64 may differ legitimately.
fn margin(logits: &[f32], params: &SamplingParams) -> f64 {
    let unfiltered = naive(logits, &SamplingParams { top_p: 1.0, min_p: 0.0, ..params.clone() });
    let mut before = 0.0;
    let mut margin = f64::INFINITY;
    for (_, probability) in &unfiltered {
        margin = margin.min((before - f64::from(params.top_p)).abs());
        margin = margin.min((probability / unfiltered[0].1 - f64::from(params.min_p)).abs());
        before += probability;
    }
    margin
}

fn cases() -> impl Strategy<Value = (Vec<f32>, SamplingParams)> {
    let logits = prop::collection::vec(-6.0f32..6.0, 1..100);
    let params = (0.2f32..2.0, prop::option::of(1u32..110), 0.05f32..1.0, 0.0f32..0.6, any::<bool>(), any::<bool>());
    (logits, params).prop_map(|(logits, (temperature, top_k, top_p, min_p, with_top_p, with_min_p))| {
        let top_p = if with_top_p { top_p } else { 1.0 };
        let min_p = if with_min_p { min_p } else { 0.0 };
        (logits, SamplingParams { temperature, top_k, top_p, min_p, ..Default::default() })
    })
}

proptest! {
    /// Inverts the distribution function in the middle and just inside both ends of every kept candidate's share: the kept set
    /// and each probability must be exact, and nothing else may ever be drawn.
    #[test]
    fn a_draw_inverts_the_naive_distribution((logits, params) in cases()) {
        prop_assume!(margin(&logits, &params) > 1e-4 || (params.top_p == 1.0 && params.min_p == 0.0));
        prop_assume!(params.top_k != Some(1));
        let k = params.top_k.map_or(logits.len(), |k| k as usize);
        let candidates = top_candidates(&logits, k);
        let mut before = 0.0;
        for (id, probability) in naive(&logits, &params) {
            for share in [0.02, 0.5, 0.98] {
                if probability > 1e-4 {
                    prop_assert_eq!(draw(&candidates, &params, (before + share * probability) as f32), id);
                }
            }
            before += probability;
        }
        let last = naive(&logits, &params).last().unwrap().0;
        let kept: Vec<u32> = naive(&logits, &params).iter().map(|&(id, _)| id).collect();
        prop_assert!(kept.contains(&draw(&candidates, &params, 0.999_999_94)), "beyond the last kept id {}", last);
    }

    #[test]
    fn top_candidates_are_the_sorted_best(logits in prop::collection::vec(-3i8..3, 1..80), k in 1usize..90) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let params = SamplingParams { top_k: Some(k as u32), ..hot() };
        let expected: Vec<u32> = naive(&logits, &params).into_iter().map(|(id, _)| id).collect();
        let found: Vec<u32> = top_candidates(&logits, k).into_iter().map(|(id, _)| id).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(argmax(&logits), expected[0]);
    }

    #[test]
    fn uniform_is_a_pure_function_into_the_unit_interval(seed in any::<u64>(), step in any::<u64>()) {
        let u = uniform(seed, step);
        prop_assert!((0.0..1.0).contains(&u));
        prop_assert_eq!(u, uniform(seed, step));
    }
}

/// Chi-square of `draws` samples at steps 0.. of one seed, against the naive probabilities.
fn chi_square(logits: &[f32], params: &SamplingParams, draws: usize) -> (f64, usize) {
    let expected = naive(logits, params);
    let mut counts = vec![0usize; logits.len()];
    let mut generated = Vec::new();
    for _ in 0..draws {
        let id = sample(&mut logits.to_vec(), params, &[], &generated);
        counts[id as usize] += 1;
        generated.push(id);
    }
    let drawn: usize = expected.iter().map(|&(id, _)| counts[id as usize]).sum();
    assert_eq!(drawn, draws, "a filtered token was drawn");
    let statistic = |&(id, probability): &(u32, f64)| {
        let mean = probability * draws as f64;
        (counts[id as usize] as f64 - mean).powi(2) / mean
    };
    (expected.iter().map(statistic).sum(), expected.len() - 1)
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits: Vec<f32> = (0..12).map(|i| ((i * 7 % 12) as f32) * 0.25).collect();
    for seed in [0, 1, 42, u64::MAX] {
        for params in [
            SamplingParams { seed, ..hot() },
            SamplingParams { seed, temperature: 0.7, top_k: Some(6), ..hot() },
            SamplingParams { seed, top_p: 0.8, min_p: 0.15, ..hot() },
        ] {
            let (statistic, freedom) = chi_square(&logits, &params, 8000);
            // The mean of chi-square is its degrees of freedom, and its variance twice that; the limit is five standard
            // deviations.
            let limit = freedom as f64 + 5.0 * (2.0 * freedom as f64).sqrt();
            assert!(statistic < limit, "seed {seed}: chi-square {statistic:.1} of {freedom} degrees, limit {limit:.1}");
        }
    }
}

#[test]
fn nearby_seeds_and_steps_are_uncorrelated() {
    let n = 4000;
    let correlation = |a: &dyn Fn(u64) -> f32, b: &dyn Fn(u64) -> f32| -> f64 {
        let centred = |x: f32| f64::from(x) - 0.5;
        (0..n).map(|i| centred(a(i)) * centred(b(i))).sum::<f64>() * 12.0 / n as f64
    };
    let limit = 5.0 / (n as f64).sqrt();
    assert!(correlation(&|i| uniform(7, i), &|i| uniform(8, i)).abs() < limit);
    assert!(correlation(&|i| uniform(7, i), &|i| uniform(7, i + 1)).abs() < limit);
    assert!(correlation(&|i| uniform(i, 0), &|i| uniform(i + 1, 0)).abs() < limit);
    // Seeds one SplitMix64 increment apart must not give one stream shifted by a step.
    let stride = 0x9e37_79b9_7f4a_7c15u64;
    assert!((0..n).any(|i| uniform(7, i + 1) != uniform(7u64.wrapping_add(stride), i)));
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let text = |seed| {
        let params = SamplingParams { seed, ..hot() };
        let mut generated = Vec::new();
        for step in 0..40 {
            let mut logits: Vec<f32> = (0..50).map(|i| ((i * 13 + step * 7) % 50) as f32 * 0.05).collect();
            generated.push(sample(&mut logits, &params, &[1, 2, 3], &generated));
        }
        generated
    };
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}

#[test]
fn penalties_and_bias_change_logits_as_published() {
    let params = SamplingParams {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(4, 3.0), (0, -1.0)],
        ..Default::default()
    };
    let mut logits = [1.0, 2.0, -2.0, 4.0, 0.0, 8.0];
    // Token 2 is in the prompt twice, 3 in the answer twice, 5 in both; 9 is outside the logits.
    adjust(&mut logits, &params, &[2, 2, 5, 9], &[3, 3, 5]);
    assert_eq!(logits, [0.0, 2.0, -4.0, 4.0 / 2.0 - 0.5 - 0.5, 3.0, 8.0 / 2.0 - 0.5 - 0.25]);
    assert_eq!(sample(&mut [1.0, 2.0, -2.0, 4.0, 0.0, 8.0], &params, &[2, 2, 5, 9], &[3, 3, 5]), 5);
}

#[test]
fn greedy_takes_the_lowest_of_equals_and_never_nan() {
    assert_eq!(argmax(&[1.0, 3.0, f32::NAN, 3.0]), 1);
    assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), 0);
    assert_eq!(argmax(&[-0.0, 0.0]), 0);
    for params in [SamplingParams::default(), SamplingParams { top_k: Some(1), ..hot() }] {
        assert_eq!(sample(&mut [0.0, 5.0, 5.0], &params, &[], &[]), 1);
    }
}

#[test]
fn a_draw_survives_degenerate_logits() {
    let params = hot();
    let mut logits = [f32::NAN, 1.0, f32::NEG_INFINITY];
    assert!((0..20).all(|step| sample(&mut logits, &params, &[], &vec![0; step]) == 1));
    assert_eq!(draw(&[], &params, 0.5), 0);
    assert_eq!(draw(&[(7, f32::NEG_INFINITY), (9, f32::NEG_INFINITY)], &params, 0.9), 7);
    assert_eq!(draw(&[(7, f32::INFINITY), (9, 0.0)], &params, 0.9), 7);
    let tiny = SamplingParams { temperature: 1e-38, ..hot() };
    assert_eq!(draw(&[(7, 1.0), (9, 0.5)], &tiny, 0.9), 7);
}

#[test]
fn a_flat_vocabulary_keeps_its_tail() {
    let flat = vec![0.0f32; 200_000];
    let params = hot();
    let candidates = top_candidates(&flat, flat.len());
    assert_eq!(draw(&candidates, &params, 0.75), 150_000);
    assert_eq!(draw(&candidates, &params, 0.999_999_94), 199_999);
}

#[test]
fn plans_send_to_the_host_only_what_the_gpu_cannot_draw() {
    let cases = [
        (SamplingParams::default(), SamplingPlan::Greedy),
        (SamplingParams { top_k: Some(1), ..hot() }, SamplingPlan::Greedy),
        (SamplingParams { top_k: Some(64), top_p: 0.9, min_p: 0.1, ..hot() }, SamplingPlan::TopK { k: 64 }),
        (SamplingParams { top_k: Some(65), ..hot() }, SamplingPlan::Host),
        (hot(), SamplingPlan::Host),
        (SamplingParams { repetition_penalty: 1.1, ..Default::default() }, SamplingPlan::Host),
        (SamplingParams { logit_bias: vec![(0, 1.0)], top_k: Some(5), ..hot() }, SamplingPlan::Host),
    ];
    for (params, plan) in cases {
        assert_eq!(params.plan(), plan, "{params:?}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let vocab = 10;
    let base = SamplingParams::default;
    let refused = [
        (SamplingParams { temperature: -0.1, ..base() }, "temperature: -0.1 is not"),
        (SamplingParams { temperature: f32::NAN, ..base() }, "temperature: NaN is not"),
        (SamplingParams { temperature: f32::INFINITY, ..base() }, "temperature: inf is not"),
        (SamplingParams { top_k: Some(0), ..base() }, "top_k: 0 leaves no candidate"),
        (SamplingParams { top_p: 0.0, ..base() }, "top_p: 0 is not"),
        (SamplingParams { top_p: 1.01, ..base() }, "top_p: 1.01 is not"),
        (SamplingParams { min_p: -0.5, ..base() }, "min_p: -0.5 is not"),
        (SamplingParams { min_p: f32::NAN, ..base() }, "min_p: NaN is not"),
        (SamplingParams { repetition_penalty: 0.0, ..base() }, "repetition_penalty: 0 is not"),
        (SamplingParams { presence_penalty: 2.5, ..base() }, "presence_penalty: 2.5 is not"),
        (SamplingParams { frequency_penalty: -3.0, ..base() }, "frequency_penalty: -3 is not"),
        (SamplingParams { logit_bias: vec![(10, 1.0)], ..base() }, "logit_bias: token id 10 is not"),
        (SamplingParams { logit_bias: vec![(1, 101.0)], ..base() }, "logit_bias: 101 is not"),
        (SamplingParams { logit_bias: vec![(1, 1.0), (1, 2.0)], ..base() }, "logit_bias: token id 1 is given twice"),
    ];
    for (params, message) in refused {
        let error = params.validate(vocab).expect_err(message);
        assert!(matches!(error, Error::Request { .. }));
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let edge = SamplingParams {
        temperature: 5.0,
        top_k: Some(1_000_000),
        top_p: 1.0,
        min_p: 1.0,
        presence_penalty: -2.0,
        frequency_penalty: 2.0,
        logit_bias: vec![(9, -100.0)],
        ..base()
    };
    edge.validate(vocab).unwrap();
}
