//! Sequences that stand still: whoever reads their tokens is slower than they are computed, or has stopped. They cost their pages and
//! nothing else, and no one waits for them: a sequence for which there is no room otherwise has theirs, and they go on from the
//! cache when they are wanted.

use super::{Engine, SequenceId, sequence::Sequence};

impl Engine {
    /// Has a sequence stand still, with what it has computed, or go on. Others take its place, and its pages where there are no
    /// others; one that has ended is left alone.
    #[doc(hidden)]
    pub fn hold(&mut self, id: SequenceId, still: bool) {
        let sequences = self.waiting.iter_mut().chain(&mut self.running);
        sequences.filter(|sequence| sequence.id == id).for_each(|sequence| sequence.is_held = still);
    }

    /// Has a running sequence give its pages up and wait.
    pub(super) fn set_aside(&mut self, at: usize) {
        let mut sequence = self.running.remove(at);
        self.give_up_pages(&mut sequence);
        sequence.is_measured = false;
        self.wait(sequence);
    }

    /// The same of one that stands still, for the one that waits at place `at`: where that is then.
    pub(super) fn make_way(&mut self, held: usize, at: usize) -> usize {
        let came_before = self.running[held].id < self.waiting[at].id;
        self.set_aside(held);
        at + usize::from(came_before)
    }

    /// Where the sequence stands in `running` that came last of those that stand still, and hold pages.
    pub(super) fn youngest_held(&self) -> Option<usize> {
        let held = |(_, sequence): &(usize, &Sequence)| sequence.is_held && sequence.phase.table().is_some();
        Some(self.running.iter().enumerate().filter(held).max_by_key(|(_, sequence)| sequence.id)?.0)
    }
}
