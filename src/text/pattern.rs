//! A regular expression of a tokenizer file, bounded in size and in steps.
//!
//! The engine is the one that `tokenizers` has for every target. That crate takes its own bounds and, where a search
//! runs into them, stops looking without a word; here it is an error. What a pattern may cost: its text, the automaton of
//! it, and the places that one search may go back to; between two finds the [`Budget`] is looked at.

use fancy_regex::{Regex, RegexBuilder};
use tokenizers::Offsets;
use tokenizers::pattern::Pattern;

use super::budget::{Budget, Outcome};

/// The longest pattern of a model known has 1.3 kB.
const MAX_BYTES: usize = 1 << 14;
/// Bytes of the automaton of one part.
const MAX_AUTOMATON: usize = 1 << 21;
/// Bytes of a search's cache.
const MAX_CACHE: usize = 1 << 22;
/// Places that one search may go back to.
const MAX_BACKTRACKS: usize = 100_000;

#[derive(Debug)]
pub(super) struct FilePattern(Regex);

impl FilePattern {
    /// # Errors
    /// A sentence about a pattern that does not compile, or not within the bounds.
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

    /// A text that stands for itself, however long.
    pub(crate) fn of_text(text: &str) -> Outcome<Self> {
        let regex = Regex::new(&fancy_regex::escape(text));
        regex.map(Self).map_err(|error| format!("the pattern does not compile: {error}"))
    }

    /// The whole of `text` in order, and which parts match.
    pub(crate) fn find(&self, text: &str, budget: &Budget) -> Outcome<Found> {
        let (mut found, mut end) = (Vec::new(), 0);
        if text.is_empty() {
            return Ok(Found(vec![((0, 0), false)]));
        }
        for place in self.0.find_iter(text) {
            let place = place.map_err(|_| "its pattern goes back over the text too often")?;
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

/// Where a pattern was found.
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
