//! Finds where a prompt diverges from a known one: the place, the text on both sides, its author, and what mending it gains.
//!
//! `compare` takes two token sequences and, where they are known, the spans with their authors. It tells only the first
//! difference: no token behind it can be reused before it is mended. Cost: O(tokens) time and memory.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::key::{Namespace, PAGE};
use super::kind::{DivergenceKind, is_static, values_differ};
use crate::error::{quoted, visible};

/// The author of a piece of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "owner", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Owner {
    /// A message, by its index in the conversation.
    Message {
        /// Index in the conversation, from 0.
        message: usize,
        /// Whose turn it is: `system`, `user`, …
        role: String,
    },
    /// A tool, by its index in the list of tools; the list itself, with what the template says about it, if none.
    Tools {
        /// Index in the list, from 0.
        tool: Option<usize>,
        /// As the tool calls its function, where it does.
        name: Option<String>,
    },
    /// The chat template; `date` where it writes the time of the request.
    Template {
        /// The text is that of the clock.
        date: bool,
    },
    /// The text, where there are no messages.
    Prompt,
    /// No text: what KV is filed under, by the field that differs.
    Namespace {
        /// The tag of the field: `weights`, `salt`, …
        field: &'static str,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { message, role } => write!(f, "message {message} ({})", visible(role)),
            Self::Tools { tool: Some(tool), name: Some(name) } => write!(f, "tool {tool} ({})", visible(name)),
            Self::Tools { tool: Some(tool), name: None } => write!(f, "tool {tool}"),
            Self::Tools { tool: None, .. } => write!(f, "the list of tools"),
            Self::Template { date: true } => write!(f, "the date that the chat template writes"),
            Self::Template { date: false } => write!(f, "the chat template"),
            Self::Prompt => write!(f, "the text"),
            Self::Namespace { field: "weights" } => write!(f, "the model file"),
            Self::Namespace { field } => write!(f, "the {field}"),
        }
    }
}

/// A piece of a prompt. Spans may lie in each other: the narrowest owns.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who wrote it.
    pub owner: Owner,
    /// All tokens that hold some of it, header and end included.
    pub tokens: Range<usize>,
    /// What the owner itself wrote.
    pub text: String,
}

impl Span {
    /// Whether it says the same, wherever it stands.
    fn equals(&self, other: &Span) -> bool {
        let same_kind = match (&self.owner, &other.owner) {
            (Owner::Message { role, .. }, Owner::Message { role: other, .. }) => role == other,
            (Owner::Tools { tool, .. }, Owner::Tools { tool: other, .. }) => tool.is_some() == other.is_some(),
            (owner, other) => owner == other,
        };
        same_kind && self.text == other.text
    }
}

/// A prompt and whose it is. Tokens outside all spans come from the template.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Rendered<'a> {
    pub tokens: &'a [u32],
    pub spans: &'a [Span],
}

/// What kind of text differs, as far as the text itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// Nothing but the tokens: the same text was cut in another way, as the model generates it and as it is read again.
    Tokenization,
    /// Thinking of an earlier turn, which the prompt leaves out.
    Thinking,
    /// White space only.
    Whitespace,
    /// The same words, messages or tools in another order.
    Order,
    /// Something with digits: a time, a date, an identifier.
    Number,
    /// Other words.
    Text,
}

/// Where a prompt diverges from a known one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Index of the first token that differs.
    pub token: usize,
    /// The author of the text that differs.
    #[serde(flatten)]
    pub owner: Owner,
    /// Text just before, the same on both sides.
    pub shared: String,
    /// The text that is known there, up to where the two agree again if that is near.
    pub known: String,
    /// The text of the prompt there.
    pub prompt: String,
    /// How the texts differ.
    pub change: Change,
    /// What kind of difference it is, and so what to do about it.
    pub kind: DivergenceKind,
    /// Prompt tokens that the cache could reuse if this were mended: those up to the next difference that are known too, of
    /// another order all of them, in runs of at least a page. None where nothing can be mended.
    pub recoverable: usize,
}

/// Tokens of context and of differing text that are shown.
const SHOWN: usize = 12;

/// How far apart the same text may continue to count as near, and how many equal tokens are the same text.
const NEAR: usize = 48;
const SAME: usize = 4;

/// What stands for bytes that are no UTF-8: here, the parts of a character that was cut.
const CUT: char = '\u{FFFD}';

