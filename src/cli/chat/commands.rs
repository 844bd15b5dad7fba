//! The commands of a chat: lines that begin with `/`.

use std::path::Path;

use super::{COMMAND, Chat, Last, Next};
use crate::cli::cache::recall;
use crate::cli::conversation::{Kept, text, typed};
use crate::cli::interrupt::Work;
use crate::cli::settings::unquoted;
use crate::cli::{report, term};
use crate::error::{Error, Result};
use crate::text::Message;

const HELP: &str = "\
/help, /?         this list
/set              what can be changed, with its values
/set NAME VALUE   change it; with the value default, as without a flag
/set system TEXT  set the system text and keep the conversation
/show             the model, the system text and all that /set can change
/load MODEL       go on with another model, named as --model takes it; the conversation is kept
/clear            start anew with the same system text; what `chat FILE` has kept gets another name
/drop [N]         go on without the N oldest turns, or as many as leave a quarter of the context free; a question that did not
                  fit is asked then. The system text stays, what `chat FILE` has kept gets another name, and the rest of the
                  prompt is computed once more
/system TEXT      start anew with this system text; without TEXT, with none
/retry            answer the last message again; if that is stopped, the former answer stays
/save FILE        write the conversation as JSON, as `chat FILE` and `generate --messages` read it
/stats            adapter, speed and counters
/cache            how much of the last prompt was reused, from where, and why not all
/bye              leave (also /exit, /quit, Ctrl-D, or Ctrl-C twice)
A line that ends in \\ goes on in the next. A message of several lines, or one that begins with /, stands between two \"\"\".
Ctrl-C ends an answer. What is typed meanwhile waits for the next prompt.
";

