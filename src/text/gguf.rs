//! Builds a tokenizer from the vocabulary of a GGUF file (`tokenizer.ggml.*`).
//!
//! The GGUF reader fills `GgufVocab`. Its content comes from outside and is checked here before use: a broken file gives an
//! error that names the key, never a panic.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{self, NormalizerWrapper, Prepend, Replace, unicode::NFC};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::brief::brief;
use super::checks::MAX_ADDED_BYTES;
use super::cuts::Cuts;
use super::encoder::{AnyModel, Encoder};
use super::normalize::Normalize;
use super::pieces::Spelling;
use super::pre::Pre;
use super::sentencepiece::SentencePiece;
use super::template::Specials;
use super::tokenizer::{MAX_MERGES, MAX_TOKEN_BYTES, MAX_TOKENS, Tokenizer, needs_merges};
use crate::error::{Error, Result};

/// The `tokenizer.ggml.*` keys of a GGUF file, unchecked.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// The file's name, for error messages.
    pub file: String,
    /// `general.name`, by which llama.cpp recognises the models whose control tokens absorb the spaces after them.
    pub name: Option<String>,
    /// `model`: `gpt2` and `gemma4` are BPE with a list of merges, `llama` is SentencePiece's BPE.
    pub model: String,
    /// `pre`: how text is split before merging; `default` if missing.
    pub pre: Option<String>,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. Empty if missing: then all tokens are
    /// normal, except the four below and those that look like control tokens.
    pub token_types: Vec<i32>,
    /// `scores` of the tokens, for SentencePiece. Empty if missing: then all are equal.
    pub scores: Vec<f32>,
    /// `merges`, best first; each is two tokens with a space between.
    pub merges: Vec<String>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `unknown_token_id`
    pub unk: Option<u32>,
    /// `padding_token_id`
    pub pad: Option<u32>,
    /// `add_bos_token`: whether a text that no chat template made begins with `bos`. The default depends on `pre`; with
    /// SentencePiece it is true.
    pub add_bos: Option<bool>,
    /// `add_eos_token`: whether such a text ends with `eos`; by default not.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: whether SentencePiece puts a space before a text and after a special token; by default it does.
    pub add_space_prefix: Option<bool>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// Tokens that end a turn or a text. They are control tokens whatever type a file gives them, as in llama.cpp. `</s>` is left
/// out, because some vocabularies use it for struck-out text.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|end_of_turn|>",
];

/// A space, as SentencePiece writes it.
const SPACE: &str = "▁";

impl GgufVocab {
    /// The special tokens that a chat template may name.
    pub fn specials(&self) -> Specials {
        let named = self.special_ids().into_iter().filter_map(|(key, id)| {
            let name = key.replace("_id", "").replace("unknown", "unk").replace("padding", "pad");
            Some((name, self.tokens.get(id? as usize)?.clone()))
        });
        named.fold(Specials::default(), |specials, (name, token)| specials.with(name, token))
    }

    /// The token that ends a text (EOS).
    pub(crate) fn end(&self) -> Option<u32> {
        let [_, (_, eos), ..] = self.special_ids();
        eos
    }

