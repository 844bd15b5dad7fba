//! The engine's interface beyond parity and exactness: missing memory, reuse, cancelling.

use headstart::engine::{Engine, EngineOptions, Event, Request};
use headstart::error::Error;
use headstart::gpu::{Gpu, Preset};
use headstart::kernels::SHADERS;
use headstart::kv::{Miss, Reason, Sources};
use headstart::weights::Checkpoint;
use pollster::block_on;

use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};

#[test]
fn missing_gpu_memory_is_an_error_with_its_size() {
    let mut gpu = block_on(Gpu::open(SHADERS, Preset::Auto)).unwrap();
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
    // KV of an answer's last token was never computed, since no token followed.
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
fn a_request_with_explain_learns_the_known_continuation() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let first: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % tiny.vocabulary as u32).collect();
    let mut second = first.clone();
    second[21] = (second[21] + 1) % tiny.vocabulary as u32;
    let answer = run(&mut engine, &[greedy(&first, 6)]).remove(0);
    assert_eq!(answer.cache.known, [0; 0]);
    // The state when the prompt arrived, since the prompt itself is known by now.
    let asking = Request { explain: true, ..greedy(&second, 2) };
    let told = run(&mut engine, std::slice::from_ref(&asking)).remove(0).cache;
    assert_eq!((told.first_divergent, &told.known[..]), (Some(21), &[&first[21..], &answer.tokens[..5]].concat()[..]));
    let again = run(&mut engine, &[asking]).remove(0).cache;
    assert_eq!((again.first_divergent, &again.known[..]), (None, &[][..]));
    let mut third = first.clone();
    third[21] = (third[21] + 2) % tiny.vocabulary as u32;
    let told = run(&mut engine, &[greedy(&third, 2)]).remove(0).cache;
    assert_eq!((told.first_divergent, &told.known[..]), (Some(21), &[][..]), "without `explain`");
}

/// Of many prompts with a common prefix that arrive at once, the first alone computes that prefix.
#[test]
fn a_prefix_asked_for_at_once_is_computed_once() {
    let tiny = Tiny::read(NAMES[0]);
    let options = EngineOptions { chunk: Some(48), ..EngineOptions::default() };
    let vocabulary = tiny.vocabulary as u32;
    let shared: Vec<u32> = (0..150).map(|i| (i * 7 + 3) % vocabulary).collect();
    let other = |index: u32| Request { cache_salt: "another".into(), ..greedy(&shared[..40 + index as usize], 3) };
    let ending = |index: u32| [&shared[..], &[index % vocabulary, 5, 6]].concat();

    let mut engine = load(&tiny.folder, &options);
    let requests: Vec<Request> = (0..64).map(|index| greedy(&ending(index), 3)).collect();
    let answers = run(&mut engine, &requests);
    let computed: Vec<usize> = answers.iter().map(|answer| answer.cache.sources.computed).collect();
    assert_eq!(computed[0], 153);
    // Whole pages of the common prefix, 144 tokens; then up to the divergence if a page can be copied.
    assert!(computed[1..].iter().all(|&computed| (3..=9).contains(&computed)), "{computed:?}");
    for (request, answer) in requests.iter().zip(&answers).step_by(13) {
        let alone = run(&mut engine, &[Request { no_cache: true, ..request.clone() }]);
        assert_eq!(alone[0].tokens, answer.tokens);
    }

    // Equal prompts wait until the first has ended; a prompt waits for its own salt alone.
    engine.clear_cache();
    let equal: Vec<Request> = (0..8).map(|_| greedy(&shared, 2)).chain([other(0), other(1)]).collect();
    let answers = run(&mut engine, &equal);
    let computed: Vec<usize> = answers.iter().map(|answer| answer.cache.sources.computed).collect();
    assert_eq!(computed, [150, 0, 0, 0, 0, 0, 0, 0, 40, 1]);
}

/// Cancelling a prompt does not strand those that waited for it.
#[test]
fn a_prompt_that_waited_for_a_cancelled_one_continues() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions { chunk: Some(16), ..EngineOptions::default() });
    let shared: Vec<u32> = (0..120).map(|i| (i * 5 + 1) % tiny.vocabulary as u32).collect();
    let first = engine.submit(greedy(&shared, 3)).unwrap();
    let second = engine.submit(greedy(&shared, 3)).unwrap();
    block_on(engine.step()).unwrap();
    block_on(engine.step()).unwrap();
    engine.cancel(first);
    let mut finished = Vec::new();
    while engine.is_busy() {
        for event in block_on(engine.step()).unwrap() {
            if let Event::Finished { sequence, usage, .. } = event {
                finished.push((sequence, usage.cached_tokens, usage.completion_tokens));
            }
        }
    }
    assert_eq!(finished, [(second, 32, 3)]);
}

#[test]
fn pages_have_a_time_to_live_and_a_salt_its_quota() {
    let tiny = Tiny::read(NAMES[0]);
    let ttl = Some(std::time::Duration::ZERO);
    let mut engine = load(&tiny.folder, &EngineOptions { ttl, ..EngineOptions::default() });
    let prompt: Vec<u32> = (0..64).map(|i| (i * 3 + 1) % tiny.vocabulary as u32).collect();
    let pin = |engine: &mut Engine| engine.pin(&prompt, "").map(|pinned| (pinned.id, pinned.tokens));
    run(&mut engine, &[greedy(&prompt, 1)]);
    std::thread::sleep(std::time::Duration::from_millis(2));
    let expired = run(&mut engine, &[greedy(&prompt[..50], 1)]).remove(0);
    assert_eq!((expired.usage.cached_tokens, expired.cache.misses[0].reason), (0, Reason::Expired));

    let mut engine = load(&tiny.folder, &EngineOptions { salt_quota: Some(0), ..EngineOptions::default() });
    run(&mut engine, &[greedy(&prompt, 1)]);
    assert_eq!(run(&mut engine, &[greedy(&prompt, 1)])[0].usage.cached_tokens, 0);

    let mut engine = load(&tiny.folder, &EngineOptions { kv_tokens: Some(128), ..EngineOptions::default() });
    run(&mut engine, &[greedy(&prompt, 1)]);
    let (id, tokens) = pin(&mut engine).unwrap();
    assert_eq!(tokens, 64);
    engine.clear_cache();
    assert_eq!(run(&mut engine, &[greedy(&prompt[..60], 1)])[0].usage.cached_tokens, 59);
    assert!(engine.unpin(id) && !engine.unpin(id));
    engine.clear_cache();
    assert_eq!(run(&mut engine, &[greedy(&prompt, 1)])[0].usage.cached_tokens, 0);
}

#[test]
fn a_cancelled_sequence_has_no_more_events_and_its_pages_stay_cached() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions { chunk: Some(64), ..EngineOptions::default() });
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
