//! A request in progress.

use web_time::Instant;

use super::request::{FinishReason, Request, SequenceId, Usage};
use super::restore::Restoring;
use crate::kv::{BlockTable, Left, Report};

/// A request and its results so far.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) request: Request,
    /// The answer so far: the tokens that the request lists as generated, then drawn ones. After the sequence gave up
    /// its pages, it is longer than what the pages hold.
    pub(crate) generated: Vec<u32>,
    pub(crate) phase: Phase,
    /// Where its prompt's KV came from; empty until it is admitted.
    pub(crate) cache: Report,
    /// The prompt's last hidden state, if an exact repeat provided it.
    pub(crate) hidden: Option<Vec<f32>>,
    /// When it was admitted first.
    pub(crate) admitted: Option<Instant>,
    /// Whether its prompt is computed without interruption from then on, so that the time is a valid measurement.
    pub(crate) is_measured: bool,
    /// The pages that it gave up.
    pub(crate) left: Option<Left>,
    /// Prompt positions whose logits were reported.
    pub(crate) told_logits: usize,
    /// It stands still until somebody wants more of it.
    pub(crate) is_held: bool,
}

pub(crate) enum Phase {
    /// Not admitted; it holds no pages.
    Waiting,
    /// Stores are asked for what pages lack.
    Restoring(Restoring),
    /// Part of the prompt must still be computed. The table holds the computed part.
    Prefilling(BlockTable),
    /// The whole prompt is computed, and part of the answer.
    Decoding(BlockTable),
}

impl Phase {
    /// The table of its pages.
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

    /// The tokens whose KV is needed to continue: all but the last.
    pub(crate) fn computed(&self) -> Vec<u32> {
        let answer = &self.generated[..self.generated.len().saturating_sub(1)];
        [&self.request.tokens, answer].concat()
    }

    /// Adds token `index` of the answer, which was drawn just now or is known from before. Returns the token unless it
    /// was reported already, and the finish reason if the sequence ends.
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
