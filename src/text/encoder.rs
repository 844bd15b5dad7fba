//! The `tokenizers` crate's pipeline over a model of the crate's or of our own.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use tokenizers::models::TrainerWrapper;
use tokenizers::normalizer::Range as Place;
use tokenizers::{
    DecoderWrapper, Encoding, Model, ModelWrapper, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PostProcessorWrapper, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Result, Token, TokenizerImpl,
};

pub(super) type Encoder =
    TokenizerImpl<AnyModel, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

pub(super) struct AnyModel(Box<dyn Model<Trainer = TrainerWrapper> + Send + Sync>);

impl AnyModel {
    pub(crate) fn new(model: impl Model<Trainer = TrainerWrapper> + Send + Sync + 'static) -> Self {
        Self(Box::new(model))
    }
}

impl<'de> Deserialize<'de> for AnyModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        ModelWrapper::deserialize(deserializer).map(Self::new)
    }
}

impl Model for AnyModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        self.0.tokenize(text)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }

    fn get_trainer(&self) -> TrainerWrapper {
        self.0.get_trainer()
    }
}

/// The added tokens in a text, by their bytes.
fn added(encoder: &Encoder, text: &str) -> Vec<(Range<usize>, Vec<Token>)> {
    let found = encoder.get_added_vocabulary().extract_and_normalize(encoder.get_normalizer(), text);
    let splits = found.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
    splits.filter_map(|(_, (start, end), tokens)| Some((start..end, tokens.clone()?))).collect()
}

/// The same with their ids.
pub(super) fn added_in(encoder: &Encoder, text: &str) -> Vec<(Range<usize>, u32)> {
    added(encoder, text)
        .into_iter()
        .flat_map(|(bytes, tokens)| tokens.into_iter().map(move |t| (bytes.clone(), t.id)))
        .collect()
}

/// What the pipeline makes of a text, its added tokens left as text where they lie in `plain`.
pub(super) fn encode_apart(encoder: &Encoder, text: &str, plain: &[Range<usize>]) -> Result<Encoding> {
    if plain.is_empty() {
        return encoder.encode(text, false);
    }
    let mut masked = text.to_owned();
    for bytes in plain {
        masked.replace_range(bytes.clone(), &"x".repeat(bytes.len()));
    }
    let added = added(encoder, &masked);
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
    if let Some(normalizer) = encoder.get_normalizer() {
        split.normalize(|piece| normalizer.normalize(piece))?;
    }
    if let Some(pre_tokenizer) = encoder.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut split)?;
    }
    split.tokenize(|piece| encoder.get_model().tokenize(piece.get()))?;
    split.into_encoding(None, 0, OffsetType::Byte)
}
