//! The numbers of a model, read from either kind of checkpoint into one shape and checked against each other, so that
//! nothing behind this file asks where they came from.
//!
//! Field names: GGUF as in ggml's docs/gguf.md and gguf-py's constants; Hugging Face as in transformers'
//! `LlamaConfig`, release 4 (`rope_theta`, `rope_scaling`) and release 5 (`rope_parameters`).

use super::{
    ends,
    names::{LayerRole, Role},
};
use crate::{
    error::{Error, Result},
    sample::SamplingParams,
    weights::{Checkpoint, Fields, GgufMetadata, HuggingFaceMetadata, JsonFile, Kind, Metadata},
};

/// The families of models this version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// RMSNorm, RoPE, grouped queries, SwiGLU (`model_type` and `general.architecture` `llama`).
    Llama,
}

impl Architecture {
    const ALL: [(&'static str, Architecture); 1] = [("llama", Architecture::Llama)];

    /// By the name that both GGUF (`general.architecture`) and transformers (`model_type`) use.
    fn from_name(file: &str, name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, architecture)| architecture);
        found.ok_or_else(|| Error::Unsupported {
            file: file.to_owned(),
            what: format!("the architecture {name:?}"),
            fix: format!("this version runs: {}", Self::ALL.map(|(known, _)| known).join(", ")),
        })
    }
}

/// How positions turn queries and keys.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many of a head's elements turn: even, at most `head_dim`.
    pub dims: usize,
    /// How the context was stretched.
    pub scaling: Scaling,
}

/// What stretches RoPE beyond the context it was trained on.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: usize,
    },
}

/// Which elements of a head turn together, as the rows of Q and K are stored.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeRows {
    /// 2i and 2i + 1: llama.cpp's converter reorders the rows of Llama models so.
    Interleaved,
    /// i and i + dims/2: as transformers has them.
    Halves,
}

/// What the model's makers suggest for sampling; `None` where they suggest nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingDefaults {
    /// `false` is greedy; without it, a model that names a temperature samples.
    pub do_sample: Option<bool>,
    /// Logits are divided by it; 1 where a model that samples does not say.
    pub temperature: Option<f32>,
    /// How many of the best candidates are kept; 0 keeps all.
    pub top_k: Option<u32>,
    /// The probability that the best candidates kept must reach together.
    pub top_p: Option<f32>,
    /// The least probability that is kept, as a part of the best candidate's.
    pub min_p: Option<f32>,
    /// What weakens tokens that were there before; 1 is off.
    pub repetition_penalty: Option<f32>,
}

