//! Why a pack is refused, in sentences that a person can act on. Text from a file is escaped and bounded, since it may
//! end up on a terminal. Salts are never shown.

use std::fmt::{self, Display, Write};

use crate::error::{Error, Visible};
use crate::store::Reject;

/// Why a pack is refused, or cannot be made.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PackError {
    /// The pack exceeds a limit. Nothing was allocated for it.
    TooLarge {
        /// `bytes` or `tokens`.
        what: &'static str,
        /// How many the pack has.
        found: u64,
        /// The limit, of [`PackLimits`](super::PackLimits).
        most: u64,
    },

    /// The file is truncated or altered, or not a pack.
    Damaged(Reject),

    /// The file could not be read.
    Read {
        /// What the reader said.
        problem: String,
    },

    /// Namespace fields differ, at least one. Of those that another file alone would mend, it is the first.
    Namespace(Vec<PackDifference>),

    /// The salt differs. Salts are never shown.
    Salt,

    /// The model's shape differs.
    Layout {
        /// Layers, widths or the format of elements.
        what: String,
        /// What the pack has.
        theirs: String,
        /// What this model has.
        ours: String,
    },

    /// The vocabulary lacks a token.
    Token {
        /// Its place in the prefix, from 0.
        index: usize,
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },

    /// The key in the header is not that of the tokens.
    Key,

    /// The pack is unsigned, and only signed packs are accepted.
    Unsigned,

    /// The pack is signed, but by none of the trusted keys.
    Stranger,

    /// A recomputed block differs from the one in the pack.
    Audit {
        /// Its index, from 0.
        block: usize,
        /// Its first token, from 0.
        first: usize,
        /// Its last token.
        last: usize,
        /// Largest relative difference of a token's values in a tensor, by root mean square.
        apart: f32,
    },

    /// There is nothing to pack.
    Empty,

    /// A name that is empty, too long or more than one line.
    Name {
        /// As it was given.
        name: String,
        /// Bytes that a name may have.
        most: usize,
    },

    /// A block that does not follow the one before, or has another shape.
    Blocks {
        /// Its index, from 0.
        block: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A field of the namespace in which a pack differs from the model.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackDifference {
    /// The tag of the field.
    pub field: String,
    /// The field in words.
    pub what: String,
    /// What the pack has.
    pub theirs: String,
    /// What this model has.
    pub ours: String,
    /// What to do about it.
    pub fix: &'static str,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Visible { out: f, lines: false };
        match self {
            Self::TooLarge { what, found, most } => write!(
                f,
                "the pack has {found} {what}, at most {most} are allowed; export a shorter prefix, or raise the limit"
            ),
            Self::Damaged(reason) => f.write_str(damage(*reason)),
            Self::Read { problem } => {
                write!(f, "the pack could not be read: {problem}; try again, or copy the file to this machine")
            }
            Self::Namespace(differences) => {
                f.write_str("the pack was made with ")?;
                for (index, PackDifference { what, theirs, ours, .. }) in differences.iter().enumerate() {
                    let and = if index == 0 { "" } else { ", and with " };
                    write!(f, "{and}{what}: {theirs}, here {ours}")?;
                }
                differences.iter().try_for_each(|difference| write!(f, "; {}", difference.fix))
            }
            Self::Salt => f.write_str(
                "the pack was made under another salt, so it is another tenant's; export it again under this one",
            ),
            Self::Layout { what, theirs, ours } => write!(
                f,
                "the pack does not fit this model in {what}: {theirs}, here {ours}; export it again from this model"
            ),
            Self::Token { index, token, vocab } => write!(
                f,
                "token {index} of the pack is {token}, but the model's vocabulary has {vocab}; export it again from \
                 this model"
            ),
            Self::Key => {
                f.write_str("the pack's key is not that of its tokens; it was put together wrongly, so export it again")
            }
            Self::Unsigned => {
                f.write_str("the pack is not signed; have it exported with --sign by somebody whose key is trusted")
            }
            Self::Stranger => f.write_str(
                "the pack is signed, but by nobody whose key is trusted; have it from its maker, or trust the key of \
                 whoever signed it",
            ),
            Self::Audit { block, first, last, apart } => write!(
                f,
                "block {block}, tokens {first} to {last}, is not what this machine computes: values are {apart:.1e} of \
                 their size apart; do not use the pack, or, if it was made on another kind of graphics card, compare it \
                 roughly (--other-adapter)"
            ),
            Self::Empty => f.write_str("a pack is made of at least one block of KV; warm the prefix first"),
            Self::Name { name, most } => {
                write!(f, "{name:?} cannot be the name of a pack; give one line of 1 to {most} bytes")
            }
            Self::Blocks { block, problem } => write!(f, "block {block} cannot be packed: {problem}"),
        }
    }
}

