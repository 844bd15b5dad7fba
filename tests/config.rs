//! Configurations: both kinds of checkpoint and both generations of transformers give the same numbers, and every impossible
//! number is named.

use headstart::{
    error::{Error, Result},
    kernels::attention::Scores,
    model::{Config, LayerRole, LayerSpec, Role, Rope, RopeRows, SamplingDefaults, Scaling},
    quant::Format,
    weights::{Checkpoint, Kind, MemorySource},
};
use pollster::block_on;
use serde_json::{Value, json};

use crate::checkpoints::{
    gguf::{Gguf, Meta},
    model_path, safetensors as st, tiny,
};

pub fn from_gguf(file: &Gguf) -> Result<Config> {
    Config::from_checkpoint(
        &block_on(Checkpoint::gguf(Box::new(MemorySource::new("tiny.gguf", file.build())))).unwrap(),
    )
}

fn from_directory(directory: &st::Directory) -> Result<Config> {
    Config::from_checkpoint(&block_on(Checkpoint::safetensors("dir", st::sources(directory))).unwrap())
}

/// The configuration of the tiny model with some fields of `config.json` replaced; null removes a field.
pub fn with_json(fields: Value) -> Result<Config> {
    let mut config = tiny::config_json(&tiny::config());
    for (key, value) in fields.as_object().unwrap() {
        config[key] = value.clone();
        if value.is_null() {
            config.as_object_mut().unwrap().remove(key);
        }
    }
    let mut directory = tiny::directory(&tiny::config());
    directory.insert("config.json".into(), config.to_string().into_bytes());
    from_directory(&directory)
}

pub fn with_key(key: &str, value: impl Into<Meta>) -> Result<Config> {
    from_gguf(tiny::gguf(&tiny::config(), Format::F32).set(key, value))
}

#[track_caller]
pub fn refused<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

/// A separate LM head and every bias.
fn biased() -> Config {
    let layer = LayerSpec { qkv_bias: true, o_bias: true, mlp_bias: true, ..tiny::layer() };
    Config { tied_embeddings: false, layers: vec![layer; 2], ..tiny::config() }
}

#[test]
fn the_real_model_has_its_published_sizes() {
    let config = Config::from_checkpoint(&block_on(Checkpoint::open(model_path())).unwrap()).unwrap();
    assert_eq!(
        (config.layers.len(), config.hidden, config.heads, config.kv_heads, config.head_dim),
        (30, 576, 9, 3, 64)
    );
    assert_eq!((config.layers[0].intermediate, config.vocab, config.context), (1536, 49152, 8192));
    assert_eq!(config.layers[0].rope, Some(Rope { theta: 100_000.0, dims: 64, scaling: Scaling::None }));
    assert_eq!((config.rms_eps, config.tied_embeddings, config.bos), (1e-5, true, Some(1)));
    assert_eq!((config.rope_rows, config.stop_tokens), (RopeRows::Interleaved, vec![2, 0]));
}

#[test]
fn both_kinds_of_checkpoint_give_the_same_configuration() {
    let odd = Config {
        heads: 6,
        head_dim: 40,
        hidden: 240,
        vocab: 1001,
        layers: vec![
            LayerSpec {
                rope: Some(Rope { dims: 40, ..tiny::rope() }),
                scores: Scores::of(40),
                ..tiny::layer()
            };
            2
        ],
        ..tiny::config()
    };
    for config in [tiny::config(), odd, biased()] {
        assert_eq!(from_gguf(&tiny::gguf(&config, Format::F32)).unwrap(), config);
        let halves = Config { rope_rows: RopeRows::Halves, ..config.clone() };
        let directory = tiny::directory(&config);
        assert_eq!(from_directory(&directory).unwrap(), halves);
        let checkpoint = block_on(Checkpoint::safetensors("dir", st::sources(&directory))).unwrap();
        halves.check_tensors(&checkpoint).unwrap();
    }
}

