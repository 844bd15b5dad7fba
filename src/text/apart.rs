//! People's text kept apart from the control tokens of a chat template, as transformers' `sanitize_control_tokens` does.
//!
//! A control token that a message spells out is put between two marks before the template sees it. The marks go through
//! the template with it, and what stands between them is encoded as the plain text that it is. Where nothing is spelt
//! out nothing is marked: the prompt and its tokens are those without the option.

use std::ops::Range;

use serde_json::Value;

use super::message::{Content, Message};
use super::template::{ChatTemplate, Inputs};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

const MARKS: [char; 2] = ['\u{F0000}', '\u{F0001}'];
/// The first of them as JSON of ASCII alone has it, which nothing can find again.
const ESCAPED: &str = "\\udb80\\udc00";

/// What a template is given, the control tokens in it marked where that is asked for.
pub(crate) struct Marked<'a> {
    inputs: &'a Inputs<'a>,
    /// The messages and the tools, where there is a mark in them.
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

    /// The prompt that the template has made of [`inputs`](Self::inputs).
    ///
    /// # Errors
    /// [`Error::Template`] where the template has made marks unreadable.
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
        // A template may cut a text between its marks; what it cut is no control token any more.
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

/// The text of a prompt, without marks.
pub(crate) struct ChatText {
    pub(crate) text: String,
    /// The bytes of control tokens that are plain text, in order.
    plain: Vec<Range<usize>>,
    /// Where marks stood in what the template rendered.
    marks: Vec<usize>,
}

impl ChatText {
    /// The place in the text of a place in what the template rendered.
    pub(crate) fn place(&self, rendered: usize) -> usize {
        rendered - MARKS[0].len_utf8() * self.marks.partition_point(|&mark| mark < rendered)
    }

    /// Its tokens, and the bytes that each is made of.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        tokenizer.encode_apart(&self.text, &self.plain)
    }
}

impl ChatTemplate {
    /// The tokens of a conversation's prompt.
    ///
    /// # Errors
    /// As [`render_inputs`](Self::render_inputs); [`Error::Template`] too for a message that the prompt does not show;
    /// [`Error::Tokenizer`] where a text cannot be kept from becoming a control token.
    pub fn encode(&self, tokenizer: &Tokenizer, inputs: &Inputs) -> Result<Vec<u32>> {
        let marked = Marked::new(self, tokenizer, inputs);
        let rendered = self.render_inputs(&marked.inputs())?;
        self.check_shown(&marked.inputs(), &rendered)?;
        let prompt = marked.prompt(&rendered)?;
        Ok(prompt.encode(tokenizer)?.0)
    }

    /// The first message that spells a control token out which the model will read as one, and the token.
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
    /// Whether the text is the model's own, whose thinking and calls are tokens too.
    of_model: bool,
    /// The first control token met.
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

    /// Every text in it, but for the keys.
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
