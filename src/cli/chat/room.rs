//! Room in the context: a conversation that fills it goes on without its oldest turns. System texts stay.
//!
//! Cost: one rendered prompt for each halving of the turns. What follows the system text has another beginning then, so its KV is
//! computed once more, and later answers reuse that. A quarter of the context is made free, so that this is rare.

use super::Chat;
use super::commands::refuse;
use crate::error::{Error, Result};
use crate::text::Message;

use crate::cli::term;

const ONE_TURN: &str =
    "there is one turn, and /drop keeps the last: once you ask on, /drop drops it; /clear starts anew";

impl Chat<'_> {
    /// The conversation with the question that waits for room, if one does.
    fn asked(&self) -> Vec<Message> {
        [&self.messages[..], self.waiting.as_slice()].concat()
    }

    /// Tokens of the prompt that `messages` make.
    fn length(&self, messages: Vec<Message>) -> Result<usize> {
        Ok(self.session.language.tokens(&self.body(messages)?.input)?.len())
    }

    /// How many of the oldest turns have to go so that a quarter of the context is free, at least one. All before the last if
    /// that leaves less; `None` if it leaves nothing for an answer.
    fn enough(&self, asked: &[Message], turns: &[usize]) -> Result<Option<usize>> {
        let context = self.session.engine().context();
        let length = |count: usize| self.length(without(asked, turns[count]));
        let (mut low, mut high) = (1, turns.len().saturating_sub(1));
        if high == 0 || length(high)? >= context {
            return Ok(None);
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            match length(middle)? <= context - context / 4 {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Ok(Some(low))
    }

    /// Drops as many of the oldest turns as `count` says, or as make room, and asks what waits for an answer.
    pub(super) fn drop_oldest(&mut self, count: &str) -> Result<()> {
        let number = |count: &str| count.parse().ok().filter(|count| *count > 0);
        let count = match count {
            "" => None,
            count => {
                Some(number(count).ok_or_else(|| refuse("/drop takes a number of turns, such as /drop 2".into()))?)
            }
        };
        let asked = self.asked();
        let turns = turns(&asked);
        let is_open = is_open(&asked);
        let count: usize = match (count, turns.len().saturating_sub(1)) {
            (_, 0) if turns.is_empty() => return Err(refuse("/drop has no turn to drop".into())),
            (_, 0) if is_open => return Err(refuse(self.alone(&asked, &turns))),
            (_, 0) => return Err(refuse(ONE_TURN.into())),
            (Some(count), most) if count > most => {
                return Err(refuse(format!("/drop can drop {} at most; /clear drops all", oldest(most))));
            }
            (Some(count), _) => count,
            (None, _) => self.enough(&asked, &turns)?.ok_or_else(|| refuse(self.alone(&asked, &turns)))?,
        };
        let mut rest = without(&asked, turns[count]);
        let (tokens, context) = (self.length(rest.clone())?, self.session.engine().context());
        if is_open && tokens >= context {
            let dropped = oldest(count);
            return Err(refuse(format!(
                "without {dropped} the prompt still has {tokens} tokens, and the context holds {context}, the answer \
                 included; nothing is dropped"
            )));
        }
        self.set_aside()?;
        let (dropped, messages) = (oldest(count), asked.len() - rest.len());
        term::note(&format!("dropped {dropped} ({messages} messages); the prompt has {tokens} of {context} tokens"));
        let open = rest.clone();
        if self.waiting.take().is_some() {
            rest.pop();
        }
        self.messages = rest;
        self.is_changed = true;
        if is_open { self.say(open) } else { Ok(()) }
    }

    /// What to tell about a prompt that does not fit, and what helps; `None` for another error. A chat in a pipe ends with it.
    pub(super) fn too_long(&self, error: &Error, is_interactive: bool) -> Option<String> {
        let Error::Context { tokens, context, most } = error else { return None };
        let asked = self.asked();
        let turns = turns(&asked);
        // Where the template refuses the rest, there is no number to tell.
        let help = match self.enough(&asked, &turns) {
            Ok(Some(count)) if is_interactive => {
                let asks = if is_open(&asked) { " and asks it then" } else { "" };
                let save = if self.file.is_none() { " (/save FILE keeps them)" } else { "" };
                format!("/drop drops {}{asks}{save}", oldest(count))
            }
            Ok(Some(_)) => "a line /drop before it drops the oldest turns".to_owned(),
            _ => self.alone(&asked, &turns),
        };
        let longer = match context < most {
            true => format!("; a chat that begins with --context {most} holds more"),
            false => String::new(),
        };
        Some(format!(
            "too long to ask: the context holds {context} tokens, the answer included, and this prompt has {tokens}, {} too many; \
             {help}{longer}",
            tokens + 1 - context
        ))
    }

    /// That no turn before the last one is in the way, and what helps.
    fn alone(&self, asked: &[Message], turns: &[usize]) -> String {
        let last = turns.last().map_or_else(Vec::new, |&last| without(asked, last));
        let has = self.length(last).map_or_else(|_| "is too long".to_owned(), |tokens| format!("has {tokens} tokens"));
        match is_open(asked) {
            true => format!("the last message with the system text {has}: shorten it"),
            false => {
                format!("the last turn with the system text {has}: ask on, which lets /drop drop it too, or /clear")
            }
        }
    }
}

fn is_rule(message: &Message) -> bool {
    ["system", "developer"].contains(&message.role.as_str())
}

/// Whether the conversation ends with a question.
pub(super) fn is_open(messages: &[Message]) -> bool {
    messages.last().is_some_and(|message| message.role == "user")
}

/// Where turns begin: at a question that follows no other.
fn turns(messages: &[Message]) -> Vec<usize> {
    let follows =
        |at: usize| messages[..at].iter().rev().find(|message| !is_rule(message)).is_some_and(|it| it.role == "user");
    (0..messages.len()).filter(|&at| messages[at].role == "user" && !follows(at)).collect()
}

/// The conversation without what was said before the message at `from`.
fn without(messages: &[Message], from: usize) -> Vec<Message> {
    let (old, rest) = messages.split_at(from);
    old.iter().filter(|message| is_rule(message)).chain(rest).cloned().collect()
}

fn oldest(count: usize) -> String {
    if count == 1 { "the oldest turn".to_owned() } else { format!("the {count} oldest turns") }
}
