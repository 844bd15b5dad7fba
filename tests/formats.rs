//! A file of many weight formats: it answers as its weights in f32 do, from as many bytes as it has.

use headstart::engine::{Engine, EngineOptions};
use headstart::model::{Config, LayerRole, LayerSpec, Role};
use headstart::quant::Format;
use headstart::weights::{Checkpoint, Kind, MemorySource};
use pollster::block_on;

use crate::checkpoints::gguf::Gguf;
use crate::checkpoints::tiny;
use crate::support::blocks;
use crate::support::engine::{generate, greedy, score};

/// Widths that every block divides.
fn config() -> Config {
    Config {
        hidden: 256,
        head_dim: 64,
        vocab: 96,
        layers: vec![LayerSpec { intermediate: 512, ..tiny::layer() }; 3],
        tied_embeddings: false,
        ..tiny::config()
    }
}

/// Every format there is: in the first layer as in a Q4_K_M, in the second as in one whose width is no multiple of 256,
/// in the third what is left.
fn format(role: Role) -> Format {
    use LayerRole::*;
    match role {
        Role::Embedding => Format::Q3K,
        Role::LmHead | Role::Layer(0, V | Down) => Format::Q6K,
        Role::Layer(0, Q | K | O | Gate | Up) => Format::Q4K,
        Role::Layer(1, Q) => Format::Q5_0,
        Role::Layer(1, K) => Format::Q5_1,
        Role::Layer(1, V) => Format::Q8_0,
        Role::Layer(1, O) => Format::Q4_1,
        Role::Layer(1, Gate | Up) => Format::Q5K,
        Role::Layer(1, Down) => Format::Q4_0,
        Role::Layer(2, Q | K) => Format::Iq4Xs,
        Role::Layer(2, V) => Format::Q2K,
        Role::Layer(2, O) => Format::Iq4Nl,
        Role::Layer(2, Gate | Up | Down) => Format::Mxfp4,
        _ => Format::F32,
    }
}

/// The file, and the same weights in f32.
fn files() -> [Gguf; 2] {
    let config = config();
    [false, true].map(|plain| {
        let mut file = tiny::gguf(&config, Format::F32);
        for role in config.roles().into_iter().filter(|role| role.shape(&config).len() == 2) {
            let (format, elements) = (format(role), tiny::elements(&config, role));
            let raw = blocks::of(format, &elements, 1.0 / 16.0);
            let mut exact = vec![0.0; elements.len()];
            format.dequantize(&raw, &mut exact);
            let tensor = file.tensor_mut(&role.name(Kind::Gguf));
            (tensor.kind, tensor.data) = match plain {
                true => (Format::F32.gguf(), Format::F32.quantize(&exact)),
                false => (format.gguf(), raw),
            };
        }
        file
    })
}

fn open(file: &Gguf) -> Checkpoint {
    block_on(Checkpoint::gguf(Box::new(MemorySource::new("mixed.gguf", file.build())))).unwrap()
}

#[test]
fn a_file_of_many_formats_answers_as_its_weights_in_f32_and_stays_as_small() {
    let load = |file: &Gguf| {
        let checkpoint = open(file);
        let engine = block_on(Engine::load(&checkpoint, &EngineOptions::default(), &mut |_| {})).unwrap();
        (file.tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>(), engine)
    };
    let [(bytes, mut mixed), (_, mut plain)] = files().each_ref().map(load);
    let prompt: Vec<u32> = (0..40).map(|i| i * 7 % 96).collect();
    let logits = |engine: &mut Engine| {
        let mut all = Vec::new();
        score(engine, &prompt, &mut |_, logits| all.extend_from_slice(logits));
        all
    };
    let (found, expected) = (logits(&mut mixed), logits(&mut plain));
    let size = expected.iter().fold(0f32, |size, x| size.max(x.abs()));
    let off = found.iter().zip(&expected).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
    // What another order of f32 sums may cost.
    assert!(size > 0.0 && off <= 1e-4 * size, "{off} of {size}");

    generate(&mut mixed, &[greedy(&prompt, 4)]);
    let counters = mixed.counters();
    assert!(counters.weight_bytes as f64 <= 1.05 * bytes as f64, "{} of {bytes}", counters.weight_bytes);
    // Five a layer and four besides; one more where V has a format of its own, two where Q, K and V have three.
    assert_eq!(counters.dispatches_per_token, 3.0 * 5.0 + 4.0 + 1.0 + 2.0 + 1.0);
}

#[test]
fn weights_are_not_put_into_a_format_that_is_only_read() {
    let options = EngineOptions { quantize: Some(Format::Q5K), ..EngineOptions::default() };
    let [file, _] = files();
    let error = block_on(Engine::load(&open(&file), &options, &mut |_| {})).err().expect("refused").to_string();
    assert!(error.contains("quantize") && error.contains("q5_k"), "{error}");
}
