//! Reads texts byte for byte, and conversations in the shape of OpenAI's API.

use std::cell::RefCell;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::engine::openai::{self, Body};
use crate::error::{Error, Result, visible};
use crate::text::Prompt;

/// Most bytes of a prompt or conversation. This is far beyond any context, so a wrong file is refused before it fills memory.
const MAX_BYTES: u64 = 256 << 20;

/// The text of a file, or of standard input for `-`, unchanged.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] with the offset of the first byte that is not UTF-8.
pub(crate) fn text(path: &Path) -> Result<String> {
    let (name, bytes) = bytes(path)?;
    String::from_utf8(bytes).map_err(|error| Error::Format {
        file: name,
        field: format!("byte {}", error.utf8_error().valid_up_to()),
        problem: "is not UTF-8".into(),
        fix: "save the text as UTF-8",
    })
}

/// The name of `path` in messages.
fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// The name of a file in messages, and its bytes.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for more than [`MAX_BYTES`].
pub(super) fn bytes(path: &Path) -> Result<(String, Vec<u8>)> {
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

/// A request: a message list, or an object as OpenAI's API takes it.
///
/// # Errors
/// [`Error::Format`] naming the file and the field, as `messages[i].content`.
pub(crate) fn body(path: &Path) -> Result<Body> {
    read(path, Body::read)
}

/// The conversation of a request.
///
/// # Errors
/// As [`body`].
pub(crate) fn prompt(path: &Path) -> Result<Prompt> {
    read(path, openai::conversation)
}

/// The conversation of a request as it stands in the file, checked as [`prompt`] does.
///
/// # Errors
/// As [`body`].
pub(crate) fn request(path: &Path) -> Result<Value> {
    read(path, |value| Prompt::read(value).map(|_| value.clone()))
}

/// A JSON file. No object in it has a field twice.
///
/// # Errors
/// [`Error::Format`] naming the file and the place in it.
pub(crate) fn json(path: &Path) -> Result<Value> {
    let text = text(path)?;
    // Some editors begin a file with a byte order mark.
    let mut source = serde_json::Deserializer::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let twice = RefCell::new(None);
    let read = Once { place: String::new(), twice: &twice }.deserialize(&mut source);
    read.and_then(|value| source.end().map(|()| value)).map_err(|error| match twice.take() {
        Some(field) => Error::Format {
            file: name(path),
            field,
            problem: format!("stands twice in one object, the second time at line {}", error.line()),
            fix: "keep one of the two",
        },
        None => {
            let (place, problem) = (format!("line {} column {}", error.line(), error.column()), error.to_string());
            let problem = problem.strip_suffix(&format!(" at {place}")).unwrap_or(&problem);
            let problem = format!("no JSON: {problem}");
            Error::Format { file: name(path), field: place, problem, fix: "correct the file at that place" }
        }
    })
}

/// Reads a value as [`Value`] does, except that no object may have a field twice.
struct Once<'a> {
    /// Such as `messages[0].content`.
    place: String,
    /// The first field that stands twice.
    twice: &'a RefCell<Option<String>>,
}

impl Once<'_> {
    fn within(&self, place: String) -> Once<'_> {
        Once { place, twice: self.twice }
    }
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        // The list may be the conversation itself.
        let place = if self.place.is_empty() { "messages" } else { &self.place };
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.within(format!("{place}[{}]", list.len())))? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(field) = fields.next_key::<String>()? {
            let dot = if self.place.is_empty() { "" } else { "." };
            let place = format!("{}{dot}{}", self.place, visible(&field));
            if object.contains_key(&field) {
                let problem = format!("{place} stands twice");
                self.twice.replace(Some(place));
                return Err(de::Error::custom(problem));
            }
            let value = fields.next_value_seed(self.within(place))?;
            object.insert(field, value);
        }
        Ok(object.into())
    }
}

fn read<T>(path: &Path, reader: fn(&Value) -> Result<T>) -> Result<T> {
    reader(&json(path)?).map_err(|error| match error {
        // Where a message is wrong, the problem begins with its place.
        Error::Request { field, problem } => match problem.split_once(' ') {
            Some((place, problem)) if place.starts_with(field) => wrong(path, place.into(), problem.into()),
            _ => wrong(path, field.into(), problem),
        },
        Error::UnknownField { name, problem } => wrong(path, visible(&name), problem),
        other => other,
    })
}

fn wrong(path: &Path, field: String, problem: String) -> Error {
    let fix = "`headstart prefix explain --help` says what a conversation may hold";
    Error::Format { file: name(path), field, problem, fix }
}
