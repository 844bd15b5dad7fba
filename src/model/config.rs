//! The numbers of a model, in one shape whatever its architecture and its files, so that nothing behind this file asks where
//! they came from.

use super::ends;
use super::{
    Architecture, Rope,
    keys::{EXPERT_INTERMEDIATE, HEAD_DIM, HIDDEN, INTERMEDIATE, KV_HEADS, Key, Keys, ROPE_DIMS, unsupported},
};
use crate::{
    error::Result,
    kernels::{Experts, Heads, attention::Scores, head_norm::QkNorm, linear::Activation},
    quant::UNIT,
    sample::SamplingParams,
    weights::{Checkpoint, Fields},
};

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

/// Where RMSNorm stands around the attention of a layer, and around its MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Over what they read.
    Before,
    /// Over what they give, before that joins the residual stream.
    After,
    /// Both.
    Around,
}

/// What mixes the tokens of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixerSpec {
    /// Attention with grouped queries.
    Attention,
    /// A gated short convolution (LFM2), over a token and the `taps - 1` before it.
    ShortConv {
        /// At least 2.
        taps: usize,
    },
}

/// Which matrices of a layer lie one below the other in one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stacked {
    /// Each is a tensor of its own.
    Nothing,
    /// Q, K and V are one, gate and up another.
    QkvAndGateUp,
    /// Gate and up are, named as the part of a mixture that all tokens share.
    SharedGateUp,
    /// Those of a mixture's experts are: all gates, all ups, all downs.
    Experts,
}

/// A mixture of experts: MLPs, of which a token goes through a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixture {
    /// How many there are, and how many a token goes through.
    #[doc(hidden)]
    pub experts: Experts,
    /// The weights of those that a token goes through add up to 1.
    pub normalized: bool,
}

/// What one layer is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// What mixes its tokens. What is said of positions, scores, queries and keys is said of attention alone.
    pub mixer: MixerSpec,
    /// How positions turn queries and keys, if they do.
    #[doc(hidden)]
    pub rope: Option<Rope>,
    /// What becomes of the products of queries and keys.
    #[doc(hidden)]
    pub scores: Scores,
    /// Where its norms stand.
    pub norms: Norms,
    /// Which of its matrices a checkpoint has in one tensor.
    pub stacked: Stacked,
    /// Q, K and V have biases.
    pub qkv_bias: bool,
    /// RMSNorm over Q and K, before they turn.
    #[doc(hidden)]
    pub qk_norm: Option<QkNorm>,
    /// The attention's output has a bias.
    pub o_bias: bool,
    /// In place of one MLP, if there is one.
    pub mixture: Option<Mixture>,
    /// Elements between the two halves of the MLP, or of each expert.
    pub intermediate: usize,
    /// The function of the MLP's gate.
    #[doc(hidden)]
    pub activation: Activation,
    /// The matrices of the MLP have biases.
    pub mlp_bias: bool,
    /// What attention and MLP give is multiplied by it before it joins the residual stream.
    pub residual_scale: f32,
}

/// A model's sizes and settings, read from a checkpoint and checked against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What GGUF (`general.architecture`) and transformers (`model_type`) call it.
    pub architecture: &'static str,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Transformer blocks, in their order.
    pub layers: Vec<LayerSpec>,
    /// Query heads: a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head; `heads × head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Token ids are below it; a row of logits is as long.
    pub vocab: usize,
    /// Positions the model was made for.
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
    /// Then they become `cap · tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    /// Tensors that the architecture names in its own way: the end of the usual name, and of its own.
    #[doc(hidden)]
    pub names: &'static [(&'static str, &'static str)],
    /// How the rows of Q and K are stored.
    #[doc(hidden)]
    pub rope_rows: RopeRows,
    /// The LM head is the embedding.
    pub tied_embeddings: bool,
    /// The token that a text begins with, where the files name one.
    pub bos: Option<u32>,
    /// Tokens that end an answer, each once: those the files name, then the chat template's and the well-known ones
    /// (`ends`). May be empty.
    pub stop_tokens: Vec<u32>,
    /// How answers are sampled where a request says nothing.
    pub sampling: SamplingDefaults,
}

impl LayerSpec {
    /// MLPs that a token goes through.
    fn used(&self) -> usize {
        self.mixture.map_or(1, |mixture| mixture.experts.used)
    }
}

impl Config {
    /// Reads and checks a checkpoint's configuration; no weights. A chat is rendered with its template, to see what ends a
    /// turn.
    ///
    /// # Errors
    /// As [`described`](Self::described).
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let mut config = Self::described(checkpoint)?;
        let own = ends::of_template(checkpoint, config.vocab)?;
        config.stop_tokens = ends::stop_tokens(checkpoint, config.vocab, own)?;
        Ok(config)
    }

    /// The same as the files have it, without what only a run of their template shows.
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
            // One that holds every context is none.
            layer.scores.window = layer.scores.window.filter(|&window| window < context);
        }
        Ok(config.for_context(context))
    }

    /// As the model is when no context is longer than `context` tokens: what changes with that is which numbers stretch RoPE
    /// ([`Scaling::LongRope`](super::Scaling)), and so what its KV is worth to whom.
    pub fn for_context(mut self, context: usize) -> Self {
        self.layers.iter_mut().filter_map(|layer| layer.rope.as_mut()).for_each(|rope| rope.for_context(context));
        self
    }

    /// The shape of every layer's attention.
    pub(crate) fn heads(&self) -> Heads {
        Heads { heads: self.heads, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }

    /// The most elements of a row between two matrices of any layer.
    pub(crate) fn widest(&self) -> usize {
        // Heads that are normed wait between their matrix and their places.
        let normed = self.layers.iter().any(|layer| layer.qk_norm.is_some());
        let projected = if normed { (self.heads + 2 * self.kv_heads) * self.head_dim } else { 0 };
        let between = self.layers.iter().map(|layer| layer.intermediate * layer.used()).max().unwrap_or(0);
        between.max(projected).max(if self.has_state() { 3 * self.hidden } else { 0 })
    }

    /// The mixture of the layers that have one.
    pub(crate) fn experts(&self) -> Option<Experts> {
        self.layers.iter().find_map(|layer| layer.mixture.map(|mixture| mixture.experts))
    }

    /// The most elements of a row of what a mixer gives.
    pub(crate) fn mixed(&self) -> usize {
        (self.heads * self.head_dim).max(if self.has_state() { self.hidden } else { 0 })
    }

    /// Whether a token needs more of those before it than their keys and values: a state that is known only where a page or a
    /// prompt ends.
    pub(crate) fn has_state(&self) -> bool {
        self.layers.iter().any(|layer| layer.mixer != MixerSpec::Attention)
    }

    /// Elements of a row of what norms or weights take before it joins the residual stream; 0 where there are none.
    pub(crate) fn given(&self) -> usize {
        let waits = |layer: &&LayerSpec| layer.norms != Norms::Before || layer.mixture.is_some();
        self.layers.iter().filter(waits).map(|layer| layer.used() * self.hidden).max().unwrap_or(0)
    }

    /// What fields must be to each other.
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
        let odd = |(_, width, _): &(&str, usize, Key)| *width == 0 || !width.is_multiple_of(UNIT);
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
