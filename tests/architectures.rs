//! Every architecture other than Llama: both kinds of checkpoint give the same configuration, the engine agrees with the
//! model's CPU twin, and unsupported features are refused by name.

use headstart::engine::{Engine, EngineOptions};
use headstart::kernels::Experts;
use headstart::kernels::head_norm::QkNorm;
use headstart::model::{Config, LayerSpec, MixerSpec, Mixture, RopeRows, Stacked};
use headstart::quant::Format;
use headstart::weights::{Checkpoint, MemorySource};
use pollster::block_on;
use serde_json::{Value, json};

use crate::checkpoints::{safetensors as st, tiny};
use crate::support::engine::score;
use crate::support::golden::{Known, folder, worse};
use crate::support::llama::Llama;
use crate::support::odd;

/// The tiny model as another architecture whose Q and K rows GGUF stores in transformers' order.
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

/// The model as a directory, with further fields in `config.json`.
fn directory(config: &Config, fields: Value) -> Checkpoint {
    let mut json = tiny::config_json(config);
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let mut files = tiny::directory(config);
    files.insert("config.json".into(), json.to_string().into_bytes());
    block_on(Checkpoint::safetensors("dir", st::sources(&files))).unwrap()
}

#[test]
fn both_kinds_of_checkpoint_give_the_same_configuration() {
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
            // K and V may round to another f16 where f32 sums differ in their last bits.
            assert!(size > 0.0 && delta <= 1e-3 * size, "{}: {delta} of {size}", config.architecture);
        }
    }
}

