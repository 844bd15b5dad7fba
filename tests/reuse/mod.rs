//! The prefix cache through the engine: reused KV is bit for bit what would have been computed, exactly as much is reused as
//! should be, and KV of others is never reused.

mod conformance;
mod conversation;
mod faults;
mod past;
mod salts;
mod warm;
mod window;

use std::path::Path;

use headstart::engine::{Engine, EngineOptions, Request};
use pollster::block_on;

use crate::support::engine::{Answer, greedy, run};

/// A prompt whose length neither pages nor chunks divide, the same on every machine.
pub fn prompt(length: usize, vocabulary: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 37 + i * 11 + seed * 107 + 7) % vocabulary) as u32).collect()
}

/// Computes a prompt without an answer, and saves it.
pub fn warm(engine: &mut Engine, tokens: &[u32]) {
    let answer = run(engine, &[greedy(tokens, 0)]);
    assert!(answer[0].tokens.is_empty());
    block_on(engine.persist()).unwrap();
}

/// A request for the logits of every position of the prompt and the answer. It is `exact`, so that decoded KV cannot change
/// them.
pub fn watched(tokens: &[u32], max_tokens: usize) -> Request {
    Request { logits: true, prompt_logits: true, exact: true, ..greedy(tokens, max_tokens) }
}

pub fn cold(request: Request) -> Request {
    Request { no_cache: true, ..request }
}

/// Checks that the warm run's logits are the cold run's, at every position after the first `cached` tokens.
pub fn same(what: &str, cold: &Answer, warm: &Answer, cached: usize) {
    assert_eq!(warm.tokens, cold.tokens, "{what}");
    let expected = &cold.prompt_logits[cached..];
    let positions = |logits: &[(usize, Vec<u32>)]| logits.iter().map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!(positions(&warm.prompt_logits), positions(expected), "{what}: positions of the prompt with logits");
    for ((at, warm), (_, cold)) in warm.prompt_logits.iter().zip(expected) {
        assert!(warm == cold, "{what}: logits of position {at} differ by {}", delta(warm, cold));
    }
    assert_eq!(warm.logits.len(), cold.logits.len(), "{what}");
    for (at, (warm, cold)) in warm.logits.iter().zip(&cold.logits).enumerate() {
        assert!(warm == cold, "{what}: logits of generated token {at} differ by {}", delta(warm, cold));
    }
}

fn delta(a: &[u32], b: &[u32]) -> f32 {
    let pairs = a.iter().zip(b).map(|(a, b)| (f32::from_bits(*a) - f32::from_bits(*b)).abs());
    pairs.fold(0.0, crate::support::golden::worse)
}

/// The digest of the weights in `model`.
pub fn digest(model: &Path) -> String {
    let checkpoint = block_on(headstart::weights::Checkpoint::open(model)).unwrap();
    block_on(checkpoint.digest(&mut |_, _| {})).unwrap()
}

/// Room for the logits of a whole chunk beside those of three other sequences.
pub fn chunked(chunk: usize) -> EngineOptions {
    EngineOptions { chunk: Some(chunk), max_sequences: Some(chunk + 3), ..EngineOptions::default() }
}
