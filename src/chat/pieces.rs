//! Splits an answer into pieces, and tells which of them are thoughts.
//!
//! Models that think begin an answer with `<think>`, or the template ends the prompt with that tag. `</think>` ends the thoughts.
//! Text that may yet become a tag is held back. All pieces together are the text of the answer, tags included.

use std::fmt;
use std::ops::ControlFlow;

use crate::error::Result;
use crate::text::THINKING;

/// A piece of an answer. It is displayed as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Whole characters, at least one.
    pub text: &'a str,
    /// Whether it belongs to the model's thoughts, from `<think>` to `</think>`, tags included.
    pub thinking: bool,
}

impl fmt::Display for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A reader of pieces.
pub type Each<'a> = dyn FnMut(Piece<'_>) -> Result<ControlFlow<()>> + 'a;

/// Finds the part in which a model thinks, however the text is cut into pieces.
pub struct Pieces {
    part: Part,
    /// Text that may be a tag or a part of one.
    held: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Nothing but space so far.
    Beginning,
    Thinking,
    Said,
}

impl Pieces {
    /// `thinks`: the prompt ends with the tag that opens thinking.
    pub fn new(thinks: bool) -> Self {
        Self { part: if thinks { Part::Thinking } else { Part::Beginning }, held: String::new() }
    }

    /// Takes more text, and hands on what is certain. Breaks if the reader does.
    pub fn push(&mut self, text: &str, each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        self.held.push_str(text);
        if self.part == Part::Beginning {
            let [open, _] = THINKING;
            let begun = self.held.trim_start();
            self.part = match begun.starts_with(open) {
                true => Part::Thinking,
                false if open.starts_with(begun) => return Ok(ControlFlow::Continue(())),
                false => Part::Said,
            };
        }
        let mut flow = ControlFlow::Continue(());
        if self.part == Part::Thinking {
            let [_, close] = THINKING;
            let closed = self.held.find(close).map(|at| at + close.len());
            flow = self.hand_on(closed.unwrap_or_else(|| self.held.len() - begun(&self.held, close)), each)?;
            if closed.is_none() {
                return Ok(flow);
            }
            self.part = Part::Said;
        }
        let said = self.hand_on(self.held.len(), each)?;
        Ok(if flow.is_break() { flow } else { said })
    }

    /// Hands on the text that was held back.
    pub fn finish(mut self, each: &mut Each<'_>) -> Result<()> {
        let _ = self.hand_on(self.held.len(), each)?;
        Ok(())
    }

    fn hand_on(&mut self, bytes: usize, each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        let rest = self.held.split_off(bytes);
        let text = std::mem::replace(&mut self.held, rest);
        match text.is_empty() {
            true => Ok(ControlFlow::Continue(())),
            false => each(Piece { text: &text, thinking: self.part == Part::Thinking }),
        }
    }
}

/// How many bytes at the end of `text` may be the beginning of `tag`.
fn begun(text: &str, tag: &str) -> usize {
    let most = tag.len().min(text.len() + 1);
    (1..most).rev().find(|&bytes| text.ends_with(&tag[..bytes])).unwrap_or(0)
}