#[test]
fn unsupported_windows_are_refused_if_switched_on() {
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
fn layers_with_rope_are_given_by_a_list_or_an_interval() {
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

/// The configuration of a committed tiny model with some fields changed; "absent" removes one.
fn changed(name: &str, fields: Value) -> Result<Config, String> {
    let json = std::fs::read(folder(name).join("config.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    let own = json.as_object_mut().unwrap();
    for (key, value) in fields.as_object().unwrap() {
        match value == "absent" {
            true => own.remove(key),
            false => own.insert(key.clone(), value.clone()),
        };
    }
    let mut files = tiny::directory(&tiny::config());
    files.insert("config.json".into(), json.to_string().into_bytes());
    let checkpoint = block_on(Checkpoint::safetensors("dir", st::sources(&files))).unwrap();
    Config::from_checkpoint(&checkpoint).map_err(|error| error.to_string())
}

#[test]
fn gemma_3_accepts_every_spelling_of_windows_and_rope() {
    let name = "tiny-gemma3-f16";
    let known = changed(name, json!({})).unwrap();
    assert_eq!(known.layers.iter().filter(|layer| layer.scores.window == Some(17)).count(), 6);
    let old = json!({
        "layer_types": "absent", "rope_parameters": "absent", "sliding_window_pattern": 6, "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0, "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
    });
    assert_eq!(changed(name, old).unwrap(), known, "in the form of transformers 4");
    let windows = |fields| -> Vec<bool> {
        changed(name, fields).unwrap().layers.iter().map(|layer| layer.scores.window.is_some()).collect()
    };
    let by_two = json!({ "layer_types": "absent", "_sliding_window_pattern": 2 });
    assert_eq!(windows(by_two), [true, false, true, false, true, false, true]);
    let all = json!({ "sliding_window": null, "layer_types": vec!["full_attention"; 7] });
    assert_eq!(windows(all), [false; 7]);
    assert_eq!(windows(json!({ "sliding_window": 512 })), [false; 7], "a window as long as the context");
    let scale = changed(name, json!({ "query_pre_attn_scalar": 64 })).unwrap().layers[0].scores.scale;
    assert_eq!(scale, 0.125);
    for (fields, parts) in [
        (json!({ "layer_types": ["full_attention"] }), ["layer_types", "7 layers"]),
        (json!({ "layer_types": vec!["linear_attention"; 7] }), ["layer_types", "7 layers"]),
        (json!({ "use_bidirectional_attention": true }), ["use_bidirectional_attention", "off"]),
        (json!({ "hidden_activation": "gelu" }), ["hidden_activation", "gelu_pytorch_tanh"]),
    ] {
        let error = changed(name, fields).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn absent_fields_take_the_architectures_defaults() {
    let caps = |fields| {
        let config = changed("tiny-gemma2-f16", fields).unwrap();
        (config.layers[0].scores.cap, config.logit_cap)
    };
    let both = |value: Value| json!({ "attn_logit_softcapping": value, "final_logit_softcapping": value });
    assert_eq!(caps(json!({})), (Some(2.0), Some(3.0)));
    assert_eq!(caps(both(json!("absent"))), (Some(50.0), Some(30.0)));
    assert_eq!(caps(both(Value::Null)), (None, None));
    let window = |fields| changed("tiny-mistral-f16", fields).unwrap().layers[0].scores.window;
    assert_eq!(window(json!({})), Some(19));
    assert_eq!(window(json!({ "sliding_window": null })), None);
    let long = json!({ "sliding_window": "absent", "max_position_embeddings": 8192 });
    assert_eq!(window(long), Some(4096));
    let multipliers = json!({ "attention_multiplier": "absent", "logits_scaling": "absent" });
    let granite = changed("tiny-granite-f16", multipliers).unwrap();
    assert_eq!((granite.layers[0].scores.scale, granite.logit_scale), (1.0, 1.0));
    let error = changed("tiny-granite-f16", json!({ "logits_scaling": 0.0 })).unwrap_err();
    assert!(error.contains("logits_scaling"), "{error}");
}

#[test]
fn lfm2_accepts_every_spelling_of_layers_and_width() {
    let name = "tiny-lfm2-f16";
    let known = changed(name, json!({})).unwrap();
    let mixers = |config: &Config| config.layers.iter().map(|layer| layer.mixer).collect::<Vec<_>>();
    let (conv, attention) = (MixerSpec::ShortConv { taps: 4 }, MixerSpec::Attention);
    assert_eq!(mixers(&known), [conv, conv, attention, conv, attention]);
    assert_eq!((known.layers[0].intermediate, known.rms_eps), (104, 1e-5));
    let listed = |list: Value| changed(name, json!({ "layer_types": null, "full_attn_idxs": list }));
    assert_eq!(listed(json!([2, 4])).unwrap(), known);
    assert_eq!(mixers(&listed(Value::Null).unwrap()), [attention; 5], "all layers attend");
    assert!(listed(json!([5])).unwrap_err().contains("full_attn_idxs"));

    let left_out = json!({ "rope_parameters": "absent", "norm_eps": "absent", "conv_L_cache": "absent" });
    let usual = changed(name, left_out).unwrap();
    assert_eq!((usual.layers[2].rope.as_ref().unwrap().theta, usual.rms_eps), (1_000_000.0, 1e-5));
    assert_eq!(usual.layers[0].mixer, MixerSpec::ShortConv { taps: 3 });

    let plain = changed(name, json!({ "block_auto_adjust_ff_dim": false, "intermediate_size": 104 })).unwrap();
    assert_eq!(plain.layers[0].intermediate, 104);
    for (field, value) in [
        ("conv_L_cache", json!(1)),
        ("conv_L_cache", json!(99)),
        ("layer_types", json!(["conv", "full_attention"])),
        ("block_ffn_dim_multiplier", json!(0)),
        ("block_ffn_dim_multiplier", json!(1e300)),
        ("block_multiple_of", json!(0)),
    ] {
        let error = changed(name, json!({ field: value })).unwrap_err();
        assert!(error.contains(field), "{error}");
    }
    // In the form of the first published files.
    assert_eq!(changed(name, json!({ "intermediate_size": "absent", "block_ff_dim": 150 })).unwrap(), known);
}

#[test]
fn granite_4_runs_if_it_is_dense() {
    let name = "tiny-granite4-f16";
    let known = changed(name, json!({})).unwrap();
    assert_eq!((known.architecture, known.layers[0].stacked), ("granite", Stacked::SharedGateUp));
    let types = |key: &str, kind: &str| json!({ "layer_types": "absent", key: vec![kind; 2] });
    assert_eq!(changed(name, types("layer_types", "attention")).unwrap(), known, "in the form of transformers 4");
    assert_eq!(changed(name, types("layers_block_type", "attention")).unwrap(), known);
    assert_eq!(
        changed(name, json!({ "intermediate_size": 8 })).unwrap(),
        known,
        "the width of experts, of which there are none"
    );
    for none in ["nope", "absent"] {
        let config = changed(name, json!({ "position_embedding_type": none })).unwrap();
        assert!(config.layers.iter().all(|layer| layer.rope.is_none()), "{none}");
    }
    let wide = changed(name, json!({ "shared_intermediate_size": "absent" })).unwrap();
    assert_eq!(wide.layers[0].intermediate, 1024);
    for (fields, part) in [
        (json!({ "layer_types": ["mamba", "attention"] }), "layer_types with state space layers"),
        (json!({ "layer_types": ["linear_attention", "full_attention"] }), "layer_types with state space layers"),
        (json!({ "layer_types": "absent" }), "without layer_types"),
        (json!({ "num_local_experts": 4 }), "num_local_experts"),
        (json!({ "num_local_experts": "absent" }), "num_local_experts"),
    ] {
        let error = changed(name, fields).unwrap_err();
        assert!(error.contains(part) && error.contains("dense"), "{error}");
    }
}

#[test]
fn a_granite_gguf_tells_whether_layers_have_rope() {
    let turns = |name: &str| {
        let checkpoint = block_on(Checkpoint::open(folder(name))).unwrap();
        Config::from_checkpoint(&checkpoint).unwrap().layers.iter().all(|layer| layer.rope.is_some())
    };
    assert!(turns("tiny-granite-f16.gguf") && turns("tiny-granite4-f16.gguf") && !turns("tiny-granite4-nope-f16.gguf"));
}

/// The published files of Gemma 3 leave these fields out of their language model.
#[test]
fn the_language_model_of_a_multimodal_gemma_3_is_read_alone() {
    let name = "tiny-gemma3-whole-f16";
    let known = changed(name, json!({})).unwrap();
    assert_eq!((known.architecture, known.heads, known.kv_heads, known.head_dim), ("gemma3", 8, 4, 256));
    assert_eq!((known.hidden, known.vocab, known.tied_embeddings), (16, 131, true));
    assert_eq!((known.bos, &known.stop_tokens[..]), (Some(1), &[2][..]));
    let theta = |config: &Config, layer: usize| config.layers[layer].rope.as_ref().unwrap().theta;
    assert_eq!((theta(&known, 0), theta(&known, 1)), (10_000.0, 1_000_000.0));
    assert_eq!((known.layers[0].scores.window, known.layers[1].scores.window), (Some(17), None));

    let alone = json!({ "text_config": { "num_hidden_layers": 7, "eos_token_id": 5 } });
    let all = changed(name, alone).unwrap();
    assert_eq!((all.hidden, all.vocab, all.layers[0].intermediate, all.context), (2304, 262_208, 9216, 131_072));
    assert_eq!((all.layers[0].scores.window, all.layers[5].scores.window), (Some(4096), None));
    assert!(all.stop_tokens.contains(&5), "{:?}", all.stop_tokens);
    let error = changed(name, json!({ "text_config": { "final_logit_softcapping": 30.0 } })).unwrap_err();
    assert!(error.contains("final_logit_softcapping"), "{error}");

    let checkpoint = block_on(Checkpoint::open(folder(name))).unwrap();
    known.check_tensors(&checkpoint).unwrap();
    assert!(checkpoint.tensors["model.norm.weight"].name == "language_model.model.norm.weight");
}

#[test]
fn ministral_has_windows_in_the_layers_that_its_file_lists() {
    let name = "tiny-ministral-f16";
    let windows = |fields| -> Vec<Option<usize>> {
        changed(name, fields).unwrap().layers.iter().map(|layer| layer.scores.window).collect()
    };
    assert_eq!(windows(json!({})), [None, Some(19), Some(19)]);
    assert_eq!(windows(json!({ "layer_types": "absent" })), [Some(19); 3], "every layer");
    assert_eq!(windows(json!({ "sliding_window": null, "layer_types": "absent" })), [None; 3]);
    let error = changed(name, json!({ "sliding_window": null })).unwrap_err();
    assert!(error.contains("sliding_window"), "{error}");
    // The published model has a window as long as its context, and calls itself a Mistral.
    assert_eq!(windows(json!({ "sliding_window": 512, "model_type": "mistral" })), [None; 3]);
    let error = changed(name, json!({ "model_type": "mistral" })).unwrap_err();
    assert!(error.contains("layer_types"), "{error}");
    let error = changed(name, json!({ "model_type": "ministral3" })).unwrap_err();
    assert!(error.contains("ministral3"), "{error}");
}

/// Every configuration field that transformers' modelling files of these architectures read either changes our configuration or
/// is refused by name; none is silently ignored.
#[test]
fn no_field_that_changes_numbers_is_ignored() {
    let fields = [
        ("attention_bias", json!(true)),
        ("attention_multiplier", json!(0.7)),
        ("attn_logit_softcapping", json!(47.0)),
        ("block_auto_adjust_ff_dim", json!(false)),
        ("block_ff_dim", json!(300)),
        ("block_ffn_dim_multiplier", json!(2.0)),
        ("block_multiple_of", json!(16)),
        ("clip_qkv", json!(8.0)),
        ("decoder_sparse_step", json!(2)),
        ("conv_L_cache", json!(2)),
        ("conv_bias", json!(true)),
        ("embedding_multiplier", json!(3.5)),
        ("final_logit_softcapping", json!(29.0)),
        ("head_dim", json!(8)),
        ("hidden_size", json!(8)),
        ("layer_types", json!(vec!["chunked_attention"; 7])),
        ("lm_head_bias", json!(true)),
        ("logits_scaling", json!(3.5)),
        ("mlp_bias", json!(true)),
        ("norm_eps", json!(0.125)),
        ("mlp_only_layers", json!([0, 1])),
        ("moe_intermediate_size", json!(16)),
        ("norm_topk_prob", json!(true)),
        ("norm_topk_prob", json!(false)),
        ("no_rope_layers", json!([0, 1, 0, 1, 0, 1, 0])),
        ("num_attention_heads", json!(2)),
        ("num_experts", json!(6)),
        ("num_experts_per_tok", json!(4)),
        ("num_hidden_layers", json!(1)),
        ("num_key_value_heads", json!(97)),
        ("num_local_experts", json!(4)),
        ("partial_rotary_factor", json!(0.5)),
        ("query_pre_attn_scalar", json!(97)),
        ("residual_multiplier", json!(0.7)),
        ("rms_norm_eps", json!(0.125)),
        ("rope_parameters", json!({ "rope_type": "p-rope" })),
        ("rope_parameters", json!({ "rope_type": "yarn", "factor": 2.0, "llama_4_scaling_beta": 0.1 })),
        (
            "rope_parameters",
            json!({ "full_attention": { "rope_theta": 3.5 }, "sliding_attention": { "rope_theta": 2.5 } }),
        ),
        ("sliding_window", json!(13)),
        ("tie_word_embeddings", json!(true)),
        ("tie_word_embeddings", json!(false)),
        ("use_bidirectional_attention", json!(true)),
        ("use_qk_norm", json!(true)),
        ("vocab_size", json!(8)),
    ];
    let experts = |name: &str| name.contains("qwen3-moe") || name.contains("qwen3-some");
    // Fields without effect: those that only mixtures have; those that only LFM2 has or names differently; windows that a
    // switch leaves off; biases that are there without being named; RoPE fields that are given a second time; and RoPE fields
    // of a model without positions.
    let idle = |name: &str, field: &str| match field {
        "sliding_window" => ["qwen", "smollm3", "yarn"].iter().any(|family| name.contains(family)),
        "attention_bias" => name.contains("qwen2"),
        "block_auto_adjust_ff_dim" | "block_ff_dim" | "block_ffn_dim_multiplier" | "block_multiple_of" => {
            !name.contains("lfm2")
        }
        "decoder_sparse_step"
        | "mlp_only_layers"
        | "moe_intermediate_size"
        | "norm_topk_prob"
        | "num_experts_per_tok" => !experts(name),
        "conv_L_cache" | "conv_bias" | "norm_eps" => !name.contains("lfm2"),
        "rms_norm_eps" => name.contains("lfm2"),
        "partial_rotary_factor" => name.contains("phi") || name.contains("nope"),
        _ => false,
    };
    for name in odd::all() {
        let json: Value = serde_json::from_slice(&std::fs::read(folder(name).join("config.json")).unwrap()).unwrap();
        let known = changed(name, json!({})).unwrap();
        for (field, value) in fields.iter().filter(|(field, value)| json[*field] != *value) {
            let fields = match json.get("text_config") {
                None => json!({ *field: value }),
                Some(text) => {
                    let mut text = text.clone();
                    text[*field] = value.clone();
                    json!({ "text_config": text })
                }
            };
            let passed_over = changed(name, fields).is_ok_and(|config| config == known);
            assert_eq!(passed_over, idle(name, field), "{name}: {field} {value}");
        }
        let window = json!({ "use_sliding_window": true, "sliding_window": 13 });
        assert!(
            changed(name, window).is_err() || name.contains("gemma3-whole"),
            "{name}: a window that is switched on"
        );
    }
}

#[test]
fn gemma_3_layers_take_rope_by_their_kind_whatever_the_window() {
    let read = |window: Value| changed("tiny-gemma3-f16", json!({ "sliding_window": window }));
    let known = read(json!(17)).unwrap();
    assert!(known.layers[0].rope != known.layers[5].rope);
    for window in [511, 512, 4096] {
        let config = read(json!(window)).unwrap();
        assert_eq!(config.layers[0].scores.window, (window < 512).then_some(window));
        assert!(known.layers.iter().zip(&config.layers).all(|(known, layer)| known.rope == layer.rope), "{window}");
    }
    for nothing in [json!(0), Value::Null] {
        let error = read(nothing).unwrap_err();
        assert!(error.contains("sliding_window"), "{error}");
    }
}

#[test]
fn a_router_by_another_function_is_refused() {
    let mixture = Some(Mixture { experts: Experts { count: 4, used: 2 }, normalized: true });
    let layer = LayerSpec { qk_norm: Some(QkNorm::Head), mixture, stacked: Stacked::Experts, ..tiny::layer() };
    let config = config("qwen3moe", layer);
    let read = |gating: Option<u32>| {
        let mut file = tiny::gguf(&config, Format::F32);
        let width = config.layers[0].intermediate as u32;
        for (key, value) in [("count", 4), ("used_count", 2), ("feed_forward_length", width)] {
            file.set(&format!("qwen3moe.expert_{key}"), value);
        }
        gating.map(|gating| file.set("qwen3moe.expert_gating_func", gating));
        let checkpoint = block_on(Checkpoint::gguf(Box::new(MemorySource::new("tiny.gguf", file.build())))).unwrap();
        Config::from_checkpoint(&checkpoint).map_err(|error| error.to_string())
    };
    assert_eq!(read(None), Ok(config.clone()));
    assert_eq!(read(Some(1)), Ok(config.clone()));
    let error = read(Some(2)).unwrap_err();
    assert!(error.contains("qwen3moe.expert_gating_func 2") && error.contains("softmax"), "{error}");
}

#[test]
fn unknown_tensors_that_would_change_numbers_are_refused() {
    let config = config("qwen3", LayerSpec { qk_norm: Some(QkNorm::Head), ..tiny::layer() });
    let with_gguf = |name: &str| {
        let mut file = tiny::gguf(&config, Format::F32);
        file.tensor(name, &[64], Format::F32, &[0.5; 64]);
        let checkpoint = block_on(Checkpoint::gguf(Box::new(MemorySource::new("tiny.gguf", file.build())))).unwrap();
        config.check_tensors(&checkpoint).map_err(|error| error.to_string())
    };
    for name in
        ["blk.0.attn_q.bias", "blk.1.attn_q.scale", "blk.0.ffn_gate_inp.weight", "blk.2.ffn_up.weight", "output.bias"]
    {
        let error = with_gguf(name).unwrap_err();
        assert!(error.contains("tiny.gguf: ") && error.contains(name) && error.contains("qwen3"), "{error}");
    }
    assert_eq!(with_gguf("rope_freqs.weight"), Ok(()));

    let with_file = |config: &Config, name: &str| {
        let mut tensors = tiny::tensors(config, &config.roles());
        tensors.push((name.to_owned(), vec![64], safetensors::Dtype::F32, vec![0; 256]));
        let mut files = tiny::directory(config);
        files.insert("model.safetensors".into(), st::write(&tensors));
        let checkpoint = block_on(Checkpoint::safetensors("dir", st::sources(&files))).unwrap();
        Config::from_checkpoint(&checkpoint)
            .and_then(|config| config.check_tensors(&checkpoint))
            .map_err(|error| error.to_string())
    };
    let attention = "model.layers.0.self_attn";
    for name in ["q_proj.lora_A.weight", "sinks"].map(|own| format!("{attention}.{own}")) {
        let error = with_file(&config, &name).unwrap_err();
        assert!(error.contains("dir: ") && error.contains(&name), "{error}");
    }
    let ignored =
        ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2.mlp.weight", "vision_tower.layers.0.weight"];
    for name in ignored {
        assert_eq!(with_file(&config, name), Ok(()));
    }
    for (name, tool) in [
        ("q_proj.g_idx", "GPTQ"),
        ("q_proj.qzeros", "GPTQ or AWQ"),
        ("q_proj.weight_packed", "compressed-tensors"),
        ("q_proj.weight_scale", "compressed-tensors"),
        ("q_proj.weight_scale_inv", "blocks with scales"),
        ("q_proj.weight.absmax", "bitsandbytes"),
        ("q_proj.biases", "MLX"),
    ] {
        let error = with_file(&config, &format!("{attention}.{name}")).unwrap_err();
        assert!(error.contains(&format!("by {tool} (tensor {attention}.{name})")) && error.contains("GGUF"), "{error}");
    }
}