/// The reference directories, written by transformers 5.
#[test]
fn directories_saved_by_transformers_are_read() {
    let open = |name: &str| {
        let path = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect::<std::path::PathBuf>();
        let checkpoint = block_on(Checkpoint::open(path)).unwrap();
        let config = Config::from_checkpoint(&checkpoint).unwrap();
        config.check_tensors(&checkpoint).unwrap();
        (checkpoint, config)
    };
    let (checkpoint, odd) = open("tiny-odd-f16");
    assert_eq!((odd.heads, odd.kv_heads, odd.head_dim, odd.hidden, odd.vocab), (6, 2, 40, 240, 1001));
    assert_eq!((odd.tied_embeddings, odd.layers[0].qkv_bias, odd.rope_rows), (false, false, RopeRows::Halves));
    assert!(checkpoint.tensors.values().all(|tensor| tensor.format == Format::F16));

    let (_, wide) = open("tiny-wide-bf16");
    let scaling = Scaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 32 };
    assert_eq!(wide.layers[0].rope, Some(Rope { theta: 10_000.0, dims: 24, scaling }));
    let layer = &wide.layers[0];
    assert!(wide.tied_embeddings && layer.qkv_bias && layer.o_bias && layer.mlp_bias);
    let (sharded, same) = open("tiny-wide-f32");
    assert_eq!((same, sharded.parts.len() > 1), (wide, true));
}

#[test]
fn absent_fields_take_the_defaults_of_their_format() {
    let mut file = tiny::gguf(&tiny::config(), Format::F32);
    for key in ["vocab_size", "attention.key_length", "rope.freq_base", "rope.dimension_count"] {
        file.remove(&format!("llama.{key}"));
    }
    assert_eq!(from_gguf(&file).unwrap(), tiny::config());
    file.remove("llama.attention.head_count_kv");
    assert_eq!(from_gguf(&file).unwrap().kv_heads, 4);

    let plain = with_json(json!({})).unwrap();
    let absent = json!({"head_dim": null, "rope_theta": null, "rope_scaling": null, "attention_bias": null,
        "mlp_bias": null, "tie_word_embeddings": null, "hidden_act": null});
    assert_eq!(with_json(absent).unwrap(), plain);
    assert_eq!(with_json(json!({"num_key_value_heads": null})).unwrap().kv_heads, 4);
    assert_eq!(with_json(json!({"rms_norm_eps": null})).unwrap().rms_eps, 1e-6);
}

#[test]
fn rope_is_the_same_in_both_generations_of_transformers() {
    let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let old = with_json(json!({"rope_theta": 500000.0, "rope_scaling": llama3})).unwrap();
    let mut gathered = llama3.clone();
    gathered["rope_theta"] = json!(500000);
    let new = with_json(json!({"rope_theta": null, "rope_scaling": null, "rope_parameters": gathered})).unwrap();
    assert_eq!(old, new);
    let scaling = Scaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    assert_eq!(new.layers[0].rope, Some(Rope { theta: 500_000.0, dims: 16, scaling }));

    let default = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}});
    assert_eq!(
        with_json(default).unwrap().layers[0].rope,
        Some(Rope { theta: 5000.0, dims: 16, scaling: Scaling::None })
    );
    let linear = with_json(json!({"rope_scaling": {"type": "linear", "factor": 2}})).unwrap();
    assert_eq!(linear.layers[0].rope.as_ref().unwrap().scaling, Scaling::Linear { factor: 2.0 });
    assert_eq!(with_json(json!({"partial_rotary_factor": 0.5})).unwrap().layers[0].rope.as_ref().unwrap().dims, 8);

    let mut file = tiny::gguf(&tiny::config(), Format::F32);
    file.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 2.0);
    assert_eq!(from_gguf(&file).unwrap().layers[0].rope.as_ref().unwrap().scaling, Scaling::Linear { factor: 2.0 });
    assert_eq!(
        with_key("llama.rope.scale_linear", 4.0).unwrap().layers[0].rope.as_ref().unwrap().scaling,
        Scaling::Linear { factor: 4.0 }
    );

    refused(with_json(json!({"rope_scaling": {"type": "p-rope"}})), &["dir/config.json", "p-rope", "linear"]);
    refused(with_key("llama.rope.scaling.type", "p-rope"), &["tiny.gguf", "p-rope", "linear"]);
    refused(with_json(json!({"rope_scaling": 2})), &["dir/config.json", "rope_scaling", "an object"]);
    refused(with_json(json!({"rope_scaling": {"type": "linear"}})), &["config.json", "rope_scaling.factor", "missing"]);
    let mut reversed = llama3.clone();
    reversed["high_freq_factor"] = json!(1);
    refused(with_json(json!({"rope_scaling": reversed})), &["config.json", "rope_scaling.high_freq_factor", "above"]);
}

