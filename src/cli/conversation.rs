//! The file of a chat that continues later: a list of messages, as `generate --messages` and `prefix explain` read it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use etcetera::home_dir;
use serde_json::{Value, json};

use super::files::{self, Readers, folder, linked};
use super::settings::unquoted;
use super::{input, term};
use crate::error::{Error, Result};
use crate::text::{Content, Message};

/// Roles of the messages that a chat keeps.
const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];

/// What a GGUF file begins with.
const MODEL: &[u8] = b"GGUF";

/// A conversation's file. What others write into it is never replaced: from then on the conversation has another file
/// beside it.
pub(crate) struct Kept {
    path: PathBuf,
    /// What the file held when this chat last read or wrote it.
    messages: Vec<Message>,
    /// The same as bytes; `None` if there was no file.
    bytes: Option<Vec<u8>>,
    /// The file that was there first, whose owner and mode every later one has.
    former: Option<Metadata>,
}

impl Kept {
    /// Reads the file, if there is one yet, and makes sure that it can be written. A new one's name ends in `.json`.
    ///
    /// # Errors
    /// As [`Self::at`]; and [`Error::Format`] for another name of a new file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let target = linked(path);
        // Somebody may have meant a question.
        if !target.exists() && target.extension().is_none_or(|extension| extension != "json") {
            let problem = "does not exist, and the file of a new conversation ends in .json";
            let fix = "name it like trip.json, or ask a single question with headstart generate";
            return Err(refused(&target, "chat FILE", problem, fix));
        }
        Self::at(path)
    }

    /// The same for a file of any name.
    ///
    /// # Errors
    /// [`Error::Io`], also for what is no regular file; as [`input::request`]; and [`Error::Format`] for what a chat cannot
    /// keep: everything but roles and texts.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let path = linked(path);
        let fail = |error| Error::io(&path, error);
        let found = files::regular(&path, "this is no file that could keep a conversation; name another")?;
        files::temporary(&path, Readers::Owner)?;
        let Some(former) = found else {
            return Ok(Self { path, messages: Vec::new(), bytes: None, former: None });
        };
        if former.permissions().readonly() {
            return Err(fail(io::Error::new(io::ErrorKind::PermissionDenied, "the file is read-only")));
        }
        let mut start = Vec::new();
        let file = File::open(&path).map_err(fail)?;
        file.take(MODEL.len() as u64).read_to_end(&mut start).map_err(fail)?;
        if start == MODEL {
            let problem = "is a model, not a conversation";
            return Err(refused(&path, "chat FILE", problem, "name the model with --model (-m)"));
        }
        let (_, bytes) = input::bytes(&path)?;
        let messages = if bytes.trim_ascii().is_empty() { Vec::new() } else { read(&path)? };
        OpenOptions::new().write(true).open(&path).map_err(fail)?;
        Ok(Self { path, messages, bytes: Some(bytes), former: Some(former) })
    }

    /// Whether this is the file that `path` names.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        // A file that is not there yet has a place in its folder.
        let place = |path: &Path| match path.canonicalize() {
            Ok(place) => Some(place),
            Err(_) => Some(folder(path).canonicalize().ok()?.join(path.file_name()?)),
        };
        place(&linked(path)).is_some_and(|other| place(&self.path) == Some(other))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds, as far as this chat knows.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Makes `messages` the content of the file. A conversation without messages has no file.
    ///
    /// # Errors
    /// [`Error::Io`]; the file stays as it was.
    pub(crate) fn write(&mut self, messages: &[Message]) -> Result<()> {
        if messages == self.messages {
            return Ok(());
        }
        if !messages.is_empty() {
            return self.put(messages);
        }
        if self.path.exists() && !self.is_anothers() {
            fs::remove_file(&self.path).map_err(|error| Error::io(&self.path, error))?;
        }
        (self.messages, self.bytes) = (Vec::new(), None);
        Ok(())
    }

    /// Writes `messages`, also if the file holds them already or there are none.
    ///
    /// # Errors
    /// [`Error::Io`]; the file stays as it was.
    pub(crate) fn put(&mut self, messages: &[Message]) -> Result<()> {
        if self.is_anothers() {
            let beside = beside(&self.path);
            let (path, next) = (self.path.display(), beside.display());
            term::note(&format!(
                "{path} was changed by another program and stays as it is; this chat is kept in {next}"
            ));
            self.path = beside;
        }
        let bytes = bytes(messages);
        files::replace(&self.path, &bytes, self.former.as_ref(), Readers::Owner)?;
        (self.messages, self.bytes) = (messages.to_vec(), Some(bytes));
        Ok(())
    }

    /// Whether the file has other bytes than this chat knows.
    fn is_anothers(&self) -> bool {
        let Ok(metadata) = fs::metadata(&self.path) else { return false };
        let known = self.bytes.as_ref().filter(|bytes| bytes.len() as u64 == metadata.len());
        known.is_none() || fs::read(&self.path).ok().as_ref() != known
    }

    /// Renames the file before another conversation takes its place.
    ///
    /// # Errors
    /// [`Error::Io`]; the file stays as it was.
    pub(crate) fn set_aside(&mut self) -> Result<()> {
        if !is_begun(&self.messages) || !self.path.exists() {
            return Ok(());
        }
        let beside = beside(&self.path);
        fs::rename(&self.path, &beside).map_err(|error| Error::io(&self.path, error))?;
        term::note(&format!("the conversation so far is kept in {}", beside.display()));
        (self.messages, self.bytes) = (Vec::new(), None);
        Ok(())
    }
}

