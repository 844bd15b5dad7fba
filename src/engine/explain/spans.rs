//! Finds the author of each span of a prompt: a message, a tool, the clock or the template.
//!
//! A template does not say which text it made from which input, so trials find it. The content of a message is the text that changes
//! with that content alone. A tool is the text that changes with that tool alone, and the date is the text that changes with the
//! clock alone. A message extends from where the rendering of the messages before it ends to where the rendering of the messages up
//! to it ends, unless another author's text lies between. Text that nobody claims is the template's own.
//! Cost: a few renderings a message and a tool, one tokenisation, no GPU.

use std::ops::Range;

use serde_json::{Value, json};

use crate::error::Result;
use crate::kv::Owner;
use crate::text::{ChatTemplate, Content, Inputs, Message};

use super::differences::name;

/// A piece of a rendered text: its bytes, and those among them that the owner itself wrote.
pub(super) struct Piece {
    pub(super) owner: Owner,
    pub(super) bytes: Range<usize>,
    pub(super) own: Range<usize>,
}

pub(super) struct Pieces<'a> {
    template: &'a ChatTemplate,
    inputs: &'a Inputs<'a>,
    pub(super) text: String,
    pub(super) found: Vec<Piece>,
}

impl<'a> Pieces<'a> {
    pub(super) fn find(template: &'a ChatTemplate, inputs: &'a Inputs<'a>) -> Result<Self> {
        let text = template.render_inputs(inputs)?;
        let mut pieces = Self { template, inputs, text, found: Vec::new() };
        pieces.find_tools();
        pieces.find_messages();
        pieces.find_date();
        Ok(pieces)
    }

    /// Where the text differs when it is made of other inputs; none where it does not, or cannot be made of them.
    fn differs(&self, inputs: &Inputs) -> Option<Range<usize>> {
        let other = self.template.render_inputs(inputs).ok()?;
        (self.text != other).then(|| difference(&self.text, &other))
    }

    fn find_tools(&mut self) {
        let list: &[Value] = self.inputs.tools.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        // What a template that prints tools whole shows of them all, and what one shows that asks for their fields.
        let function = json!({ "type": "function", "function": { "name": MARK, "description": MARK } });
        let others = [json!(MARK), json!({ MARK: null }), function];
        for index in 0..list.len() {
            let changed = others.iter().filter_map(|other| {
                let mut list = list.to_vec();
                list[index] = other.clone();
                self.differs(&Inputs { tools: Some(&list.into()), ..*self.inputs })
            });
            let Some(bytes) = changed.reduce(union) else { continue };
            let tool = &list[index];
            let owner = Owner::Tools { tool: Some(index), name: name(tool) };
            self.found.push(Piece { owner, own: bytes.clone(), bytes });
        }
        let without = (!list.is_empty()).then(|| self.template.render_inputs(&Inputs { tools: None, ..*self.inputs }));
        if let Some(Ok(without)) = without {
            let own = added(&self.text, &without).into_iter();
            let owner = Owner::Tools { tool: None, name: None };
            self.found.extend(own.map(|own| Piece { owner: owner.clone(), bytes: own.clone(), own }));
        }
    }

    fn find_messages(&mut self) {
        let messages = self.inputs.messages;
        let contents: Vec<Option<Range<usize>>> = (0..messages.len())
            .map(|index| {
                let changed = variations(&messages[index]).into_iter().filter_map(|changed| {
                    let mut messages = messages.to_vec();
                    messages[index] = changed;
                    self.differs(&Inputs { messages: &messages, ..*self.inputs })
                });
                changed.reduce(union)
            })
            .collect();
        let mut edges = vec![messages.first().and_then(|message| self.first_edge(message))];
        edges.extend((1..=messages.len()).map(|count| {
            let part = self.render(&messages[..count])?;
            self.text.starts_with(&part).then_some(part.len())
        }));
        let tools: Vec<Range<usize>> = self.found.iter().map(|tool| tool.bytes.clone()).collect();
        for (index, own) in contents.iter().enumerate() {
            let Some(own) = own.clone() else { continue };
            let clear = |gap: Range<usize>| {
                let outside = |other: &Range<usize>| other.end <= gap.start || other.start >= gap.end;
                let others =
                    contents.iter().enumerate().filter(|(at, _)| *at != index).filter_map(|(_, own)| own.as_ref());
                others.chain(&tools).all(outside)
            };
            let start = edges[index].filter(|&at| at <= own.start && clear(at..own.start));
            let end = edges[index + 1].filter(|&at| at >= own.end && clear(own.end..at));
            let bytes = start.unwrap_or(own.start)..end.unwrap_or(own.end);
            let owner = Owner::Message { message: index, role: messages[index].role.clone() };
            self.found.push(Piece { owner, bytes, own });
        }
    }

