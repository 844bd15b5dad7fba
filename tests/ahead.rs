//! Two steps in flight: the next step is launched before the tokens of the current one are known. No token, page or bit may
//! differ because of it, however sequences end. A request for logits makes the engine run one step at a time.

use headstart::engine::{Engine, EngineOptions, Event, FinishReason, Request, SequenceId};
use headstart::sample::SamplingParams;
use pollster::block_on;

use crate::support::engine::{Answer, generate, greedy, load, run};
use crate::support::odd::{NAMES, Tiny};

fn engine() -> Engine {
    load(&Tiny::read(NAMES[0]).folder, &EngineOptions { chunk: Some(128), ..EngineOptions::default() })
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 7 + seed * 11) % 50).collect()
}

fn sampled(seed: u32, length: u32, max_tokens: usize) -> Request {
    let sampling = SamplingParams { temperature: 1.5, top_k: Some(30), seed: u64::from(seed), ..Default::default() };
    Request { sampling, ..greedy(&prompt(seed, length), max_tokens) }
}

/// The answer when the engine runs one step at a time.
fn alone(request: &Request) -> Answer {
    let mut engine = engine();
    let answer = run(&mut engine, &[Request { logits: true, ..request.clone() }]).remove(0);
    assert_eq!(engine.counters().steps_ahead, 0);
    answer
}

/// The logits of a next turn, which reads the pages left by the answer `tokens`.
fn next_turn(engine: &mut Engine, request: &Request, tokens: &[u32]) -> Answer {
    let tokens = [&request.tokens[..], tokens, &[3, 1, 4]].concat();
    let answer = run(engine, &[Request { logits: true, ..greedy(&tokens, 3) }]).remove(0);
    assert_eq!(answer.cache.sources.gpu, tokens.len() - 3, "what came before the stop is known");
    answer
}

#[test]
fn all_decode_steps_but_the_first_are_launched_ahead() {
    let mut engine = engine();
    let requests = [sampled(1, 20, 9), greedy(&prompt(2, 33), 9), sampled(3, 15, 9)];
    let answers = generate(&mut engine, &requests);
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(answer, alone(request).tokens);
    }
    let counters = engine.counters();
    // The prompt's step yields the first token, and a step that is not launched ahead the second.
    assert_eq!(counters.steps_ahead, 7);
    assert_eq!((counters.submits_per_token, counters.readback_bytes_per_token), (1.0 / 3.0, 4.0));
    assert_eq!(counters.bind_groups_created_per_token, 0.0);
}

#[test]
fn a_stop_in_a_step_ahead_disturbs_no_other_answer_and_no_page() {
    let (stopping, going) = (sampled(5, 13, 24), sampled(6, 18, 24));
    let (whole, others) = (alone(&stopping).tokens, alone(&going).tokens);
    // Some of these lengths end at a page boundary.
    for length in [1, 2, 3, 4, 5, 18, 19, 20] {
        let stop = whole[length];
        if whole[..length].contains(&stop) {
            continue;
        }
        let request = Request { stop_tokens: vec![stop], ..stopping.clone() };
        let mut engine = engine();
        let answers = generate(&mut engine, &[request.clone(), going.clone()]);
        assert_eq!(answers, [&whole[..length], &others[..]], "length {length}");
        let found = next_turn(&mut engine, &request, &whole[..length]);
        let mut single = self::engine();
        run(&mut single, &[Request { logits: true, ..request.clone() }]);
        assert_eq!(single.counters().steps_ahead, 0);
        assert_eq!(found.logits, next_turn(&mut single, &request, &whole[..length]).logits, "length {length}");
    }
}

#[test]
fn a_cancelled_answer_frees_its_pages_for_the_next() {
    let (cancelled, going, coming) = (sampled(7, 14, 30), sampled(8, 21, 30), sampled(9, 30, 12));
    let (whole, others, last) = (alone(&cancelled).tokens, alone(&going).tokens, alone(&coming).tokens);
    for after in 1..6 {
        // So few pages that the next request gets those of the cancelled one.
        let options = EngineOptions { kv_tokens: Some(112), kv_limit: Some(112), ..EngineOptions::default() };
        let mut engine = load(&Tiny::read(NAMES[0]).folder, &options);
        let submit = |engine: &mut Engine, request: &Request| engine.submit(request.clone()).unwrap();
        let ids = [submit(&mut engine, &cancelled), submit(&mut engine, &going)];
        let mut told: Vec<(SequenceId, u32)> = Vec::new();
        let mut ended = Vec::new();
        let mut third = None;
        while engine.is_busy() {
            for event in block_on(engine.step()).unwrap() {
                match event {
                    Event::Token { sequence, token } => told.push((sequence, token)),
                    Event::Finished { sequence, reason, .. } => ended.push((sequence, reason)),
                    other => panic!("{other:?}"),
                }
            }
            if third.is_none() && told.iter().filter(|(id, _)| *id == ids[0]).count() == after {
                engine.cancel(ids[0]);
                third = Some(submit(&mut engine, &coming));
            }
        }
        let of = |wanted| -> Vec<u32> { told.iter().filter(|(id, _)| *id == wanted).map(|told| told.1).collect() };
        assert_eq!(of(ids[0]), whole[..after]);
        assert_eq!(of(ids[1]), others);
        assert_eq!(of(third.unwrap()), last);
        assert!(ended.iter().all(|(id, reason)| *id != ids[0] && *reason == FinishReason::Length));
        assert!(engine.counters().steps_ahead > 0);
        assert_eq!(engine.page_use().used, 0);
    }
}

#[test]
fn no_step_runs_ahead_while_the_host_samples() {
    let mut engine = engine();
    let penalty = SamplingParams { frequency_penalty: 0.5, ..Default::default() };
    let on_host = Request { sampling: penalty, ..greedy(&prompt(4, 10), 6) };
    let requests = [on_host, sampled(5, 10, 9)];
    let answers = generate(&mut engine, &requests);
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(answer, alone(request).tokens);
    }
    // Once the first has ended, the other has two tokens left, and the second of them is launched ahead.
    assert_eq!(engine.counters().steps_ahead, 2);
}

#[test]
fn a_waiting_request_begins_when_a_place_is_free() {
    let tiny = Tiny::read(NAMES[0]);
    let options = EngineOptions { max_sequences: Some(2), ..EngineOptions::default() };
    let mut engine = load(&tiny.folder, &options);
    let requests: Vec<Request> = (0..5).map(|i| sampled(20 + i, 9 + i, 4 + 3 * i as usize)).collect();
    let answers = generate(&mut engine, &requests);
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(answer, alone(request).tokens);
    }
    assert!(engine.counters().steps_ahead > 0);
}

/// The state follows the last computed token.
#[test]
fn a_model_with_a_state_runs_one_step_at_a_time() {
    let mut engine = load(&Tiny::read("tiny-lfm2-f16").folder, &EngineOptions::default());
    generate(&mut engine, &[greedy(&[1, 2, 3], 5)]);
    assert_eq!(engine.counters().steps_ahead, 0);
}
