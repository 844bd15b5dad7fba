//! The file of a chat that continues later: a list of messages, as `generate --messages` and `prefix explain` read it.

use std::io::Write;
use std::path::{Path, PathBuf};

use etcetera::home_dir;
use serde_json::{Value, json};

use super::input;
use crate::error::{Error, Result};
use crate::text::{Content, Message};

/// The messages of a file; none if there is no such file yet.
///
/// # Errors
/// As [`input::request`], and [`Error::Format`] for what a chat cannot keep: everything but roles and texts.
pub(crate) fn read(path: &Path) -> Result<Vec<Message>> {
    let folder = folder(path);
    if !folder.is_dir() {
        return Err(Error::io(folder, std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder")));
    }
    // A chat that was cleared leaves an empty list.
    if !path.exists() || input::json(path)? == json!([]) {
        return Ok(Vec::new());
    }
    let refused = |field: String| Error::Format {
        file: path.display().to_string(),
        field,
        problem: "a chat has messages of a role and a text, and nothing else".into(),
        fix: "`headstart generate --messages` answers other conversations",
    };
    let message = |message: &Value| {
        let fields = message.as_object().filter(|fields| fields.len() == 2)?;
        Some(Message::new(fields.get("role")?.as_str()?, fields.get("content")?.as_str()?))
    };
    let request = input::request(path)?;
    let messages = request.as_array().ok_or_else(|| refused("request".into()))?;
    let read = |(index, value)| message(value).ok_or_else(|| refused(format!("messages[{index}]")));
    messages.iter().enumerate().map(read).collect()
}

/// Replaces the file as a whole. Its user alone can read it.
///
/// # Errors
/// [`Error::Io`]; the file stays as it was.
pub(crate) fn write(path: &Path, messages: &[Message]) -> Result<()> {
    let messages: Value =
        messages.iter().map(|message| json!({ "role": message.role, "content": text(message) })).collect();
    let fail = |error| Error::io(path, error);
    // A link stays a link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut file = tempfile::NamedTempFile::new_in(folder(&path)).map_err(fail)?;
    writeln!(file, "{messages:#}").map_err(fail)?;
    file.persist(&path).map_err(|error| fail(error.error))?;
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path as a person types it in the chat, where no shell puts in the home folder.
pub(crate) fn typed(path: &str) -> PathBuf {
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