impl Chat<'_> {
    pub(super) fn command(&mut self, command: &str) -> Result<Next> {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let alone = ["help", "?", "clear", "retry", "stats", "cache", "bye", "exit", "quit"];
        if alone.contains(&name) && !rest.is_empty() {
            return Err(refuse(format!("/{name} takes nothing behind it; write /{name} alone")));
        }
        match name {
            "bye" | "exit" | "quit" => return Ok(Next::Leave),
            "help" | "?" => term::out(HELP)?,
            "set" => self.set(rest)?,
            "show" => self.show(rest)?,
            "load" if rest.is_empty() => return Err(refuse("/load needs a model, named as --model takes it".into())),
            "load" => return Ok(Next::Load(typed(rest).display().to_string())),
            "drop" => self.drop_oldest(rest)?,
            "clear" => {
                self.set_aside()?;
                self.waiting = None;
                self.messages.retain(|message| message.role == "system");
            }
            "system" => {
                self.set_aside()?;
                self.waiting = None;
                self.messages.clear();
                self.system(rest);
                self.is_changed = true;
            }
            "retry" => {
                let asked = self.messages.iter().rposition(|message| message.role == "user");
                let asked = asked.ok_or_else(|| refuse("/retry has no message to answer yet".into()))?;
                self.retry(asked)?;
            }
            "save" if rest.is_empty() => return Err(refuse("/save needs a file name".into())),
            "save" => self.save(&typed(rest))?,
            "stats" => {
                term::out(&self.stats())?;
                term::dim(&report::counter_lines(&self.session.engine().counters()))?;
            }
            "cache" => {
                let last = self.last.as_ref();
                let last = last.ok_or_else(|| refuse("/cache has no answer to tell about yet".into()))?;
                term::out(&self.account(last))?;
            }
            _ => return Err(refuse(format!("/{name} is not known; /help lists what is"))),
        }
        Ok(Next::Entry)
    }

    /// Keeps the conversation so far under another name, before it is forgotten.
    pub(super) fn set_aside(&mut self) -> Result<()> {
        self.keep()?;
        self.file.as_mut().map_or(Ok(()), Kept::set_aside)
    }

    /// Answers the message at `asked` again. If that is interrupted, the former answer stays.
    fn retry(&mut self, asked: usize) -> Result<()> {
        let before = self.messages.clone();
        // Until the answer is kept.
        let work = Work::begin()?;
        let answered = self.answer(&work, before[..=asked].to_vec());
        let is_stopped = !matches!(answered, Ok(true));
        if is_stopped && before.len() > asked + 1 && self.messages != before {
            term::note("[the former answer is kept]");
            self.messages.clone_from(&before);
        }
        self.is_changed |= self.messages != before;
        answered.and(self.keep())
    }

    /// Takes `NAME VALUE`, or `parameter NAME VALUE`, which people know from another program. A name alone shows its value.
    fn set(&mut self, what: &str) -> Result<()> {
        let what = what.strip_prefix("parameter").filter(|rest| rest.starts_with(char::is_whitespace)).unwrap_or(what);
        match what.trim().split_once(char::is_whitespace) {
            None => self.show(what.trim()),
            Some(("system", text)) => {
                self.system(&unquoted(text.trim()));
                self.is_changed = true;
                self.show("system")
            }
            Some((name, value)) => {
                self.settings.set(name, value.trim(), self.session.engine().config())?;
                self.show(name)
            }
        }
    }

    /// Puts a system text before all messages, in place of the one that is there; an empty one takes it away.
    pub(super) fn system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != "system");
        if !text.is_empty() {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    fn show(&self, name: &str) -> Result<()> {
        let config = self.session.engine().config();
        let system = self.messages.iter().find(|message| message.role == "system").map(text);
        let system = format!("{:<20}  {}\n", "system", system.as_deref().unwrap_or("none"));
        term::out(&match name {
            "" => format!("{:<20}  {}\n{system}{}", "model", self.place(), self.settings.shown(None, config)?),
            "system" => system,
            name => self.settings.shown(Some(name), config)?,
        })
    }

    /// Explains where the KV of the last prompt came from, and where the prompt diverged from what was known.
    fn account(&self, Last { answer, asked }: &Last) -> String {
        let language = &self.session.language;
        // If the conversation cannot be rendered again, the report is shown without an explanation.
        let prompt = language.conversation(asked).ok();
        let mut account = answer.cache.clone();
        if let Some(prompt) = &prompt {
            recall(self.cache.as_ref(), self.session.engine(), &prompt.tokens, &mut account);
        }
        let divergence = prompt.and_then(|prompt| prompt.divergence(&account, &language.tokenizer));
        let divergence = divergence.as_ref().map(|found| report::divergence(found) + "\n");
        format!("{}\n{}", report::cache(&account), divergence.unwrap_or_default())
    }

    fn save(&mut self, path: &Path) -> Result<()> {
        let (path, replaced) = match self.file.as_mut().filter(|file| file.is_at(path)) {
            Some(own) => {
                own.put(&self.messages)?;
                (own.path().to_owned(), "")
            }
            None => {
                let mut other = Kept::at(path).map_err(|error| match error {
                    Error::Format { .. } => refuse(format!(
                        "{} is no conversation of a chat and stays as it is; name another file, or delete this one first",
                        path.display()
                    )),
                    error => error,
                })?;
                let replaced = if other.messages().is_empty() { "" } else { ", in place of what it held" };
                other.put(&self.messages)?;
                (other.path().to_owned(), replaced)
            }
        };
        self.is_changed = false;
        term::note(&format!("{} messages written to {}{replaced}", self.messages.len(), path.display()));
        Ok(())
    }

    fn stats(&self) -> String {
        let engine = self.session.engine();
        let mut text = format!(
            "adapter  {}\nload     {}\ncontext  {} tokens\n",
            report::place(engine),
            report::duration(self.session.load_ms),
            engine.context(),
        );
        if let Some(last) = &self.last {
            text += &format!("last     {}\n", report::stats(&last.answer, None));
        }
        text
    }
}

pub(super) fn refuse(problem: String) -> Error {
    Error::Request { field: COMMAND, problem }
}
