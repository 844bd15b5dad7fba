//! `chat`: a conversation. Ctrl-C ends an answer, not the program; lines that begin with `/` are commands.
//!
//! Every answer renders and submits the whole conversation. The engine finds the part that it need not compute again. The
//! beginning of an interrupted answer stays in the conversation.

use std::path::{Path, PathBuf};

use crate::chat::CacheOptions;
use crate::chat::session::{Asked, Model, Session};
use crate::engine::FinishReason;
use crate::engine::answers::Answer;
use crate::engine::openai::{Body, Input};
use crate::error::{Error, Result};
use crate::text::Message;

use super::args::ModelArgs;
use super::cache::{ReuseArgs, recall};
use super::conversation::{self, text, typed};
use super::generate::AnswerArgs;
use super::interrupt::Work;
use super::line::{Line, Lines};
use super::listen::Listener;
use super::report;
use super::sampling::SamplingArgs;
use super::session::{self, EngineArgs};
use super::settings::{Settings, unquoted};
use super::term;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart chat
  headstart chat trip.json
  headstart chat -m model.gguf --system 'Answer in one sentence.'
  headstart chat --temperature 0.7 --seed 1
  printf 'Hello!\\nAnd in French?\\n' | headstart chat

Commands in the chat: /help shows them. A line that ends in \\ goes on in the next, and a message of several lines stands between two \"\"\".")]
pub(crate) struct Args {
    /// Keep the conversation in this file, and continue the one that it holds
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,

    /// What the model should know and be
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,

    #[command(flatten)]
    answer: AnswerArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    reuse: ReuseArgs,
}

const HELP: &str = "\
/help, /?         this list
/set              what can be changed, with its values
/set NAME VALUE   change it; with the value default, as without a flag
/set system TEXT  set the system text and keep the conversation
/show             the model, the system text and all that /set can change
/load MODEL       go on with another model, named as --model takes it; the conversation is kept
/clear            forget the conversation, keep the system text
/system TEXT      set the system text and start anew; without TEXT, take it away
/retry            answer the last message again
/save FILE        write the conversation as JSON, as `chat FILE` and `generate --messages` read it
/stats            adapter, speed and counters
/cache            how much of the last prompt was reused, from where, and why not all
/bye              leave (also /exit, /quit, Ctrl-D, or Ctrl-C twice)
A line that ends in \\ goes on in the next. A message of several lines, or one that begins with /, stands between two \"\"\".
Ctrl-C ends an answer. What is typed meanwhile waits for the next prompt.
";

struct Chat<'a> {
    args: &'a Args,
    session: Session,
    cache: Option<CacheOptions>,
    messages: Vec<Message>,
    /// Those of them that the file holds.
    kept: Vec<Message>,
    settings: Settings,
    problems: report::Problems,
    answers: u64,
    last: Option<Last>,
}

/// The last answer, and the conversation that it answered.
struct Last {
    answer: Answer,
    asked: Input,
}

/// What happens after a command.
enum Next {
    Entry,
    Load(String),
    Leave,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let settings = Settings::new(&args.sampling, &args.answer, args.reuse.exact);
    settings.stops()?;
    args.sampling.wishes().validate()?;
    let kept = args.file.as_deref().map_or(Ok(Vec::new()), conversation::read)?;
    let mut lines = Lines::open()?;
    let cache = args.reuse.options(&args.reuse.salt(None))?;
    let model = open(&args.model, &settings)?;
    term::notes(&args.engine.warnings(&model)?);
    let session = session::start(model, &args.engine, cache.as_ref())?;
    let problems = report::Problems::default();
    let messages = kept.clone();
    let mut chat = Chat { args, session, cache, messages, kept, settings, problems, answers: 0, last: None };
    if let Some(text) = &args.system {
        chat.system(text);
    }
    if lines.is_interactive() {
        term::note(&format!("{}. /help shows the commands, Ctrl-D leaves.", chat.place()));
        chat.greet();
    }
    // A file may end with a question that nobody has answered.
    if chat.messages.last().is_some_and(|message| message.role == "user") {
        chat.answer(chat.messages.clone())?;
        chat.keep()?;
    }
    while let Some(name) = chat.talk(&mut lines)? {
        chat = chat.load(name)?;
    }
    pollster::block_on(chat.session.answers.persist())?;
    chat.problems.show(chat.session.engine());
    Ok(())
}

/// Opens a model, and checks that it has a chat template and that the settings fit it.
fn open(name: &ModelArgs, settings: &Settings) -> Result<Model> {
    let model = name.open()?;
    model.language.template()?;
    settings.sampling(&model.config)?;
    Ok(model)
}