/// Whether anything was said.
fn is_begun(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.role != "system")
}

fn refused(path: &Path, field: impl Into<String>, problem: impl Into<String>, fix: &'static str) -> Error {
    Error::Format { file: path.display().to_string(), field: field.into(), problem: problem.into(), fix }
}

/// The messages of a file that is not empty.
fn read(path: &Path) -> Result<Vec<Message>> {
    let value = input::json(path)?;
    let only = |field, fix| refused(path, field, "a chat keeps roles and texts alone", fix);
    let remove = "remove the field, or ask for one answer with `headstart generate --messages`";
    if let Some(request) = value.as_object() {
        if !request.contains_key("messages") {
            let fix = "write it as [{\"role\": \"user\", \"content\": \"…\"}]";
            return Err(refused(path, "chat FILE", "is not a list of messages", fix));
        }
        if let Some(field) = request.keys().find(|field| *field != "messages") {
            return Err(only(field.clone(), remove));
        }
    }
    // A conversation without messages is one that has not begun.
    if [json!([]), json!({ "messages": [] })].contains(&value) {
        return Ok(Vec::new());
    }
    let request = input::request(path)?;
    let messages = request.get("messages").unwrap_or(&request).as_array();
    let message = |(index, value): (usize, &Value)| {
        let place = |field: &str| format!("messages[{index}].{field}");
        let fields = value.as_object().into_iter().flat_map(|fields| fields.keys());
        if let Some(field) = fields.into_iter().find(|field| !["role", "content"].contains(&field.as_str())) {
            return Err(only(place(field), remove));
        }
        let join = "write it as one string, or ask for one answer with `headstart generate --messages`";
        let text = |field| value.get(field).and_then(Value::as_str).ok_or_else(|| only(place(field), join));
        let (role, content) = (text("role")?, text("content")?);
        if !ROLES.contains(&role) {
            let problem = format!("{role:?} is not known");
            let fix = "the roles of a chat are system, developer, user and assistant";
            return Err(refused(path, place("role"), problem, fix));
        }
        Ok(Message::new(role, content))
    };
    messages.into_iter().flatten().enumerate().map(message).collect()
}

/// A conversation as the bytes of its file.
fn bytes(messages: &[Message]) -> Vec<u8> {
    let messages: Value =
        messages.iter().map(|message| json!({ "role": message.role, "content": text(message) })).collect();
    format!("{messages:#}\n").into_bytes()
}

/// The next free name beside a file: `trip-2.json` beside `trip.json`.
fn beside(path: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let extension = if extension.is_empty() { extension } else { format!(".{extension}") };
    let mut number = 2;
    loop {
        let name = path.with_file_name(format!("{stem}-{number}{extension}"));
        if fs::symlink_metadata(&name).is_err() {
            return name;
        }
        number += 1;
    }
}

/// A path as a person types it in the chat, where no shell takes quotation marks away or puts in the home folder.
pub(crate) fn typed(path: &str) -> PathBuf {
    let path = unquoted(path);
    let home = path.strip_prefix("~/").and_then(|rest| Some(home_dir().ok()?.join(rest)));
    home.unwrap_or_else(|| path.into())
}

/// The text of a message, its parts on lines of their own.
pub(crate) fn text(message: &Message) -> String {
    match &message.content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => parts.join("\n"),
        Content::Absent => String::new(),
    }
}
