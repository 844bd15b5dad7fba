//! A device is lost in the middle of an answer, and the answer continues on another.

use headstart::engine::{EngineOptions, Request};
use headstart::error::Error;
use headstart::gpu::{Gpu, Preset};
use headstart::kernels::SHADERS;
use headstart::sample::SamplingParams;
use pollster::block_on;

use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};

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
fn a_lost_device_is_reported_as_such_and_stays_lost() {
    let mut gpu = block_on(Gpu::open(SHADERS, Preset::Auto)).unwrap();
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
fn an_answer_continues_with_the_bits_it_would_have_had() {
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
