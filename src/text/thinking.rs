//! What becomes of an assistant's earlier thinking in a prompt.
//!
//! Templates decide it themselves: most leave out what was thought before the last question, and some take a variable
//! that keeps it, each by its own name. What is left out costs the KV cache the answer behind it: that was computed
//! behind the thinking, and is not what stands behind the question.

use serde_json::Value;

use super::message::{Content, Message, REASONING};
use crate::error::{Error, Result};

/// What is done with it, over what the template does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastThinking {
    /// It stays, where the template can keep it.
    Keep,
    /// It is left out, also where the template would show it.
    Strip,
}

/// The variables by which templates are told, and whether true keeps it.
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

/// What opens and ends thinking in the text of an answer.
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

    /// What the template is told.
    pub(super) fn variables(self) -> impl Iterator<Item = (&'static str, bool)> {
        VARIABLES.into_iter().map(move |(name, keeps)| (name, keeps == (self == Self::Keep)))
    }

    /// The message at `index` without its thinking, where that is to be left out.
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

/// Whether thinking is told beside the answer or at its beginning.
pub(super) fn thinks(message: &Message) -> bool {
    let told = |name: &&str| message.other.get(*name).is_some_and(|value| *value != Value::Null);
    REASONING.iter().any(told) || matches!(&message.content, Content::Text(text) if text.contains(THINKING[1]))
}

/// What the text of an answer thinks and what it says, without the tags. Where the template wrote the opening tag, the text
/// has the closing one alone.
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
