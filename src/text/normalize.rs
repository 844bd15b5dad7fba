//! Normalizes a text before it is split: the normalizers of the `tokenizers` crate, each within a [`Budget`].
//!
//! Replacements are done here, since the crate's search is unbounded. All other steps are the crate's, and their largest
//! possible output is computed before they run. Cost: one pass over the text for each step, and one to bound its output.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, Result};

use super::budget::{Budget, Outcome};
use super::pattern::FilePattern;

/// Known models have at most five steps.
const MAX_STEPS: usize = 64;

#[derive(Default)]
pub(super) struct Normalize(Vec<Step>);

enum Step {
    Replace(FilePattern, String),
    Library(Box<NormalizerWrapper>),
}

impl Normalize {
    pub(crate) fn new(steps: &NormalizerWrapper) -> Outcome<Self> {
        let mut flat = Self::default();
        flat.add(steps)?;
        Ok(flat)
    }

    fn add(&mut self, step: &NormalizerWrapper) -> Outcome<()> {
        let own = match step {
            NormalizerWrapper::Sequence(steps) => return steps.as_ref().iter().try_for_each(|step| self.add(step)),
            NormalizerWrapper::Replace(replace) => {
                let fields = serde_json::to_value(replace).map_err(|error| error.to_string())?;
                Step::Replace(pattern(&fields["pattern"])?, replace.content.clone())
            }
            step => Step::Library(Box::new(step.clone())),
        };
        self.0.push(own);
        match self.0.len() > MAX_STEPS {
            true => Err(format!("more than {MAX_STEPS} steps")),
            false => Ok(()),
        }
    }

    pub(crate) fn apply(&self, text: &mut NormalizedString, budget: &Budget) -> Outcome<()> {
        for step in &self.0 {
            budget.work(text.len())?;
            step.apply(text, budget)?;
        }
        budget.keep(text.len())
    }
}

impl Step {
    fn apply(&self, text: &mut NormalizedString, budget: &Budget) -> Outcome<()> {
        match self {
            Self::Replace(pattern, content) => {
                let found = pattern.find(text.get(), budget)?;
                let (mut count, mut gone) = (0, 0);
                for length in found.lengths() {
                    if length == 0 && !text.is_empty() {
                        return Err("its pattern matches empty text, which cannot be replaced".into());
                    }
                    (count, gone) = (count + 1, gone + length);
                }
                budget.fits((text.len() - gone).saturating_add(content.len().saturating_mul(count)))?;
                text.replace(found, content).map_err(|error| error.to_string())
            }
            Self::Library(step) => {
                let most = makes(step, text.get());
                budget.fits(match (&**step, budget.fits(most)) {
                    // The map's longest replacement says little about this text, so the output is measured.
                    (NormalizerWrapper::Precompiled(map), Err(_)) => map.normalize_string(text.get()).len(),
                    _ => most,
                })?;
                step.normalize(text).map_err(|error| error.to_string())
            }
        }
    }
}

/// An upper bound on the bytes that a step makes of a text.
fn makes(step: &NormalizerWrapper, text: &str) -> usize {
    let unicode = |c: char| match c as u32 {
        ..0x80 => 1,
        0x80..0x800 => 8,
        0x3200..0x3400 => 18,
        0xfdfa | 0xfdfb => 33,
        _ => 12,
    };
    match step {
        NormalizerWrapper::Prepend(step) => text.len().saturating_add(step.prepend.len()),
        NormalizerWrapper::Precompiled(_) => text.len().saturating_mul(super::steps::MAX_LEAF),
        NormalizerWrapper::ByteLevel(_) => 2 * text.len(),
        // A Chinese character gets a space on each side.
        NormalizerWrapper::BertNormalizer(_) => text.chars().map(|c| unicode(c) + 2).sum(),
        _ => text.chars().map(unicode).sum(),
    }
}

/// The pattern of a step: a literal text or a regular expression.
pub(super) fn pattern(value: &Value) -> Outcome<FilePattern> {
    match (value["String"].as_str(), value["Regex"].as_str()) {
        (Some(text), _) => FilePattern::of_text(text),
        (None, Some(source)) => FilePattern::new(source),
        (None, None) => Err("a step has no pattern".into()),
    }
}

impl<'de> Deserialize<'de> for Normalize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(&NormalizerWrapper::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Used for a vocabulary's added tokens; each gets a budget of its own.
impl Normalizer for Normalize {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        self.apply(text, &Budget::of(text.len())).map_err(Into::into)
    }
}

/// The steps, within the budget of one text.
pub(super) struct Within<'a>(pub(super) &'a Normalize, pub(super) &'a Budget);

impl Normalizer for Within<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        self.1.note(self.0.apply(text, self.1)).map_err(Into::into)
    }
}
