//! Whether an assistant's earlier thinking stays in a prompt.
//!
//! Templates decide this themselves: most drop the thinking before the last question, and some take a variable that keeps it,
//! under different names. Dropped thinking costs KV cache hits: the answer's KV was computed after the thinking, so it cannot
//! be reused without it.

use serde_json::Value;

use super::message::{Content, Message, REASONING};
use crate::error::{Error, Result};

/// What to do with past thinking, instead of the template's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastThinking {
    /// Keep it, if the template can.
    Keep,
    /// Strip it, even if the template would show it.
    Strip,
}

/// Template variables that control it, each with whether `true` keeps the thinking.
const VARIABLES: [(&str, bool); 11] = [
    ("preserve_thinking", true),
    ("preserved_thinking", true),
    ("keep_past_thinking", true),
    ("keep_thinking", true),
    ("keep_reasoning", true),
    ("keep_all_reasoning", true),
    ("keep_all_think", true),
    ("save_history_reasoning_content", true),
    ("clear_thinking", false),
    ("drop_thinking", false),
    ("truncate_history_thinking", false),
];

/// The tags around thinking in the text of an answer.
pub(crate) const THINKING: [&str; 2] = ["<think>", "</think>"];

impl PastThinking {
    /// # Errors
    /// [`Error::Request`] for another word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "keep" => Ok(Self::Keep),
            "strip" => Ok(Self::Strip),
            _ => Err(Error::Request { field: "past_thinking", problem: format!("is {word:?}; write keep or strip") }),
        }
    }

    /// The template variables that express this choice.
    pub(super) fn variables(self) -> impl Iterator<Item = (&'static str, bool)> {
        VARIABLES.into_iter().map(move |(name, keeps)| (name, keeps == (self == Self::Keep)))
    }

    /// The message at `index` without its thinking, if that is to be stripped; else `None`.
    pub(super) fn stripped(self, messages: &[Message], index: usize) -> Option<Message> {
        let last = messages.iter().rposition(|message| message.role == "user")?;
        let message = messages.get(index).filter(|message| message.role == "assistant" && index < last)?;
        (self == Self::Strip && thinks(message)).then(|| {
            let mut message = message.clone();
            message.other.retain(|name, _| !REASONING.contains(&name.as_str()));
            if let Content::Text(text) = &mut message.content
                && let Some((_, answer)) = text.rsplit_once(THINKING[1])
            {
                *text = answer.trim_start_matches('\n').to_owned();
            }
            message
        })
    }
}

/// Whether the message has thinking, in a field of its own or at the beginning of its text.
pub(super) fn thinks(message: &Message) -> bool {
    let told = |name: &&str| message.other.get(*name).is_some_and(|value| *value != Value::Null);
    REASONING.iter().any(told) || matches!(&message.content, Content::Text(text) if text.contains(THINKING[1]))
}

/// Splits the text of an answer into its thinking and the rest, without the tags. If the template wrote the opening tag, the
/// text has the closing one alone.
pub(crate) fn thinking(text: &str) -> (Option<&str>, &str) {
    let [open, close] = THINKING;
    let opened = text.trim_start().strip_prefix(open);
    match (opened, opened.unwrap_or(text).split_once(close)) {
        (None, Some((thought, _))) if thought.contains(open) => (None, text),
        (_, Some((thought, said))) => (Some(thought.trim()), said.trim_start()),
        (Some(thought), None) => (Some(thought.trim()), ""),
        (None, None) => (None, text),
    }
}