impl From<Reject> for PackError {
    fn from(reason: Reject) -> Self {
        Self::Damaged(reason)
    }
}

impl PackError {
    /// The same as the crate's error, of the pack of this name or file.
    pub(crate) fn of(self, pack: impl Display) -> Error {
        Error::Pack { pack: pack.to_string(), problem: self.to_string() }
    }

    pub(super) fn read(problem: impl Display) -> Self {
        Self::Read { problem: problem.to_string() }
    }
}

impl PackDifference {
    /// `None` if a side lacks the field.
    pub(super) fn new(field: &str, theirs: Option<&str>, ours: Option<&str>) -> Self {
        let other = format!("another {}", excerpt(field, 0));
        let what = match field {
            "weights" => "other weights",
            "rope" => "other RoPE settings",
            "kv_dtype" => "another format of keys and values",
            "kv_layout" => "another KV layout",
            "numerics" => "kernels that give other bits",
            _ => &other,
        };
        let fix = match field {
            "weights" | "adapter" => "use the file that it was made with, or export it again with this one",
            "kv_dtype" => "run with --kv as it was made, or export it again with this one",
            "numerics" => {
                "run with the --kernels that it was made with, or export it again with these; every machine has f32"
            }
            _ => "export it again with these settings",
        };
        let pairs = theirs.unwrap_or_default().chars().zip(ours.unwrap_or_default().chars());
        let same = pairs.take_while(|(a, b)| a == b).count();
        // Behind the version of the kernels; f32 is not named.
        let class = |numerics: &'_ str| numerics.split_once(' ').map_or("f32", |(_, class)| class).to_owned();
        let classes_differ = theirs.map(class) != ours.map(class);
        let show = |value: Option<&str>| match value {
            None => "not told".to_owned(),
            Some("") => "none".to_owned(),
            Some(text) if field == "numerics" && classes_differ => class(text),
            Some(text) => excerpt(text, same),
        };
        let (field, what) = (field.to_owned(), what.to_owned());
        Self { field, what, theirs: show(theirs), ours: show(ours), fix }
    }
}

/// The text; of a long one, the part around character `at`.
fn excerpt(text: &str, at: usize) -> String {
    const WHOLE: usize = 48;
    const BEFORE: usize = 12;
    const SHOWN: usize = 32;
    let length = text.chars().count();
    if length <= WHOLE {
        return text.to_owned();
    }
    let begin = at.saturating_sub(BEFORE).min(length - SHOWN);
    let part: String = text.chars().skip(begin).take(SHOWN).collect();
    let (before, after) = (if begin > 0 { "…" } else { "" }, if begin + SHOWN < length { "…" } else { "" });
    format!("{before}{part}{after}")
}

fn damage(reason: Reject) -> &'static str {
    match reason {
        Reject::Truncated => "the pack is cut short; copy or download it again",
        Reject::Size => "the pack has more bytes than it announces; copy or download it again",
        Reject::Digest => "the pack was altered after it was made; copy or download it again",
        Reject::NotFinite => "the pack holds infinite or NaN values, which kernels never write; export it again",
        Reject::Version => {
            "the file is not a pack, or of another version; export it again with this version of headstart"
        }
        _ => "the file is not a pack, or its header is damaged; give a .kv.safetensors file that headstart exported",
    }
}
