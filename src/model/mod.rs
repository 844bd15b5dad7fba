//! Models: the meaning of a checkpoint's configuration, the tensors that it requires, and the work of one step as a
//! recording.
//!
//! An architecture is one file here and one line in `ARCHITECTURES`: it reads its configuration into a [`Config`], whose
//! layers are data, and `Network` records them.

mod config;
mod ends;
mod gemma;
mod granite;
mod keys;
pub mod language;
mod layer;
mod lfm2;
mod llama;
mod mistral;
mod mixer;
mod mlp;
#[doc(hidden)]
mod names;
mod network;
mod olmo2;
mod phi3;
mod positions;
mod quantize;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod rope;
mod scaling;
mod smollm3;
mod upload;

pub use config::{Config, LayerSpec, MixerSpec, Mixture, Norms, RopeRows, SamplingDefaults, Stacked};
pub use names::{LayerRole, Role};
pub(crate) use network::Network;
pub use quantize::Quantizable;
pub(crate) use rope::Angle;
pub use rope::{FactorList, Rope, Scaling};
pub(crate) use upload::Uploader;

use crate::{
    error::{Error, Result},
    gpu::Buffer,
    kernels::{Span, linear::Input},
    weights::{Checkpoint, Fields, Metadata},
};

/// A family of models.
struct Architecture {
    /// Its name in GGUF (`general.architecture`).
    name: &'static str,
    /// Its name in transformers (`model_type`).
    model_type: &'static str,
    read: fn(&keys::Keys) -> Result<Config>,
}

const ARCHITECTURES: &[Architecture] = &[
    llama::LLAMA,
    mistral::MISTRAL,
    qwen2::QWEN2,
    qwen3::QWEN3,
    qwen3_moe::QWEN3_MOE,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gemma::GEMMA3_WHOLE,
    smollm3::SMOLLM3,
    phi3::PHI3,
    olmo2::OLMO2,
    granite::GRANITE,
    lfm2::LFM2,
    granite::GRANITE_HYBRID,
    mistral::MINISTRAL,
];

impl Architecture {
    fn of(checkpoint: &Checkpoint) -> Result<&'static Self> {
        type Name = fn(&Architecture) -> &'static str;
        let (fields, key, known): (&dyn Fields, _, Name) = match &checkpoint.metadata {
            Metadata::Gguf(metadata) => (metadata, "general.architecture", |known| known.name),
            Metadata::HuggingFace(files) => (&files.config, "model_type", |known| known.model_type),
        };
        let name = fields.str(key)?.ok_or_else(|| fields.missing(key))?;
        let found = ARCHITECTURES.iter().find(|architecture| known(architecture) == name);
        found.ok_or_else(|| {
            let mut names: Vec<&str> = Vec::new();
            names.extend(ARCHITECTURES.iter().map(known));
            names.dedup();
            Error::Unsupported {
                file: fields.file().to_owned(),
                what: format!("the architecture {name:?}"),
                fix: format!("this version runs: {}", names.join(", ")),
            }
        })
    }
}

/// The GPU memory that steps use, allocated once for the largest step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activations {
    /// `[batch rows, hidden]` f32: the residual stream.
    pub(crate) hidden: Buffer,
    /// The input of matrices, rounded to f16 or 8 bits: at most two bytes an element; one word if all is f32.
    pub(crate) rounded: Buffer,
    /// `[batch rows, heads, head_dim]` f32.
    pub(crate) queries: Buffer,
    /// As `queries`: the output of attention.
    pub(crate) attended: Buffer,
    /// Partial results of decode attention.
    pub(crate) partials: Buffer,
    /// `[batch rows, widest]` f32: intermediate values between two matrices of a layer.
    pub(crate) inner: Buffer,
    /// `[span rows, hidden]` f32: the input of norms after attention and MLP, or `[span rows, used, hidden]`: the
    /// outputs of experts; one word if there are neither.
    pub(crate) given: Buffer,
    /// `[span rows, experts]` f32: the output of a router. This and the next two are one word if there is no router.
    pub(crate) scores: Buffer,
    /// `[span rows, used]` pairs of an expert and its weight.
    pub(crate) choices: Buffer,
    /// The choices grouped by expert.
    pub(crate) tiles: Buffer,
    /// `[logit rows, vocab]` f32.
    pub(crate) logits: Buffer,
    /// Candidate lists of the chunks of the vocabulary, and of whole rows.
    pub(crate) lists: [Buffer; 2],
    /// `[logit rows]` token ids.
    pub(crate) drawn: Buffer,
}

impl Activations {
    /// The residual stream.
    fn stream(&self) -> Input {
        self.input(self.hidden)
    }

    /// The input of a product that reads `x`.
    fn input(&self, x: Buffer) -> Input {
        Input { x: x.whole(), rounded: self.rounded.whole() }
    }
}

/// What happens to the rows of the logits span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whole logits are read by the host.
    Logits,
    /// The best token of each row.
    Greedy,
    /// A draw among each row's best.
    Draw,
}

/// The rows and pages of one step.
pub(crate) struct Work<'a> {
    /// Prompt rows, decode rows or both.
    pub(crate) spans: &'a [Span],
    /// The rows whose logits are needed, if any.
    pub(crate) logits: Option<(Span, Ending)>,
    /// One buffer of pages a layer.
    pub(crate) kv: &'a [Buffer],
    pub(crate) memory: &'a Activations,
}
