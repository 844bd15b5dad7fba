//! The `tokenizers` crate's pipeline, within a budget, over one of the crate's models or our own.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use tokenizers::models::TrainerWrapper;
use tokenizers::normalizer::Range as Place;
use tokenizers::{
    DecoderWrapper, Encoding, Model, ModelWrapper, OffsetReferential, OffsetType, PostProcessorWrapper,
    PreTokenizedString, Result, Token, TokenizerImpl,
};

use super::budget::Budget;
use super::cuts::Cuts;
use super::normalize::{Normalize, Within};

pub(super) type Encoder = TokenizerImpl<AnyModel, Normalize, Cuts, PostProcessorWrapper, DecoderWrapper>;

/// Limit on the bytes that a model copies and looks up for one piece of text.
const MAX_WORK: u64 = 1 << 34;

pub(super) struct AnyModel {
    model: Box<dyn Model<Trainer = TrainerWrapper> + Send + Sync>,
    /// Bytes that the model may copy for each byte of a piece.
    work: u64,
}

impl AnyModel {
    pub(crate) fn new(model: impl Model<Trainer = TrainerWrapper> + Send + Sync + 'static) -> Self {
        Self { model: Box::new(model), work: 1 }
    }
}

impl<'de> Deserialize<'de> for AnyModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let model = ModelWrapper::deserialize(deserializer)?;
        let work = match &model {
            // At every position, Unigram copies each token that the text continues with.
            ModelWrapper::Unigram(model) => {
                let longest = model.iter().map(|(token, _)| token.len() as u64).max().unwrap_or(0);
                longest.saturating_mul(longest) / 2 + 1
            }
            _ => 1,
        };
        Ok(Self { work, ..Self::new(model) })
    }
}

impl Model for AnyModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        match (text.len() as u64).saturating_mul(self.work) <= MAX_WORK {
            true => self.model.tokenize(text),
            false => Err(format!("a piece of {} bytes is too long for its long tokens", text.len()).into()),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.model.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.model.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.model.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.model.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.model.save(folder, prefix)
    }

    fn get_trainer(&self) -> TrainerWrapper {
        self.model.get_trainer()
    }
}

/// Splits off the added tokens of a text, and normalizes the rest.
fn extract(encoder: &Encoder, text: &str, budget: &Budget) -> Result<PreTokenizedString> {
    let normalize = encoder.get_normalizer().map(|steps| Within(steps, budget));
    let split = encoder.get_added_vocabulary().extract_and_normalize(normalize.as_ref(), text);
    budget.outcome()?;
    Ok(split)
}

/// The added tokens in a text, with their byte ranges.
fn added(encoder: &Encoder, text: &str, budget: &Budget) -> Result<Vec<(Range<usize>, Vec<Token>)>> {
    let found = extract(encoder, text, budget)?;
    let splits = found.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
    Ok(splits.filter_map(|(_, (start, end), tokens)| Some((start..end, tokens.clone()?))).collect())
}

/// The same with ids; empty if the text cannot be encoded.
pub(super) fn added_in(encoder: &Encoder, text: &str) -> Vec<(Range<usize>, u32)> {
    added(encoder, text, &Budget::of(text.len()))
        .unwrap_or_default()
        .into_iter()
        .flat_map(|(bytes, tokens)| tokens.into_iter().map(move |t| (bytes.clone(), t.id)))
        .collect()
}

/// Encodes a text. Added tokens inside the byte ranges `plain` are left as text.
pub(super) fn encode(encoder: &Encoder, text: &str, plain: &[Range<usize>], offsets: OffsetType) -> Result<Encoding> {
    let budget = Budget::of(text.len());
    let mut split = match plain {
        [] => extract(encoder, text, &budget)?,
        plain => extract_apart(encoder, text, plain, &budget)?,
    };
    if let Some(cuts) = encoder.get_pre_tokenizer() {
        cuts.apply(&mut split, &budget)?;
    }
    split.tokenize(|piece| {
        budget.work(piece.len())?;
        encoder.get_model().tokenize(piece.get())
    })?;
    split.into_encoding(None, 0, offsets)
}

fn extract_apart(encoder: &Encoder, text: &str, plain: &[Range<usize>], budget: &Budget) -> Result<PreTokenizedString> {
    let mut masked = text.to_owned();
    for bytes in plain {
        masked.replace_range(bytes.clone(), &"x".repeat(bytes.len()));
    }
    let added = added(encoder, &masked, &Budget::of(text.len()))?;
    let mut split = PreTokenizedString::from(text);
    split.split(|_, whole| {
        let piece = |bytes: Range<usize>| whole.slice(Place::Original(bytes));
        let (mut at, mut pieces) = (0, Vec::with_capacity(2 * added.len() + 1));
        for (bytes, tokens) in &added {
            pieces.extend(piece(at..bytes.start).map(|text| (text, None)));
            pieces.extend(piece(bytes.clone()).map(|text| (text, Some(tokens.clone()))));
            at = bytes.end;
        }
        pieces.extend(piece(at..text.len()).map(|text| (text, None)));
        Ok(pieces)
    })?;
    if let Some(steps) = encoder.get_normalizer() {
        split.normalize(|piece| steps.apply(piece, budget).map_err(Into::into))?;
    }
    Ok(split)
}
