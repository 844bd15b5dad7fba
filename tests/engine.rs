//! The engine's face beyond what parity and exactness hold: memory that is not there, reuse, cancelling.

use headstart::engine::{Engine, EngineOptions, Event, Request};
use headstart::error::Error;
use headstart::gpu::Gpu;
use headstart::kernels::SHADERS;
use headstart::kv::{Miss, Reason, Sources};
use headstart::weights::Checkpoint;
use pollster::block_on;

use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};

#[test]
fn memory_that_is_not_there_is_an_error_with_its_size() {
    let mut gpu = block_on(Gpu::open(SHADERS)).unwrap();
    let most = gpu.caps().max_buffer;
    let asked = (most + 4).next_multiple_of(4);
    match block_on(gpu.alloc("the weights", asked, "use less")) {
        Err(Error::GpuMemory { what, needed, available, .. }) => {
            assert_eq!((what.as_str(), needed, available), ("the weights", asked, most));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_context_longer_than_the_models_is_refused() {
    let tiny = Tiny::read(NAMES[0]);
    let checkpoint = block_on(Checkpoint::open(&tiny.folder)).unwrap();
    for context in [0, 1 << 20] {
        let options = EngineOptions { context: Some(context), ..EngineOptions::default() };
        let error = block_on(Engine::load(&checkpoint, &options, &mut |_| {})).err().unwrap();
        assert!(matches!(error, Error::Request { field: "context", .. }), "{error}");
    }
}

#[test]
fn a_next_turn_computes_only_what_is_new() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let first: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % tiny.vocabulary as u32).collect();
    let answer = run(&mut engine, &[greedy(&first, 10)]).remove(0);
    assert_eq!(answer.usage.cached_tokens, 0);
    // The last token of an answer was never computed: nothing came after it.
    let second = [&first[..], &answer.tokens, &[1, 2, 3]].concat();
    let usage = run(&mut engine, &[greedy(&second, 4)])[0].usage;
    assert_eq!(usage.cached_tokens, first.len() + answer.tokens.len() - 1);
    // An edited message keeps what precedes the edit.
    let mut edited = second.clone();
    edited[21] = (edited[21] + 1) % tiny.vocabulary as u32;
    assert_eq!(run(&mut engine, &[greedy(&edited, 4)])[0].usage.cached_tokens, 21);
}

#[test]
fn an_answer_accounts_for_its_prompt() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let first: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % tiny.vocabulary as u32).collect();
    let mut second = first.clone();
    second[21] = (second[21] + 1) % tiny.vocabulary as u32;

    let cold = run(&mut engine, &[greedy(&first, 4)]).remove(0).cache;
    assert_eq!(cold.prompt_tokens, 40);
    assert_eq!(cold.sources, Sources { computed: 40, ..Sources::default() });
    assert_eq!(cold.misses, [Miss { reason: Reason::Cold, from: 0, tokens: 39 }]);
    assert_eq!(cold.first_divergent, None);

    let warm = run(&mut engine, &[greedy(&second, 4)]).remove(0);
    assert_eq!(warm.cache.sources, Sources { gpu: 21, computed: 19, ..Sources::default() });
    assert_eq!(warm.cache.misses, [Miss { reason: Reason::Diverged, from: 21, tokens: 18 }]);
    assert_eq!(warm.cache.first_divergent, Some(21));
    assert_eq!(warm.usage.cached_tokens, 21);
}

#[test]
fn what_is_known_at_a_divergence_is_noted_for_who_asks() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let first: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % tiny.vocabulary as u32).collect();
    let mut second = first.clone();
    second[21] = (second[21] + 1) % tiny.vocabulary as u32;
    let answer = run(&mut engine, &[greedy(&first, 6)]).remove(0);
    assert_eq!(answer.cache.known, [0; 0]);
    // As it was when the prompt came: the prompt itself is known by now.
    let asking = Request { explain: true, ..greedy(&second, 2) };
    let told = run(&mut engine, std::slice::from_ref(&asking)).remove(0).cache;
    assert_eq!((told.first_divergent, &told.known[..]), (Some(21), &[&first[21..], &answer.tokens[..5]].concat()[..]));
    let again = run(&mut engine, &[asking]).remove(0).cache;
    assert_eq!((again.first_divergent, &again.known[..]), (None, &[][..]));
    let mut third = first.clone();
    third[21] = (third[21] + 2) % tiny.vocabulary as u32;
    let told = run(&mut engine, &[greedy(&third, 2)]).remove(0).cache;
    assert_eq!((told.first_divergent, &told.known[..]), (Some(21), &[][..]), "it did not ask");
}

#[test]
fn a_cancelled_sequence_says_nothing_more_and_leaves_its_pages() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let prompt: Vec<u32> = (0..40).collect();
    let gone = engine.submit(greedy(&prompt, 50)).unwrap();
    let kept = engine.submit(Request { max_tokens: 5, ..greedy(&[9, 8, 7], 5) }).unwrap();
    block_on(engine.step()).unwrap();
    engine.cancel(gone);
    let mut tokens = 0;
    while engine.is_busy() {
        for event in block_on(engine.step()).unwrap() {
            match event {
                Event::Token { sequence, .. }
                | Event::Finished { sequence, .. }
                | Event::Logits { sequence, .. }
                | Event::PromptLogits { sequence, .. } => {
                    assert_eq!(sequence, kept);
                    tokens += 1;
                }
            }
        }
    }
    assert_eq!(tokens, 5, "four tokens and the end, after the first step's token");
    assert_eq!(run(&mut engine, &[greedy(&prompt, 1)])[0].usage.cached_tokens, 40);
}
