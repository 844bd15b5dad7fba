//! Which tokens of which sequences the next step computes. Pure: it sees counts and gives counts.
//!
//! Every decoding sequence gets its one row, so that no answer stalls; what is left of the chunk goes to prompts, first
//! come first served. A prompt whose every row is to give logits gets as many as there is room for, and one at least.

use super::request::SequenceId;

/// What a sequence could do in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Prompt tokens still to be computed; none where the end of the prompt is known and only its logits are not.
    Prompt {
        left: usize,
        /// Each of them gives logits.
        logits: bool,
    },
    Decode,
}

/// Rows of one sequence in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The next so many prompt tokens; `last`: the prompt ends with them.
    Prompt {
        count: usize,
        last: bool,
    },
    Decode,
}

/// By sequence, in order: its rows, or `None` where it waits. `logits`: rows of logits of a step, at least one a sequence.
pub fn plan(ready: &[Ready], chunk: usize, logits: usize) -> Vec<Option<Rows>> {
    let (mut budget, mut spare) = (chunk, logits - ready.len());
    let rows = ready.iter().map(|ready| match *ready {
        Ready::Decode => Some(Rows::Decode),
        Ready::Prompt { left, .. } if left > 0 && budget == 0 => None,
        Ready::Prompt { left, logits } => {
            let count = left.min(budget).min(if logits { 1 + spare } else { usize::MAX });
            budget -= count;
            if logits {
                spare -= count.saturating_sub(1);
            }
            Some(Rows::Prompt { count, last: count == left })
        }
    });
    rows.collect()
}

/// Of the sequences that hold pages where none can go on for want of more, the one that gives its own up: the youngest, so
/// that the oldest always comes to its end.
pub fn yields(holding: &[SequenceId]) -> Option<SequenceId> {
    holding.iter().copied().max()
}
