//! Stop strings: the text up to the first of them, however the text is cut into pieces.
//!
//! The match that counts is the one that ends first, as if the text came one character at a time; of several that end
//! together it is the longest. So the answer does not depend on where tokens end. Text that may yet become a stop
//! string is held back, never longer than the longest of them; `finish` gives it up. Cost: a scan of the held text and
//! the new piece for each stop string.

use super::Tokenizer;
use crate::error::{Error, Result};

/// Finds the first stop string in a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

/// What a piece of text became: the text that may be shown, and the stop string that ended it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// What may be shown now.
    pub text: String,
    /// Index into the list of stop strings. Text after it is dropped, the stop string too.
    pub stop: Option<usize>,
}

impl StopStrings {
    /// Looks for any of `stops`; none at all never stops.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty one, which would end every answer before it begins.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        match stops.iter().position(String::is_empty) {
            Some(index) => {
                Err(Error::Request { field: "stop", problem: format!("stop[{index}] is empty; leave it out") })
            }
            None => Ok(Self { stops, ..Self::default() }),
        }
    }

    /// The stop string at `index`, as `Cut::stop` names it.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.stops.get(index).map(String::as_str)
    }

    /// The tokens to stop at for stop strings that hold a special token: text never shows one, so it could not be found
    /// there.
    ///
    /// # Errors
    /// [`Error::Request`] for one with a text before it, which no token stands for.
    pub(crate) fn special_tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let special = |(index, stop): (usize, &String)| {
            let ids = tokenizer.encode(stop)?;
            let Some(at) = ids.iter().position(|&id| tokenizer.is_special(id)) else { return Ok(None) };
            let token = tokenizer.decode(&ids[at..=at], false);
            match tokenizer.decode(&ids[..at], false).trim().is_empty() {
                true => Ok(Some(ids[at])),
                false => {
                    let problem = format!("stop[{index}] has text before the special token {token}; give that alone");
                    Err(Error::Request { field: "stop", problem })
                }
            }
        };
        self.stops.iter().enumerate().filter_map(|stop| special(stop).transpose()).collect()
    }

    /// Takes the next piece. After a stop every piece gives nothing.
    #[doc(hidden)]
    pub fn push(&mut self, piece: &str) -> Cut {
        if self.stopped {
            return Cut::default();
        }
        self.held.push_str(piece);
        if let Some((start, stop)) = self.first_match() {
            self.stopped = true;
            self.held.truncate(start);
            return Cut { text: std::mem::take(&mut self.held), stop: Some(stop) };
        }
        let rest = self.held.split_off(self.held.len() - self.pending());
        Cut { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// The text still held when nothing more comes.
    #[doc(hidden)]
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    fn first_match(&self) -> Option<(usize, usize)> {
        let found = self.stops.iter().enumerate().filter_map(|(index, stop)| Some((self.held.find(stop)?, index)));
        found.min_by_key(|&(start, index)| (start + self.stops[index].len(), start))
    }

    /// Length of the longest end of the held text that begins a stop string.
    fn pending(&self) -> usize {
        let longest = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            (1..=most).rev().find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}