    fn find_date(&mut self) {
        // Other years, months, days, hours, minutes and seconds, so that every part of a date changes by one of them.
        const LATER: [i64; 4] = [9 * DAY + 32_949, 47 * DAY + 40_271, 310 * DAY + 7_613, 4_000 * DAY + 61_555];
        const DAY: i64 = 86_400;
        let Some(now) = self.inputs.now.filter(|_| self.template.is_dated()) else { return };
        let at = |later: i64| self.differs(&Inputs { now: Some(now.saturating_add(later)), ..*self.inputs });
        if let Some(bytes) = LATER.into_iter().filter_map(at).reduce(union) {
            self.found.push(Piece { owner: Owner::Template { date: true }, own: bytes.clone(), bytes });
        }
    }

    /// The beginning of a conversation, without the opening of an answer.
    fn render(&self, messages: &[Message]) -> Option<String> {
        let closed = Inputs { messages, add_generation_prompt: false, continue_final_message: false, ..*self.inputs };
        self.template.render_inputs(&closed).ok()
    }

    /// Where the first message begins, behind what the template puts before it: a second one just like it shows what the
    /// template makes of the message alone.
    fn first_edge(&self, message: &Message) -> Option<usize> {
        let once = self.render(std::slice::from_ref(message))?;
        let twice = self.render(&[message.clone(), message.clone()])?;
        let second = twice.strip_prefix(&once)?;
        self.text.starts_with(&once).then(|| once.len() - same(once.chars().rev(), second.chars().rev()))
    }
}

/// A character that no text holds.
const MARK: &str = "\u{E000}";

/// The message with each part of it that a template may show changed.
fn variations(message: &Message) -> Vec<Message> {
    let mut changed = vec![Message { content: Content::Text(unlike(&message.content).into()), ..message.clone() }];
    if !message.tool_calls.is_empty() {
        let mut other = message.clone();
        for function in other.tool_calls.iter_mut().filter_map(|call| call.get_mut("function")) {
            (function["name"], function["arguments"]) = (MARK.into(), json!({ MARK: null }));
        }
        changed.push(other);
    }
    for (key, _) in message.other.iter().filter(|(_, value)| value.is_string()) {
        let mut other = message.clone();
        other.other.insert(key.clone(), MARK.into());
        changed.push(other);
    }
    changed
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
    [MARK, "\u{E001}", "\u{E002}"].into_iter().find(free).unwrap_or_default()
}

/// The bytes of `text` between the longest beginning and the longest end that it shares with `other`.
fn difference(text: &str, other: &str) -> Range<usize> {
    let start = same(text.chars(), other.chars());
    start..text.len() - same(text[start..].chars().rev(), other[start..].chars().rev())
}

/// The bytes of `text` that `other` does not have, in runs: between the beginning and the end that both share, whatever lies
/// between the lines of `other`.
fn added(text: &str, other: &str) -> Vec<Range<usize>> {
    let Range { start, end } = difference(text, other);
    let (mut at, mut runs) = (start, Vec::new());
    for line in other[start..other.len() - (text.len() - end)].split_inclusive('\n') {
        if let Some(place) = text[at..end].find(line) {
            runs.push(at..at + place);
            at += place + line.len();
        }
    }
    runs.push(at..end);
    runs.retain(|run| !run.is_empty());
    runs
}

fn union(a: Range<usize>, b: Range<usize>) -> Range<usize> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// Bytes of the characters that both begin with.
pub(super) fn same(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}
