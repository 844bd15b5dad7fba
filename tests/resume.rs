//! A device that is lost in the middle of an answer, and the answer that goes on with another.

use headstart::engine::completion::{Answer, Completion};
use headstart::engine::{Engine, EngineOptions, Event, Request, language};
use headstart::error::Error;
use headstart::gpu::Gpu;
use headstart::kernels::SHADERS;
use headstart::sample::SamplingParams;
use headstart::text::{StopStrings, Tokenizer};
use headstart::weights::Checkpoint;
use pollster::block_on;
use web_time::Instant;

use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiny_chat;

const LENGTH: usize = 24;

fn prompt() -> Vec<u32> {
    (0..40).map(|i| (i * 37) % 250).collect()
}

fn samplings() -> [SamplingParams; 2] {
    let drawn =
        SamplingParams { temperature: 1.5, top_k: Some(40), repetition_penalty: 1.1, seed: 7, ..Default::default() };
    [SamplingParams::default(), drawn]
}

#[test]
fn a_lost_device_is_told_from_other_faults_and_stays_lost() {
    let mut gpu = block_on(Gpu::open(SHADERS)).unwrap();
    gpu.destroy();
    for _ in 0..2 {
        let error = gpu.flush().unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        let error = block_on(gpu.alloc("nothing", 64, "")).unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    }

    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    engine.submit(greedy(&prompt(), LENGTH)).unwrap();
    for _ in 0..4 {
        block_on(engine.step()).unwrap();
    }
    engine.destroy_device();
    for _ in 0..2 {
        let error = block_on(engine.step()).unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    }
}

#[test]
fn an_answer_goes_on_with_the_bits_it_would_have_had() {
    let tiny = Tiny::read(NAMES[0]);
    for sampling in samplings() {
        let request = Request { sampling, logits: true, ..greedy(&prompt(), LENGTH) };
        let whole = run(&mut load(&tiny.folder, &EngineOptions::default()), std::slice::from_ref(&request)).remove(0);
        for known in [1, 9, LENGTH - 1] {
            let mut engine = load(&tiny.folder, &EngineOptions::default());
            let generated = whole.tokens[..known].to_vec();
            let rest = run(&mut engine, &[Request { generated, ..request.clone() }]).remove(0);
            assert_eq!(rest.tokens, whole.tokens[known..], "after {known} tokens");
            assert_eq!(rest.logits, whole.logits[known..], "after {known} tokens");
            assert_eq!(rest.usage.completion_tokens, LENGTH);
            assert_eq!(rest.usage.prompt_tokens, request.tokens.len());
        }
    }
}

#[test]
fn text_goes_on_inside_a_character_and_before_a_stop_string() {
    let folder = tiny_chat::folder(NAMES[0]);
    let checkpoint = block_on(Checkpoint::open(folder.path())).unwrap();
    let tokenizer = language::tokenizer(&checkpoint).unwrap();
    // Bytes of "né", cut after the first of the two that are an é.
    let generated = vec![b'n'.into(), 0xC3];
    let mut engine = load(folder.path(), &EngineOptions::default());
    let request = Request { generated, ..greedy(&prompt(), 8) };
    let answer = complete(&mut engine, &tokenizer, request.clone(), &[]);
    assert_eq!(answer.token_ids[..2], request.generated);
    assert_eq!(answer.usage.completion_tokens, 8);
    assert_eq!(answer.text, tokenizer.decode(&answer.token_ids, true));
    assert!(answer.text.starts_with('n'));
    // A stop string of which only the end is still to come.
    let stop: String = answer.text.chars().take(3).collect();
    let stopped = complete(&mut engine, &tokenizer, request, &[&stop]);
    assert_eq!(stopped.text, "");
}

fn complete(engine: &mut Engine, tokenizer: &Tokenizer, request: Request, stops: &[&str]) -> Answer {
    let stops = StopStrings::new(stops.iter().copied()).unwrap();
    let mut completion = Completion::submit(engine, tokenizer, request, stops, Instant::now()).unwrap();
    while !completion.is_finished() {
        let events: Vec<Event> = block_on(engine.step()).unwrap();
        for event in events {
            completion.accept(engine, &event);
        }
    }
    completion.into_answer()
}
