//! Splits a text into pieces for the tokenizer's model: the pre-tokenizers of the `tokenizers` crate, within a [`Budget`].
//!
//! Splits by a pattern are done here, since the crate's search is unbounded. All other steps are the crate's. The number of
//! steps that rewrite the text is limited, since each may double it.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tokenizers::pattern::Invert;
use tokenizers::{PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Result, SplitDelimiterBehavior};

use super::budget::{Budget, Outcome};
use super::normalize::pattern;
use super::pattern::FilePattern;

/// Known models have at most six steps, one of which rewrites the text.
const MAX_STEPS: usize = 64;
const MAX_WRITERS: usize = 3;

#[derive(Default)]
pub(super) struct Cuts(Vec<Step>);

enum Step {
    Split { pattern: FilePattern, behavior: SplitDelimiterBehavior, invert: bool },
    Library(Box<PreTokenizerWrapper>),
}

impl Cuts {
    pub(crate) fn new(steps: &PreTokenizerWrapper) -> Outcome<Self> {
        let mut flat = Self::default();
        flat.add(steps)?;
        let writes = |step: &&Step| match step {
            Step::Library(step) => {
                matches!(**step, PreTokenizerWrapper::ByteLevel(_) | PreTokenizerWrapper::Metaspace(_))
            }
            Step::Split { .. } => false,
        };
        match flat.0.len() > MAX_STEPS || flat.0.iter().filter(writes).count() > MAX_WRITERS {
            true => Err(format!("more than {MAX_STEPS} steps, or more than {MAX_WRITERS} that rewrite the text")),
            false => Ok(flat),
        }
    }

    fn add(&mut self, step: &PreTokenizerWrapper) -> Outcome<()> {
        let own = match step {
            PreTokenizerWrapper::Sequence(steps) => return steps.as_ref().iter().try_for_each(|step| self.add(step)),
            PreTokenizerWrapper::Split(split) => {
                let source: Value = serde_json::to_value(&split.pattern).map_err(|error| error.to_string())?;
                Step::Split { pattern: pattern(&source)?, behavior: split.behavior, invert: split.invert }
            }
            step => Step::Library(Box::new(step.clone())),
        };
        self.0.push(own);
        Ok(())
    }

    pub(crate) fn apply(&self, text: &mut PreTokenizedString, budget: &Budget) -> Result<()> {
        for step in &self.0 {
            budget.time()?;
            match step {
                Step::Split { pattern, behavior, invert } => text.split(|_, piece| {
                    budget.work(piece.len())?;
                    let found = pattern.find(piece.get(), budget)?;
                    if *invert { piece.split(Invert(found), *behavior) } else { piece.split(found, *behavior) }
                })?,
                Step::Library(step) => step.pre_tokenize(text)?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Cuts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(&PreTokenizerWrapper::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl PreTokenizer for Cuts {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> Result<()> {
        let bytes = text.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
        self.apply(text, &Budget::of(bytes.iter().map(|(piece, ..)| piece.len()).sum()))
    }
}
