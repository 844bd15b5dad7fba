//! Helpers that drive the engine: load, score, generate.

use std::path::Path;

use headstart::Numerics;
use headstart::engine::{Engine, EngineOptions, Event, Request, SequenceId, Usage};
use headstart::kv;
use headstart::weights::Checkpoint;
use pollster::block_on;

use super::golden::{self, Known, Reference, Report};

pub fn load(model: &Path, options: &EngineOptions) -> Engine {
    let checkpoint = block_on(Checkpoint::open(model)).unwrap();
    block_on(Engine::load(&checkpoint, options, &mut |_| {})).unwrap()
}

/// A greedy request for exactly `max_tokens` tokens.
pub fn greedy(tokens: &[u32], max_tokens: usize) -> Request {
    Request { tokens: tokens.to_vec(), max_tokens, ..Request::default() }
}

/// The tokens of each request, with all of them running at once.
pub fn generate(engine: &mut Engine, requests: &[Request]) -> Vec<Vec<u32>> {
    run(engine, requests).into_iter().map(|answer| answer.tokens).collect()
}

/// The result of one request.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    /// The bits of the logits from which each token was chosen, if the request asked for them.
    pub logits: Vec<Vec<u32>>,
    /// The bits of the logits of each computed prompt position, if the request asked for them.
    pub prompt_logits: Vec<(usize, Vec<u32>)>,
    pub usage: Usage,
    pub cache: kv::Report,
}

/// The answers to `requests`, with all of them running at once.
pub fn run(engine: &mut Engine, requests: &[Request]) -> Vec<Answer> {
    run_behind(engine, &[], requests)
}

/// The answers to `first` and then to `requests`, which are submitted once all of `first` are decoding.
pub fn run_behind(engine: &mut Engine, first: &[Request], requests: &[Request]) -> Vec<Answer> {
    let submit = |engine: &mut Engine, requests: &[Request]| -> Vec<SequenceId> {
        requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect()
    };
    let bits = |logits: Vec<f32>| -> Vec<u32> { logits.into_iter().map(f32::to_bits).collect() };
    let mut sequences = submit(engine, first);
    let mut answers: Vec<Answer> = first.iter().chain(requests).map(|_| Answer::default()).collect();
    let mut running = answers.len();
    while running > 0 {
        if sequences.len() == first.len() && answers[..first.len()].iter().all(|answer| !answer.tokens.is_empty()) {
            assert_eq!(running, answers.len(), "the first requests must still be running");
            sequences.extend(submit(engine, requests));
        }
        let place = |sequence| sequences.iter().position(|known| *known == sequence).expect("one of these sequences");
        for event in block_on(engine.step()).unwrap() {
            match event {
                Event::Logits { sequence, logits } => answers[place(sequence)].logits.push(bits(logits)),
                Event::PromptLogits { sequence, position, logits } => {
                    answers[place(sequence)].prompt_logits.push((position, bits(logits)));
                }
                Event::Token { sequence, token } => answers[place(sequence)].tokens.push(token),
                Event::Finished { sequence, usage, cache, .. } => {
                    let answer = &mut answers[place(sequence)];
                    (answer.usage, answer.cache) = (usage, cache);
                    running -= 1;
                }
            }
        }
    }
    answers
}

/// Passes the logits `[vocab]` of each position to `each`, in order. Nothing is reused.
pub fn score(engine: &mut Engine, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32])) {
    let request = Request { prompt_logits: true, no_cache: true, ..greedy(tokens, 0) };
    engine.submit(request).unwrap();
    while engine.is_busy() {
        for event in block_on(engine.step()).unwrap() {
            if let Event::PromptLogits { position, logits, .. } = event {
                each(position, &logits);
            }
        }
    }
}

/// The bits of the logits of every position, `[tokens, vocabulary]`.
pub fn score_bits(engine: &mut Engine, tokens: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    score(engine, tokens, &mut |_, logits: &[f32]| bits.extend(logits.iter().map(|x| x.to_bits())));
    assert!(!bits.is_empty());
    bits
}

/// Compares the engine with one reference; `known` returns the logits to compare at a position, if there are any.
pub fn check<'a>(
    report: &mut Report,
    engine: &mut Engine,
    what: &str,
    reference: &Reference,
    tolerance: f32,
    known: impl Fn(usize) -> Option<Known<'a>>,
) {
    // A tolerance for f32 may be smaller than the rounding errors of f16.
    let tolerance = if engine.numerics() == Numerics::default() { tolerance } else { golden::TOLERANCE };
    let (mut best, mut delta, mut compared) = (Vec::new(), 0.0, 0);
    let mut each = |position: usize, logits: &[f32]| {
        assert_eq!(position, best.len(), "{what}: positions come in order");
        best.push(golden::argmax(logits));
        if let Some(known) = known(position) {
            delta = golden::worse(delta, known.max_delta(logits));
            compared += 1;
        }
    };
    score(engine, &reference.ids, &mut each);
    report.check(compared > 0, || format!("{what}: no logits were compared"));
    report.delta(what, delta, tolerance);
    report.argmax(what, reference, &best);
    let answers = generate(engine, &[greedy(&reference.ids, reference.greedy32.len())]);
    report.greedy(what, reference, &answers[0]);
}
