//! The configuration of a model, in one form for all architectures and file formats, so that no later code depends on
//! where it came from.

use super::ends;
use super::{
    Architecture, Rope,
    keys::{ConfigKey, EXPERT_INTERMEDIATE, HEAD_DIM, HIDDEN, INTERMEDIATE, KV_HEADS, Keys, ROPE_DIMS, unsupported},
};
use crate::{
    error::Result,
    kernels::{Experts, Heads, KvFormat, attention::Scores, head_norm::QkNorm, linear::Activation},
    quant::UNIT,
    sample::SamplingParams,
    weights::{Checkpoint, Fields},
};

/// Which elements of a head form a RoPE pair, by the order in which the rows of Q and K are stored.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeRows {
    /// 2i and 2i + 1, the order into which llama.cpp's converter puts the rows of Llama models.
    Interleaved,
    /// i and i + dims/2, the order of transformers.
    Halves,
}

/// The sampling parameters that the model's makers suggest; `None` where they suggest nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingDefaults {
    /// `false` is greedy. If it is not set, a model that names a temperature samples.
    pub do_sample: Option<bool>,
    /// Logits are divided by it; 1 if a model that samples does not name one.
    pub temperature: Option<f32>,
    /// How many of the best candidates are kept; 0 keeps all.
    pub top_k: Option<u32>,
    /// The total probability that the kept candidates must reach.
    pub top_p: Option<f32>,
    /// The least probability that is kept, relative to the best candidate's.
    pub min_p: Option<f32>,
    /// Penalty for tokens that occurred before; 1 is off.
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
            // Hugging Face writes 0 for a disabled filter.
            top_k: self.top_k.filter(|&k| k > 0),
            top_p: self.top_p.unwrap_or(greedy.top_p),
            min_p: self.min_p.unwrap_or(greedy.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(greedy.repetition_penalty),
            ..greedy
        }
    }
}

/// The placement of RMSNorm around a layer's attention and MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Over their input.
    Before,
    /// Over their output, before it is added to the residual stream.
    After,
    /// Both.
    Around,
}

/// The operation that mixes the tokens of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixerSpec {
    /// Grouped-query attention.
    Attention,
    /// A gated short convolution (LFM2), over a token and the `taps - 1` before it.
    ShortConv {
        /// At least 2.
        taps: usize,
    },
}

/// Which matrices of a layer are stacked in one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stacked {
    /// Each matrix is its own tensor.
    Nothing,
    /// Q, K and V are one tensor, gate and up another.
    QkvAndGateUp,
    /// Gate and up are one tensor, named as the shared expert of a mixture.
    SharedGateUp,
    /// The matrices of a mixture's experts are stacked: all gates, all ups, all downs.
    Experts,
}

/// A mixture of experts: MLPs, a few of which process each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixture {
    /// The number of experts, and of those that process a token.
    #[doc(hidden)]
    pub experts: Experts,
    /// Whether the weights of a token's experts add up to 1.
    pub normalized: bool,
}

/// The structure of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// What mixes its tokens. The fields about positions, scores, queries and keys apply to attention only.
    pub mixer: MixerSpec,
    /// RoPE of queries and keys, if any.
    #[doc(hidden)]
    pub rope: Option<Rope>,
    /// How the products of queries and keys become scores.
    #[doc(hidden)]
    pub scores: Scores,
    /// The placement of its norms.
    pub norms: Norms,
    /// Which of its matrices a checkpoint stacks in one tensor.
    pub stacked: Stacked,
    /// Whether Q, K and V have biases.
    pub qkv_bias: bool,
    /// RMSNorm over Q and K before RoPE.
    #[doc(hidden)]
    pub qk_norm: Option<QkNorm>,
    /// Whether the attention's output has a bias.
    pub o_bias: bool,
    /// The mixture of experts that replaces the MLP, if any.
    pub mixture: Option<Mixture>,
    /// Elements between the two halves of the MLP, or of each expert.
    pub intermediate: usize,
    /// The activation of the MLP's gate.
    #[doc(hidden)]
    pub activation: Activation,
    /// Whether the matrices of the MLP have biases.
    pub mlp_bias: bool,
    /// The outputs of attention and MLP are multiplied by it before they are added to the residual stream.
    pub residual_scale: f32,
}

/// A model's sizes and settings, read from a checkpoint and checked for consistency.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its name in GGUF (`general.architecture`) and transformers (`model_type`).
    pub architecture: &'static str,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// The layers, in order.
    pub layers: Vec<LayerSpec>,
    /// Query heads: a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head; `heads × head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// The number of token ids, and of logits in a row.
    pub vocab: usize,
    /// The number of positions that the model was trained for.
    pub context: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f32,
    /// Added to the stored gains of every RMSNorm.
    #[doc(hidden)]
    pub norm_offset: f32,
    /// Embeddings are multiplied by it.
    pub embedding_scale: f32,
    /// Logits are multiplied by it.
    pub logit_scale: f32,
    /// If set, logits then become `cap · tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    /// Tensors with names of the architecture's own: the ending of the usual name, and its replacement.
    #[doc(hidden)]
    pub names: &'static [(&'static str, &'static str)],
    /// How the rows of Q and K are stored.
    #[doc(hidden)]
    pub rope_rows: RopeRows,
    /// Whether the LM head is the embedding.
    pub tied_embeddings: bool,
    /// The token that a text begins with, if the files name one.
    pub bos: Option<u32>,
    /// Tokens that end an answer, without duplicates: those that the files name, then the chat template's and the
    /// well-known ones (`ends`). May be empty.
    pub stop_tokens: Vec<u32>,
    /// Sampling parameters that a request does not set.
    pub sampling: SamplingDefaults,
    /// How keys and values are stored.
    pub kv: KvFormat,
}

