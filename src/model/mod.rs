//! Models: what a checkpoint's configuration means, the tensors it calls for, and the work of one step as a recording.
//!
//! A model is one file here and one arm in `load`.

mod config;
mod ends;
pub mod language;
mod llama;
#[doc(hidden)]
mod names;
mod upload;

use std::sync::Arc;

pub use config::{Architecture, Config, Rope, RopeRows, SamplingDefaults, Scaling};
pub use names::{LayerRole, Role};
pub(crate) use upload::Uploader;

use crate::{
    error::Result,
    gpu::{Buffer, Caps, Kernel, Recording},
    kernels::{Heads, Span},
};

/// The GPU memory a step works in, made once for the largest step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activations {
    /// `[batch rows, hidden]` f32: the residual stream.
    pub(crate) hidden: Buffer,
    /// `[batch rows, heads, head_dim]` f32.
    pub(crate) queries: Buffer,
    /// As `queries`: what attention gives.
    pub(crate) attended: Buffer,
    /// Partial results of decode attention.
    pub(crate) partials: Buffer,
    /// `[batch rows, intermediate]` f32.
    pub(crate) inner: Buffer,
    /// `[logit rows, vocab]` f32.
    pub(crate) logits: Buffer,
    /// Candidate lists of the chunks of the vocabulary, and of whole rows.
    pub(crate) lists: [Buffer; 2],
    /// `[logit rows]` token ids.
    pub(crate) drawn: Buffer,
}

/// How the rows of the logits span end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whole logits are read by the host.
    Logits,
    /// The best token of each row.
    Greedy,
    /// A draw among each row's best.
    Draw,
}

/// What one step runs over.
pub(crate) struct Work<'a> {
    /// Prompt rows, decode rows or both.
    pub(crate) spans: &'a [Span],
    /// The rows whose logits are wanted, if any.
    pub(crate) logits: Option<(Span, Ending)>,
    /// One buffer of pages a layer.
    pub(crate) kv: &'a [Buffer],
    pub(crate) memory: &'a Activations,
}

/// A network on the GPU.
pub(crate) trait Model {
    fn heads(&self) -> Heads;
    /// Every pipeline that a step may use.
    fn kernels(&self) -> Vec<Arc<Kernel>>;
    /// Bytes of weights on the GPU.
    fn weight_bytes(&self) -> u64;
    /// Frequencies of the RoPE pairs, radians a token.
    fn inv_freq(&self) -> &[f64];
    /// Appends the work of one step.
    fn record(&self, recording: &mut Recording, work: &Work);
}

/// Puts the model of `uploader`'s checkpoint on the GPU. `context` bounds the rows' contexts, in tokens.
pub(crate) async fn load(
    uploader: &mut Uploader<'_>,
    config: &Config,
    context: usize,
    caps: &Caps,
) -> Result<Box<dyn Model>> {
    match config.architecture {
        Architecture::Llama => Ok(Box::new(llama::Llama::load(uploader, config, context, caps).await?)),
    }
}
