//! Stop strings: passes text on up to the first stop string, however the text is split into pieces.
//!
//! The match that ends first counts, as if the text came one character at a time; of several that end together, the longest.
//! The result therefore does not depend on token boundaries. Text that may become a stop string is held back, never more than
//! the longest of them; `finish` returns it. Cost: a scan of the held text and the new piece for each stop string.

use super::Tokenizer;
use crate::error::{Error, Result};

/// Finds the first stop string in a text that arrives in pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

/// The result of a piece of text: what may be shown, and the stop string that ended it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Text that may be shown now.
    pub text: String,
    /// Index into the list of stop strings. The stop string and all text after it are dropped.
    pub stop: Option<usize>,
}

impl StopStrings {
    /// Searches for any of `stops`; with an empty list nothing stops.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty string, which would end every answer before it begins.
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

    /// The token ids to stop at, for stop strings that contain a special token. Decoded text never shows special tokens, so
    /// they cannot be found there.
    ///
    /// # Errors
    /// [`Error::Request`] if there is text before the special token.
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

    /// Takes the next piece. After a stop, every piece yields an empty `Cut`.
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

    /// The text that is still held when no more comes.
    #[doc(hidden)]
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    fn first_match(&self) -> Option<(usize, usize)> {
        let found = self.stops.iter().enumerate().filter_map(|(index, stop)| Some((self.held.find(stop)?, index)));
        found.min_by_key(|&(start, index)| (start + self.stops[index].len(), start))
    }

    /// Length of the longest suffix of the held text that begins a stop string.
    fn pending(&self) -> usize {
        let longest = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            (1..=most).rev().find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}
