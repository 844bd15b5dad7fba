//! What must not change a single bit on one adapter: the chunks of a prompt, how the cache came to its size, what runs beside a
//! sequence, and what ran before it.

use headstart::engine::{Engine, EngineOptions, Request};
use headstart::sample::SamplingParams;

use crate::support::engine::{generate, greedy, load, run, score_bits};
use crate::support::golden::{Golden, worse};
use crate::support::model_path;
use crate::support::odd::{MORE, NAMES, Tiny};

/// A prompt whose length neither pages nor chunks divide, the same on every machine.
fn prompt(length: usize, vocabulary: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 17 + seed * 101 + 3) % vocabulary) as u32).collect()
}

/// Scoring computes as many rows at once as both the chunk and the number of sequences allow.
fn chunked(chunk: usize) -> EngineOptions {
    EngineOptions { chunk: Some(chunk), max_sequences: Some(chunk), ..EngineOptions::default() }
}

fn room_for(tokens: usize) -> EngineOptions {
    EngineOptions { kv_tokens: Some(tokens), ..EngineOptions::default() }
}

#[test]
fn chunked_prefill_is_whole_prefill() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let tokens = prompt(203, tiny.vocabulary, 1);
        let whole = score_bits(&mut load(&tiny.folder, &chunked(tokens.len())), &tokens);
        for chunk in [1, 16, 48] {
            let cut = score_bits(&mut load(&tiny.folder, &chunked(chunk)), &tokens);
            same(&format!("{name} in chunks of {chunk}"), &whole, &cut, tiny.vocabulary);
        }
    }
    let tokens = &Golden::read().prompts["long"].reference.ids[..131];
    let whole = score_bits(&mut load(&model_path(), &chunked(tokens.len())), tokens);
    let cut = score_bits(&mut load(&model_path(), &chunked(32)), tokens);
    same("SmolLM2 in chunks of 32", &whole, &cut, whole.len() / tokens.len());
}

#[test]
fn a_cache_that_grew_gives_the_bits_of_a_large_one() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let tokens = prompt(403, tiny.vocabulary, 2);
        let (mut small, mut large) = (load(&tiny.folder, &room_for(16)), load(&tiny.folder, &room_for(512)));
        let (before, enough) = (small.kv_pages(), large.kv_pages());
        let (grown, never) = (score_bits(&mut small, &tokens), score_bits(&mut large, &tokens));
        assert!(small.kv_pages() > before && large.kv_pages() == enough, "{name}: one must grow, the other must not");
        same(name, &grown, &never, tiny.vocabulary);
    }
}

/// Two short sequences are decoding when a long prompt, and later their own length, make the cache grow.
#[test]
fn growing_the_cache_under_running_sequences_loses_nothing() {
    let tiny = Tiny::read(NAMES[0]);
    let short = [greedy(&prompt(5, tiny.vocabulary, 3), 200), greedy(&prompt(21, tiny.vocabulary, 4), 120)];
    let long = greedy(&prompt(250, tiny.vocabulary, 5), 100);
    let requests = [short.as_slice(), &[long]].concat();
    let mut engine = load(&tiny.folder, &room_for(16));
    let grown = generate(&mut engine, &requests);
    assert!(engine.kv_pages() > 1);
    assert_eq!(grown, generate(&mut load(&tiny.folder, &room_for(2048)), &requests));
}

/// Together, alone and cold: all logits of prompt ends and decoded tokens are equal bit for bit.
#[test]
fn the_rest_of_the_batch_changes_no_bit() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        company(name, &mut load(&tiny.folder, &EngineOptions::default()), &requests(tiny.vocabulary));
    }
}

fn company(name: &str, engine: &mut Engine, requests: &[Request]) {
    let together = run(engine, requests);
    for (request, together) in requests.iter().zip(&together) {
        let what = format!("{name}: a prompt of {} tokens", request.tokens.len());
        assert_eq!(together.tokens.len(), request.max_tokens, "{what}");
        assert_eq!(together.logits.len(), request.max_tokens, "{what}");
        let alone = &run(engine, std::slice::from_ref(request))[0];
        assert_eq!(alone.tokens, together.tokens, "{what}");
        let parted = alone.logits.iter().zip(&together.logits).position(|(a, b)| a != b);
        assert_eq!(parted, None, "{what}: token whose logits differ");
    }
}

/// The same for models that use these kernels with other sizes, with less to compute.
#[test]
fn neither_chunks_nor_the_batch_change_a_bit_of_more_models() {
    for name in MORE {
        let tiny = Tiny::read(name);
        let tokens = prompt(83, tiny.vocabulary, 1);
        let mut engine = load(&tiny.folder, &chunked(tokens.len()));
        let whole = score_bits(&mut engine, &tokens);
        let cut = score_bits(&mut load(&tiny.folder, &chunked(16)), &tokens);
        same(&format!("{name} in chunks of 16"), &whole, &cut, tiny.vocabulary);
        company(name, &mut engine, &requests(tiny.vocabulary)[2..5]);
    }
}

/// Prompts around page boundaries, and one with split attention beside others without. Odd seeds are sampled, alternately on
/// the GPU and on the host, so that the whole distribution matters.
fn requests(vocabulary: usize) -> Vec<Request> {
    let request = |(seed, length): (usize, usize)| {
        let mut request = greedy(&prompt(length, vocabulary, seed), 12 + seed);
        (request.no_cache, request.logits) = (true, true);
        if seed % 2 == 1 {
            let top_k = (seed % 4 == 1).then_some(40);
            request.sampling = SamplingParams { temperature: 1.2, top_k, seed: seed as u64, ..request.sampling };
        }
        request
    };
    [1, 7, 16, 17, 40, 63, 90, 91, 270].into_iter().enumerate().map(request).collect()
}

/// Checks that all bits are equal; otherwise reports where they first differ and by how much.
fn same(what: &str, a: &[u32], b: &[u32], vocabulary: usize) {
    assert_eq!(a.len(), b.len(), "{what}");
    let Some(first) = a.iter().zip(b).position(|(a, b)| a != b) else { return };
    let delta = |(a, b): (&u32, &u32)| (f32::from_bits(*a) - f32::from_bits(*b)).abs();
    let worst = a.iter().zip(b).map(delta).fold(0.0, worse);
    let count = a.iter().zip(b).filter(|(a, b)| a != b).count();
    let (position, token) = (first / vocabulary, first % vocabulary);
    panic!("{what}: {count} logits differ, first at position {position}, token {token}; max |Δ| {worst}");
}
