//! Where a prompt's KV came from and, for what had to be computed, why.
//!
//! `Report` accounts for every prompt token once. `compare` looks at two rendered conversations and says where they
//! part, whose text that is, and what it costs; it needs no cache and no model. Cost: O(tokens) time and memory.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::key::PAGE;

/// Prompt tokens by where their KV came from; they add up to the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    pub gpu: usize,
    pub memory: usize,
    pub disk: usize,
    pub remote: usize,
    pub pack: usize,
    pub computed: usize,
}

/// Why tokens were not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Never seen, or forgotten too long ago to remember.
    Cold,
    /// What is known goes on with other tokens.
    Diverged,
    /// The known prefix was shorter than is worth reusing.
    BelowMin,
    /// Known once; its pages were needed for something else.
    Evicted,
    /// Known once; not used within its time to live.
    Expired,
    /// Known for another model, adapter or numeric setting: the field that differs.
    NamespaceChanged { field: &'static str },
    /// Known under another salt.
    Salt,
    /// Stored, but the bytes were not what their digest says.
    Integrity,
    /// Stored, but loading would have taken longer than allowed, or than computing.
    Deadline,
    /// Written by decode kernels, which exact reuse leaves out.
    DecodeWritten,
}

/// A run of prompt tokens that could have been reused and was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    #[serde(flatten)]
    pub reason: Reason,
    /// Index of the first token.
    pub from: usize,
    pub tokens: usize,
}

/// The account of one request's prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub prompt_tokens: usize,
    pub sources: Sources,
    /// In prompt order. Tokens that are computed because logits need them are in none.
    pub misses: Vec<Miss>,
    /// The first prompt token for which another continuation is known.
    pub first_divergent: Option<usize>,
    /// What was stored beyond the pages, and whether loading it was expected to pay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
}

/// Whether a run of stored tokens was loaded, by the time that loading and computing them was expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Choice {
    pub tier: Tier,
    pub tokens: usize,
    pub load: bool,
    /// From the rates measured so far; none before the first measurement.
    pub load_ms: Option<f64>,
    pub prefill_ms: Option<f64>,
}

/// A tier below the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Memory,
    Disk,
    Remote,
    Pack,
}

impl Report {
    /// Prompt tokens that came from somewhere.
    pub fn reused(&self) -> usize {
        self.prompt_tokens - self.sources.computed
    }

    /// Accounts for the next `tokens` computed tokens as loaded from a tier instead. No more than are computed.
    pub fn load(&mut self, tier: Tier, tokens: usize) {
        let tokens = tokens.min(self.sources.computed);
        let begin = self.reused();
        self.take_misses(tokens);
        self.first_divergent = self.first_divergent.filter(|&at| at >= begin + tokens);
        self.sources.computed -= tokens;
        *match tier {
            Tier::Memory => &mut self.sources.memory,
            Tier::Disk => &mut self.sources.disk,
            Tier::Remote => &mut self.sources.remote,
            Tier::Pack => &mut self.sources.pack,
        } += tokens;
    }

    /// Gives the next `tokens` missed tokens a reason that a tier found. No more than the misses hold.
    pub fn blame(&mut self, reason: Reason, tokens: usize) {
        let (from, tokens) = self.take_misses(tokens);
        if tokens > 0 {
            self.misses.insert(0, Miss { reason, from, tokens });
        }
    }

    /// Takes tokens from the front of the misses: where they began and how many there were.
    fn take_misses(&mut self, tokens: usize) -> (usize, usize) {
        let from = self.misses.first().map_or(0, |miss| miss.from);
        let mut left = tokens;
        for miss in &mut self.misses {
            let taken = left.min(miss.tokens);
            (miss.from, miss.tokens, left) = (miss.from + taken, miss.tokens - taken, left - taken);
        }
        self.misses.retain(|miss| miss.tokens > 0);
        (from, tokens - left)
    }
}

/// What the template made of one message, header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub index: usize,
    pub role: String,
    pub tokens: Range<usize>,
}

/// A rendered conversation. Tokens outside all spans come from the template itself.
#[derive(Clone, Copy, Debug)]
pub struct Rendered<'a> {
    pub tokens: &'a [u32],
    pub messages: &'a [Span],
}

/// What kind of text differs, as far as the text itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// White space only.
    Whitespace,
    /// The same words or messages in another order.
    Order,
    /// Something with digits: a time, a date, an identifier.
    Number,
    Text,
}

