//! The engine as the tests drive it: load, score, generate.

use std::path::Path;

use headstart::engine::{Engine, EngineOptions, Event, Request};
use headstart::sample::SamplingParams;
use headstart::weights::Checkpoint;
use pollster::block_on;

use super::golden::{self, Known, Reference, Report};

pub fn load(model: &Path, options: &EngineOptions) -> Engine {
    let checkpoint = block_on(Checkpoint::open(model)).unwrap();
    block_on(Engine::load(&checkpoint, options, &mut |_| {})).unwrap()
}

pub fn greedy(tokens: &[u32], max_tokens: usize) -> Request {
    Request { tokens: tokens.to_vec(), max_tokens, sampling: SamplingParams::greedy(), stop_tokens: vec![] }
}

/// The tokens of each request, all running at once.
pub fn generate(engine: &mut Engine, requests: Vec<Request>) -> Vec<Vec<u32>> {
    let ids: Vec<_> = requests.into_iter().map(|request| engine.submit(request).unwrap()).collect();
    let mut texts = vec![Vec::new(); ids.len()];
    let mut running = ids.len();
    while running > 0 {
        for event in block_on(engine.step()).unwrap() {
            let at = ids.iter().position(|id| *id == event.id).unwrap();
            match event {
                Event::Token { token, .. } => texts[at].push(token),
                Event::Finished { .. } => running -= 1,
            }
        }
    }
    texts
}

/// The bits of the logits of every position, `[tokens, vocabulary]`.
pub fn score_bits(engine: &mut Engine, tokens: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    block_on(engine.score(tokens, &mut |_, logits: &[f32]| bits.extend(logits.iter().map(|x| x.to_bits())))).unwrap();
    bits
}

/// Holds the engine against one reference; `known` gives the logits to compare at a position, if there are any.
pub fn check<'a>(
    report: &mut Report,
    engine: &mut Engine,
    what: &str,
    reference: &Reference,
    tolerance: f32,
    known: impl Fn(usize) -> Option<Known<'a>>,
) {
    let (mut best, mut delta, mut compared) = (Vec::new(), 0.0f32, 0);
    let mut each = |position: usize, logits: &[f32]| {
        assert_eq!(position, best.len(), "{what}: positions come in order");
        best.push(golden::argmax(logits));
        if let Some(known) = known(position) {
            delta = golden::worse(delta, known.max_delta(logits));
            compared += 1;
        }
    };
    block_on(engine.score(&reference.ids, &mut each)).unwrap();
    report.check(compared > 0, || format!("{what}: no logits were compared"));
    report.delta(what, delta, tolerance);
    report.argmax(what, reference, &best);
    let request = greedy(&reference.ids, reference.greedy32.len());
    let [found] = generate(engine, vec![request]).try_into().unwrap();
    report.greedy(what, reference, &found);
}