#[test]
fn frequencies_follow_their_formulas() {
    let rope = Rope { theta: 10_000.0, dims: 4, scaling: Scaling::None };
    let close = |found: Vec<f64>, expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (x, y) in found.iter().zip(expected) {
            assert!((x / y - 1.0).abs() < 1e-6, "{found:?}, expected {expected:?}");
        }
    };
    let plain = rope.clone();
    close(plain.inv_freq(None).unwrap(), &[1.0, 0.01]);
    close(plain.inv_freq(Some(&[1.0, 8.0])).unwrap(), &[1.0, 0.00125]);
    close(Rope { scaling: Scaling::Linear { factor: 4.0 }, ..rope }.inv_freq(None).unwrap(), &[0.25, 0.0025]);
    for factors in [&[1.0][..], &[1.0, 0.0], &[1.0, f32::NAN]] {
        refused(plain.inv_freq(Some(factors)), &["rope factors", "2 finite numbers"]);
    }

    // Llama 3.2 1B: pairs 0 to 14 keep their frequency, 15 to 17 are interpolated (the numbers are from a transcription of
    // transformers' formula by wavelengths), and from 18 on they are divided.
    let scaling = Scaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    let found = Rope { theta: 500_000.0, dims: 64, scaling }.inv_freq(None).unwrap();
    let plain = |pair: i32| 500_000f64.powf(-f64::from(pair) / 32.0);
    for pair in [0, 1, 10, 14] {
        close(vec![found[pair as usize]], &[plain(pair)]);
    }
    for pair in [18, 25, 31] {
        close(vec![found[pair as usize]], &[plain(pair) / 32.0]);
    }
    close(found[15..18].to_vec(), &[0.001290547928209264, 0.00042955679655936815, 9.70828780262767e-05]);
}

