//! A checkpoint's configuration by the meaning of its fields, the same for both kinds of checkpoint. Fields that an
//! architecture reads are recorded, so that an unread field that would change results is refused rather than ignored.
//!
//! Field names: GGUF as in ggml's docs/gguf.md and gguf-py's constants; Hugging Face as in transformers' configurations,
//! release 4 (`rope_theta`, `rope_scaling`) and release 5 (`rope_parameters`).

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use serde_json::Value;

use super::{Config, LayerRole, LayerSpec, MixerSpec, Norms, Role, RopeRows, SamplingDefaults, Stacked, ends};
use crate::{
    error::{Error, Result},
    kernels::{KvFormat, attention::Scores, linear::Activation},
    weights::{Checkpoint, Field, Fields, JsonFile, Kind, Metadata, packed},
};

/// A field: its name in GGUF, after the architecture's prefix, and in `config.json`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigKey(pub(super) &'static str, pub(super) &'static str);

pub(super) const HIDDEN: ConfigKey = ConfigKey("embedding_length", "hidden_size");
const LAYERS: ConfigKey = ConfigKey("block_count", "num_hidden_layers");
const HEADS: ConfigKey = ConfigKey("attention.head_count", "num_attention_heads");
pub(super) const KV_HEADS: ConfigKey = ConfigKey("attention.head_count_kv", "num_key_value_heads");
pub(super) const HEAD_DIM: ConfigKey = ConfigKey("attention.key_length", "head_dim");
pub(super) const INTERMEDIATE: ConfigKey = ConfigKey("feed_forward_length", "intermediate_size");
pub(super) const EXPERT_INTERMEDIATE: ConfigKey = ConfigKey("expert_feed_forward_length", "moe_intermediate_size");
const VOCAB: ConfigKey = ConfigKey("vocab_size", "vocab_size");
const CONTEXT: ConfigKey = ConfigKey("context_length", "max_position_embeddings");
const EPSILON: ConfigKey = ConfigKey("attention.layer_norm_rms_epsilon", "rms_norm_eps");
pub(super) const ROPE_DIMS: ConfigKey = ConfigKey("rope.dimension_count", "partial_rotary_factor");

/// Bounds that no model comes near. Within them every product of two sizes fits 64 bits, and most fit 32.
const MAX_HIDDEN: usize = 1 << 17;
const MAX_LAYERS: usize = 1 << 10;
pub(super) const MAX_HEADS: usize = 1 << 10;
pub(super) const MAX_HEAD_DIM: usize = 1 << 10;
pub(super) const MAX_INTERMEDIATE: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 22;
pub(super) const MAX_CONTEXT: usize = 1 << 24;

/// GGUF fields, after the architecture's prefix, that do not change results.
const HARMLESS: [&str; 3] = ["rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout"];

/// Fields of `config.json` that change the results of some architecture, each with its neutral value. False, null and
/// lists of nothing but full attention are neutral too.
const TELLING: [(&str, Option<f64>); 31] = [
    ("alibi", None),
    ("attention_bias", None),
    ("attention_chunk_size", None),
    ("attention_multiplier", None),
    ("attn_logit_softcapping", Some(0.0)),
    ("clip_qkv", None),
    ("embedding_multiplier", Some(1.0)),
    ("final_logit_softcapping", Some(0.0)),
    ("layer_types", None),
    ("lm_head_bias", None),
    ("logit_scale", Some(1.0)),
    ("logits_scaling", Some(1.0)),
    ("mlp_bias", None),
    ("n_routed_experts", Some(0.0)),
    ("no_rope_layers", None),
    ("num_experts", Some(0.0)),
    ("num_local_experts", Some(0.0)),
    ("parallel_attn", None),
    ("qk_layernorm", None),
    ("qk_norm", None),
    ("query_pre_attn_scalar", None),
    ("residual_multiplier", Some(1.0)),
    ("rope_parameters.sliding_attention", None),
    ("scale_depth", None),
    ("scale_emb", Some(1.0)),
    ("sliding_window", None),
    ("use_alibi", None),
    ("use_bidirectional_attention", None),
    ("use_parallel_residual", None),
    ("use_qk_norm", None),
    ("use_sliding_window", None),
];

/// The default of a field that `config.json` omits.
pub(super) type Defaults = &'static [(&'static str, u64)];

/// The object for the language model in the `config.json` of a multimodal model. Fields that it lacks may be outside
/// it.
pub(super) const TEXT: &str = "text_config";

/// Fields that a configuration may name differently.
pub(super) struct Named {
    pub(super) kv_heads: usize,
    /// Elements between the two halves of the MLP.
    pub(super) intermediate: usize,
    pub(super) rms_eps: ConfigKey,
    /// The default if `config.json` omits it.
    pub(super) usual_eps: f64,
}