fn refuse(problem: String) -> Error {
    Error::Request { field: COMMAND, problem }
}

/// The field of errors that refuse a command.
const COMMAND: &str = "command";

impl Chat<'_> {
    /// The model and the adapter, for people.
    fn place(&self) -> String {
        format!("{} on {}", self.session.path.display(), self.session.engine().adapter().name)
    }

    /// Tells what of the conversation is there already.
    fn greet(&self) {
        let (Some(file), Some(last)) = (&self.args.file, self.kept.last()) else { return };
        let (file, count) = (file.display(), self.kept.len());
        term::note(&format!("{file} is continued after {count} messages. The last, of {}:", last.role));
        let _ = term::dim(&format!("{}\n", text(last)));
    }

    /// Writes the conversation to its file, if it has one and has changed.
    fn keep(&mut self) -> Result<()> {
        match &self.args.file {
            Some(file) if self.messages != self.kept => conversation::write(file, &self.messages)?,
            _ => return Ok(()),
        }
        self.kept.clone_from(&self.messages);
        Ok(())
    }

    /// Reads and answers entries until the person leaves (`None`) or names another model.
    fn talk(&mut self, lines: &mut Lines) -> Result<Option<String>> {
        let mut leaving = false;
        loop {
            self.problems.show(self.session.engine());
            // While the person types, KV is saved. With `exact`, KV of decode kernels is also computed again by prefill.
            let exact = self.settings.exact() && lines.is_interactive();
            let answers = &mut self.session.answers;
            let mut idle = || match exact {
                true => pollster::block_on(answers.heal_some()),
                false => pollster::block_on(answers.persist_some()),
            };
            let line = lines.read(&mut idle)?;
            let goes = std::mem::replace(&mut leaving, line == Line::Interrupted);
            // A refused command does not end the conversation. Nor does a refused message at a terminal; in a pipe, nobody
            // is there to correct it.
            let survives = |error: &Error| {
                use Error::{Context, Io, Request, Template};
                matches!(error, Request { .. } | Context { .. } | Io { .. } | Template { .. })
            };
            match line {
                Line::End => return Ok(None),
                Line::Interrupted if goes => return Ok(None),
                Line::Interrupted => term::note("Ctrl-C again, Ctrl-D or /bye leaves."),
                Line::Message(text) if text.trim().is_empty() => {}
                Line::Message(text) => {
                    let messages = [&self.messages[..], &[Message::new("user", text)]].concat();
                    match self.answer(messages).and_then(|()| self.keep()) {
                        Err(error) if survives(&error) && lines.is_interactive() => tell(&error),
                        done => done?,
                    }
                }
                Line::Command(command) => match self.command(&command).and_then(|next| self.keep().map(|()| next)) {
                    Ok(Next::Entry) => {}
                    Ok(Next::Leave) => return Ok(None),
                    Ok(Next::Load(name)) => return Ok(Some(name)),
                    Err(error) if survives(&error) => tell(&error),
                    Err(error) => return Err(error),
                },
            }
        }
    }

    fn command(&mut self, command: &str) -> Result<Next> {
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
            "clear" => self.messages.retain(|message| message.role == "system"),
            "system" => {
                self.messages.clear();
                self.system(rest);
            }
            "retry" => {
                let asked = self.messages.iter().rposition(|message| message.role == "user");
                let asked = asked.ok_or_else(|| refuse("/retry has no message to answer yet".into()))?;
                self.answer(self.messages[..=asked].to_vec())?;
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

    /// Takes `NAME VALUE`, or `parameter NAME VALUE`, which people know from another program. A name alone shows its value.
    fn set(&mut self, what: &str) -> Result<()> {
        let what = what.strip_prefix("parameter").filter(|rest| rest.starts_with(char::is_whitespace)).unwrap_or(what);
        match what.trim().split_once(char::is_whitespace) {
            None => self.show(what.trim()),
            Some(("system", text)) => {
                self.system(&unquoted(text.trim()));
                self.show("system")
            }
            Some((name, value)) => {
                self.settings.set(name, value.trim(), self.session.engine().config())?;
                self.show(name)
            }
        }
    }

    /// Puts a system text before all messages, in place of the one that is there; an empty one takes it away.
    fn system(&mut self, text: &str) {
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

    /// Goes on with another model. If that cannot be loaded, the conversation stays with the former one.
    fn load(mut self, name: String) -> Result<Self> {
        let (args, engine) = (self.args, &self.args.engine);
        let opened = open(&ModelArgs { model: Some(name) }, &self.settings);
        let opened = opened.and_then(|model| Ok((engine.warnings(&model)?, model)));
        let (warnings, model) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tell(&error);
                return Ok(self);
            }
        };
        term::notes(&warnings);
        pollster::block_on(self.session.answers.persist())?;
        self.problems.show(self.session.engine());
        let Self { session, mut cache, messages, kept, settings, problems, answers, .. } = self;
        if let Some(cache) = cache.as_mut().filter(|cache| !cache.packs.is_empty()) {
            term::note("note: --prefix-pack is for the model that the chat began with, and is left out");
            cache.packs.clear();
        }
        let former = session.path.clone();
        // The GPU may have no room for both.
        drop(session);
        let session = match session::start(model, engine, cache.as_ref()) {
            Ok(session) => session,
            Err(error) => {
                tell(&error);
                session::start(pollster::block_on(Model::open(former))?, engine, cache.as_ref())?
            }
        };
        let chat = Self { args, session, cache, messages, kept, settings, problems, answers, last: None };
        let kept = match chat.messages.len() {
            0 => String::new(),
            1 => "; 1 message is kept".to_owned(),
            count => format!("; {count} messages are kept, of which it has to read what it has not met itself"),
        };
        term::note(&format!("{}{kept}.", chat.place()));
        Ok(chat)
    }

    /// Answers `messages`, and makes them and the answer the conversation. Without an answer, the conversation stays as it was.
    fn answer(&mut self, messages: Vec<Message>) -> Result<()> {
        let work = Work::begin()?;
        let body = self.body(messages.clone())?;
        self.answers += 1;
        let Asked { id, .. } = self.session.ask(&body)?;
        let mut listener = Listener::new(&work, true);
        let answer = pollster::block_on(self.session.answers.run(id, &mut |news| listener.hear(news)))?;
        drop(listener);
        session::log(&self.session, &answer);
        if answer.finish_reason.is_none() && answer.text.is_empty() {
            term::note("[stopped before the first token; the message is not part of the conversation]");
            return Ok(());
        }
        self.messages = [&messages[..], &[Message::new("assistant", &answer.text)]].concat();
        if !answer.text.ends_with('\n') {
            term::out("\n")?;
        }
        match answer.finish_reason {
            Some(FinishReason::Length) => {
                let most = self.settings.max_tokens();
                term::note(&format!("[cut after {most} tokens: --max-tokens, or /set max_tokens]"));
            }
            Some(FinishReason::Context) => term::note("[the context is full: /clear starts anew]"),
            None => term::note("[stopped]"),
            Some(FinishReason::Stop) => {}
        }
        term::note(&report::stats(&answer, None));
        self.last = Some(Last { answer, asked: body.input });
        Ok(())
    }

    /// The request for an answer to `messages`.
    fn body(&self, messages: Vec<Message>) -> Result<Body> {
        let mut body = Body::from(Input::from(messages));
        self.settings.over(&mut body)?;
        // The seed stands for the conversation. Each answer has draws of its own.
        body.sampling.seed = body.sampling.seed.map(|seed| seed.wrapping_add(self.answers));
        body.no_cache = self.args.reuse.no_cache;
        body.cache_salt = self.cache.as_ref().map(|cache| cache.salt.clone());
        if let Input::Conversation(prompt) = &mut body.input {
            // `/cache` renders the conversation again, and must use the same time.
            prompt.now = prompt.now.or_else(|| self.session.language.now());
        }
        Ok(body)
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

    fn save(&self, path: &Path) -> Result<()> {
        let replaced = if path.exists() { ", in place of what it held" } else { "" };
        conversation::write(path, &self.messages)?;
        term::note(&format!("{} messages written to {}{replaced}", self.messages.len(), path.display()));
        Ok(())
    }

    fn stats(&self) -> String {
        let engine = self.session.engine();
        let adapter = engine.adapter();
        let mut text = format!(
            "adapter  {} ({}, {}), prompts in {}\nload     {}\ncontext  {} tokens\n",
            adapter.name,
            adapter.backend,
            adapter.driver,
            engine.numerics(),
            report::duration(self.session.load_ms),
            engine.context(),
        );
        if let Some(last) = &self.last {
            text += &format!("last     {}\n", report::stats(&last.answer, None));
        }
        text
    }
}

/// Shows an error at the prompt. The problem of a command is a sentence of its own.
fn tell(error: &Error) {
    match error {
        Error::Request { field: COMMAND, problem } => term::note(problem),
        error => term::note(&format!("error: {error}")),
    }
}
