//! The bytes of every token in one table: what a token adds to the text, independent of its neighbours.
//!
//! Byte-level BPE spells bytes as printable characters (GPT-2's table); SentencePiece-style vocabularies write `▁` for a space
//! and `<0xNN>` for a byte. With tokens as bytes, decoding is concatenation and a stream is exact. Decoders whose text for a
//! token depends on its neighbours (WordPiece, CTC) are refused. Memory: the vocabulary's own bytes and five more for each
//! token.

use serde_json::Value;

#[derive(Debug, Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// End of each token's bytes.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    /// How many leading spaces of a decoded text the tokenizer added.
    pub(crate) leading: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No token has this id.
    Absent,
    Plain,
    Special,
}

/// How a plain token is spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    ByteLevel,
    /// Apply each replacement in order; with `byte_fallback`, `<0xNN>` is one byte.
    Literal {
        replace: Vec<(String, String)>,
        byte_fallback: bool,
    },
}

impl Pieces {
    pub(crate) fn new(leading: usize) -> Self {
        Self { leading, ..Self::default() }
    }

    pub(crate) fn push(&mut self, kind: Kind, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
        self.kinds.push(kind);
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let start = if id == 0 { 0 } else { *self.ends.get(id - 1)? as usize };
        (*self.kinds.get(id)? != Kind::Absent).then(|| &self.bytes[start..self.ends[id] as usize])
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.kinds.get(id as usize) == Some(&Kind::Special)
    }

    /// The text of `ids`; invalid UTF-8 becomes U+FFFD.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let kept = ids.iter().filter(|&&id| !(skip_special && self.is_special(id)));
        let bytes: Vec<u8> = kept.filter_map(|&id| self.get(id)).flatten().copied().collect();
        let spaces = bytes.iter().take(self.leading).take_while(|&&byte| byte == b' ').count();
        String::from_utf8_lossy(&bytes[spaces..]).into_owned()
    }
}

impl Spelling {
    /// Reads the `decoder` of a tokenizer.json: the spelling, and how many leading spaces it drops. `Err` names the decoder
    /// that cannot be expressed.
    pub(crate) fn from_decoder(decoder: &Value) -> Result<(Self, usize), String> {
        let steps = match decoder["type"].as_str() {
            Some("Sequence") => decoder["decoders"].as_array().map(Vec::as_slice).unwrap_or_default(),
            _ => std::slice::from_ref(decoder),
        };
        let (mut replace, mut byte_fallback, mut leading, mut byte_level) = (Vec::new(), false, 0, false);
        for step in steps {
            match step["type"].as_str().unwrap_or("null") {
                "ByteLevel" => byte_level = true,
                "ByteFallback" => byte_fallback = true,
                "Fuse" => {}
                "Replace" => match (step["pattern"]["String"].as_str(), step["content"].as_str()) {
                    (Some(from), Some(to)) if !from.is_empty() => replace.push((from.to_owned(), to.to_owned())),
                    _ => return Err("Replace with a regular expression".into()),
                },
                "Strip" if step["content"] == " " && step["stop"].as_u64().unwrap_or(0) == 0 => {
                    leading = step["start"].as_u64().unwrap_or(0) as usize;
                }
                "Metaspace" => {
                    replace.push((step["replacement"].as_str().unwrap_or("▁").to_owned(), " ".to_owned()));
                    leading = usize::from(step["prepend_scheme"] != "never");
                }
                other => return Err(other.to_owned()),
            }
        }
        match (byte_level, replace.is_empty() && !byte_fallback && leading == 0) {
            (true, true) => Ok((Self::ByteLevel, 0)),
            (true, false) => Err("ByteLevel together with other decoders".into()),
            (false, _) => Ok((Self::Literal { replace, byte_fallback }, leading)),
        }
    }

    /// An added token is never spelt in GPT-2's table, since it is matched in the text as it is.
    pub(crate) fn added_bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => token.as_bytes().to_vec(),
            Self::Literal { .. } => self.bytes(token),
        }
    }

    pub(crate) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // A token with a character outside the table is taken literally.
            Self::ByteLevel => {
                token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::Literal { replace, byte_fallback } => {
                if *byte_fallback && let Some(byte) = fallback_byte(token) {
                    return vec![byte];
                }
                let text = replace.iter().fold(token.to_owned(), |text, (from, to)| text.replace(from, to));
                text.into_bytes()
            }
        }
    }
}

/// The inverse of GPT-2's table: printable characters of Latin-1 are their own bytes; the other 68 bytes are written as U+0100
/// and up, in order.
fn byte_of(c: char) -> Option<u8> {
    match c as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

fn fallback_byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok())?
}