/// Where a prompt leaves what is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Index of the first token that differs.
    pub token: usize,
    /// The message that owns it; none if the template wrote it.
    pub message: Option<usize>,
    pub role: Option<String>,
    /// Text just before, the same on both sides.
    pub shared: String,
    /// The text that is known there, up to where the two agree again if that is near.
    pub known: String,
    /// The text of the prompt there.
    pub prompt: String,
    pub change: Change,
    /// Prompt tokens behind the difference that are known too, in runs of at least a page: what moving the difference
    /// behind them (or, for `Order`, keeping the order) would let the cache reuse.
    pub recoverable: usize,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.role) {
            (Some(message), Some(role)) => write!(f, "message {message} ({role})")?,
            _ => write!(f, "the chat template")?,
        }
        write!(f, " differs at token {}: after {:?}, ", self.token, self.shared)?;
        write!(f, "{:?} where {:?} is known", self.prompt, self.known)?;
        match (self.recoverable, self.change) {
            (0, _) => Ok(()),
            (tokens, Change::Order) => write!(f, "; keeping the order would recover {tokens} tokens"),
            (tokens, _) => write!(f, "; moving it behind the static part would recover {tokens} tokens"),
        }
    }
}

/// Tokens of context and of differing text that are shown.
const SHOWN: usize = 12;

/// How far apart the same text may continue to count as near, and how many equal tokens are the same text.
const NEAR: usize = 48;
const SAME: usize = 4;

/// Where `prompt` parts from `known`; none if one is the beginning of the other. `text` decodes tokens.
pub fn compare(known: Rendered, prompt: Rendered, text: impl Fn(&[u32]) -> String) -> Option<Divergence> {
    let (old, new) = (known.tokens, prompt.tokens);
    let at = old.iter().zip(new).position(|(old, new)| old != new)?;
    let (old_end, new_end) = rejoin(&old[at..], &new[at..]);
    let (old_text, new_text) = (text(&old[at..at + old_end]), text(&new[at..at + new_end]));
    let owner = |side: Rendered<'_>| side.messages.iter().find(|span| span.tokens.contains(&at)).cloned();
    let (old_owner, new_owner) = (owner(known), owner(prompt));
    let change = if unspaced(&old_text) == unspaced(&new_text) {
        Change::Whitespace
    } else if reordered(known, prompt, old_owner.as_ref(), new_owner.as_ref(), &text) {
        Change::Order
    } else if [&old_text, &new_text].into_iter().any(|text| text.contains(|c: char| c.is_ascii_digit())) {
        Change::Number
    } else {
        Change::Text
    };
    let owner = new_owner.or(old_owner);
    Some(Divergence {
        token: at,
        message: owner.as_ref().map(|span| span.index),
        role: owner.map(|span| span.role),
        shared: text(&new[at.saturating_sub(SHOWN)..at]),
        known: old_text,
        prompt: new_text,
        change,
        recoverable: recoverable(&old[at..], &new[at..]),
    })
}

/// How much of each side differs before the same `SAME` tokens follow on both, or what is worth showing.
fn rejoin(old: &[u32], new: &[u32]) -> (usize, usize) {
    let same = |i: usize, j: usize| {
        let (old, new) = (&old[i.min(old.len())..], &new[j.min(new.len())..]);
        let need = SAME.min(old.len().max(new.len()));
        old.iter().zip(new).take(need).filter(|(a, b)| a == b).count() == need
    };
    let near = (1..NEAR).find_map(|sum| (0..=sum).map(|i| (i, sum - i)).find(|&(i, j)| same(i, j)));
    near.filter(|&(i, j)| i <= old.len() && j <= new.len()).unwrap_or((old.len().min(SHOWN), new.len().min(SHOWN)))
}

fn unspaced(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Whether the owning message has the same words in another order, or stands elsewhere on the other side.
fn reordered(
    known: Rendered,
    prompt: Rendered,
    old: Option<&Span>,
    new: Option<&Span>,
    text: impl Fn(&[u32]) -> String,
) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    let (old_tokens, new_tokens) = (&known.tokens[old.tokens.clone()], &prompt.tokens[new.tokens.clone()]);
    let stands = |tokens: &[u32], side: Rendered, not: usize| {
        side.messages.iter().any(|span| span.index != not && side.tokens[span.tokens.clone()] == *tokens)
    };
    let words = |tokens: &[u32]| {
        let text = text(tokens);
        let mut words: Vec<String> = text.split_whitespace().map(|word| word.replace(',', "")).collect();
        words.sort_unstable();
        words
    };
    (stands(old_tokens, prompt, old.index) && stands(new_tokens, known, new.index))
        || words(old_tokens) == words(new_tokens)
}

/// Tokens of `new` in runs of at least a page that occur in `old`.
fn recoverable(old: &[u32], new: &[u32]) -> usize {
    let mut places = HashMap::new();
    for (place, run) in old.windows(PAGE).enumerate() {
        places.entry(run).or_insert(place);
    }
    let (mut at, mut tokens) = (0, 0);
    while let Some(run) = new.get(at..at + PAGE) {
        let Some(&place) = places.get(run) else {
            at += 1;
            continue;
        };
        let run = old[place..].iter().zip(&new[at..]).take_while(|(a, b)| a == b).count();
        tokens += run;
        at += run;
    }
    tokens
}