impl LayerSpec {
    /// The number of MLPs that process a token.
    fn used(&self) -> usize {
        self.mixture.map_or(1, |mixture| mixture.experts.used)
    }
}

impl Config {
    /// Reads and checks a checkpoint's configuration, without weights. It renders a chat with the template, to see what
    /// ends a turn.
    ///
    /// # Errors
    /// As [`described`](Self::described).
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let mut config = Self::described(checkpoint)?;
        let own = ends::of_template(checkpoint, config.vocab)?;
        config.stop_tokens = ends::stop_tokens(checkpoint, config.vocab, own)?;
        Ok(config)
    }

    /// The same from the files alone, without running the template.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) for a field that is missing or out of bounds,
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a model this version does not run.
    pub fn described(checkpoint: &Checkpoint) -> Result<Self> {
        let architecture = Architecture::of(checkpoint)?;
        let keys = Keys::new(checkpoint, architecture.name);
        let mut config = (architecture.read)(&keys)?;
        config.check(&keys)?;
        keys.refuse_unread()?;
        let context = config.context;
        for layer in &mut config.layers {
            // A window that covers every context has no effect.
            layer.scores.window = layer.scores.window.filter(|&window| window < context);
        }
        Ok(config.for_context(context))
    }

    /// The configuration for contexts of at most `context` tokens. The bound decides which factors scale RoPE
    /// ([`Scaling::LongRope`](super::Scaling)), and with it which KV is compatible.
    pub fn for_context(mut self, context: usize) -> Self {
        self.layers.iter_mut().filter_map(|layer| layer.rope.as_mut()).for_each(|rope| rope.for_context(context));
        self
    }

    /// The configuration with keys and values stored as `kv`.
    pub fn with_kv(self, kv: KvFormat) -> Self {
        Self { kv, ..self }
    }

    /// The shape of the attention of every layer.
    pub(crate) fn heads(&self) -> Heads {
        Heads { heads: self.heads, kv_heads: self.kv_heads, head_dim: self.head_dim, kv: self.kv }
    }

    /// Whether heads are buffered between their matrix and their pages: a norm or a number format takes them whole.
    pub(super) fn takes_whole_heads(&self, layer: &LayerSpec) -> bool {
        layer.qk_norm.is_some() || self.kv == KvFormat::Q8
    }

    /// Most elements of a row between two matrices of any layer.
    pub(crate) fn widest(&self) -> usize {
        let whole = self.layers.iter().any(|layer| self.takes_whole_heads(layer));
        let projected = if whole { (self.heads + 2 * self.kv_heads) * self.head_dim } else { 0 };
        let between = self.layers.iter().map(|layer| layer.intermediate * layer.used()).max().unwrap_or(0);
        between.max(projected).max(if self.has_state() { 3 * self.hidden } else { 0 })
    }

    /// The mixture of experts of the layers that have one.
    pub(crate) fn experts(&self) -> Option<Experts> {
        self.layers.iter().find_map(|layer| layer.mixture.map(|mixture| mixture.experts))
    }

    /// Most elements of a row of a mixer's output.
    pub(crate) fn mixed(&self) -> usize {
        (self.heads * self.head_dim).max(if self.has_state() { self.hidden } else { 0 })
    }

    /// Whether a token needs a state besides the keys and values before it. The state is stored only at the end of a
    /// page or a prompt.
    pub(crate) fn has_state(&self) -> bool {
        self.layers.iter().any(|layer| layer.mixer != MixerSpec::Attention)
    }

    /// Elements of a row that a norm or weights process before it is added to the residual stream; 0 if there are none.
    pub(crate) fn given(&self) -> usize {
        let waits = |layer: &&LayerSpec| layer.norms != Norms::Before || layer.mixture.is_some();
        self.layers.iter().filter(waits).map(|layer| layer.used() * self.hidden).max().unwrap_or(0)
    }

    /// Checks the fields against each other.
    fn check(&self, keys: &Keys) -> Result<()> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let problem = format!("{} does not divide the {} query heads", self.kv_heads, self.heads);
            return Err(keys.wrong(&keys.name(KV_HEADS), problem));
        }
        let mut widths = vec![("heads", self.head_dim, HEAD_DIM), ("hidden states", self.hidden, HIDDEN)];
        widths.extend(self.layers.iter().map(|layer| match layer.mixture {
            None => ("MLPs", layer.intermediate, INTERMEDIATE),
            Some(_) => ("experts", layer.intermediate, EXPERT_INTERMEDIATE),
        }));
        let odd = |(_, width, _): &(&str, usize, ConfigKey)| *width == 0 || !width.is_multiple_of(UNIT);
        if let Some((what, width, key)) = widths.into_iter().find(odd) {
            let what = format!("{} (which gives {what} of {width} elements)", keys.name(key));
            return Err(unsupported(keys, what, &format!("take a model whose sizes are multiples of {UNIT}")));
        }
        for Rope { dims, .. } in self.layers.iter().filter_map(|layer| layer.rope.as_ref()) {
            if *dims > self.head_dim || *dims == 0 || !dims.is_multiple_of(2) {
                let problem = format!("{dims} elements turn, not an even number up to {}", self.head_dim);
                return Err(keys.wrong(&keys.name(ROPE_DIMS), problem));
            }
        }
        Ok(())
    }
}
