//! What is visible of a running sequence, and what moves from an engine to its replacement.

use super::{Engine, SequenceId, reuse::Kept, sequence::Phase};
use crate::kv::Report;

impl Engine {
    /// The number of prompt tokens that are computed or were known, and the total; `None` unless the prompt is being
    /// computed.
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

    /// Continues where an engine of the same model left off. Blocks that waited there to be saved are lost with its
    /// pages.
    pub(super) fn adopt(&mut self, kept: Kept) {
        self.reuse.adopt(kept);
    }
}