impl Divergence {
    /// Why nothing of `known` can be reused for `prompt`, whose first `same` tokens are equal; none if the two namespaces are.
    pub(crate) fn of_namespaces(known: &Namespace, prompt: &Namespace, same: usize) -> Option<Self> {
        let field = prompt.difference(known)?;
        let value = |namespace: &Namespace| {
            let entries = namespace.fields().entries();
            entries.into_iter().find(|entry| entry.0 == field).map_or_else(String::new, |entry| entry.1.to_owned())
        };
        Some(Self {
            token: 0,
            owner: Owner::Namespace { field },
            shared: String::new(),
            known: value(known),
            prompt: value(prompt),
            change: Change::Text,
            kind: DivergenceKind::Settings,
            recoverable: same,
        })
    }

    /// What to do about it: one sentence or two.
    pub fn advice(&self) -> &'static str {
        if self.change == Change::Thinking { KEEP_THINKING } else { self.kind.advice(&self.owner) }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Namespace { .. } => write!(f, "{} differs: ", self.owner)?,
            owner => write!(f, "{owner} differs at token {}: after {}, ", self.token, quoted(&self.shared))?,
        }
        let [prompt, known] = [&self.prompt, &self.known].map(|text| quoted(text));
        match self.change {
            Change::Tokenization => write!(f, "{prompt} was generated in other tokens than it is read in")?,
            _ if self.known.is_empty() => write!(f, "{prompt} is new")?,
            _ if self.prompt.is_empty() => write!(f, "{known} is missing")?,
            _ => write!(f, "{prompt} where {known} is known")?,
        }
        write!(f, ". {}", self.advice())?;
        match self.recoverable {
            0 => Ok(()),
            tokens => write!(f, " {tokens} tokens behind it could then be reused."),
        }
    }
}

/// What to do about thinking that a later prompt leaves out.
const KEEP_THINKING: &str = "Past thinking is left out of the prompt, so the answer behind it is computed anew; \
    \"past_thinking\": \"keep\" in the request, where the chat template can, keeps both.";

/// What thinking begins with, by the names that chat templates give it.
const THINKING: [&str; 6] =
    ["<think>", "[THINK]", "<thought>", "<seed:think>", "<longcat_think>", "<|channel|>analysis"];

/// Where `prompt` parts from `known`; none if one is the beginning of the other. `text` gives the bytes of tokens as they
/// are, those of a cut character as U+FFFD.
#[doc(hidden)]
pub fn compare(known: Rendered, prompt: Rendered, text: impl Fn(&[u32]) -> String) -> Option<Divergence> {
    let (old, new) = (known.tokens, prompt.tokens);
    let at = old.iter().zip(new).position(|(old, new)| old != new)?;
    let start = whole_before(new, at, &text);
    let [old_owner, new_owner] = owners(known, prompt, at);
    let retokenized = retokenized(old, new, start, at, &text);
    let rejoined = retokenized.or_else(|| rejoin(old, new, at));
    let (old_end, new_end) = rejoined.unwrap_or((old.len().min(at + SHOWN), new.len().min(at + SHOWN)));
    let old_text = text(&old[start..whole_after(old, old_end, &text)]);
    let new_text = text(&new[start..whole_after(new, new_end, &text)]);
    let change = if retokenized.is_some() {
        Change::Tokenization
    } else if thought(&old_text) && !thought(&new_text) {
        Change::Thinking
    } else if unspaced(&old_text) == unspaced(&new_text) {
        Change::Whitespace
    } else if reworded(old_owner, new_owner) || moved([old, new], at, [old_end, new_end], new_owner) {
        Change::Order
    } else if [&old_text, &new_text].into_iter().any(|text| numbered(text, rejoined.is_some())) {
        Change::Number
    } else {
        Change::Text
    };
    let owner = blamed(old_owner, new_owner, known, prompt);
    let shared = text(&new[start.saturating_sub(SHOWN)..start]).trim_start_matches(CUT).to_owned();
    let line = shared.rsplit('\n').next().unwrap_or_default();
    let lines = [&old_text, &new_text].map(|text| format!("{line}{text}"));
    // A turn that came or went brings the opening of a message with it; without one, its words changed.
    let opening = new_owner.and_then(|owner| new.get(owner.tokens.start));
    let whole = |range: &[u32]| opening.is_none_or(|opening| range.contains(opening));
    let within = rejoined.is_some() && is_turn(&owner) && !whole(&old[at..old_end]) && !whole(&new[at..new_end]);
    let kind = match change {
        Change::Tokenization => DivergenceKind::None,
        Change::Whitespace => DivergenceKind::Whitespace,
        Change::Order => DivergenceKind::Reordered,
        _ if change == Change::Thinking || matches!(owner, Owner::Template { .. }) => DivergenceKind::Template,
        _ if rejoined.is_some() && values_differ([&lines[0], &lines[1]], &owner) => DivergenceKind::ChangingValue,
        _ if within => DivergenceKind::Edited,
        _ if follows(&new[at..], &old[at..]) => DivergenceKind::Dropped,
        _ if follows(&old[at..], &new[at..]) => DivergenceKind::Added,
        _ => DivergenceKind::Edited,
    };
    let turn = is_turn(&owner);
    let mut runs = runs(&old[at..], &new[at..]).into_iter();
    let recoverable = match kind {
        DivergenceKind::None => 0,
        DivergenceKind::Dropped | DivergenceKind::Added | DivergenceKind::Edited if turn => 0,
        DivergenceKind::Reordered => runs.sum(),
        _ => runs.next().unwrap_or(0),
    };
    Some(Divergence { token: at, owner, shared, known: old_text, prompt: new_text, change, kind, recoverable })
}

