//! What must not change a single bit on one adapter: how a prompt is cut, what ran before, how the cache came by its size; and
//! not a token: what runs beside it.

use headstart::engine::{EngineOptions, Request};
use headstart::sample::SamplingParams;

use crate::support::engine::{generate, greedy, load, score_bits};
use crate::support::golden::Golden;
use crate::support::odd::{NAMES, Tiny};
use crate::support::{golden, model_path};

/// A prompt that neither pages nor chunks divide, the same on every machine.
fn prompt(length: usize, vocabulary: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 17 + seed * 101 + 3) % vocabulary) as u32).collect()
}

fn chunked(chunk: usize) -> EngineOptions {
    EngineOptions { chunk: Some(chunk), ..EngineOptions::default() }
}

#[test]
fn chunked_prefill_is_whole_prefill() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let tokens = prompt(203, tiny.vocabulary, 1);
        let whole = score_bits(&mut load(&tiny.folder, &chunked(512)), &tokens);
        for chunk in [16, 48, 128] {
            let cut = score_bits(&mut load(&tiny.folder, &chunked(chunk)), &tokens);
            same(&format!("{name} in chunks of {chunk}"), &whole, &cut, tiny.vocabulary);
        }
    }
    let tokens = &Golden::read().prompts["long"].reference.ids[..131];
    let whole = score_bits(&mut load(&model_path(), &chunked(512)), tokens);
    let cut = score_bits(&mut load(&model_path(), &chunked(32)), tokens);
    same("SmolLM2 in chunks of 32", &whole, &cut, whole.len() / tokens.len());
}

/// The first prompt meets an engine that has never held it and grows; the second finds the room made.
#[test]
fn a_cache_that_grows_is_a_cache_that_was_large() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let mut engine = load(&tiny.folder, &EngineOptions::default());
        let tokens = prompt(403, tiny.vocabulary, 2);
        let grown = score_bits(&mut engine, &tokens);
        let large = score_bits(&mut engine, &tokens);
        same(name, &grown, &large, tiny.vocabulary);
    }
}

/// A short sequence is decoding when a long one makes the cache grow under it.
#[test]
fn growth_under_a_running_sequence_loses_nothing() {
    let tiny = Tiny::read(NAMES[0]);
    let requests = [greedy(&prompt(5, tiny.vocabulary, 3), 200), greedy(&prompt(250, tiny.vocabulary, 4), 100)];
    let alone = generate(&mut load(&tiny.folder, &EngineOptions::default()), &requests[..1]);
    let both = generate(&mut load(&tiny.folder, &EngineOptions::default()), &requests);
    assert_eq!(alone[0], both[0]);
}

#[test]
fn what_runs_beside_a_sequence_changes_none_of_its_tokens() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let mut engine = load(&tiny.folder, &EngineOptions::default());
        let lengths = [1, 7, 16, 17, 40, 63];
        let requests: Vec<Request> = lengths
            .into_iter()
            .enumerate()
            .map(|(seed, length)| {
                let mut request = greedy(&prompt(length, tiny.vocabulary, seed), 24 + seed);
                // Even ones are greedy; odd ones are drawn, where the whole distribution has a say.
                if seed % 2 == 1 {
                    request.sampling =
                        SamplingParams { temperature: 1.2, top_k: Some(40), seed: seed as u64, ..request.sampling };
                }
                request
            })
            .collect();
        let together = generate(&mut engine, &requests);
        for (request, together) in requests.iter().zip(&together) {
            assert_eq!(together.len(), request.max_tokens, "{name}");
            let alone = generate(&mut engine, std::slice::from_ref(request));
            assert_eq!(&alone[0], together, "{name}: a prompt of {} tokens", request.tokens.len());
        }
    }
}

/// Equal bits, or where they first part and by how much.
fn same(what: &str, a: &[u32], b: &[u32], vocabulary: usize) {
    assert_eq!(a.len(), b.len(), "{what}");
    let Some(first) = a.iter().zip(b).position(|(a, b)| a != b) else { return };
    let delta = |(a, b): (&u32, &u32)| (f32::from_bits(*a) - f32::from_bits(*b)).abs();
    let worst = a.iter().zip(b).map(delta).fold(0.0, golden::worse);
    let count = a.iter().zip(b).filter(|(a, b)| a != b).count();
    let (position, token) = (first / vocabulary, first % vocabulary);
    panic!("{what}: {count} logits differ, first at position {position}, token {token}; max |Δ| {worst}");
}