    /// Ids outside the vocabulary, which some files write for a token that they lack, become `None`. If a SentencePiece file
    /// names none, Llama's ids are taken.
    fn special_ids(&self) -> [(&'static str, Option<u32>); 4] {
        let llama = |id: u32| (self.model == "llama").then_some(id);
        [
            ("bos_token_id", self.bos.or(llama(1))),
            ("eos_token_id", self.eos.or(llama(2))),
            ("unknown_token_id", self.unk.or(llama(0))),
            ("padding_token_id", self.pad),
        ]
        .map(|(key, id)| (key, id.filter(|&id| (id as usize) < self.tokens.len())))
    }

    /// The tokens that are matched as a whole before a text is split, with their ids. If the file gives no types, tokens of the
    /// form `<...>` are added to them.
    pub(crate) fn added_tokens(&self) -> Vec<(u32, String)> {
        let looks_so = |token: &str| token.len() > 2 && token.starts_with('<') && token.ends_with('>');
        let is_added =
            |id: usize, token: &str| self.added_kind(id).is_some() || self.token_types.is_empty() && looks_so(token);
        let tokens = self.tokens.iter().enumerate().filter(|(id, token)| is_added(*id, token));
        tokens.map(|(id, token)| (id as u32, token.clone())).collect()
    }

    fn wrong(&self, key: &str, problem: String) -> Error {
        Error::Format {
            file: self.file.clone(),
            field: format!("tokenizer.ggml.{key}"),
            problem: brief(&problem),
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
            return Err(self.wrong(&format!("token_type[{id}]"), format!("{kind} is not a type from 1 to {BYTE}")));
        }
        Ok(())
    }

    fn check_merges(&self) -> Result<()> {
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
                    let problem = format!("{merge:?} needs {token:?}, which is not in the vocabulary");
                    Err(self.wrong(&format!("merges[{index}]"), problem))
                }
                None => Ok((left.to_owned(), right.to_owned())),
            }
        });
        merges.collect()
    }

    /// `Some` if a token is matched before the text is split; true if it is a control token.
    fn added_kind(&self, id: usize) -> Option<bool> {
        let token = self.tokens.get(id)?.as_str();
        let named = || self.special_ids().iter().any(|(_, named)| *named == Some(id as u32));
        let looks_so = || token.len() > 4 && token.starts_with("<|") && token.ends_with("|>");
        match self.token_types.get(id) {
            Some(&(CONTROL | UNKNOWN)) => Some(true),
            _ if ENDS.contains(&token) => Some(true),
            Some(&USER_DEFINED) => Some(false),
            Some(_) => None,
            None => (named() || looks_so()).then_some(true),
        }
    }

    fn added(&self) -> Vec<AddedToken> {
        let name = self.name.as_deref().unwrap_or_default().to_lowercase();
        let phi3 = ["phi-3", "phi3"].iter().any(|part| name.contains(part));
        let takes_spaces = |token: &str| phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&token);
        let named = self.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty());
        let added = named.filter_map(|(id, token)| Some((token.as_str(), self.added_kind(id)?)));
        let token = |(token, special)| AddedToken::from(token, special).normalized(false).rstrip(takes_spaces(token));
        added.map(token).collect()
    }
}

/// A vocabulary's encoder, and how its tokens are decoded.
struct Made {
    encoder: Encoder,
    spelling: Spelling,
    /// Whether a space is put before a text.
    space_prefix: bool,
    /// Whether a text begins with BOS if the file does not say.
    add_bos: bool,
}

