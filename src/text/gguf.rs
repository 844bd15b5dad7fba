//! A tokenizer from the vocabulary of a GGUF file (`tokenizer.ggml.*`).
//!
//! The reader of the file fills `GgufVocab`; everything in it is outside data and is checked here before it is used, so
//! that a broken file is a sentence naming its key, never a panic.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::pieces::Spelling;
use super::pre::Pre;
use super::template::Specials;
use super::tokenizer::{MAX_MERGES, MAX_TOKEN_BYTES, MAX_TOKENS, Tokenizer, needs_merges};
use crate::error::{Error, Result};

/// The `tokenizer.ggml.*` keys of a GGUF file, unchecked.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// The file's name, for messages.
    pub file: String,
    /// `model`: `gpt2` is byte-level BPE, the only one supported.
    pub model: String,
    /// `pre`: how text is cut before merging; `default` where it is missing.
    pub pre: Option<String>,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. Empty where it is missing: all
    /// normal, save the four tokens below.
    pub token_types: Vec<i32>,
    /// `merges`, best first, each two tokens with a space between.
    pub merges: Vec<String>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `unknown_token_id`
    pub unk: Option<u32>,
    /// `padding_token_id`
    pub pad: Option<u32>,
    /// `add_bos_token`: whether a text that is no prompt of a template begins with `bos`; by default as `pre` has it.
    pub add_bos: Option<bool>,
    /// `add_eos_token`: whether it ends with `eos`; by default not.
    pub add_eos: Option<bool>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

impl GgufVocab {
    /// The special tokens that a chat template may name.
    pub fn specials(&self) -> Specials {
        let named = self.special_ids().into_iter().filter_map(|(key, id)| {
            let name = key.replace("_id", "").replace("unknown", "unk").replace("padding", "pad");
            Some((name, self.tokens.get(id? as usize)?.clone()))
        });
        named.fold(Specials::default(), |specials, (name, token)| specials.with(name, token))
    }

    /// An id outside the vocabulary, as files write that have no such token, is none.
    fn special_ids(&self) -> [(&'static str, Option<u32>); 4] {
        [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("unknown_token_id", self.unk),
            ("padding_token_id", self.pad),
        ]
        .map(|(key, id)| (key, id.filter(|&id| (id as usize) < self.tokens.len())))
    }

    /// The tokens that a text holds only where it spells them out, and their ids. Where no types are given, those that
    /// look so: `<...>`.
    pub(crate) fn added_tokens(&self) -> Vec<(u32, String)> {
        let is_added = |id: usize, token: &str| match self.token_types.get(id) {
            Some(kind) => [CONTROL, UNKNOWN, USER_DEFINED].contains(kind),
            None => token.len() > 2 && token.starts_with('<') && token.ends_with('>'),
        };
        let tokens = self.tokens.iter().enumerate().filter(|(id, token)| is_added(*id, token));
        tokens.map(|(id, token)| (id as u32, token.clone())).collect()
    }

    fn wrong(&self, key: &str, problem: String) -> Error {
        Error::Format {
            file: self.file.clone(),
            field: format!("tokenizer.ggml.{key}"),
            problem,
            fix: "download the file again or convert the model anew",
        }
    }

    fn check(&self) -> Result<()> {
        if self.tokens.is_empty() || self.tokens.len() > MAX_TOKENS {
            let problem = format!("{} tokens, but there must be 1 to {MAX_TOKENS}", self.tokens.len());
            return Err(self.wrong("tokens", problem));
        }
        let mut seen = HashSet::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            let problem = match token.len() {
                0 => continue,
                bytes if bytes > MAX_TOKEN_BYTES => format!("has {bytes} bytes, more than {MAX_TOKEN_BYTES}"),
                _ if !seen.insert(token.as_str()) => format!("{token:?} is there twice"),
                _ => continue,
            };
            return Err(self.wrong(&format!("tokens[{id}]"), problem));
        }
        if !self.token_types.is_empty() && self.token_types.len() != self.tokens.len() {
            let problem = format!("{} types for {} tokens", self.token_types.len(), self.tokens.len());
            return Err(self.wrong("token_type", problem));
        }
        if let Some((id, &kind)) = self.token_types.iter().enumerate().find(|(_, kind)| !(1..=BYTE).contains(*kind)) {
            return Err(self.wrong(&format!("token_type[{id}]"), format!("{kind} is no type from 1 to {BYTE}")));
        }
        if self.merges.len() > MAX_MERGES {
            return Err(self.wrong("merges", format!("{} merges, more than {MAX_MERGES}", self.merges.len())));
        }
        if self.merges.is_empty() {
            let types = self.token_types.iter().copied().chain(std::iter::repeat(NORMAL));
            let words = self.tokens.iter().zip(types).filter(|(_, kind)| *kind == NORMAL);
            if let Some(token) = words.map(|(token, _)| token).find(|token| needs_merges(token)) {
                return Err(self.wrong("merges", format!("the file lacks its merges, and {token:?} needs some")));
            }
        }
        Ok(())
    }

