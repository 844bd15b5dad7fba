//! Chat messages in the form of OpenAI's API, checked field by field.
//!
//! Two conversions help templates, as in other servers: text parts are joined by a line break if a template expects a string,
//! and a tool call's `arguments`, a string of JSON on the wire, become the object that templates expect. Unknown fields are
//! passed to the template unchanged.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// One message of a conversation, in the form of OpenAI's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Never empty: `system`, `user`, `assistant`, `tool` or another role that the template knows.
    pub role: String,
    /// The text.
    pub content: Content,
    /// The speaker's name, to tell several of one role apart.
    pub name: Option<String>,
    /// The id of the call that a `tool` message answers.
    pub tool_call_id: Option<String>,
    /// The tool calls: objects with a `function` object that has `name` and `arguments`.
    pub tool_calls: Vec<Value>,
    /// All other fields (`reasoning_content`, ...).
    pub other: Map<String, Value>,
}

/// The text of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A plain string.
    Text(String),
    /// The texts of a list of `{"type": "text", "text": ...}`.
    Parts(Vec<String>),
    /// `null` or missing; allowed beside tool calls alone.
    Absent,
}

impl Message {
    /// A message with plain text and no other fields.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Content::Text(text.into()),
            name: None,
            tool_call_id: None,
            tool_calls: Vec::new(),
            other: Map::new(),
        }
    }

    /// Reads an OpenAI messages list.
    ///
    /// # Errors
    /// [`Error::Request`] that names the field, such as `messages[2].content`.
    pub fn list(messages: &Value) -> Result<Vec<Self>> {
        let list = messages.as_array().ok_or_else(|| wrong("messages", "must be a list of messages"))?;
        if list.is_empty() {
            return Err(wrong("messages", "is empty; a chat needs a message"));
        }
        list.iter().enumerate().map(|(index, message)| Self::read(message, &format!("messages[{index}]"))).collect()
    }

    fn read(message: &Value, place: &str) -> Result<Self> {
        let mut fields =
            message.as_object().cloned().ok_or_else(|| wrong(place, "must be an object with role and content"))?;
        let role = match fields.shift_remove("role") {
            Some(Value::String(role)) if !role.is_empty() => role,
            _ => return Err(wrong(&format!("{place}.role"), "must be a name such as system, user or assistant")),
        };
        let mut text = |key: &str| match fields.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(&format!("{place}.{key}"), "must be a string")),
        };
        let (name, tool_call_id) = (text("name")?, text("tool_call_id")?);
        let tool_calls = match fields.shift_remove("tool_calls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(calls)) => calls
                .into_iter()
                .enumerate()
                .map(|(index, call)| read_call(call, &format!("{place}.tool_calls[{index}]")))
                .collect::<Result<_>>()?,
            Some(_) => return Err(wrong(&format!("{place}.tool_calls"), "must be a list")),
        };
        let at = format!("{place}.content");
        let content = match fields.shift_remove("content").unwrap_or(Value::Null) {
            Value::String(text) => Content::Text(text),
            Value::Array(parts) => Content::Parts(
                parts
                    .iter()
                    .enumerate()
                    .map(|(index, part)| read_part(part, &format!("{at}[{index}]")))
                    .collect::<Result<_>>()?,
            ),
            Value::Null if !tool_calls.is_empty() => Content::Absent,
            Value::Null => return Err(wrong(&at, "is missing; only a message with tool_calls may go without")),
            _ => return Err(wrong(&at, "must be a string or a list of text parts")),
        };
        Ok(Self { role, content, name, tool_call_id, tool_calls, other: fields })
    }

    /// The message as templates see it. Its content is a string, or with `typed` a list of parts. As in transformers, fields
    /// that are null are left out.
    pub(super) fn to_value(&self, typed: bool) -> Value {
        let mut fields = Map::new();
        fields.insert("role".into(), json!(self.role));
        let part = |text: &String| json!({"type": "text", "text": text});
        let content = match &self.content {
            Content::Text(text) if typed => Some(Value::Array(vec![part(text)])),
            Content::Text(text) => Some(json!(text)),
            Content::Parts(parts) if typed => Some(parts.iter().map(part).collect()),
            Content::Parts(parts) => Some(json!(parts.join("\n"))),
            Content::Absent => None,
        };
        fields.extend(content.map(|content| ("content".to_owned(), content)));
        let texts = [("name", &self.name), ("tool_call_id", &self.tool_call_id)];
        fields.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text.as_ref()?)))));
        if !self.tool_calls.is_empty() {
            fields.insert("tool_calls".into(), json!(self.tool_calls));
        }
        fields.extend(self.other.clone().into_iter().filter(|(_, value)| !value.is_null()));
        if let Some(reasoning) =
            REASONING.iter().find_map(|name| self.other.get(*name).filter(|value| !value.is_null()))
        {
            fields.insert("reasoning_content".into(), reasoning.clone());
            fields.entry("thinking").or_insert_with(|| reasoning.clone());
        }
        Value::Object(fields)
    }
}

/// Fields in which a message's reasoning is sent. All templates read the first, some also the second.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

fn read_part(part: &Value, place: &str) -> Result<String> {
    match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some("text") | None, _) => Err(wrong(place, r#"must be {"type": "text", "text": "..."}"#)),
        (Some(kind), _) => Err(wrong(&format!("{place}.type"), &format!("is {kind:?}; this model reads only text"))),
    }
}

fn read_call(mut call: Value, place: &str) -> Result<Value> {
    let at = format!("{place}.function");
    let function =
        call.get_mut("function").and_then(Value::as_object_mut).ok_or_else(|| wrong(&at, "must be an object"))?;
    if !function.get("name").is_some_and(Value::is_string) {
        return Err(wrong(&format!("{at}.name"), "must be a string"));
    }
    let arguments = function.entry("arguments").or_insert_with(|| json!({}));
    match arguments {
        Value::Object(_) => {}
        Value::String(text) => {
            let read = if text.trim().is_empty() { Ok(json!({})) } else { serde_json::from_str(text) };
            *arguments = read.map_err(|error| wrong(&format!("{at}.arguments"), &format!("is not JSON: {error}")))?;
        }
        _ => return Err(wrong(&format!("{at}.arguments"), "must be JSON in a string, or an object")),
    }
    Ok(call)
}

fn wrong(place: &str, problem: &str) -> Error {
    Error::Request { field: "messages", problem: format!("{place} {problem}") }
}
