//! A file of many weight formats: it gives the answers of the same weights in f32, and takes as few bytes as the file.

use headstart::engine::{Engine, EngineOptions};
use headstart::gpu::Preset;
use headstart::kernels::{Experts, head_norm::QkNorm};
use headstart::model::{Config, LayerRole, LayerSpec, Mixture, Quantizable, Role, RopeRows, Stacked};
use headstart::quant::Format;
use headstart::weights::{Checkpoint, Kind, MemorySource};
use pollster::block_on;

use crate::checkpoints::gguf::Gguf;
use crate::checkpoints::tiny;
use crate::cli::{headstart, json_of, str_of};
use crate::support::blocks;
use crate::support::engine::{generate, greedy, score};
use crate::support::tiny_chat;

/// A model, the format of each of its matrices, and the dispatches of a layer if all have the same format.
struct Mixed {
    config: Config,
    format: fn(Role) -> Format,
    dispatches: usize,
}

/// A model whose widths every block divides, and one with experts in which only `down` has rows that the larger blocks divide.
fn all() -> [Mixed; 2] {
    let of =
        |hidden, layers| Config { hidden, head_dim: 64, vocab: 96, layers, tied_embeddings: false, ..tiny::config() };
    let layer = LayerSpec { intermediate: 512, mlp_bias: true, ..tiny::layer() };
    let dense = of(256, vec![layer; 3]);
    let mixture = Some(Mixture { experts: Experts { count: 3, used: 2 }, normalized: true });
    let (stacked, qk_norm) = (Stacked::Experts, Some(QkNorm::Head));
    let layer = LayerSpec { intermediate: 256, stacked, mixture, qk_norm, ..tiny::layer() };
    let experts = Config { architecture: "qwen3moe", rope_rows: RopeRows::Halves, ..of(96, vec![layer]) };
    [Mixed { config: dense, format: every, dispatches: 5 }, Mixed { config: experts, format: narrow, dispatches: 9 }]
}

/// Every format: the first layer as in a Q4_K_M, the second as in one whose width is not a multiple of 256, with gate and up in
/// different formats, the third the remaining formats.
fn every(role: Role) -> Format {
    use LayerRole::*;
    match role {
        Role::Embedding | Role::Layer(1, Up) => Format::Q4_0,
        Role::LmHead | Role::Layer(0, V | Down) => Format::Q6K,
        Role::Layer(0, Q | K | O | Gate | Up) => Format::Q4K,
        Role::Layer(1, Q) => Format::Q5_0,
        Role::Layer(1, K) => Format::Q5_1,
        Role::Layer(1, V) => Format::Q8_0,
        Role::Layer(1, O) => Format::Q4_1,
        Role::Layer(1, Gate) => Format::Q5K,
        Role::Layer(1, Down) => Format::Q3K,
        Role::Layer(2, Q | K) => Format::Iq4Xs,
        Role::Layer(2, V) => Format::Q2K,
        Role::Layer(2, O) => Format::Iq4Nl,
        Role::Layer(2, Gate | Up | Down) => Format::Mxfp4,
        _ => Format::F32,
    }
}

/// As a Q4_K_M whose width is not a multiple of 256, with smaller formats for up than for gate.
fn narrow(role: Role) -> Format {
    use LayerRole::*;
    match role {
        Role::Embedding | Role::Layer(_, Q | K | O | ExpertUps) => Format::Q5_0,
        Role::LmHead | Role::Layer(_, V | ExpertGates) => Format::Q8_0,
        Role::Layer(_, ExpertDowns) => Format::Q6K,
        _ => Format::F32,
    }
}

