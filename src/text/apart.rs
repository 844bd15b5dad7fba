//! Keeps the control tokens of a chat template apart from users' text, as transformers' `sanitize_control_tokens` does.
//!
//! A control token spelt out in a message is put between two marks before the template runs. The marks pass through the
//! template, and the text between them is encoded as plain text. A message that spells out no control token is not marked, so
//! its prompt and tokens are those without the option.

use std::ops::Range;

use serde_json::Value;

use super::message::{Content, Message};
use super::template::{ChatTemplate, Inputs};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

const MARKS: [char; 2] = ['\u{F0000}', '\u{F0001}'];
/// The first mark as JSON restricted to ASCII writes it. Such a mark cannot be found again.
const ESCAPED: &str = "\\udb80\\udc00";

/// A template's inputs, with control tokens marked if that is asked for.
pub(crate) struct Marked<'a> {
    inputs: &'a Inputs<'a>,
    /// The messages and tools with their marks; `None` if nothing is marked.
    marked: Option<(Vec<Message>, Option<Value>)>,
}

impl<'a> Marked<'a> {
    pub(crate) fn new(template: &ChatTemplate, tokenizer: &Tokenizer, inputs: &'a Inputs<'a>) -> Self {
        let mut marks = Marks { template, tokenizer, of_model: false, found: None };
        let marked = inputs.split_special_tokens.then(|| {
            let messages = inputs.messages.iter().map(|message| marks.message(message)).collect();
            marks.of_model = false;
            (messages, inputs.tools.map(|tools| marks.value(tools)))
        });
        Self { inputs, marked: marked.filter(|_| marks.found.is_some()) }
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        match &self.marked {
            Some((messages, tools)) => Inputs { messages, tools: tools.as_ref(), ..*self.inputs },
            None => *self.inputs,
        }
    }

    /// The prompt that the template rendered from [`inputs`](Self::inputs), with the marks removed.
    ///
    /// # Errors
    /// [`Error::Template`] if the template made marks unreadable.
    pub(crate) fn prompt(&self, rendered: &str) -> Result<ChatText> {
        let mut prompt = ChatText { text: String::with_capacity(rendered.len()), plain: Vec::new(), marks: Vec::new() };
        if self.marked.is_none() {
            prompt.text.push_str(rendered);
            return Ok(prompt);
        }
        if rendered.contains(ESCAPED) {
            let problem = "it writes JSON in ASCII, so control tokens in it cannot be kept apart as text".into();
            return Err(Error::Template { problem });
        }
        // A template may cut a text between its marks. The cut text is no control token any more.
        let mut open = None;
        for (at, c) in rendered.char_indices() {
            let end = prompt.text.len();
            match c {
                _ if c == MARKS[0] => open = Some(end),
                _ if c == MARKS[1] => prompt.plain.extend(open.take().map(|start| start..end)),
                c => prompt.text.push(c),
            }
            if MARKS.contains(&c) {
                prompt.marks.push(at);
            }
        }
        Ok(prompt)
    }
}

/// The text of a prompt, with the marks removed.
pub(crate) struct ChatText {
    pub(crate) text: String,
    /// Byte ranges of the control tokens that are plain text, in order.
    plain: Vec<Range<usize>>,
    /// Byte offsets of the marks in the rendered text.
    marks: Vec<usize>,
}

impl ChatText {
    /// The byte offset in the text that corresponds to one in the rendered text.
    pub(crate) fn place(&self, rendered: usize) -> usize {
        rendered - MARKS[0].len_utf8() * self.marks.partition_point(|&mark| mark < rendered)
    }

    /// The token ids, and the byte range of each.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        tokenizer.encode_apart(&self.text, &self.plain)
    }
}

impl ChatTemplate {
    /// The tokens of a conversation's prompt.
    ///
    /// # Errors
    /// As [`render_inputs`](Self::render_inputs); [`Error::Template`] also if the prompt does not show a message;
    /// [`Error::Tokenizer`] if a text cannot be kept from becoming a control token.
    pub fn encode(&self, tokenizer: &Tokenizer, inputs: &Inputs) -> Result<Vec<u32>> {
        let marked = Marked::new(self, tokenizer, inputs);
        let rendered = self.render_inputs(&marked.inputs())?;
        self.check_shown(&marked.inputs(), &rendered)?;
        let prompt = marked.prompt(&rendered)?;
        Ok(prompt.encode(tokenizer)?.0)
    }

    /// The first message that spells out a control token which the model will read as one, and that token.
    pub(crate) fn spelt_out(&self, tokenizer: &Tokenizer, inputs: &Inputs) -> Option<(usize, String)> {
        let mut marks = Marks { template: self, tokenizer, of_model: false, found: None };
        inputs.messages.iter().enumerate().filter(|_| !inputs.split_special_tokens).find_map(|(index, message)| {
            marks.message(message);
            Some((index, marks.found.take()?))
        })
    }
}

struct Marks<'a> {
    template: &'a ChatTemplate,
    tokenizer: &'a Tokenizer,
    /// Whether the text is the model's own, in which thinking and tool calls are tokens too.
    of_model: bool,
    /// The first control token found.
    found: Option<String>,
}

impl Marks<'_> {
    fn message(&mut self, message: &Message) -> Message {
        self.of_model = message.role == "assistant";
        let content = match &message.content {
            Content::Text(text) => Content::Text(self.text(text)),
            Content::Parts(parts) => Content::Parts(parts.iter().map(|part| self.text(part)).collect()),
            Content::Absent => Content::Absent,
        };
        Message {
            role: message.role.clone(),
            content,
            name: message.name.as_deref().map(|name| self.text(name)),
            tool_call_id: message.tool_call_id.as_deref().map(|id| self.text(id)),
            tool_calls: message.tool_calls.iter().map(|call| self.value(call)).collect(),
            other: message.other.iter().map(|(key, value)| (key.clone(), self.value(value))).collect(),
        }
    }

    /// Marks every string in a JSON value except the keys.
    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(list) => list.iter().map(|value| self.value(value)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(key, value)| (key.clone(), self.value(value))).collect())
            }
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let text = text.replace(MARKS, "");
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for (bytes, id) in self.tokenizer.added_in(&text) {
            let token = self.tokenizer.token(id).unwrap_or_default();
            let written = !self.of_model && !token.trim().is_empty() && self.template.mentions(&token);
            if self.tokenizer.is_special(id) || written {
                out.push_str(&text[at..bytes.start]);
                out.push(MARKS[0]);
                out.push_str(&text[bytes.clone()]);
                out.push(MARKS[1]);
                at = bytes.end;
                self.found.get_or_insert(token);
            }
        }
        out + &text[at..]
    }
}