fn is_turn(owner: &Owner) -> bool {
    matches!(owner, Owner::Message { role, .. } if !is_static(role))
}

/// Whether what `rest` begins with comes later in `other`.
fn follows(rest: &[u32], other: &[u32]) -> bool {
    let run = &rest[..rest.len().min(PAGE)];
    run.len() >= SAME && other.windows(run.len()).any(|other| other == run)
}

/// The last place up to `at` where no character is cut.
fn whole_before(tokens: &[u32], at: usize, text: impl Fn(&[u32]) -> String) -> usize {
    let cut = |at: &usize| text(&tokens[at.saturating_sub(SHOWN)..*at]).ends_with(CUT);
    (at.saturating_sub(SAME)..=at).rev().find(|at| !cut(at)).unwrap_or(at)
}

/// The first place from `end` on where no character is cut.
fn whole_after(tokens: &[u32], end: usize, text: impl Fn(&[u32]) -> String) -> usize {
    let cut = |at: &usize| text(&tokens[at.saturating_sub(SHOWN)..*at]).ends_with(CUT);
    (end..=(end + SAME).min(tokens.len())).find(|at| !cut(at)).unwrap_or(end)
}

/// On each side the span at `at`, of those that lie in each other the inner one. Where two share the token, the one that
/// the other side does not have.
fn owners<'a>(known: Rendered<'a>, prompt: Rendered<'a>, at: usize) -> [Option<&'a Span>; 2] {
    let owner = |side: Rendered<'a>, other: Rendered<'a>| {
        let here = || side.spans.iter().filter(|span| span.tokens.contains(&at));
        let lies_in = |inner: &Span, outer: &Span| {
            let (inner, outer) = (&inner.tokens, &outer.tokens);
            outer.start <= inner.start && inner.end <= outer.end && outer.len() > inner.len()
        };
        let inner = here().filter(|span| !here().any(|other| lies_in(other, span)));
        inner.min_by_key(|span| (has(other, span), span.tokens.len()))
    };
    [owner(known, prompt), owner(prompt, known)]
}

fn has(side: Rendered, span: &Span) -> bool {
    side.spans.iter().any(|other| other.equals(span))
}

/// Of the owners on both sides the one that changed: what both sides have, only stands elsewhere.
fn blamed(old: Option<&Span>, new: Option<&Span>, known: Rendered, prompt: Rendered) -> Owner {
    let changed = [new.filter(|new| !has(known, new)), old.filter(|old| !has(prompt, old))];
    let span = match changed {
        // Tools came or went: what gave way to them is not to blame.
        [Some(new), Some(old)] if is_tools(old) && !is_tools(new) => Some(old),
        [Some(new), _] => Some(new),
        [None, Some(old)] => Some(old),
        [None, None] => new.or(old),
    };
    span.map_or(Owner::Template { date: false }, |span| span.owner.clone())
}

fn is_tools(span: &Span) -> bool {
    matches!(span.owner, Owner::Tools { .. })
}

