//! A regular expression from a tokenizer file, bounded in size and in steps.
//!
//! The engine is the one that `tokenizers` uses on every target. That crate stops searching without an error at its own limits;
//! here reaching a limit is an error. Limits: the pattern's length, the size of its automaton, and the backtracking of one
//! search. Between two matches the [`Budget`] is checked.

use fancy_regex::{Regex, RegexBuilder};
use tokenizers::Offsets;
use tokenizers::pattern::Pattern;

use super::budget::{Budget, Outcome};

/// The longest pattern of a known model has 1.3 kB.
const MAX_BYTES: usize = 1 << 14;
/// Bytes of the automaton of one part of the pattern.
const MAX_AUTOMATON: usize = 1 << 21;
/// Bytes of a search's cache.
const MAX_CACHE: usize = 1 << 22;
/// Backtracks of one search.
const MAX_BACKTRACKS: usize = 100_000;

#[derive(Debug)]
pub(super) struct FilePattern(Regex);

impl FilePattern {
    /// # Errors
    /// A sentence about a pattern that does not compile, or exceeds a limit.
    pub(crate) fn new(source: &str) -> Outcome<Self> {
        if source.len() > MAX_BYTES {
            return Err(format!("a pattern of {} bytes, more than the {MAX_BYTES} allowed", source.len()));
        }
        let regex = RegexBuilder::new(source)
            .backtrack_limit(MAX_BACKTRACKS)
            .delegate_size_limit(MAX_AUTOMATON)
            .delegate_dfa_size_limit(MAX_CACHE)
            .build();
        regex.map(Self).map_err(|error| format!("the pattern does not compile: {error}"))
    }

    /// A pattern that matches `text` literally, however long it is.
    pub(crate) fn of_text(text: &str) -> Outcome<Self> {
        let regex = Regex::new(&fancy_regex::escape(text));
        regex.map(Self).map_err(|error| format!("the pattern does not compile: {error}"))
    }

    /// Cuts the whole of `text` into matches and the parts between them, in order.
    pub(crate) fn find(&self, text: &str, budget: &Budget) -> Outcome<Found> {
        let (mut found, mut end) = (Vec::new(), 0);
        if text.is_empty() {
            return Ok(Found(vec![((0, 0), false)]));
        }
        for place in self.0.find_iter(text) {
            let place = place.map_err(|_| "its pattern backtracks too often")?;
            budget.work(place.end() - place.start())?;
            if end != place.start() {
                found.push(((end, place.start()), false));
            }
            found.push(((place.start(), place.end()), true));
            end = place.end();
        }
        if end != text.len() {
            found.push(((end, text.len()), false));
        }
        Ok(Found(found))
    }
}

/// Byte offsets of all parts of a text, each with whether it is a match.
#[derive(Clone)]
pub(super) struct Found(Vec<(Offsets, bool)>);

impl Found {
    /// The lengths of the matches.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter(|place| place.1).map(|((start, end), _)| end - start)
    }
}

impl Pattern for Found {
    fn find_matches(&self, _: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        Ok(self.0.clone())
    }
}
