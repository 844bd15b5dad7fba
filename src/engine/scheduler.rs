//! Decides which tokens of which sequences the next step computes. It is pure: counts in, counts out.
//!
//! Every decoding sequence gets its one row, so that no answer stalls. The rest of the chunk goes to prompts, first
//! come first served. A prompt that needs logits of every row gets as many rows as fit, and at least one.

use super::request::SequenceId;

/// The work that a sequence could do in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Prompt tokens still to be computed; 0 if the whole prompt is known and only its logits are missing.
    Prompt {
        left: usize,
        /// Whether each of them gives logits.
        logits: bool,
    },
    Decode,
}

/// The rows that a step computes for one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduled {
    /// The next `count` prompt tokens. `last`: the prompt ends with them.
    Prompt {
        count: usize,
        last: bool,
    },
    Decode,
}

/// The rows of each sequence, in order; `None` if it waits. `logits`: rows of logits in a step, at least one a
/// sequence.
pub fn plan(ready: &[Ready], chunk: usize, logits: usize) -> Vec<Option<Scheduled>> {
    let (mut budget, mut spare) = (chunk, logits - ready.len());
    let rows = ready.iter().map(|ready| match *ready {
        Ready::Decode => Some(Scheduled::Decode),
        Ready::Prompt { left, .. } if left > 0 && budget == 0 => None,
        Ready::Prompt { left, logits } => {
            let count = left.min(budget).min(if logits { 1 + spare } else { usize::MAX });
            budget -= count;
            if logits {
                spare -= count.saturating_sub(1);
            }
            Some(Scheduled::Prompt { count, last: count == left })
        }
    });
    rows.collect()
}

/// If no sequence can continue for lack of pages, the one that gives up its pages: the youngest, so that the oldest
/// always finishes.
pub fn yields(holding: &[SequenceId]) -> Option<SequenceId> {
    holding.iter().copied().max()
}
