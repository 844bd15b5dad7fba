//! Models that differ from a committed one in one property, and one that generates text: tiny, random, with a real vocabulary.

use std::fs;
use std::path::Path;

use headstart::engine::{EngineOptions, language};
use headstart::gpu::Preset;
use headstart::kernels::KvFormat;
use headstart::quant::Format;
use headstart::text::{ChatTemplate, Tokenizer};
use headstart::weights::Checkpoint;
use pollster::block_on;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::golden;

/// A change of one property that KV depends on.
pub struct Variant {
    pub name: &'static str,
    /// The committed model that is changed; `None` for a random one.
    of: Option<&'static str>,
    config: fn(&mut Value),
    /// The tensor to change, if any.
    tensor: Option<&'static str>,
    quantize: Option<Format>,
    kernels: Option<Preset>,
    kv: KvFormat,
}

const NONE: Variant = Variant {
    name: "",
    of: Some("tiny-odd-f16"),
    config: |_| {},
    tensor: None,
    quantize: None,
    kernels: None,
    kv: KvFormat::F16,
};

pub const VARIANTS: &[Variant] = &[
    Variant { name: "weights", tensor: Some("model.layers.0.self_attn.k_proj.weight"), ..NONE },
    Variant { name: "Q8_0", of: None, quantize: Some(Format::Q8_0), ..NONE },
    Variant { name: "Q4_0", of: None, quantize: Some(Format::Q4_0), ..NONE },
    Variant { name: "f16", kernels: Some(Preset::F16), ..NONE },
    Variant { name: "KV in 8 bits", kv: KvFormat::Q8, ..NONE },
    Variant { name: "RoPE base", config: |c| c["rope_parameters"]["rope_theta"] = json!(20000.0), ..NONE },
    Variant { name: "RoPE scaling", config: |c| c["rope_parameters"] = rope("linear", 2.0), ..NONE },
    Variant { name: "RoPE dims", config: |c| c["rope_parameters"]["partial_rotary_factor"] = json!(0.5), ..NONE },
    Variant {
        name: "Llama 3's factor",
        of: Some("tiny-wide-bf16"),
        config: |c| c["rope_parameters"]["factor"] = json!(4.0),
        ..NONE
    },
    Variant { name: "epsilon", config: |c| c["rms_norm_eps"] = json!(0.01), ..NONE },
    Variant {
        name: "heads",
        config: |c| {
            c["num_attention_heads"] = json!(3);
            c["num_key_value_heads"] = json!(1);
            c["head_dim"] = json!(80);
        },
        ..NONE
    },
    Variant {
        name: "attention biases",
        of: Some("tiny-wide-bf16"),
        config: |c| c["attention_bias"] = json!(false),
        ..NONE
    },
    Variant { name: "MLP biases", of: Some("tiny-wide-bf16"), config: |c| c["mlp_bias"] = json!(false), ..NONE },
];

fn rope(kind: &str, factor: f64) -> Value {
    json!({ "rope_theta": 10000.0, "rope_type": kind, "factor": factor })
}

impl Variant {
    /// The directory of the unchanged model.
    pub fn base(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        match self.of {
            None => random(folder.path(), 320),
            Some(name) => {
                for file in ["config.json", "model.safetensors"] {
                    fs::copy(golden::folder(name).join(file), folder.path().join(file)).unwrap();
                }
            }
        }
        folder
    }

    pub fn make(&self) -> TempDir {
        let folder = self.base();
        let (config, weights) = (folder.path().join("config.json"), folder.path().join("model.safetensors"));
        let mut json: Value = golden::json(&config);
        (self.config)(&mut json);
        fs::write(config, json.to_string()).unwrap();
        if let Some(tensor) = self.tensor {
            let mut bytes = fs::read(&weights).unwrap();
            // Changes half-precision numbers to others of similar size.
            let place = place(&bytes, tensor);
            bytes[place].iter_mut().step_by(2).for_each(|low| *low ^= 0x80);
            fs::write(weights, bytes).unwrap();
        }
        folder
    }

    pub fn options(&self, options: EngineOptions) -> EngineOptions {
        EngineOptions { quantize: self.quantize, kernels: self.kernels, kv: self.kv, ..options }
    }

    /// The options for the unchanged model.
    pub fn base_options(&self, options: EngineOptions) -> EngineOptions {
        EngineOptions { kernels: self.kernels.map(|_| Preset::F32), ..options }
    }
}

/// The byte range of a tensor's data.
fn place(weights: &[u8], tensor: &str) -> std::ops::Range<usize> {
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&weights[8..8 + header]).unwrap();
    let at = |i: usize| 8 + header + json[tensor]["data_offsets"][i].as_u64().unwrap() as usize;
    at(0)..at(1)
}

/// A random model with the tokenizer and chat template of SmolLM2. Its text belongs to no language, and is often tokenized
/// differently when read back.
pub struct Speaker {
    pub folder: TempDir,
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
}

impl Speaker {
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        random(folder.path(), 49152);
        for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            fs::copy(golden::folder("smollm2-hf").join(name), folder.path().join(name)).unwrap();
        }
        let checkpoint = block_on(Checkpoint::open(folder.path())).unwrap();
        let (tokenizer, template) = (language::tokenizer(&checkpoint), language::template(&checkpoint));
        Self { tokenizer: tokenizer.unwrap(), template: template.unwrap(), folder }
    }
}

/// Writes a random model with this vocabulary size, of dimensions that can be quantised.
fn random(folder: &Path, vocabulary: usize) {
    const HIDDEN: usize = 64;
    const INNER: usize = 96;
    let config = json!({
        "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5,
        "vocab_size": vocabulary, "max_position_embeddings": 2048, "tie_word_embeddings": false,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("lm_head.weight".to_owned(), vec![vocabulary, HIDDEN]),
    ];
    for layer in 0..2 {
        let sizes = [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ];
        tensors.extend(sizes.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
    }
    tensors.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    let mut state = 1u64;
    let mut number = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape)| {
            let middle = if shape.len() == 1 { 1.0 } else { 0.0 };
            let numbers = (0..shape.iter().product()).map(|_| half::f16::from_f32(middle + 0.25 * number()));
            (name, shape, numbers.flat_map(half::f16::to_le_bytes).collect())
        })
        .collect();
    let views =
        tensors.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}