    fn merges(&self) -> Result<Vec<(String, String)>> {
        let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        let mut whole = String::new();
        let merges = self.merges.iter().enumerate().map(|(index, merge)| {
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
                .ok_or_else(|| self.wrong(&format!("merges[{index}]"), format!("{merge:?} is not two tokens")))?;
            whole.clear();
            whole.extend([left, right]);
            match [left, right, whole.as_str()].into_iter().find(|token| !known.contains(token)) {
                Some(token) => {
                    let problem = format!("{merge:?} needs {token:?}, which is no token of the vocabulary");
                    Err(self.wrong(&format!("merges[{index}]"), problem))
                }
                None => Ok((left.to_owned(), right.to_owned())),
            }
        });
        merges.collect()
    }

    fn added(&self) -> Vec<AddedToken> {
        let special_ids: Vec<u32> = self.special_ids().into_iter().filter_map(|(_, id)| id).collect();
        let kind = |id: usize| match self.token_types.get(id) {
            Some(&(CONTROL | UNKNOWN)) => Some(true),
            Some(&USER_DEFINED) => Some(false),
            Some(_) => None,
            None => special_ids.contains(&(id as u32)).then_some(true),
        };
        let named = self.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty());
        let added = named.filter_map(|(id, token)| Some((token, kind(id)?)));
        added.map(|(token, special)| AddedToken::from(token.as_str(), special).normalized(false)).collect()
    }
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file. Errors: a `model` or `pre` that is not known, and every key that does not
    /// hold what it should.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<Self> {
        let unsupported = |what: String, fix: String| Error::Unsupported { file: vocab.file.clone(), what, fix };
        if vocab.model != "gpt2" {
            return Err(unsupported(
                format!("tokenizer.ggml.model {:?}", vocab.model),
                "only gpt2 (byte-level BPE) is; use the model's Hugging Face directory with its tokenizer.json".into(),
            ));
        }
        let name = vocab.pre.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let pre = Pre::find(name).ok_or_else(|| {
            let known: Vec<&str> = Pre::names().collect();
            let fix = format!("use the model's Hugging Face directory, or a kind among {}", known.join(", "));
            unsupported(format!("tokenizer.ggml.pre {name:?}"), fix)
        })?;
        vocab.check()?;
        let merges = vocab.merges()?;
        let named = vocab.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty());
        let ids = named.map(|(id, token)| (token.clone(), id as u32));
        let failed = |error: tokenizers::Error| Error::Tokenizer { problem: format!("{}: {error}", vocab.file) };
        let model = BPE::builder()
            .vocab_and_merges(ids.collect::<Vocab>(), merges)
            .ignore_merges(pre.ignore_merges)
            .build()
            .map_err(failed)?;
        let mut cuts: Vec<PreTokenizerWrapper> = Vec::with_capacity(pre.splits.len() + 1);
        for &pattern in pre.splits {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            cuts.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?.into());
        }
        cuts.push(ByteLevel::new(false, false, false).into());

        let mut encoder = tokenizers::Tokenizer::new(model);
        if pre.nfc {
            encoder.with_normalizer(Some(NFC)).map_err(failed)?;
        }
        encoder.with_pre_tokenizer(Some(Sequence::new(cuts)));
        encoder.add_tokens(vocab.added()).map_err(failed)?;
        let tokenizer =
            Self::build(encoder, &Spelling::ByteLevel, 0).map_err(|problem| vocab.wrong("tokens", problem))?;
        let [(_, bos), (_, eos), ..] = vocab.special_ids();
        let edge = |adds: bool, id: Option<u32>| id.filter(|_| adds).into_iter().collect();
        let before = edge(vocab.add_bos.unwrap_or(pre.add_bos), bos);
        Ok(tokenizer.with_edges([before, edge(vocab.add_eos.unwrap_or(false), eos)]))
    }
}