/// The configuration of a checkpoint of one architecture.
pub(super) struct Keys<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) architecture: &'static str,
    defaults: Defaults,
    asked: Rc<RefCell<BTreeSet<String>>>,
}

impl Fields for Keys<'_> {
    fn file(&self) -> &str {
        match &self.checkpoint.metadata {
            Metadata::Gguf(metadata) => metadata.file(),
            Metadata::HuggingFace(files) => files.config.file(),
        }
    }

    fn lookup(&self, key: &str) -> Option<Field<'_>> {
        self.asked.borrow_mut().insert(key.to_owned());
        match &self.checkpoint.metadata {
            Metadata::Gguf(metadata) => metadata.lookup(key),
            Metadata::HuggingFace(files) => match value(&files.config, key) {
                Some(value) => Field::of_json(value),
                None => self.defaults.iter().find(|(name, _)| *name == key).map(|(_, value)| Field::Unsigned(*value)),
            },
        }
    }
}

impl<'a> Keys<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, architecture: &'static str) -> Self {
        Self { checkpoint, architecture, defaults: &[], asked: Rc::default() }
    }

    /// The same configuration with these defaults for omitted fields.
    pub(super) fn with_defaults(&self, defaults: Defaults) -> Self {
        Self { defaults, asked: Rc::clone(&self.asked), ..*self }
    }

    pub(super) fn kind(&self) -> Kind {
        self.checkpoint.kind()
    }

    /// The field's name in this file.
    pub(super) fn name(&self, key: ConfigKey) -> String {
        match self.kind() {
            Kind::Gguf => format!("{}.{}", self.architecture, key.0),
            Kind::HuggingFace => key.1.to_owned(),
        }
    }

    pub(super) fn size(&self, key: ConfigKey, max: usize, default: Option<usize>) -> Result<usize> {
        size(self, &self.name(key), max, default)
    }

    pub(super) fn has(&self, role: Role) -> Result<bool> {
        Ok(self.checkpoint.find(&role.name(self.kind()))?.is_some())
    }

    /// Whether a kind of bias is used: in GGUF, if the tensor exists; in `config.json`, by `switch`.
    pub(super) fn has_bias(&self, role: LayerRole, switch: &str) -> Result<bool> {
        match self.kind() {
            Kind::Gguf => self.has(Role::Layer(0, role)),
            Kind::HuggingFace => Ok(self.bool(switch)?.unwrap_or(false)),
        }
    }

    /// Refuses a `config.json` that names another activation. GGUF has no such field.
    pub(super) fn check_activation(&self, key: &str, wanted: &str) -> Result<()> {
        match self.str(key)? {
            Some(other) if other != wanted => {
                Err(unsupported(self, format!("{key} {other:?}"), &format!("take a model that uses {wanted}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a model whose layers all have a window: `config.json` names a `size` that applies if `switch` is on.
    pub(super) fn check_window(&self, switch: &str, size: &str) -> Result<()> {
        let fix = "take a model whose layers see the whole context";
        match (self.bool(switch)?, self.json(size)) {
            (Some(true), None) => Err(unsupported(self, format!("a sliding window ({switch})"), fix)),
            (Some(true), Some(tokens)) if !tokens.is_null() => {
                let what = format!("a sliding window of {tokens} tokens ({switch})");
                Err(unsupported(self, what, fix))
            }
            _ => Ok(()),
        }
    }

    /// A number of at least 1; `default` if the field is absent.
    pub(super) fn count(&self, key: &str, default: usize) -> Result<usize> {
        size(self, key, MAX_CONTEXT, Some(default))
    }

    /// A value of `config.json`, which may be null; `None` if it is absent, and in GGUF.
    pub(super) fn json(&self, key: &str) -> Option<&Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        match &self.checkpoint.metadata {
            Metadata::HuggingFace(files) => value(&files.config, key),
            Metadata::Gguf(_) => None,
        }
    }

    /// Refuses a `config.json` in which `switch` is on.
    pub(super) fn refuse_on(&self, switch: &str) -> Result<()> {
        match self.bool(switch)? {
            Some(true) => Err(unsupported(self, format!("{switch} true"), "take a model in which it is off")),
            _ => Ok(()),
        }
    }

    /// A positive factor.
    pub(super) fn multiplier(&self, key: ConfigKey, default: f32) -> Result<f32> {
        match positive(self, &self.name(key), Some(f64::from(default)))? as f32 {
            x if x.is_normal() => Ok(x),
            x => Err(self.wrong(&self.name(key), format!("{x:?} is not a positive number of 32 bits"))),
        }
    }

    /// A positive cap; `default` if the field is absent, `None` if it is null.
    pub(super) fn cap(&self, key: ConfigKey, default: f64) -> Result<Option<f32>> {
        let name = self.name(key);
        match self.json(&name) {
            Some(Value::Null) => Ok(None),
            _ => Ok(Some(positive(self, &name, Some(default))? as f32)),
        }
    }

    /// A list in `config.json` with 0 or 1 for each layer. GGUF has no such field.
    pub(super) fn switches(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>> {
        let Some(value) = self.json(key).filter(|value| !value.is_null()) else { return Ok(None) };
        let on = |value: &Value| value.as_u64().filter(|&x| x <= 1).map(|x| x == 1);
        match value.as_array().and_then(|list| list.iter().map(on).collect::<Option<Vec<_>>>()) {
            Some(list) if list.len() >= layers => Ok(Some(list)),
            _ => Err(self.wrong(key, format!("expected 0 or 1 for each of the {layers} layers, found {value}"))),
        }
    }

    /// A typical decoder: identical layers, RMSNorm before attention and MLP, no biases, no norm over heads, rows of Q
    /// and K in the order of transformers. An architecture changes what differs.
    pub(super) fn decoder(&self) -> Result<Config> {
        let heads = self.size(HEADS, MAX_HEADS, None)?;
        self.decoder_with(Named {
            kv_heads: self.size(KV_HEADS, MAX_HEADS, Some(heads))?,
            intermediate: self.size(INTERMEDIATE, MAX_INTERMEDIATE, None)?,
            rms_eps: EPSILON,
            usual_eps: 1e-6,
        })
    }

    pub(super) fn layers(&self) -> Result<usize> {
        self.size(LAYERS, MAX_LAYERS, None)
    }

    /// As [`Keys::decoder`], for an architecture that names some fields differently.
    pub(super) fn decoder_with(&self, named: Named) -> Result<Config> {
        let Named { kv_heads, intermediate, rms_eps, usual_eps } = named;
        let hidden = self.size(HIDDEN, MAX_HIDDEN, None)?;
        let heads = self.size(HEADS, MAX_HEADS, None)?;
        let head_dim = self.size(HEAD_DIM, MAX_HEAD_DIM, Some(hidden / heads))?;
        let context = self.size(CONTEXT, MAX_CONTEXT, None)?;
        let (rope, tokens, least_epsilon, tied) = match &self.checkpoint.metadata {
            Metadata::Gguf(metadata) => {
                self.check_value_length(head_dim)?;
                let tokens = metadata.strings("tokenizer.ggml.tokens")?.map(<[String]>::len);
                (self.gguf_rope(head_dim, context)?, tokens, None, None)
            }
            Metadata::HuggingFace(files) => {
                if let Some(what) = packed(&files.config, self.checkpoint.names()) {
                    let fix = "take the model's unquantised weights, with --quantize q4_k where they are too large, or a GGUF file";
                    return Err(unsupported(self, what, fix));
                }
                let tied = self.bool("tie_word_embeddings")?;
                (self.hugging_face_rope(head_dim, context)?, None, Some(usual_eps), tied)
            }
        };
        let context = rope.stretched_context().map_or(context, |stretched| stretched.clamp(context, MAX_CONTEXT));
        let vocab = self.size(VOCAB, MAX_VOCAB, tokens)?;
        let layer = LayerSpec {
            mixer: MixerSpec::Attention,
            rope: Some(rope),
            scores: Scores::of(head_dim),
            norms: Norms::Before,
            stacked: Stacked::Nothing,
            qkv_bias: false,
            qk_norm: None,
            o_bias: false,
            mixture: None,
            intermediate,
            activation: Activation::Silu,
            mlp_bias: false,
            residual_scale: 1.0,
        };
        Ok(Config {
            architecture: self.architecture,
            hidden,
            layers: vec![layer; self.layers()?],
            heads,
            kv_heads,
            head_dim,
            vocab,
            context,
            rms_eps: epsilon(self, &self.name(rms_eps), least_epsilon)?,
            norm_offset: 0.0,
            embedding_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            names: &[],
            rope_rows: RopeRows::Halves,
            tied_embeddings: tied.map_or_else(|| Ok(!self.has(Role::LmHead)?), Ok)?,
            bos: self.bos(vocab)?,
            stop_tokens: ends::stop_tokens(self.checkpoint, vocab, None)?,
            sampling: self.sampling()?,
            kv: KvFormat::default(),
        })
    }

    fn check_value_length(&self, head_dim: usize) -> Result<()> {
        let key = format!("{}.attention.value_length", self.architecture);
        match size(self, &key, MAX_HEAD_DIM, Some(head_dim))? {
            found if found == head_dim => Ok(()),
            found => {
                let what = format!("a value length of {found} beside a key length of {head_dim}");
                Err(unsupported(self, what, "take a model whose keys and values have one length"))
            }
        }
    }

    /// Refuses a field that changes results and that the architecture did not read.
    pub(super) fn refuse_unread(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let unread = match &self.checkpoint.metadata {
            Metadata::Gguf(metadata) => metadata.keys().find(|key| {
                let own = key.strip_prefix(self.architecture).and_then(|rest| rest.strip_prefix('.'));
                own.is_some_and(|own| !HARMLESS.contains(&own))
                    && !asked.contains(*key)
                    && !matches!(metadata.lookup(key), Some(Field::Unsigned(0) | Field::Signed(0)))
            }),
            Metadata::HuggingFace(files) => {
                let changes = |(key, neutral): &&(&str, Option<f64>)| {
                    !asked.contains(*key) && value(&files.config, key).is_some_and(|value| !is_off(value, *neutral))
                };
                TELLING.iter().find(changes).map(|(key, _)| *key)
            }
        };
        match unread {
            None => Ok(()),
            Some(key) => {
                let fix = format!("take a model of the architecture {} without it", self.architecture);
                Err(unsupported(self, format!("the field {key}"), &fix))
            }
        }
    }

    fn bos(&self, vocab: usize) -> Result<Option<u32>> {
        match self.kind() {
            Kind::Gguf => self.id("tokenizer.ggml.bos_token_id", vocab),
            Kind::HuggingFace => self.id("bos_token_id", vocab),
        }
    }

    fn sampling(&self) -> Result<SamplingDefaults> {
        match &self.checkpoint.metadata {
            Metadata::Gguf(metadata) => Ok(SamplingDefaults {
                do_sample: None,
                temperature: f32(metadata, "general.sampling.temp")?,
                top_k: metadata.u32("general.sampling.top_k")?,
                top_p: f32(metadata, "general.sampling.top_p")?,
                min_p: f32(metadata, "general.sampling.min_p")?,
                repetition_penalty: f32(metadata, "general.sampling.penalty_repeat")?,
            }),
            Metadata::HuggingFace(files) => match &files.generation_config {
                None => Ok(SamplingDefaults::default()),
                Some(file) => Ok(SamplingDefaults {
                    do_sample: file.bool("do_sample")?,
                    temperature: f32(file, "temperature")?,
                    top_k: file.u32("top_k")?,
                    top_p: f32(file, "top_p")?,
                    min_p: f32(file, "min_p")?,
                    repetition_penalty: f32(file, "repetition_penalty")?,
                }),
            },
        }
    }
}

/// A size from 1 to `max`; `default` if the field is absent.
pub(super) fn size(fields: &impl Fields, key: &str, max: usize, default: Option<usize>) -> Result<usize> {
    let value = fields.required(key, fields.u64(key)?.or(default.map(|x| x as u64)))?;
    match usize::try_from(value) {
        Ok(x) if (1..=max).contains(&x) => Ok(x),
        _ => Err(fields.wrong(key, format!("{value} is not from 1 to {max}"))),
    }
}

/// A finite positive number; `default` if the field is absent.
pub(super) fn positive(fields: &impl Fields, key: &str, default: Option<f64>) -> Result<f64> {
    let value = fields.required(key, fields.f64(key)?.or(default))?;
    if value > 0.0 { Ok(value) } else { Err(fields.wrong(key, format!("{value:?} is not above 0"))) }
}

/// As [`positive`], also when rounded to f32.
fn epsilon(fields: &impl Fields, key: &str, default: Option<f64>) -> Result<f32> {
    let value = positive(fields, key, default)?;
    match value as f32 {
        x if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err(fields.wrong(key, format!("{value:?} is not a positive number of 32 bits"))),
    }
}

fn f32(fields: &impl Fields, key: &str) -> Result<Option<f32>> {
    match fields.f64(key)?.map(|x| x as f32) {
        Some(x) if !x.is_finite() => Err(fields.wrong(key, "more than 32 bits hold".to_owned())),
        x => Ok(x),
    }
}

pub(super) fn unsupported(fields: &impl Fields, what: String, fix: &str) -> Error {
    Error::Unsupported { file: fields.file().to_owned(), what, fix: fix.to_owned() }
}

/// A field of `config.json`, by its path.
fn value<'a>(config: &'a JsonFile, key: &str) -> Option<&'a Value> {
    let path = format!("/{}", key.replace('.', "/"));
    let text = config.value.get(TEXT).and_then(|text| text.pointer(&path));
    text.or_else(|| config.value.pointer(&path))
}

fn is_off(value: &Value, neutral: Option<f64>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == neutral,
        Value::Array(list) => list.iter().all(|value| value == "full_attention"),
        _ => false,
    }
}
