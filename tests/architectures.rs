//! Every architecture beside Llama: both kinds of checkpoint read alike, the engine agrees with the model's CPU twin, and what
//! an architecture does not do is refused by name.

use headstart::engine::{Engine, EngineOptions};
use headstart::kernels::head_norm::QkNorm;
use headstart::model::{Config, LayerSpec, RopeRows};
use headstart::quant::Format;
use headstart::weights::{Checkpoint, MemorySource};
use pollster::block_on;
use serde_json::{Value, json};

use crate::checkpoints::{safetensors as st, tiny};
use crate::support::engine::score;
use crate::support::golden::{Known, worse};
use crate::support::llama::Llama;

/// The tiny model as another architecture, whose rows of Q and K are as transformers has them in GGUF too.
fn config(architecture: &'static str, layer: LayerSpec) -> Config {
    Config { architecture, layers: vec![layer; 2], rope_rows: RopeRows::Halves, ..tiny::config() }
}

fn all() -> Vec<Config> {
    let mut some_turned = vec![tiny::layer(); 5];
    some_turned[3].rope = None;
    vec![
        config("qwen2", LayerSpec { qkv_bias: true, ..tiny::layer() }),
        config("qwen3", LayerSpec { qk_norm: Some(QkNorm::Head), ..tiny::layer() }),
        config("qwen3", LayerSpec { qk_norm: Some(QkNorm::Head), qkv_bias: true, o_bias: true, ..tiny::layer() }),
        Config { architecture: "smollm3", layers: some_turned, ..tiny::config() },
    ]
}

fn gguf(config: &Config) -> Checkpoint {
    let file = tiny::gguf(config, Format::F32).build();
    block_on(Checkpoint::gguf(Box::new(MemorySource::new("tiny.gguf", file)))).unwrap()
}

/// The directory, with some fields of `config.json` besides.
fn directory(config: &Config, fields: Value) -> Checkpoint {
    let mut json = tiny::config_json(config);
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let mut files = tiny::directory(config);
    files.insert("config.json".into(), json.to_string().into_bytes());
    block_on(Checkpoint::safetensors("dir", st::sources(&files))).unwrap()
}

#[test]
fn both_kinds_of_checkpoint_read_alike() {
    for config in all() {
        let halves = Config { rope_rows: RopeRows::Halves, ..config.clone() };
        for (checkpoint, config) in [(gguf(&config), config), (directory(&halves, json!({})), halves)] {
            assert_eq!(Config::from_checkpoint(&checkpoint).unwrap(), config);
            config.check_tensors(&checkpoint).unwrap();
        }
    }
}

#[test]
fn the_engine_agrees_with_the_cpu_twin() {
    let prompt: Vec<u32> = (0..37).map(|i| i * 11 % 40).collect();
    for config in all() {
        for checkpoint in [gguf(&config), directory(&config, json!({}))] {
            let mut engine = block_on(Engine::load(&checkpoint, &EngineOptions::default(), &mut |_| {})).unwrap();
            let mut found = Vec::new();
            score(&mut engine, &prompt, &mut |_, logits| found.push(logits.to_vec()));
            let (mut delta, mut size) = (0.0, 0f32);
            Llama::load(&checkpoint, true).score(
                &prompt,
                |_| true,
                |position, logits| {
                    delta = worse(delta, Known::Row(logits).max_delta(&found[position]));
                    size = logits.iter().fold(size, |size, x| size.max(x.abs()));
                },
            );
            // K and V that round to another f16 where f32 sums differ in their last bits.
            assert!(size > 0.0 && delta <= 1e-3 * size, "{}: {delta} of {size}", config.architecture);
        }
    }
}

#[test]
fn windows_are_refused_where_they_are_used() {
    for config in all() {
        let config = Config { rope_rows: RopeRows::Halves, ..config };
        let read = |fields| Config::from_checkpoint(&directory(&config, fields));
        let window = |on: bool| json!({ "sliding_window": 4096, "use_sliding_window": on, "max_window_layers": 1 });
        assert_eq!(read(window(false)).unwrap(), config);
        let error = read(window(true)).unwrap_err().to_string();
        assert!(error.contains("4096") && error.contains("use_sliding_window"), "{error}");
        let error = read(json!({ "num_experts": 8 })).unwrap_err().to_string();
        assert!(error.contains("num_experts"), "{error}");
    }
}

#[test]
fn which_layers_turn_is_a_list_or_an_interval() {
    let config = all().pop().unwrap();
    let turned = |fields| -> Result<Vec<bool>, String> {
        let read = Config::from_checkpoint(&directory(&config, fields)).map_err(|error| error.to_string())?;
        Ok(read.layers.iter().map(|layer| layer.rope.is_some()).collect())
    };
    assert_eq!(turned(json!({ "no_rope_layers": [0, 1, 0, 1, 1, 0] })), Ok(vec![false, true, false, true, true]));
    assert_eq!(turned(json!({ "no_rope_layers": null })), Ok(vec![true, true, true, false, true]));
    let by_two = json!({ "no_rope_layers": null, "no_rope_layer_interval": 2 });
    assert_eq!(turned(by_two), Ok(vec![true, false, true, false, true]));
    for wrong in [json!([1, 1]), json!([1, 1, 1, 2, 1]), json!("all")] {
        let error = turned(json!({ "no_rope_layers": wrong })).unwrap_err();
        assert!(error.contains("no_rope_layers") && error.contains("5 layers"), "{error}");
    }
    let error = turned(json!({ "no_rope_layers": null, "no_rope_layer_interval": 0 })).unwrap_err();
    assert!(error.contains("no_rope_layer_interval"), "{error}");
}
