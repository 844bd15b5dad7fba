//! Which tokens of which sequences the next step computes. Pure: it sees counts and gives counts.
//!
//! Every decoding sequence gets its one row, so that no answer stalls; what is left of the chunk goes to prompts, first
//! come first served.

/// What a sequence could do in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Prompt tokens still to be computed; none where the end of the prompt is known and only its logits are not.
    Prompt(usize),
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

/// By sequence, in order: its rows, or `None` where it waits.
pub fn plan(ready: &[Ready], chunk: usize) -> Vec<Option<Rows>> {
    let mut budget = chunk;
    let rows = ready.iter().map(|ready| match *ready {
        Ready::Decode => Some(Rows::Decode),
        Ready::Prompt(left) if left > 0 && budget == 0 => None,
        Ready::Prompt(left) => {
            let count = left.min(budget);
            budget -= count;
            Some(Rows::Prompt { count, last: count == left })
        }
    });
    rows.collect()
}
