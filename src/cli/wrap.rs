//! An answer on a terminal: no word is cut where a line ends.
//!
//! Text is shown as it comes, to the character. A word that turns out too long for the rest of its line is taken back, and begins the
//! next one. Between wide characters, as Chinese and Japanese have them, a line may end wherever no bracket or mark stands against
//! it. What stands in a fenced block of code is left to the terminal, as is a word that is longer than a line, or whose width terminals
//! do not agree on.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// Characters of a line's start by which a fence is known.
const START: usize = 16;
const FENCES: [&str; 2] = ["```", "~~~"];
const TAB: usize = 8;

/// Where the answer's last character stands.
#[derive(Debug, Default)]
pub(crate) struct Wrap {
    /// Columns of the line that are taken.
    column: usize,
    /// What the line ends with, since the last place where it could have ended, and its columns.
    word: String,
    word_width: usize,
    /// What the line begins with.
    start: String,
    /// Between two fences, and what the first is made of.
    code: Option<&'static str>,
}

impl Wrap {
    /// What to write for more of the answer, on a terminal of so many columns.
    pub(crate) fn push(&mut self, text: &str, columns: usize) -> String {
        // In the last column terminals do not agree where the cursor is.
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

    /// The fence that the line is.
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
        // At the end of a line nobody sees it.
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
                    // A string takes whatever is written to it.
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

/// Whether a line may end between two characters that no space parts.
fn parts(before: char, c: char) -> bool {
    const OPENING: &str = "（「『【《〈〔“‘([{";
    const CLOSING: &str = "、。，．！？：；）」』】》〉〕”’…・ー)]},.!?:;";
    let is_wide = |c: char| c.width() == Some(2);
    (is_wide(before) || is_wide(c)) && !CLOSING.contains(c) && !OPENING.contains(before) && c.width() != Some(0)
}

/// Whether all terminals give it the same width, whatever stands beside it.
fn is_sure(c: char) -> bool {
    c.width().is_some_and(|width| width > 0) && !('\u{1f3fb}'..='\u{1f3ff}').contains(&c)
}