impl GgufVocab {
    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::Tokenizer { problem: format!("{}: {error}", self.file) }
    }

    fn unsupported(&self, what: String, fix: String) -> Error {
        Error::Unsupported { file: self.file.clone(), what: brief(&what), fix }
    }

    /// BPE with a list of merges, over the pieces into which the pre-tokenizer `name` splits a text.
    fn bpe(&self, name: &str) -> Result<Made> {
        let pre = Pre::find(name).ok_or_else(|| {
            let known: Vec<&str> = Pre::names().collect();
            let fix = format!("use the model's Hugging Face directory, or a kind among {}", known.join(", "));
            self.unsupported(format!("tokenizer.ggml.pre {name:?}"), fix)
        })?;
        self.check()?;
        self.check_merges()?;
        let named = self.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty());
        let ids = named.map(|(id, token)| (token.clone(), id as u32));
        let [_, _, (_, unknown), _] = self.special_ids();
        let mut model = BPE::builder()
            .vocab_and_merges(ids.collect::<Vocab>(), self.merges()?)
            .ignore_merges(pre.ignore_merges)
            .byte_fallback(pre.as_text)
            .build()
            .map_err(|error| self.failed(&error))?;
        model.unk_token = unknown.filter(|_| pre.as_text).map(|id| self.tokens[id as usize].clone());
        let mut cuts: Vec<PreTokenizerWrapper> = Vec::with_capacity(pre.splits.len() + 1);
        for &pattern in pre.splits {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            cuts.push(split.map_err(|error| self.failed(&error))?.into());
        }
        let (spelling, normalizer) = match pre.as_text {
            true => (as_text(), Some(self.escape(false)?)),
            false => {
                cuts.push(ByteLevel::new(false, false, false).into());
                (Spelling::ByteLevel, pre.nfc.then(|| NFC.into()))
            }
        };
        let mut encoder = Encoder::new(AnyModel::new(ModelWrapper::from(model)));
        let cuts = Cuts::new(&Sequence::new(cuts).into()).map_err(|problem| self.wrong("pre", problem))?;
        encoder.with_pre_tokenizer(Some(cuts));
        let encoder = self.complete(encoder, normalizer)?;
        Ok(Made { encoder, spelling, space_prefix: false, add_bos: pre.add_bos })
    }

    fn sentencepiece(&self) -> Result<Made> {
        self.check()?;
        let (scores, tokens) = (self.scores.len(), self.tokens.len());
        if scores != 0 && scores != tokens {
            return Err(self.wrong("scores", format!("{scores} scores for {tokens} tokens")));
        }
        let joined = |id: usize| self.token_types.get(id) != Some(&BYTE) && self.added_kind(id) != Some(true);
        let score = |id: usize| joined(id).then(|| self.scores.get(id).copied().unwrap_or_default());
        let [_, _, (_, unknown), _] = self.special_ids();
        let model = SentencePiece::new(self.tokens.clone(), (0..tokens).map(score).collect(), unknown);
        let space_prefix = self.add_space_prefix.unwrap_or(true);
        let encoder = Encoder::new(AnyModel::new(model));
        let encoder = self.complete(encoder, Some(self.escape(space_prefix)?))?;
        Ok(Made { encoder, spelling: as_text(), space_prefix, add_bos: true })
    }

    /// Replaces spaces with `▁` as SentencePiece does; with `prefix` also adds one before the text.
    fn escape(&self, prefix: bool) -> Result<NormalizerWrapper> {
        let escape = Replace::new(" ", SPACE).map_err(|error| self.failed(&error))?;
        let prefix = prefix.then(|| Prepend::new(SPACE.into()).into());
        let steps: Vec<NormalizerWrapper> = prefix.into_iter().chain([escape.into()]).collect();
        Ok(normalizers::Sequence::new(steps).into())
    }

    /// Adds the normalizer and the added tokens to an encoder.
    fn complete(&self, mut encoder: Encoder, normalizer: Option<NormalizerWrapper>) -> Result<Encoder> {
        let normalize = normalizer.map(|steps| Normalize::new(&steps).map_err(|problem| self.wrong("pre", problem)));
        encoder.with_normalizer(normalize.transpose()?).map_err(|error| self.failed(&error))?;
        let added = self.added();
        let bytes: usize = added.iter().map(|token| token.content.len()).sum();
        if bytes > MAX_ADDED_BYTES {
            let problem = format!("{bytes} bytes of control and added tokens, more than {MAX_ADDED_BYTES}");
            return Err(self.wrong("token_type", problem));
        }
        encoder.add_tokens(added).map_err(|error| self.failed(&error))?;
        Ok(encoder)
    }
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an unknown `model` or `pre`, [`Error::Format`] for any key with an invalid value.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<Self> {
        let made = match vocab.model.as_str() {
            "gpt2" => vocab.bpe(vocab.pre.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")),
            "gemma4" => vocab.bpe("gemma4"),
            "llama" => vocab.sentencepiece(),
            model => Err(vocab.unsupported(
                format!("tokenizer.ggml.model {model:?}{}", kind_of(model)),
                "only gpt2 and gemma4 (BPE) and llama (SentencePiece's BPE) are supported; use the model's Hugging Face \
                 directory with its tokenizer.json"
                    .into(),
            )),
        }?;
        let tokenizer = Self::build(made.encoder, &made.spelling, usize::from(made.space_prefix))
            .map_err(|problem| vocab.wrong("tokens", problem))?;
        let [(_, bos), (_, eos), ..] = vocab.special_ids();
        let edge = |adds: bool, id: Option<u32>| id.filter(|_| adds).into_iter().collect();
        let before = edge(vocab.add_bos.unwrap_or(made.add_bos), bos);
        Ok(tokenizer.with_edges([before, edge(vocab.add_eos.unwrap_or(false), eos)]))
    }
}

/// SentencePiece's spelling.
fn as_text() -> Spelling {
    Spelling::Literal { replace: vec![(SPACE.into(), " ".into())], byte_fallback: true }
}

/// Names the kinds of vocabulary that llama.cpp supports and this library does not; empty for any other.
fn kind_of(model: &str) -> &'static str {
    match model {
        "bert" => " (WordPiece)",
        "t5" => " (Unigram)",
        "rwkv" => " (RWKV's trie)",
        "plamo2" => " (PLaMo-2's table)",
        _ => "",
    }
}
