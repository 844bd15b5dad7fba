//! One request under way.

use web_time::Instant;

use super::request::{FinishReason, Request, SequenceId, Usage};
use super::restore::Restoring;
use crate::kv::{BlockTable, Left, Report};

/// A request and what it has produced.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) request: Request,
    /// The answer so far: what the request knows of it, then what was drawn. Of a sequence that had to give its pages up,
    /// more than its pages hold.
    pub(crate) generated: Vec<u32>,
    pub(crate) phase: Phase,
    /// Where its prompt came from; empty until it is admitted.
    pub(crate) cache: Report,
    /// The prompt's last hidden state, where an exact repeat brought it.
    pub(crate) hidden: Option<Vec<f32>>,
    /// When it was admitted first.
    pub(crate) admitted: Option<Instant>,
    /// Whether its prompt is computed from there on without a break, so that the time tells how fast.
    pub(crate) is_measured: bool,
    /// The pages of its answer that it gave up.
    pub(crate) left: Option<Left>,
    /// Prompt positions whose logits were told.
    pub(crate) told_logits: usize,
    /// It stands still until somebody wants more of it.
    pub(crate) is_held: bool,
}

pub(crate) enum Phase {
    /// Not admitted: holds no pages.
    Waiting,
    /// Stores are asked for what pages do not have.
    Restoring(Restoring),
    /// Part of the prompt is still to be computed; the table holds what is.
    Prefilling(BlockTable),
    /// All of the prompt is computed, and the answer up to some token.
    Decoding(BlockTable),
}

impl Phase {
    /// What its pages hold.
    pub(crate) fn table(&self) -> Option<&BlockTable> {
        match self {
            Self::Waiting => None,
            Self::Restoring(restoring) => restoring.table(),
            Self::Prefilling(table) | Self::Decoding(table) => Some(table),
        }
    }

    pub(crate) fn into_table(self) -> Option<BlockTable> {
        match self {
            Self::Waiting => None,
            Self::Restoring(restoring) => restoring.into_table(),
            Self::Prefilling(table) | Self::Decoding(table) => Some(table),
        }
    }
}

impl Sequence {
    pub(crate) fn new(id: SequenceId, request: Request) -> Self {
        let generated = request.generated.clone();
        Self {
            id,
            request,
            generated,
            phase: Phase::Waiting,
            cache: Report::default(),
            hidden: None,
            admitted: None,
            is_measured: false,
            left: None,
            told_logits: 0,
            is_held: false,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.request.tokens.len(),
            completion_tokens: self.generated.len(),
            cached_tokens: self.cache.reused(),
        }
    }

    /// The tokens whose KV its answer so far needs: all but the last.
    pub(crate) fn computed(&self) -> Vec<u32> {
        let answer = &self.generated[..self.generated.len().saturating_sub(1)];
        [&self.request.tokens, answer].concat()
    }

    /// Takes the answer's token number `index`, which was drawn or, where it had been before, is known: the token, unless it
    /// is told already, and why the sequence ends, if it does.
    pub(crate) fn take(&mut self, index: usize, drawn: u32, context: usize) -> (Option<u32>, Option<FinishReason>) {
        let told = index < self.generated.len();
        if !told && self.request.stop_tokens.contains(&drawn) {
            return (None, Some(FinishReason::Stop));
        }
        if !told {
            self.generated.push(drawn);
        }
        let length = index + 1;
        let reason = match () {
            _ if length >= self.request.max_tokens => Some(FinishReason::Length),
            _ if self.request.tokens.len() + length >= context => Some(FinishReason::Context),
            _ => None,
        };
        ((!told).then_some(drawn), reason)
    }
}
