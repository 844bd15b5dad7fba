//! Reading what people give: texts byte for byte, and conversations as OpenAI's API has them.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::text::{Inputs, Message, parse_time};

/// The largest prompt or conversation read; far beyond any context, so a wrong file is refused before it fills memory.
const MAX_BYTES: u64 = 256 << 20;

/// The text of a file, or of standard input for `-`, unchanged.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] with the offset of the first byte that is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let (name, bytes) = bytes(path)?;
    String::from_utf8(bytes).map_err(|error| Error::Format {
        file: name,
        field: format!("byte {}", error.utf8_error().valid_up_to()),
        problem: "is not UTF-8".into(),
        fix: "save the text as UTF-8",
    })
}

/// What messages call `path`.
fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

fn bytes(path: &Path) -> Result<(String, Vec<u8>)> {
    let name = name(path);
    let mut source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::fs::File::open(path).map_err(|error| Error::io(path, error))?),
    };
    let mut bytes = Vec::new();
    source.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Error::io(&name, error))?;
    if bytes.len() as u64 > MAX_BYTES {
        let problem = format!("is longer than {} MiB", MAX_BYTES >> 20);
        return Err(Error::Format { file: name, field: "text".into(), problem, fix: "give a shorter text" });
    }
    Ok((name, bytes))
}

/// A conversation, and what else a prompt is made of.
pub struct Prompt {
    pub messages: Vec<Message>,
    /// A list of objects.
    pub tools: Option<Value>,
    pub template_kwargs: Option<Map<String, Value>>,
    /// What the template takes for now, in seconds since 1970.
    pub now: Option<i64>,
    pub model: Option<String>,
    pub cache_salt: Option<String>,
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, tools: None, template_kwargs: None, now: None, model: None, cache_salt: None }
    }
}

impl Prompt {
    /// What the template is given, up to where the answer begins.
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            messages: &self.messages,
            tools: self.tools.as_ref(),
            add_generation_prompt: true,
            extra: self.template_kwargs.as_ref(),
            now: self.now,
            ..Inputs::default()
        }
    }

    fn read(value: &Value) -> Result<Self> {
        let mut prompt = Self::from(Message::list(value.get("messages").unwrap_or(value))?);
        let Some(fields) = value.as_object() else { return Ok(prompt) };
        let wrong = |field: &'static str, problem: &str| Error::Request { field, problem: problem.into() };
        let given = |field: &str| fields.get(field).filter(|value| !value.is_null());
        let text = |field: &'static str| {
            let text =
                |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(field, "must be a string"));
            given(field).map(text).transpose()
        };
        (prompt.model, prompt.cache_salt) = (text("model")?, text("cache_salt")?);
        prompt.now = match (text("date")?, given("now")) {
            (Some(_), Some(_)) => return Err(wrong("now", "stands beside date; give one of them")),
            (Some(date), None) => Some(parse_time(&date)?),
            (None, Some(now)) => Some(now.as_i64().ok_or_else(|| wrong("now", "must be a whole number of seconds"))?),
            (None, None) => None,
        };
        prompt.tools = match given("tools") {
            Some(Value::Array(list)) if list.iter().all(Value::is_object) => Some(list.clone().into()),
            Some(_) => return Err(wrong("tools", "must be a list of objects")),
            None => None,
        };
        prompt.template_kwargs = match given("chat_template_kwargs") {
            Some(Value::Object(fields)) => Some(fields.clone()),
            Some(_) => return Err(wrong("chat_template_kwargs", "must be an object")),
            None => None,
        };
        Ok(prompt)
    }
}

/// A message list, or an object with `messages` and what else [`Prompt`] holds.
///
/// # Errors
/// [`Error::Format`] naming the file and the field, as `messages[i].content`.
pub fn prompt(path: &Path) -> Result<Prompt> {
    let text = text(path)?;
    let fail = |field: String, problem: String| Error::Format {
        file: name(path),
        field,
        problem,
        fix: "`headstart prefix explain --help` says what a conversation may hold",
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        fail(format!("line {} column {}", error.line(), error.column()), format!("no JSON: {error}"))
    })?;
    Prompt::read(&value).map_err(|error| match error {
        Error::Request { field, problem } => fail(field.into(), problem),
        other => other,
    })
}
