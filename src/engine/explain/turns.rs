//! Aligns two conversations message by message, and parts the texts of two versions of a message.

use std::ops::Range;

use serde_json::json;

use crate::kv::is_static;
use crate::text::{Content, Message};

use super::align::{Alignment, Step, align};
use super::differences::canonical;
use super::layout::spaced;
use super::pieces::{ALIKE, Parted, likeness, part};

/// The part of a conversation that a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The system text, and what else stands before the first question: every request has it.
    Static,
    /// A turn that was asked or answered before.
    Past,
    /// The last message, in one of the two at least.
    Question,
}

/// Two messages that are versions of one, and what their texts have in common.
pub(super) struct Pair {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) place: Place,
    pub(super) parted: Parted,
}

pub(super) struct Turns<'a> {
    pub(super) messages: [&'a [Message]; 2],
    /// Without what follows the last message that both have.
    pub(super) steps: Vec<Step>,
    /// Where the order of messages first differs.
    pub(super) moved: Option<(usize, usize)>,
    pub(super) pairs: Vec<Pair>,
    /// Index in the second conversation from which on it is another one.
    pub(super) tail: usize,
}

/// The messages between the system text and the first question.
pub(super) fn context(messages: &[Message]) -> Range<usize> {
    let start = usize::from(messages.first().is_some_and(|first| is_static(&first.role)));
    let end = messages.iter().position(|message| message.role == "assistant").unwrap_or(messages.len());
    let asks = end > start && !is_static(&messages[end - 1].role);
    start..(end - usize::from(asks)).max(start)
}

/// The text of a message, as templates that take plain texts read it.
// Once in the page's download, and not where it is called.
#[inline(never)]
pub(super) fn text(message: &Message) -> String {
    match &message.content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => parts.join("\n"),
        Content::Absent => String::new(),
    }
}

/// All else that it says, in whatever order the keys of its objects stand.
pub(super) fn beside(message: &Message) -> String {
    let Message { name, tool_call_id, tool_calls, other, .. } = message;
    canonical(&json!([name, tool_call_id, tool_calls, other]))
}

impl<'a> Turns<'a> {
    pub(super) fn new(messages: [&'a [Message]; 2]) -> Self {
        let [a, b] = messages;
        let contexts = messages.map(context);
        let is_context = |side: usize, at: usize| at < contexts[side].end;
        let words = messages.map(|list| list.iter().map(|message| spaced(&text(message))).collect::<Vec<_>>());
        let key = |(message, words): (&Message, &String)| json!([message.role, words, beside(message)]).to_string();
        let keys = [0, 1].map(|side| messages[side].iter().zip(&words[side]).map(key).collect::<Vec<_>>());
        let alike = |old: usize, new: usize, alone: bool| {
            let (x, y) = (&a[old], &b[new]);
            let heads = old == 0 && new == 0 && is_static(&x.role);
            let past = !is_context(0, old) && !is_context(1, new) && alone;
            match x.role == y.role {
                true => heads || past || likeness(&text(x), &text(y)) >= ALIKE,
                false => words[0][old] == words[1][new],
            }
        };
        let Alignment { mut steps, moved } = align(&keys[0], &keys[1], &alike);
        // What follows the last that both have is another conversation; of it only the first question of each is compared.
        let anchors = |step: &Step| match *step {
            Step::Same(..) | Step::Moved(..) => true,
            Step::Pair(old, new) => is_context(0, old) && is_context(1, new),
            Step::Gone(old) => is_context(0, old),
            Step::New(new) => is_context(1, new),
        };
        let end = steps.iter().rposition(anchors).map_or(0, |last| last + 1);
        let tail: Vec<Step> = steps.drain(end..).collect();
        let next = |side: usize| tail.iter().find_map(|step| step.indices()[side]);
        let question = next(0).zip(next(1)).filter(|&(old, new)| a[old].role == b[new].role);
        let mut pairs: Vec<(usize, usize, Place)> = Vec::new();
        for step in &steps {
            if let Step::Pair(old, new) = *step {
                let last = old + 1 == a.len() || new + 1 == b.len();
                let fixed = is_context(0, old) && is_context(1, new);
                let place = if fixed {
                    Place::Static
                } else if last {
                    Place::Question
                } else {
                    Place::Past
                };
                pairs.push((old, new, place));
            }
        }
        pairs.extend(question.map(|(old, new)| (old, new, Place::Question)));
        let pair = |(old, new, place): (usize, usize, Place)| Pair {
            old,
            new,
            place,
            parted: part(&text(&a[old]), &text(&b[new])),
        };
        let pairs = pairs.into_iter().map(pair).collect();
        Self { messages, steps, moved, pairs, tail: next(1).unwrap_or(b.len()) }
    }
}
