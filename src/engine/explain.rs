//! Which tokens of a prompt a message made, so that [`kv::compare`](crate::kv::compare) can name whose text differs.
//!
//! A template does not say which text it made of which message, so it is found by trying. A message's content lies where
//! the text changes when that content alone is changed; the message reaches on to where the rendering of the messages
//! before it ends, and to where that of the messages up to it does, unless another's content lies between. What no message
//! claims is the template's own. Cost: two renderings and two tokenisations a message, no GPU.

use std::ops::Range;

use crate::error::Result;
use crate::kv::{Rendered, Span};
use crate::text::{ChatTemplate, Content, Message, Tokenizer};

/// A conversation as the model is given it, up to where the answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub tokens: Vec<u32>,
    /// One for each message, in their order.
    pub messages: Vec<Span>,
}

impl Conversation {
    /// # Errors
    /// [`Error::Template`](crate::error::Error::Template) where the template refuses the messages.
    pub fn new(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Self> {
        let text = template.render(messages, None, true)?;
        let tokens = tokenizer.encode(&text)?;
        // A token across the edge of a message belongs to what follows.
        let token_at = |byte: usize| -> Result<usize> {
            let before = tokenizer.encode(&text[..byte])?;
            Ok(tokens.iter().zip(&before).take_while(|(a, b)| a == b).count())
        };
        let mut spans = Vec::with_capacity(messages.len());
        for (index, bytes) in messages_in(template, &text, messages)?.into_iter().enumerate() {
            let start = token_at(bytes.start)?;
            let tokens = start..token_at(bytes.end)?.max(start);
            spans.push(Span { index, role: messages[index].role.clone(), tokens });
        }
        Ok(Self { tokens, messages: spans })
    }

    pub fn rendered(&self) -> Rendered<'_> {
        Rendered { tokens: &self.tokens, messages: &self.messages }
    }
}

/// The bytes of `text` that each message made.
fn messages_in(template: &ChatTemplate, text: &str, messages: &[Message]) -> Result<Vec<Range<usize>>> {
    let contents = (0..messages.len())
        .map(|index| {
            let mut changed = messages.to_vec();
            changed[index].content = Content::Text(unlike(&messages[index].content).into());
            Ok(difference(text, &template.render(&changed, None, true)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let end_of = |count: usize| {
        let part = template.render(&messages[..count], None, false).ok()?;
        text.starts_with(&part).then_some(part.len())
    };
    let mut edges = vec![messages.first().and_then(|message| first_edge(template, text, message))];
    edges.extend((1..=messages.len()).map(end_of));
    let spans = contents.iter().enumerate().map(|(index, content)| {
        let clear = |gap: Range<usize>| {
            let outside = |other: &Range<usize>| other.end <= gap.start || other.start >= gap.end;
            contents.iter().enumerate().all(|(at, other)| at == index || outside(other))
        };
        let start = edges[index].filter(|&at| at <= content.start && clear(at..content.start));
        let end = edges[index + 1].filter(|&at| at >= content.end && clear(content.end..at));
        start.unwrap_or(content.start)..end.unwrap_or(content.end)
    });
    Ok(spans.collect())
}

/// Where the first message begins, behind what the template puts before it: a second one just like it shows what the
/// template makes of the message alone.
fn first_edge(template: &ChatTemplate, text: &str, message: &Message) -> Option<usize> {
    let once = template.render(std::slice::from_ref(message), None, false).ok()?;
    let twice = template.render(&[message.clone(), message.clone()], None, false).ok()?;
    let second = twice.strip_prefix(&once)?;
    text.starts_with(&once).then(|| once.len() - same(once.chars().rev(), second.chars().rev()))
}

/// A text that neither begins nor ends as `content` does.
fn unlike(content: &Content) -> &'static str {
    let (first, last) = match content {
        Content::Text(text) => (text.chars().next(), text.chars().next_back()),
        Content::Parts(parts) => (
            parts.iter().find_map(|part| part.chars().next()),
            parts.iter().rev().find_map(|part| part.chars().next_back()),
        ),
        Content::Absent => (None, None),
    };
    let free = |mark: &&str| ![first, last].contains(&mark.chars().next());
    ["\u{E000}", "\u{E001}", "\u{E002}"].into_iter().find(free).unwrap_or_default()
}

/// The bytes of `text` between the longest beginning and the longest end that it shares with `other`.
fn difference(text: &str, other: &str) -> Range<usize> {
    let start = same(text.chars(), other.chars());
    start..text.len() - same(text[start..].chars().rev(), other[start..].chars().rev())
}

/// Bytes of the characters that both begin with.
fn same(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}
