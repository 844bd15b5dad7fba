//! The requests and events of the engine.

use serde::Serialize;

use crate::{
    error::{Error, Result},
    kv::Report,
    sample::SamplingParams,
};

#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// A request to the engine, in tokens. [`Body::request`](crate::Body::request) makes one from text.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The prompt, at least one token.
    pub tokens: Vec<u32>,
    /// Most tokens to generate. With 0, only the prompt is computed, for later requests.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The beginning of the answer, if a lost engine had got that far. It is decoded again without events, so that the
    /// answer continues as it would have.
    pub generated: Vec<u32>,
    /// Tokens that end the answer. The one that does is not part of it.
    pub stop_tokens: Vec<u32>,
    /// Reuse nothing that was computed before, and store nothing beyond the GPU.
    pub no_cache: bool,
    /// Reuse only KV that is bit-identical to a cold prefill, so not what decoding computed.
    pub exact: bool,
    /// Requests share KV only with those of the same salt.
    pub cache_salt: String,
    /// Lengths of beginnings of the prompt whose last hidden state is kept too, as that of the whole prompt always is.
    /// A request for exactly such a beginning then runs the LM head alone. At most [`MAX_BREAKPOINTS`]. A breakpoint
    /// inside the reused part is ignored; so is one before the end of a step's rows, if the model keeps a state besides
    /// keys and values.
    pub breakpoints: Vec<usize>,
    /// Record the known tokens where the prompt diverges, for
    /// [`Conversation::divergence`](super::explain::Conversation::divergence).
    pub explain: bool,
    /// Report the logits that each token was chosen from, as an event before it. They are read back from the GPU for
    /// this.
    pub logits: bool,
    /// Report the logits of every computed prompt position, as events in order. Reused positions have none. Long
    /// prompts take more steps, since a step gives at most as many rows of logits as sequences can run at once.
    pub prompt_logits: bool,
}

/// Why an answer ended on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It reached a stop token or a stop string.
    Stop,
    /// It reached `max_tokens`.
    Length,
    /// The context, or the memory for it, is full.
    Context,
}

/// How many tokens went in and came out. As JSON it has the names and the nesting of OpenAI's API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "OpenAiUsage")]
pub struct Usage {
    /// All tokens of the prompt, computed or reused.
    pub prompt_tokens: usize,
    /// Tokens of the answer. A stop token is not counted.
    pub completion_tokens: usize,
    /// Prompt tokens whose keys and values were known, so that they were not computed again.
    pub cached_tokens: usize,
}

#[derive(Serialize)]
struct OpenAiUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Serialize)]
struct PromptTokensDetails {
    cached_tokens: usize,
}

impl From<Usage> for OpenAiUsage {
    fn from(Usage { prompt_tokens, completion_tokens, cached_tokens }: Usage) -> Self {
        Self { prompt_tokens, completion_tokens, prompt_tokens_details: PromptTokensDetails { cached_tokens } }
    }
}

#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `[vocab]`, before penalties and biases; only if the request asks for them.
    Logits {
        sequence: SequenceId,
        logits: Vec<f32>,
    },
    /// `[vocab]`, for a position of the prompt; only if the request asks for them.
    PromptLogits {
        sequence: SequenceId,
        position: usize,
        logits: Vec<f32>,
    },
    Token {
        sequence: SequenceId,
        token: u32,
    },
    Finished {
        sequence: SequenceId,
        reason: FinishReason,
        usage: Usage,
        /// Where the prompt's KV came from, and why not all of it from the cache; empty if it was never admitted.
        cache: Report,
    },
}

/// Most breakpoints of one request.
pub const MAX_BREAKPOINTS: usize = 4;

/// Refuses ids for which a model with this `vocab` has no token.
///
/// # Errors
/// [`Error::Request`] for `field`, with the first such id.
#[doc(hidden)]
pub fn check_ids<'a>(field: &'static str, ids: impl IntoIterator<Item = &'a u32>, vocab: usize) -> Result<()> {
    match ids.into_iter().find(|&&id| id as usize >= vocab) {
        None => Ok(()),
        Some(id) => {
            Err(Error::Request { field, problem: format!("token id {id} is outside the vocabulary of {vocab}") })
        }
    }
}

impl Request {
    pub(super) fn validate(&self, vocab: usize, context: usize, most: usize) -> Result<()> {
        let fail = |problem: String| Err(Error::Request { field: "prompt", problem });
        if self.tokens.is_empty() {
            return fail("is empty; give at least one token".into());
        }
        // A prompt that is only computed needs no room for an answer.
        if self.tokens.len() + self.max_tokens.min(1) > context {
            return Err(Error::Context { tokens: self.tokens.len(), context, most });
        }
        check_ids("prompt", self.tokens.iter().chain(&self.generated), vocab)?;
        let (breakpoints, length) = (&self.breakpoints, self.tokens.len());
        if breakpoints.len() > MAX_BREAKPOINTS || breakpoints.iter().any(|end| !(1..=length).contains(end)) {
            let problem = format!("must be at most {MAX_BREAKPOINTS} lengths between 1 and the prompt's {length}");
            return Err(Error::Request { field: "breakpoints", problem });
        }
        self.sampling.validate(vocab)
    }
}
