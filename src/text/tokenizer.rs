//! Text to token ids and back, over the `tokenizers` crate.
//!
//! A tokenizer comes from a Hugging Face `tokenizer.json` or from the vocabulary of a GGUF file (`gguf.rs`). Parts of a
//! tokenizer.json that drop text or draw at random (truncation, padding, dropout) are removed. What its post-processor adds at
//! either end comes with [`Tokenizer::encode_text`] alone.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;
use tokenizers::{Encoding, OffsetType, PostProcessorWrapper};

use super::brief::brief;
use super::checks;
use super::encoder::{self, Encoder};
use super::pieces::{Kind, Pieces, Spelling};
use super::steps;
use crate::error::{Error, Result};

/// Limits on what a file may ask for, far above any known model.
pub(super) const MAX_TOKENS: usize = 1 << 22;
pub(super) const MAX_MERGES: usize = 1 << 23;
pub(super) const MAX_TOKEN_BYTES: usize = 1 << 16;
const MAX_JSON_BYTES: usize = 1 << 27;

/// A model's tokenizer. Cloning is cheap: a clone shares the data.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    edges: Arc<[Vec<u32>; 2]>,
}

struct Inner {
    encoder: Encoder,
    pieces: Pieces,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `name` is the file's name, for error messages.
    ///
    /// # Errors
    /// [`Error::Format`] for a damaged file, [`Error::Unsupported`] for an unknown kind of tokenizer.
    pub fn from_json(bytes: &[u8], name: &str) -> Result<Self> {
        let wrong = |field: &str, problem: String| Error::Format {
            file: name.to_owned(),
            field: brief(field),
            problem: brief(&problem),
            fix: "take the tokenizer.json that belongs to the model",
        };
        if bytes.len() > MAX_JSON_BYTES {
            return Err(wrong("size", format!("{} bytes, more than the {MAX_JSON_BYTES} allowed", bytes.len())));
        }
        checks::json(bytes).map_err(|problem| wrong("size", problem))?;
        let mut json: Value = serde_json::from_slice(bytes).map_err(|error| wrong("JSON", error.to_string()))?;
        checks::model(&json["model"]).map_err(|(field, problem)| wrong(&field, problem))?;
        checks::added(&json["added_tokens"]).map_err(|(field, problem)| wrong(&field, problem))?;
        let (spelling, leading) = Spelling::from_decoder(&json["decoder"]).map_err(|what| Error::Unsupported {
            file: name.to_owned(),
            what: brief(&format!("decoder {what}")),
            fix: "use a model whose tokenizer is byte-level BPE or SentencePiece-style".into(),
        })?;
        for name in ["normalizer", "pre_tokenizer"] {
            steps::check(name, &json[name]).map_err(|(field, problem)| wrong(&field, problem))?;
        }
        let edges = edges(&json["post_processor"]);
        for key in ["truncation", "padding", "post_processor", "decoder"] {
            json[key] = Value::Null;
        }
        if json["model"].get("dropout").is_some() {
            json["model"]["dropout"] = Value::Null;
        }
        let expected: Vec<(String, u64)> = json["added_tokens"].as_array().map_or_else(Vec::new, |added| {
            let entry = |token: &Value| Some((token["content"].as_str()?.to_owned(), token["id"].as_u64()?));
            added.iter().filter_map(entry).collect()
        });
        let encoder: Encoder = guarded(|| serde_json::from_value(json))
            .and_then(|read| read.map_err(|error| error.to_string()))
            .map_err(|problem| wrong("tokenizer", problem))?;
        for (index, (content, id)) in expected.iter().enumerate() {
            let found = encoder.token_to_id(content);
            if !content.is_empty() && found.map(u64::from) != Some(*id) {
                let found = found.map_or_else(|| "none".into(), |id| id.to_string());
                return Err(wrong(
                    &format!("added_tokens[{index}].id"),
                    format!("{content:?} says {id}, the vocabulary gives {found}"),
                ));
            }
        }
        let tokenizer = Self::build(encoder, &spelling, leading).map_err(|problem| wrong("model.vocab", problem))?;
        Ok(tokenizer.with_edges(edges))
    }

    /// Builds the table of the tokens' bytes for an encoder.
    pub(super) fn build(mut encoder: Encoder, spelling: &Spelling, leading: usize) -> Result<Self, String> {
        encoder.with_post_processor(None::<PostProcessorWrapper>);
        encoder.with_padding(None);
        encoder.with_truncation(None).map_err(|error| error.to_string())?;
        let vocab = encoder.get_vocab(true);
        let size = vocab.values().max().map_or(0, |&id| id as usize + 1);
        if size == 0 || size > MAX_TOKENS {
            return Err(format!("{size} token ids, but it must be 1 to {MAX_TOKENS}"));
        }
        let mut tokens = vec![None; size];
        for (token, id) in &vocab {
            tokens[*id as usize] = Some(token.as_str());
        }
        let total: usize = vocab.keys().map(String::len).sum();
        if u32::try_from(total).is_err() {
            return Err(format!("its tokens have {total} bytes in all, more than 4 GiB"));
        }
        let added = encoder.get_added_tokens_decoder();
        let mut pieces = Pieces::new(leading);
        for (id, token) in tokens.into_iter().enumerate() {
            match (added.get(&(id as u32)), token) {
                (Some(added), _) => {
                    let kind = if added.special { Kind::Special } else { Kind::Plain };
                    pieces.push(kind, &spelling.added_bytes(&added.content));
                }
                (None, Some(token)) => pieces.push(Kind::Plain, &spelling.bytes(token)),
                (None, None) => pieces.push(Kind::Absent, &[]),
            }
        }
        Ok(Self { inner: Arc::new(Inner { encoder, pieces }), edges: Arc::default() })
    }

