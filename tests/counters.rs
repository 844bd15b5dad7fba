//! The cost of a token, in counts that are the same on every GPU.

use headstart::engine::EngineOptions;

use crate::support::engine::{generate, greedy, load};
use crate::support::model_path;

#[test]
fn real_model_decode_is_one_submit_few_dispatches_and_four_bytes_back() {
    let mut engine = load(&model_path(), &EngineOptions::default());
    let layers = engine.config().layers.len() as f64;
    generate(&mut engine, &[greedy(&[504, 1296, 3707], 6)]);
    let counters = engine.counters();
    assert_eq!(counters.submits_per_token, 1.0);
    assert_eq!(counters.bind_groups_created_per_token, 0.0);
    assert_eq!(counters.readback_bytes_per_token, 4.0);
    // Five for each layer, and the embedding, the LM head and the two stages of top-k.
    assert_eq!(counters.dispatches_per_token, 5.0 * layers + 4.0);
    let file = std::fs::metadata(model_path()).unwrap().len() as f64;
    assert!(counters.weight_bytes as f64 <= 1.02 * file, "{} of {file}", counters.weight_bytes);
    assert!(counters.bytes_read_per_token <= 1.10 * counters.weight_bytes as f64, "{counters:?}");
}

#[test]
fn a_batch_reads_four_bytes_a_sequence_in_one_submit() {
    let tiny = crate::support::odd::Tiny::read(crate::support::odd::NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    generate(&mut engine, &[greedy(&[1, 2, 3], 5), greedy(&[4, 5, 6], 5), greedy(&[7, 8, 9], 5)]);
    let counters = engine.counters();
    assert_eq!(counters.readback_bytes_per_token, 4.0);
    assert_eq!(counters.submits_per_token, 1.0 / 3.0);
    assert_eq!(counters.bind_groups_created_per_token, 0.0);
}

/// Nine dispatches for each layer with head norms and experts; of the experts, only those that the token uses are read.
#[test]
fn decoding_reads_the_chosen_experts_alone() {
    let tiny = crate::support::odd::Tiny::read("tiny-qwen3-moe-f16");
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    generate(&mut engine, &[greedy(&[1, 2, 3], 9)]);
    let (counters, config) = (engine.counters(), engine.config());
    let (layers, mixture) = (config.layers.len() as f64, config.layers[0].mixture.unwrap());
    assert_eq!(counters.dispatches_per_token, 9.0 * layers + 4.0);
    let expert = 2.0 * 3.0 * (config.hidden * config.layers[0].intermediate) as f64;
    let spared = layers * expert * (mixture.experts.count - mixture.experts.used) as f64;
    let read = counters.weight_bytes as f64 - spared;
    assert!(spared > 0.25 * counters.weight_bytes as f64);
    assert!((0.9 * read..1.1 * read).contains(&counters.bytes_read_per_token), "{read}, {counters:?}");
}

#[test]
fn a_long_context_costs_one_more_dispatch_per_layer_and_no_bind_group() {
    let tiny = crate::support::odd::Tiny::read(crate::support::odd::NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions { kv_tokens: Some(512), ..EngineOptions::default() });
    let prompt: Vec<u32> = (0..300).map(|i| i % tiny.vocabulary as u32).collect();
    generate(&mut engine, &[greedy(&prompt, 5)]);
    let counters = engine.counters();
    assert_eq!(counters.dispatches_per_token, 6.0 * engine.config().layers.len() as f64 + 4.0);
    assert_eq!(counters.bind_groups_created_per_token, 0.0);
}
