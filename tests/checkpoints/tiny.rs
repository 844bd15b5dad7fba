//! A tiny model with random weights, as a GGUF file and as a Hugging Face directory: a Llama, or another configuration.

use headstart::{
    kernels::{KvFormat, attention::Scores, linear::Activation},
    model::{Config, LayerSpec, MixerSpec, Norms, Role, Rope, RopeRows, SamplingDefaults, Scaling, Stacked},
    quant::Format,
    weights::Kind,
};
use safetensors::Dtype;
use serde_json::json;

use super::{
    gguf::{Gguf, Meta},
    safetensors::{Directory, write},
};

/// 4 query and 2 KV heads of 16, hidden 64, 2 layers, a vocabulary of 40, a tied head.
pub fn config() -> Config {
    Config {
        architecture: "llama",
        hidden: 64,
        layers: vec![layer(); 2],
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 40,
        context: 128,
        rms_eps: 1e-5,
        norm_offset: 0.0,
        embedding_scale: 1.0,
        logit_scale: 1.0,
        logit_cap: None,
        names: &[],
        rope_rows: RopeRows::Interleaved,
        tied_embeddings: true,
        bos: Some(1),
        stop_tokens: vec![2],
        sampling: SamplingDefaults::default(),
        kv: KvFormat::default(),
    }
}

pub fn rope() -> Rope {
    Rope { theta: 10_000.0, dims: 16, scaling: Scaling::None }
}

pub fn layer() -> LayerSpec {
    LayerSpec {
        mixer: MixerSpec::Attention,
        rope: Some(rope()),
        scores: Scores::of(16),
        norms: Norms::Before,
        stacked: Stacked::Nothing,
        qkv_bias: false,
        qk_norm: None,
        o_bias: false,
        mixture: None,
        intermediate: 96,
        activation: Activation::Silu,
        mlp_bias: false,
        residual_scale: 1.0,
    }
}

/// Numbers from -0.5 to 0.5, the same for each role.
pub fn elements(config: &Config, role: Role) -> Vec<f32> {
    let mut state =
        role.name(Kind::Gguf).bytes().fold(2_166_136_261u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(16_777_619));
    let count = role.shape(config).iter().product();
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Matrices in `format`, vectors in f32, as converters do.
pub fn gguf(config: &Config, format: Format) -> Gguf {
    let mut file = Gguf::default();
    let size = |x: usize| x as u32;
    let layer = &config.layers[0];
    let rope = layer.rope.as_ref().unwrap();
    let key = |rest: &str| format!("{}.{rest}", config.architecture);
    file.set("general.architecture", config.architecture)
        .set(&key("embedding_length"), size(config.hidden))
        .set(&key("block_count"), size(config.layers.len()))
        .set(&key("attention.head_count"), size(config.heads))
        .set(&key("attention.head_count_kv"), size(config.kv_heads))
        .set(&key("attention.key_length"), size(config.head_dim))
        .set(&key("feed_forward_length"), size(layer.intermediate))
        .set(&key("context_length"), size(config.context))
        .set(&key("vocab_size"), size(config.vocab))
        .set(&key("attention.layer_norm_rms_epsilon"), config.rms_eps)
        .set(&key("rope.freq_base"), rope.theta as f32)
        .set(&key("rope.dimension_count"), size(rope.dims))
        .set("tokenizer.ggml.tokens", Meta::Strings((0..config.vocab).map(|i| format!("t{i}")).collect()));
    if let Some(bos) = config.bos {
        file.set("tokenizer.ggml.bos_token_id", bos);
    }
    if let Some(&eos) = config.stop_tokens.first() {
        file.set("tokenizer.ggml.eos_token_id", eos);
    }
    for role in config.roles() {
        let shape = role.shape(config);
        let format = if shape.len() == 1 { Format::F32 } else { format };
        file.tensor(&role.name(Kind::Gguf), &shape, format, &elements(config, role));
    }
    file
}

/// `config.json` as transformers 4 writes it.
pub fn config_json(config: &Config) -> serde_json::Value {
    let layer = &config.layers[0];
    let rope = layer.rope.as_ref().unwrap();
    let mut json = json!({
        "model_type": config.architecture,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers.len(),
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": layer.intermediate,
        "max_position_embeddings": config.context,
        "vocab_size": config.vocab,
        "rms_norm_eps": 1e-5,
        "rope_theta": rope.theta,
        "rope_scaling": null,
        "tie_word_embeddings": config.tied_embeddings,
        "attention_bias": layer.qkv_bias,
        "mlp_bias": layer.mlp_bias,
        "bos_token_id": config.bos,
        "eos_token_id": config.stop_tokens,
        "torch_dtype": "float32",
    });
    if config.layers.iter().any(|layer| layer.rope.is_none()) {
        json["no_rope_layers"] = config.layers.iter().map(|layer| u8::from(layer.rope.is_some())).collect();
    }
    json
}

/// The tensors of some roles as a file, in f32.
pub fn safetensors(config: &Config, roles: &[Role]) -> Vec<u8> {
    write(&tensors(config, roles))
}

pub fn tensors(config: &Config, roles: &[Role]) -> Vec<(String, Vec<usize>, Dtype, Vec<u8>)> {
    let tensor = |&role: &Role| {
        let data = Format::F32.quantize(&elements(config, role));
        (role.name(Kind::HuggingFace), role.shape(config), Dtype::F32, data)
    };
    roles.iter().map(tensor).collect()
}

/// `config.json` and `model.safetensors`.
pub fn directory(config: &Config) -> Directory {
    Directory::from([
        ("config.json".to_owned(), config_json(config).to_string().into_bytes()),
        ("model.safetensors".to_owned(), safetensors(config, &config.roles())),
    ])
}