    /// The tokens put before and after a text that no chat template made (as BOS and EOS).
    pub(crate) fn edges(&self) -> &[Vec<u32>; 2] {
        &self.edges
    }

    /// Replaces the tokens at the ends of a text; ids outside the vocabulary are dropped.
    #[must_use]
    pub(crate) fn with_edges(self, edges: [Vec<u32>; 2]) -> Self {
        let size = self.vocab_size();
        let known = |ids: Vec<u32>| ids.into_iter().filter(|&id| (id as usize) < size).collect();
        Self { edges: Arc::new(edges.map(known)), ..self }
    }

    /// The tokens of a text that no chat template made: as [`encode`](Self::encode), with BOS before it and EOS after it if the
    /// model asks for them. A text that spells one out does not get it twice.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text)?;
        let [before, after] = &*self.edges;
        let before = if ids.starts_with(before) { &[][..] } else { before };
        let after = if ids.ends_with(after) { &[][..] } else { after };
        Ok([before, &ids, after].concat())
    }

    /// The tokens of exactly the given text: special tokens in it are recognised, nothing is added or trimmed.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the text cannot be split into tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encoding(text, &[], OffsetType::None)?.get_ids().to_vec())
    }

    /// As [`encode`](Self::encode), with the byte range of the text for each token, in order. If several tokens share a
    /// character, each range holds it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        self.encode_apart(text, &[])
    }

    /// The same, but special tokens spelt out in the byte ranges `plain`, in order, are encoded as text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a special token results nevertheless.
    pub(crate) fn encode_apart(&self, text: &str, plain: &[Range<usize>]) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self.encoding(text, plain, OffsetType::Byte)?;
        let ids = encoding.get_ids().to_vec();
        let offsets: Vec<_> = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        let inside =
            |bytes: &Range<usize>| plain.iter().any(|plain| plain.start < bytes.end && bytes.start < plain.end);
        match ids.iter().zip(&offsets).find(|(id, bytes)| self.is_special(**id) && inside(bytes)) {
            None => Ok((ids, offsets)),
            Some((_, bytes)) => Err(Error::Tokenizer {
                problem: format!("{:?} cannot be kept from becoming a special token", &text[bytes.clone()]),
            }),
        }
    }

    fn encoding(&self, text: &str, plain: &[Range<usize>], offsets: OffsetType) -> Result<Encoding> {
        let encode = || encoder::encode(&self.inner.encoder, text, plain, offsets);
        let encoded = guarded(encode).and_then(|encoded| encoded.map_err(|error| error.to_string()));
        encoded.map_err(|problem| Error::Tokenizer {
            problem: format!("the text could not be split into tokens: {}", brief(&problem)),
        })
    }

    /// The added tokens that a text spells out: their byte ranges and ids.
    pub(crate) fn added_in(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        let own = |(bytes, id): (Range<usize>, u32)| {
            // The range leaves out spaces that the token absorbs.
            let token = self.token(id)?;
            let start = bytes.start + text.get(bytes.clone())?.find(&token)?;
            Some((start..start + token.len(), id))
        };
        encoder::added_in(&self.inner.encoder, text).into_iter().filter_map(own).collect()
    }

    /// The text of `ids`, without special tokens if `skip_special`. Invalid UTF-8 becomes U+FFFD; ids outside the vocabulary
    /// give nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.inner.pieces.decode(ids, skip_special)
    }

    /// The token as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.encoder.id_to_token(id)
    }

    /// The bytes that a token adds to the text; `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.pieces.get(id)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.encoder.token_to_id(token)
    }

    /// Whether a token is a control token, which decoded text leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.pieces.is_special(id)
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.inner.pieces.len()
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.inner.pieces
    }
}

/// The tokens that a post-processor puts before and after a single text.
fn edges(processor: &Value) -> [Vec<u32>; 2] {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match processor["type"].as_str() {
        Some("TemplateProcessing") => {
            let mut edges = [Vec::new(), Vec::new()];
            let mut side = 0;
            for piece in processor["single"].as_array().into_iter().flatten() {
                match piece["SpecialToken"]["id"].as_str() {
                    Some(name) => {
                        let ids = processor["special_tokens"][name]["ids"].as_array();
                        edges[side].extend(ids.into_iter().flatten().filter_map(id));
                    }
                    None => side = 1,
                }
            }
            edges
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            ["cls", "sep"].map(|name| id(&processor[name][1]).into_iter().collect())
        }
        Some("Sequence") => {
            let inner = processor["processors"].as_array().into_iter().flatten().map(edges);
            inner.fold(Default::default(), |[first, last], [before, after]| {
                [[before, first].concat(), [last, after].concat()]
            })
        }
        _ => Default::default(),
    }
}

/// Whether a token of a byte-level vocabulary can result from merges alone.
pub(super) fn needs_merges(token: &str) -> bool {
    let marked =
        [('<', '>'), ('[', ']')].iter().any(|(open, close)| token.starts_with(*open) && token.ends_with(*close));
    token.chars().count() > 1 && !marked
}

/// Runs `work`, and turns a panic of the library into a sentence. On the web a panic ends the program, so `checks` and `steps`
/// refuse files that would lead to one.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "the tokenizer library panicked on it".to_owned())
}