impl SamplingDefaults {
    /// These parameters if they sample, greedy otherwise.
    pub(crate) fn params(&self) -> SamplingParams {
        let greedy = SamplingParams::default();
        if !self.do_sample.unwrap_or(self.temperature.is_some()) {
            return greedy;
        }
        SamplingParams {
            temperature: self.temperature.unwrap_or(1.0),
            // Hugging Face writes 0 for a filter that is off.
            top_k: self.top_k.filter(|&k| k > 0),
            top_p: self.top_p.unwrap_or(greedy.top_p),
            min_p: self.min_p.unwrap_or(greedy.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(greedy.repetition_penalty),
            ..greedy
        }
    }
}

/// A model's sizes and settings, read from a checkpoint and checked against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which network it is.
    pub architecture: Architecture,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Query heads: a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head; `heads × head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Elements between the two halves of the MLP.
    pub intermediate: usize,
    /// Token ids are below it; a row of logits is as long.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f32,
    /// How positions turn queries and keys.
    #[doc(hidden)]
    pub rope: Rope,
    /// How the rows of Q and K are stored.
    #[doc(hidden)]
    pub rope_rows: RopeRows,
    /// The LM head is the embedding.
    pub tied_embeddings: bool,
    /// Q, K and V have biases.
    pub qkv_bias: bool,
    /// The attention's output has a bias.
    pub o_bias: bool,
    /// The matrices of the MLP have biases.
    pub mlp_bias: bool,
    /// The token that a text begins with, where the files name one.
    pub bos: Option<u32>,
    /// Tokens that end an answer, each once: those the files name, then the chat template's and the well-known ones
    /// (`ends`). May be empty.
    pub stop_tokens: Vec<u32>,
    /// How answers are sampled where a request says nothing.
    pub sampling: SamplingDefaults,
}

/// Bounds that no model comes near and within which every product of two sizes fits 64 bits, of most 32.
const MAX_HIDDEN: usize = 1 << 17;
const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 10;
const MAX_HEAD_DIM: usize = 1 << 10;
const MAX_INTERMEDIATE: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 22;
const MAX_CONTEXT: usize = 1 << 24;

impl Config {
    /// Reads and checks a checkpoint's configuration; no weights.
    ///
    /// # Errors
    /// [`Error::Format`] for a field that is missing or out of bounds, [`Error::Unsupported`] for a model this version does
    /// not run.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        match &checkpoint.metadata {
            Metadata::Gguf(metadata) => Self::from_gguf(checkpoint, metadata),
            Metadata::HuggingFace(metadata) => Self::from_hugging_face(checkpoint, metadata),
        }
    }

    fn from_gguf(checkpoint: &Checkpoint, meta: &GgufMetadata) -> Result<Self> {
        const ARCHITECTURE: &str = "general.architecture";
        let name = meta.required(ARCHITECTURE, meta.str(ARCHITECTURE)?)?;
        let architecture = Architecture::from_name(meta.file(), name)?;
        let key = |rest: &str| format!("{name}.{rest}");

        let hidden = size(meta, &key("embedding_length"), MAX_HIDDEN, None)?;
        let heads = size(meta, &key("attention.head_count"), MAX_HEADS, None)?;
        let head_dim = size(meta, &key("attention.key_length"), MAX_HEAD_DIM, Some(hidden / heads))?;
        let value_length = size(meta, &key("attention.value_length"), MAX_HEAD_DIM, Some(head_dim))?;
        if value_length != head_dim {
            let what = format!("a value length of {value_length} beside a key length of {head_dim}");
            return Err(unsupported(meta, what, "take a model whose keys and values have one length"));
        }
        let tokens = meta.strings("tokenizer.ggml.tokens")?.map(<[String]>::len);
        let vocab = size(meta, &key("vocab_size"), MAX_VOCAB, tokens)?;
        let has = |role: Role| -> Result<bool> { Ok(checkpoint.find(&role.name(Kind::Gguf))?.is_some()) };
        let has_bias = |role: LayerRole| has(Role::Layer(0, role));
        let config = Self {
            architecture,
            hidden,
            layers: size(meta, &key("block_count"), MAX_LAYERS, None)?,
            heads,
            kv_heads: size(meta, &key("attention.head_count_kv"), MAX_HEADS, Some(heads))?,
            head_dim,
            intermediate: size(meta, &key("feed_forward_length"), MAX_INTERMEDIATE, None)?,
            vocab,
            context: size(meta, &key("context_length"), MAX_CONTEXT, None)?,
            rms_eps: epsilon(meta, &key("attention.layer_norm_rms_epsilon"), None)?,
            rope: Rope {
                theta: positive(meta, &key("rope.freq_base"), Some(10_000.0))?,
                dims: size(meta, &key("rope.dimension_count"), MAX_HEAD_DIM, Some(head_dim))?,
                scaling: gguf_scaling(meta, name)?,
            },
            rope_rows: RopeRows::Interleaved,
            tied_embeddings: !has(Role::LmHead)?,
            qkv_bias: has_bias(LayerRole::QBias)?,
            o_bias: has_bias(LayerRole::OBias)?,
            mlp_bias: has_bias(LayerRole::GateBias)?,
            bos: meta.id("tokenizer.ggml.bos_token_id", vocab)?,
            stop_tokens: ends::stop_tokens(checkpoint, vocab)?,
            sampling: SamplingDefaults {
                do_sample: None,
                temperature: f32(meta, "general.sampling.temp")?,
                top_k: meta.u32("general.sampling.top_k")?,
                top_p: f32(meta, "general.sampling.top_p")?,
                min_p: f32(meta, "general.sampling.min_p")?,
                repetition_penalty: f32(meta, "general.sampling.penalty_repeat")?,
            },
        };
        let keys = CheckedKeys {
            kv_heads: &key("attention.head_count_kv"),
            head_dim: &key("attention.key_length"),
            rope_dims: &key("rope.dimension_count"),
        };
        config.check(meta, &keys)?;
        Ok(config)
    }

    fn from_hugging_face(checkpoint: &Checkpoint, files: &HuggingFaceMetadata) -> Result<Self> {
        let json = &files.config;
        let architecture = Architecture::from_name(json.file(), json.required("model_type", json.str("model_type")?)?)?;
        if json.get("quantization_config").is_some() {
            let fix = "take the model's unquantised weights, or a GGUF file";
            return Err(unsupported(json, "quantization_config (weights packed by another tool)".to_owned(), fix));
        }
        if let Some(activation) = json.str("hidden_act")?
            && activation != "silu"
        {
            return Err(unsupported(json, format!("hidden_act {activation:?}"), "take a model that uses silu"));
        }
        let hidden = size(json, "hidden_size", MAX_HIDDEN, None)?;
        let heads = size(json, "num_attention_heads", MAX_HEADS, None)?;
        let head_dim = size(json, "head_dim", MAX_HEAD_DIM, Some(hidden / heads))?;
        let context = size(json, "max_position_embeddings", MAX_CONTEXT, None)?;
        let attention_bias = json.bool("attention_bias")?.unwrap_or(false);
        let tied_embeddings = match json.bool("tie_word_embeddings")? {
            Some(tied) => tied,
            None => checkpoint.find(&Role::LmHead.name(Kind::HuggingFace))?.is_none(),
        };
        let generation = files.generation_config.as_ref();
        let vocab = size(json, "vocab_size", MAX_VOCAB, None)?;
        let config = Self {
            architecture,
            hidden,
            layers: size(json, "num_hidden_layers", MAX_LAYERS, None)?,
            heads,
            kv_heads: size(json, "num_key_value_heads", MAX_HEADS, Some(heads))?,
            head_dim,
            intermediate: size(json, "intermediate_size", MAX_INTERMEDIATE, None)?,
            vocab,
            context,
            rms_eps: epsilon(json, "rms_norm_eps", Some(1e-6))?,
            rope: hugging_face_rope(json, head_dim, context)?,
            rope_rows: RopeRows::Halves,
            tied_embeddings,
            qkv_bias: attention_bias,
            o_bias: attention_bias,
            mlp_bias: json.bool("mlp_bias")?.unwrap_or(false),
            bos: json.id("bos_token_id", vocab)?,
            stop_tokens: ends::stop_tokens(checkpoint, vocab)?,
            sampling: generation.map(sampling_defaults).transpose()?.unwrap_or_default(),
        };
        let keys =
            CheckedKeys { kv_heads: "num_key_value_heads", head_dim: "head_dim", rope_dims: "partial_rotary_factor" };
        config.check(json, &keys)?;
        Ok(config)
    }

    /// What fields must be to each other.
    fn check(&self, fields: &impl Fields, keys: &CheckedKeys) -> Result<()> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let problem = format!("{} does not divide the {} query heads", self.kv_heads, self.heads);
            return Err(fields.wrong(keys.kv_heads, problem));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return Err(
                fields.wrong(keys.head_dim, format!("a head has {} elements, not an even number", self.head_dim))
            );
        }
        if self.rope.dims > self.head_dim || self.rope.dims == 0 || !self.rope.dims.is_multiple_of(2) {
            let problem = format!("{} elements turn, not an even number up to {}", self.rope.dims, self.head_dim);
            return Err(fields.wrong(keys.rope_dims, problem));
        }
        Ok(())
    }

    /// The angle per position of each pair, radians: `rope.dims / 2` numbers. Pair i turns by `theta^(-2i / dims)`
    /// (Su et al., arXiv 2104.09864), then
    /// - divided by `factors[i]` where the checkpoint has a tensor of them ([`Role::RopeFactors`]: how GGUF holds Llama 3
    ///   scaling; ggml's `rope_yarn` takes `theta / freq_factor`),
    /// - divided by the factor of [`Scaling::Linear`],
    /// - or for [`Scaling::Llama3`], by wavelength λ against the original context L: kept below `L / high_freq_factor`,
    ///   divided by `factor` above `L / low_freq_factor`, and between the two mixed by
    ///   `s = (L/λ − low) / (high − low)` as `(1 − s) · f / factor + s · f` (transformers,
    ///   `_compute_llama3_parameters`).
    ///
    /// # Errors
    /// When `factors` are not `rope.dims / 2` finite numbers above 0.
    #[doc(hidden)]
    pub fn inv_freq(&self, factors: Option<&[f32]>) -> Result<Vec<f64>> {
        let pairs = self.rope.dims / 2;
        if let Some(factors) = factors
            && (factors.len() != pairs || factors.iter().any(|x| !x.is_finite() || *x <= 0.0))
        {
            return Err(Error::Request {
                field: "rope factors",
                problem: format!("expected {pairs} finite numbers above 0, found {} numbers", factors.len()),
            });
        }
        let frequency = |pair: usize| {
            let plain = self.rope.theta.powf(-((2 * pair) as f64) / self.rope.dims as f64);
            plain / factors.map_or(1.0, |factors| f64::from(factors[pair]))
        };
        Ok((0..pairs).map(|pair| self.rope.scaling.apply(frequency(pair))).collect())
    }
}

impl Scaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Scaling::None => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let turns = original_context as f64 * frequency / std::f64::consts::TAU;
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

/// What the fields that [`Config::check`] compares are called in the checkpoint at hand.
struct CheckedKeys<'a> {
    kv_heads: &'a str,
    head_dim: &'a str,
    rope_dims: &'a str,
}

/// A size from 1 to `max`; `default` where the field is absent.
fn size(fields: &impl Fields, key: &str, max: usize, default: Option<usize>) -> Result<usize> {
    let value = fields.required(key, fields.u64(key)?.or(default.map(|x| x as u64)))?;
    match usize::try_from(value) {
        Ok(x) if (1..=max).contains(&x) => Ok(x),
        _ => Err(fields.wrong(key, format!("{value} is not from 1 to {max}"))),
    }
}

/// A finite number above 0; `default` where the field is absent.
fn positive(fields: &impl Fields, key: &str, default: Option<f64>) -> Result<f64> {
    let value = fields.required(key, fields.f64(key)?.or(default))?;
    if value > 0.0 { Ok(value) } else { Err(fields.wrong(key, format!("{value:?} is not above 0"))) }
}

/// As [`positive`], and still so as f32.
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

fn unsupported(fields: &impl Fields, what: String, fix: &str) -> Error {
    Error::Unsupported { file: fields.file().to_owned(), what, fix: fix.to_owned() }
}

const KNOWN_SCALING: &str = "take a model without RoPE scaling, or with linear or Llama 3 scaling";

fn gguf_scaling(meta: &GgufMetadata, architecture: &str) -> Result<Scaling> {
    let key = |rest: &str| format!("{architecture}.rope.{rest}");
    match meta.str(&key("scaling.type"))? {
        Some("linear") => Ok(Scaling::Linear { factor: positive(meta, &key("scaling.factor"), None)? }),
        // The field of files written before `scaling.type` came.
        None if meta.lookup(&key("scale_linear")).is_some() => {
            Ok(Scaling::Linear { factor: positive(meta, &key("scale_linear"), None)? })
        }
        None | Some("none") => Ok(Scaling::None),
        Some(other) => Err(unsupported(meta, format!("RoPE scaling {other:?}"), KNOWN_SCALING)),
    }
}

fn hugging_face_rope(json: &JsonFile, head_dim: usize, context: usize) -> Result<Rope> {
    // Release 5 of transformers gathers in `rope_parameters` what release 4 has in `rope_scaling` and beside it.
    let group = if json.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    if let Some(value) = json.get(group)
        && !value.is_object()
    {
        return Err(json.wrong(group, format!("expected an object, found {value}")));
    }
    let in_group = |field: &str| format!("{group}.{field}");
    let either = |field: &str| match in_group(field) {
        path if json.get(&path).is_some() => path,
        _ => field.to_owned(),
    };
    let number = |field: &str| positive(json, &in_group(field), None);
    let kind = match json.str(&in_group("rope_type"))? {
        Some(kind) => Some(kind),
        None => json.str(&in_group("type"))?,
    };
    let scaling = match kind {
        None | Some("default") => Scaling::None,
        Some("linear") => Scaling::Linear { factor: number("factor")? },
        Some("llama3") => {
            let (low_freq_factor, high_freq_factor) = (number("low_freq_factor")?, number("high_freq_factor")?);
            if high_freq_factor <= low_freq_factor {
                let problem = format!("{high_freq_factor} is not above low_freq_factor, {low_freq_factor}");
                return Err(json.wrong(&in_group("high_freq_factor"), problem));
            }
            let original_context =
                size(json, &in_group("original_max_position_embeddings"), MAX_CONTEXT, Some(context))?;
            Scaling::Llama3 { factor: number("factor")?, low_freq_factor, high_freq_factor, original_context }
        }
        Some(other) => return Err(unsupported(json, format!("RoPE scaling {other:?}"), KNOWN_SCALING)),
    };
    let part = either("partial_rotary_factor");
    let share = positive(json, &part, Some(1.0))?;
    if share > 1.0 {
        return Err(json.wrong(&part, format!("{share} is more than the whole head")));
    }
    let theta = positive(json, &either("rope_theta"), Some(10_000.0))?;
    Ok(Rope { theta, dims: (head_dim as f64 * share) as usize, scaling })
}

fn sampling_defaults(file: &JsonFile) -> Result<SamplingDefaults> {
    Ok(SamplingDefaults {
        do_sample: file.bool("do_sample")?,
        temperature: f32(file, "temperature")?,
        top_k: file.u32("top_k")?,
        top_p: f32(file, "top_p")?,
        min_p: f32(file, "min_p")?,
        repetition_penalty: f32(file, "repetition_penalty")?,
    })
}
