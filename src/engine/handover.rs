//! What others may know of a sequence under way, and what goes from an engine to the one that takes its place.

use super::{Engine, SequenceId, reuse::Kept, sequence::Phase};
use crate::kv::Report;

impl Engine {
    /// How many tokens of a prompt are computed or were known, of how many; `None` unless it is being computed.
    pub(crate) fn progress(&self, id: SequenceId) -> Option<(usize, usize)> {
        let sequence = self.running.iter().find(|sequence| sequence.id == id)?;
        match &sequence.phase {
            Phase::Prefilling(table) => Some((table.len(), sequence.request.tokens.len())),
            Phase::Waiting | Phase::Restoring(_) | Phase::Decoding(_) => None,
        }
    }

    /// Where the prompt of a running sequence came from.
    pub(crate) fn report(&self, id: SequenceId) -> Option<&Report> {
        self.running.iter().find(|sequence| sequence.id == id).map(|sequence| &sequence.cache)
    }

    pub(super) fn detach(&mut self) -> Kept {
        self.reuse.detach()
    }

    /// Goes on where an engine of the same model left off. What waited there to be saved went with its pages.
    pub(super) fn adopt(&mut self, kept: Kept) {
        self.reuse.adopt(kept);
    }
}
