//! Wraps an answer at a terminal, so that no word is cut at the end of a line.
//!
//! Each character is shown at once. A word that turns out too long for its line is erased, and begins the next line. Between wide
//! characters, as in Chinese and Japanese, a line may end anywhere except before or after certain brackets and marks. The terminal
//! itself wraps fenced code blocks, words longer than a line, and words whose width terminals do not agree on.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// Characters at the start of a line that are enough to recognise a fence.
const START: usize = 16;
const FENCES: [&str; 2] = ["```", "~~~"];
const TAB: usize = 8;

/// The place of the answer's last character.
#[derive(Debug, Default)]
pub(crate) struct Wrap {
    /// Used columns of the line.
    column: usize,
    /// The end of the line, from the last place where it could have been broken, and its columns.
    word: String,
    word_width: usize,
    /// The beginning of the line.
    start: String,
    /// The opening fence, inside a code block.
    code: Option<&'static str>,
}

impl Wrap {
    /// The text to write for more of the answer, on a terminal with so many columns.
    pub(crate) fn push(&mut self, text: &str, columns: usize) -> String {
        // Terminals do not agree where the cursor is after the last column, so it stays unused.
        let most = columns.saturating_sub(1).max(1);
        let mut out = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if c == '\n' {
                self.end_line();
            } else if self.start.len() < START {
                self.start.push(c);
            }
            match c {
                '\n' => out.push(c),
                _ if self.code.is_some() || self.fence().is_some() => out.push(c),
                ' ' | '\t' => self.space(c, most, &mut out),
                c => self.letter(c, most, &mut out),
            }
        }
        out
    }

    /// The fence, if the line is one.
    fn fence(&self) -> Option<&'static str> {
        FENCES.into_iter().find(|fence| self.start.trim_start().starts_with(fence))
    }

    fn end_line(&mut self) {
        self.code = match (self.code, self.fence()) {
            (None, fence) => fence,
            (open, fence) if open == fence => None,
            (open, _) => open,
        };
        self.start.clear();
        self.begin_line();
    }

    fn begin_line(&mut self) {
        self.column = 0;
        self.end_word();
    }

    fn end_word(&mut self) {
        self.word.clear();
        self.word_width = 0;
    }

    fn space(&mut self, c: char, most: usize, out: &mut String) {
        self.end_word();
        let width = if c == '\t' { TAB - self.column % TAB } else { 1 };
        // A space at the end of a line is invisible.
        if self.column + width <= most {
            out.push(c);
        }
        self.column = most.min(self.column + width);
    }

    fn letter(&mut self, c: char, most: usize, out: &mut String) {
        let width = c.width().unwrap_or(0);
        if self.word.chars().next_back().is_some_and(|before| parts(before, c)) {
            self.end_word();
        }
        if self.column + width > most {
            let moves =
                self.word_width < self.column && self.word_width + width <= most && self.word.chars().all(is_sure);
            match moves {
                true if self.word.is_empty() => out.push('\n'),
                true => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\x1b[{}D\x1b[K\n{}", self.word_width, self.word);
                }
                false => {
                    out.push('\n');
                    self.end_word();
                }
            }
            self.column = self.word_width;
        }
        out.push(c);
        self.word.push(c);
        self.word_width += width;
        self.column += width;
    }
}

/// Whether a line may end between two characters without a space between them.
fn parts(before: char, c: char) -> bool {
    const OPENING: &str = "（「『【《〈〔“‘([{";
    const CLOSING: &str = "、。，．！？：；）」』】》〉〕”’…・ー)]},.!?:;";
    let is_wide = |c: char| c.width() == Some(2);
    (is_wide(before) || is_wide(c)) && !CLOSING.contains(c) && !OPENING.contains(before) && c.width() != Some(0)
}

/// Whether all terminals give the character the same width in any context.
fn is_sure(c: char) -> bool {
    c.width().is_some_and(|width| width > 0) && !('\u{1f3fb}'..='\u{1f3ff}').contains(&c)
}