#[test]
fn stop_tokens_come_from_every_file_and_sampling_from_the_generation_config() {
    assert_eq!(with_json(json!({"eos_token_id": 7})).unwrap().stop_tokens, [7]);
    assert_eq!(with_json(json!({"eos_token_id": [7, 8, 7]})).unwrap().stop_tokens, [7, 8]);
    assert_eq!(with_json(json!({"eos_token_id": null})).unwrap().stop_tokens, [0u32; 0]);
    refused(with_json(json!({"eos_token_id": [7, "x"]})), &["dir/config.json", "eos_token_id", "integers"]);

    let mut directory = tiny::directory(&tiny::config());
    let generation = json!({"eos_token_id": [3, 4], "do_sample": true, "temperature": 0.6, "top_k": 50, "top_p": 0.9,
        "repetition_penalty": 1.1});
    directory.insert("generation_config.json".into(), generation.to_string().into_bytes());
    let config = from_directory(&directory).unwrap();
    assert_eq!(config.stop_tokens, [3, 4, 2], "all that are named");
    let expected = SamplingDefaults {
        do_sample: Some(true),
        temperature: Some(0.6),
        top_k: Some(50),
        top_p: Some(0.9),
        min_p: None,
        repetition_penalty: Some(1.1),
    };
    assert_eq!(config.sampling, expected);
    directory.insert("generation_config.json".into(), r#"{"temperature": "hot"}"#.into());
    refused(from_directory(&directory), &["dir/generation_config.json", "temperature", "a finite number", "hot"]);
    directory.insert("generation_config.json".into(), r#"{"temperature": 1e300}"#.into());
    refused(from_directory(&directory), &["dir/generation_config.json", "temperature", "32 bits"]);

    let mut file = tiny::gguf(&tiny::config(), Format::F32);
    file.set("tokenizer.ggml.eot_token_id", 9).set("general.sampling.temp", 0.7);
    let config = from_gguf(&file).unwrap();
    assert_eq!((config.stop_tokens, config.sampling.temperature), (vec![2, 9], Some(0.7)));
}

#[test]
fn models_of_other_kinds_are_unsupported_by_name() {
    for error in
        [with_key("general.architecture", "mamba").unwrap_err(), with_json(json!({"model_type": "mamba"})).unwrap_err()]
    {
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        refused::<()>(Err(error), &["mamba", "llama, mistral, qwen2, qwen3, qwen3", "gemma2, gemma3"]);
    }
    refused(with_json(json!({"model_type": null})), &["dir/config.json", "model_type", "missing"]);
    refused(with_json(json!({"hidden_act": "gelu"})), &["dir/config.json", "hidden_act", "gelu", "silu"]);
    refused(with_key("llama.attention.value_length", 8), &["tiny.gguf", "value length of 8", "16"]);
}

#[test]
fn weights_packed_by_another_tool_are_refused_by_its_name() {
    let mlx = json!({ "group_size": 64, "bits": 4 });
    let of = |method: &str| json!({ "quant_method": method, "bits": 4, "group_size": 128, "version": "gemm" });
    for (fields, parts) in [
        (json!({ "quantization": mlx, "quantization_config": mlx }), ["MLX (quantization: 4 bits, groups of 64)", ""]),
        (json!({ "quantization_config": of("gptq") }), ["GPTQ (quantization_config: 4 bits, groups of 128)", ""]),
        (json!({ "quantization_config": of("awq") }), ["AWQ", "groups of 128"]),
        (
            json!({ "quantization_config": { "quant_method": "bitsandbytes", "load_in_4bit": true } }),
            ["bitsandbytes", ""],
        ),
        (json!({ "quantization_config": {} }), ["another tool", "quantization_config"]),
    ] {
        let error = with_json(fields).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        refused::<()>(Err(error), &[&["dir/config.json", "--quantize q4_k", "GGUF"], &parts[..]].concat());
    }
    assert!(with_json(json!({ "quantization_config": null, "quantization": null })).is_ok());
}

#[test]
fn impossible_numbers_are_named() {
    for (key, value, problem) in [
        ("llama.embedding_length", 0, "not from 1"),
        ("llama.block_count", 5000, "not from 1 to 1024"),
        ("llama.attention.head_count", 0, "not from 1"),
        ("llama.attention.head_count", 65, "not from 1"),
        ("llama.attention.head_count_kv", 3, "does not divide the 4"),
        ("llama.attention.key_length", 12, "multiples of 8"),
        ("llama.embedding_length", 60, "multiples of 8"),
        ("llama.feed_forward_length", 90, "multiples of 8"),
        ("llama.rope.dimension_count", 18, "up to 16"),
        ("llama.rope.dimension_count", 7, "even"),
        ("llama.feed_forward_length", u32::MAX, "not from 1"),
        ("llama.vocab_size", 0, "not from 1"),
        ("llama.context_length", 0, "not from 1"),
    ] {
        // A head count that leaves no element for a head shows in the head length derived from it.
        let field = if value == 65 { "llama.attention.key_length" } else { key };
        let mut file = tiny::gguf(&tiny::config(), Format::F32);
        if value == 65 {
            file.remove(field);
        }
        refused(from_gguf(file.set(key, value)), &["tiny.gguf", field, problem]);
    }
    for key in ["embedding_length", "block_count", "attention.head_count", "feed_forward_length", "context_length"] {
        let key = format!("llama.{key}");
        refused(from_gguf(tiny::gguf(&tiny::config(), Format::F32).remove(&key)), &["tiny.gguf", &key, "missing"]);
        refused(with_key(&key, "many"), &["tiny.gguf", &key, "an integer", "many"]);
    }
    for key in ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"] {
        for value in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
            refused(with_key(key, value), &["tiny.gguf", key]);
        }
    }
    for (key, value, problem) in [
        ("hidden_size", json!(-64), "an integer"),
        ("hidden_size", json!(64.5), "an integer"),
        ("num_hidden_layers", json!("2"), "an integer"),
        ("num_key_value_heads", json!(3), "does not divide"),
        ("rms_norm_eps", json!(0), "not above 0"),
        ("rms_norm_eps", json!(1e-300), "32 bits"),
        ("rope_theta", json!(-1.0), "not above 0"),
        ("tie_word_embeddings", json!(1), "true or false"),
        ("partial_rotary_factor", json!(1.5), "whole head"),
        ("partial_rotary_factor", json!(0.06), "even"),
        ("head_dim", json!(2000), "not from 1 to 1024"),
    ] {
        refused(with_json(json!({ key: value })), &["dir/config.json", key, problem]);
    }
}

