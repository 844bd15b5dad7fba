//! One request under way.

use web_time::Instant;

use super::request::{FinishReason, Request, SequenceId, Usage};
use crate::kv::{BlockTable, Report};

/// A request and what it has produced.
#[derive(Debug)]
pub struct Sequence {
    pub id: SequenceId,
    pub request: Request,
    pub generated: Vec<u32>,
    pub phase: Phase,
    /// Where its prompt came from; empty until it is admitted.
    pub cache: Report,
    /// The prompt's last hidden state, where an exact repeat brought it.
    pub hidden: Option<Vec<f32>>,
    /// When it was admitted.
    pub admitted: Option<Instant>,
}

#[derive(Debug)]
pub enum Phase {
    /// Not admitted: holds no pages.
    Waiting,
    /// Part of the prompt is still to be computed; the table holds what is.
    Prefilling(BlockTable),
    /// All is computed but the last token generated.
    Decoding(BlockTable),
}

impl Sequence {
    pub fn new(id: SequenceId, request: Request) -> Self {
        Self {
            id,
            request,
            generated: Vec::new(),
            phase: Phase::Waiting,
            cache: Report::default(),
            hidden: None,
            admitted: None,
        }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.request.tokens.len(),
            completion_tokens: self.generated.len(),
            cached_tokens: self.cache.reused(),
        }
    }

    /// Takes a new token; why the sequence ends, if it does.
    pub fn push(&mut self, token: u32, context: usize) -> Option<FinishReason> {
        if self.request.stop_tokens.contains(&token) {
            return Some(FinishReason::Stop);
        }
        self.generated.push(token);
        if self.generated.len() >= self.request.max_tokens {
            return Some(FinishReason::Length);
        }
        (self.request.tokens.len() + self.generated.len() >= context).then_some(FinishReason::Context)
    }
}