impl Mixed {
    /// The file, and the same weights in f32.
    fn files(&self) -> [Gguf; 2] {
        let config = &self.config;
        [false, true].map(|plain| {
            let mut file = tiny::gguf(config, Format::F32);
            if let Some(mixture) = config.layers[0].mixture {
                let size = |size: usize| size as u32;
                file.set("qwen3moe.expert_count", size(mixture.experts.count))
                    .set("qwen3moe.expert_used_count", size(mixture.experts.used))
                    .set("qwen3moe.expert_feed_forward_length", size(config.layers[0].intermediate));
            }
            for role in config.roles().into_iter().filter(|role| role.shape(config).len() > 1) {
                let (format, elements) = ((self.format)(role), tiny::elements(config, role));
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

    /// Four beside those of the layers, and one more for each part whose format differs from the part above it.
    fn dispatches_per_token(&self) -> usize {
        use LayerRole::*;
        let changes = |layer: usize, roles: &[LayerRole]| {
            let formats: Vec<Format> = roles.iter().map(|&role| (self.format)(Role::Layer(layer, role))).collect();
            formats.windows(2).filter(|pair| pair[0] != pair[1]).count()
        };
        let layers = self.config.layers.iter().enumerate().map(|(at, layer)| {
            let gate_up = if layer.mixture.is_some() { [ExpertGates, ExpertUps] } else { [Gate, Up] };
            self.dispatches + changes(at, &[Q, K, V]) + changes(at, &gate_up)
        });
        4 + layers.sum::<usize>()
    }
}

fn open(file: &Gguf) -> Checkpoint {
    block_on(Checkpoint::gguf(Box::new(MemorySource::new("mixed.gguf", file.build())))).unwrap()
}

#[test]
fn a_file_of_many_formats_answers_as_in_f32_and_stays_as_small() {
    let load = |file: &Gguf| {
        let checkpoint = open(file);
        // Multiply f32 weights in f32.
        let options = EngineOptions { kernels: Some(Preset::F32), ..EngineOptions::default() };
        let engine = block_on(Engine::load(&checkpoint, &options, &mut |_| {})).unwrap();
        (file.tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>(), engine)
    };
    let prompt: Vec<u32> = (0..40).map(|i| i * 7 % 96).collect();
    let logits = |engine: &mut Engine| {
        let mut all = Vec::new();
        score(engine, &prompt, &mut |_, logits| all.extend_from_slice(logits));
        all
    };
    for model in all() {
        let name = model.config.architecture;
        let [(bytes, mut mixed), (_, mut plain)] = model.files().each_ref().map(load);
        let (found, expected) = (logits(&mut mixed), logits(&mut plain));
        let size = expected.iter().fold(0f32, |size, x| size.max(x.abs()));
        let off = found.iter().zip(&expected).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
        // The tolerance is what another order of f32 sums may cost.
        assert!(size > 0.0 && off <= 1e-4 * size, "{name}: {off} of {size}");

        generate(&mut mixed, &[greedy(&prompt, 4)]);
        let counters = mixed.counters();
        let weights = counters.weight_bytes;
        assert!(weights as f64 <= 1.05 * bytes as f64, "{name}: {weights} of {bytes}");
        assert_eq!(counters.dispatches_per_token, model.dispatches_per_token() as f64, "{name}");
    }
}

#[test]
fn quantising_to_a_read_only_format_is_refused() {
    let options = EngineOptions { quantize: Some(Format::Q5K), ..EngineOptions::default() };
    let [file, _] = all()[0].files();
    let error = block_on(Engine::load(&open(&file), &options, &mut |_| {})).err().expect("refused").to_string();
    assert!(error.contains("quantize") && error.contains("q5_k"), "{error}");
}

/// Rows of 96 elements are whole blocks of 32; those of the five downs, 136 elements, are whole blocks of neither format.
#[test]
fn quantising_reports_the_matrices_that_it_leaves() {
    let model = tiny_chat::folder("tiny-smollm3-f16");
    let checkpoint = block_on(Checkpoint::open(model.path())).unwrap();
    let config = Config::from_checkpoint(&checkpoint).unwrap();
    for (format, left) in [(Format::Q8_0, 5), (Format::Q4_0, 5), (Format::Q4K, 35), (Format::F16, 0)] {
        assert_eq!(config.quantizable(&checkpoint, format).unwrap(), Quantizable { matrices: 36, left }, "{format}");
    }
    let run = |subcommand: &str, arguments: &[&str]| {
        let mut command = headstart(&[subcommand, "--model", str_of(model.path()), "--quantize", "q4_k", "--json"]);
        command.args(["--prompt", "AB"]).args(arguments);
        command
    };
    let warning = "--quantize q4_k: 35 of 36 matrices stay as they are";
    let answer = json_of(&mut run("generate", &["--raw", "-n", "1"]));
    let told = answer["warnings"].as_array().unwrap();
    assert!(told.len() == 1 && told[0].as_str().unwrap().starts_with(warning), "{answer}");
    let scored = run("score", &[]).output().unwrap();
    let said = String::from_utf8(scored.stderr).unwrap();
    assert!(scored.status.success() && said.contains(warning) && said.lines().count() == 1, "{said}");
    let whole = open(&tiny::gguf(&tiny::config(), Format::Q8_0));
    assert_eq!(tiny::config().quantizable(&whole, Format::Q4_0).unwrap(), Quantizable { matrices: 0, left: 0 });
}