#[test]
fn an_untied_head_must_be_present() {
    let config = with_json(json!({"tie_word_embeddings": false})).unwrap();
    let checkpoint = block_on(Checkpoint::safetensors("dir", st::sources(&tiny::directory(&tiny::config())))).unwrap();
    refused(config.check_tensors(&checkpoint), &["dir", "lm_head.weight", "[40, 64]", "none"]);
}

#[test]
fn every_role_has_its_own_name_in_both_kinds() {
    let biased = biased();
    let roles = biased.roles();
    for kind in [Kind::Gguf, Kind::HuggingFace] {
        let names: std::collections::BTreeSet<String> = roles.iter().map(|role| role.name(kind)).collect();
        assert_eq!(names.len(), 3 + 16 * 2);
    }
    let down = Role::Layer(1, LayerRole::Down);
    assert_eq!(down.name(Kind::Gguf), "blk.1.ffn_down.weight");
    assert_eq!(down.name(Kind::HuggingFace), "model.layers.1.mlp.down_proj.weight");
    assert_eq!(down.shape(&biased), [64, 96]);
}

/// An unknown field, of another architecture or a future one, may change what the model computes, so it is refused by name.
#[test]
fn unknown_fields_that_may_change_numbers_are_refused_by_name() {
    for (key, value) in [("attention.sliding_window", 512), ("expert_count", 8), ("a_field_to_come", 1)] {
        let key = format!("llama.{key}");
        refused(with_key(&key, value), &["tiny.gguf", &key, "not supported", "llama without it"]);
    }
    assert!(with_key("llama.expert_count", 0).is_ok(), "no experts");
    assert!(with_key("llama.rope.scaling.original_context_length", 64).is_ok());
    assert!(with_key("general.a_field_to_come", 1).is_ok(), "not a field of the network");

    for (key, value, off) in [
        ("attn_logit_softcapping", json!(50.0), json!(null)),
        ("residual_multiplier", json!(0.5), json!(1)),
        ("attention_multiplier", json!(1.0), json!(null)),
        ("num_local_experts", json!(8), json!(0)),
        ("use_qk_norm", json!(true), json!(false)),
        ("sliding_window", json!(4096), json!(null)),
        ("layer_types", json!(["full_attention", "sliding_attention"]), json!(["full_attention", "full_attention"])),
    ] {
        refused(with_json(json!({ key: value })), &["dir/config.json", key, "not supported", "llama without it"]);
        assert!(with_json(json!({ key: off })).is_ok(), "{key} is off");
    }
}