/// Where the text from `start` on, no character of it cut, is the same on both sides again although the tokens at `at` are
/// not, and the two sides go on with the same token or one ends.
fn retokenized(
    old: &[u32],
    new: &[u32],
    start: usize,
    at: usize,
    text: impl Fn(&[u32]) -> String,
) -> Option<(usize, usize)> {
    let (mut i, mut j) = (at + 1, at + 1);
    while i <= old.len().min(at + NEAR) && j <= new.len().min(at + NEAR) {
        let (a, b) = (text(&old[start..i]), text(&new[start..j]));
        if a == b && !a.contains(CUT) && old.get(i).zip(new.get(j)).is_none_or(|(old, new)| old == new) {
            return Some((i, j));
        }
        let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
        if !long.starts_with(short.trim_end_matches(CUT)) {
            return None;
        }
        (i, j) = (i + usize::from(a.len() <= b.len()), j + usize::from(b.len() <= a.len()));
    }
    None
}

/// Where the same `SAME` tokens follow on both sides of what differs from `at` on.
fn rejoin(old: &[u32], new: &[u32], at: usize) -> Option<(usize, usize)> {
    let same = |i: usize, j: usize| {
        let (old, new) = (&old[i.min(old.len())..], &new[j.min(new.len())..]);
        let need = SAME.min(old.len().max(new.len()));
        old.iter().zip(new).take(need).filter(|(a, b)| a == b).count() == need
    };
    let near = (1..NEAR).find_map(|sum| (0..=sum).map(|i| (at + i, at + sum - i)).find(|&(i, j)| same(i, j)));
    near.filter(|&(i, j)| i <= old.len() && j <= new.len())
}

/// Whether it begins with thinking.
fn thought(text: &str) -> bool {
    THINKING.iter().any(|opening| text.trim_start().starts_with(opening))
}

fn unspaced(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Whether text holds a number: anywhere, or where it is only cut off somewhere, in its first word.
fn numbered(text: &str, whole: bool) -> bool {
    let text = if whole { text } else { text.split_whitespace().next().unwrap_or_default() };
    text.contains(|c: char| c.is_ascii_digit())
}

/// Whether both wrote the same words in another order.
fn reworded(old: Option<&Span>, new: Option<&Span>) -> bool {
    let words = |span: &Span| -> Vec<String> {
        let mark = |c: char| c.is_ascii_punctuation();
        span.text.split_whitespace().map(|word| word.trim_matches(mark).to_owned()).collect()
    };
    let (Some(mut old), Some(mut new)) = (old.map(words), new.map(words)) else { return false };
    if old == new {
        return false;
    }
    old.sort_unstable();
    new.sort_unstable();
    old == new
}

/// Whether what each side has from `at` on follows on the other side too: what differs there, or the rest of the prompt's
/// owner in exchange for what begins there.
fn moved([old, new]: [&[u32]; 2], at: usize, ends: [usize; 2], owner: Option<&Span>) -> bool {
    let count = |run: &[u32], tokens: &[u32]| tokens[at..].windows(run.len()).filter(|other| *other == run).count();
    let on_both = |run: &[u32]| count(run, old) > 0 && count(run, old) == count(run, new);
    // The last token may hold some of what follows, and that may be something else elsewhere.
    let runs = [&old[at..ends[0]], &new[at..ends[1]]];
    if runs.iter().all(|run| run.is_empty() || (run.len() > SAME && on_both(&run[..run.len() - 1]))) {
        return true;
    }
    let rest = |span: &Span| &new[at..span.tokens.end.max(at + SAME).min(new.len()) - 1];
    let exchanged =
        |rest: &[u32]| !rest.is_empty() && count(rest, old) > 0 && count(&old[at..old.len().min(at + SAME)], new) > 0;
    owner.map(rest).is_some_and(exchanged)
}

/// The lengths of the runs of at least a page in `new` that occur in `old`, in order.
fn runs(old: &[u32], new: &[u32]) -> Vec<usize> {
    let mut places = HashMap::new();
    for (place, run) in old.windows(PAGE).enumerate() {
        places.entry(run).or_insert(place);
    }
    let (mut at, mut runs) = (0, Vec::new());
    while let Some(run) = new.get(at..at + PAGE) {
        let Some(&place) = places.get(run) else {
            at += 1;
            continue;
        };
        let run = old[place..].iter().zip(&new[at..]).take_while(|(a, b)| a == b).count();
        runs.push(run);
        at += run;
    }
    runs
}
