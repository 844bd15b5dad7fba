//! `chat`: a conversation. Ctrl-C ends an answer, not the program; lines that begin with `/` are commands.
//!
//! Every answer renders and submits the whole conversation. The engine finds the part that it need not compute again. The
//! beginning of an interrupted answer stays in the conversation.

mod commands;
mod room;

use std::path::PathBuf;

use crate::chat::CacheOptions;
use crate::chat::session::{Asked, Model, Session};
use crate::engine::FinishReason;
use crate::engine::answers::Answer;
use crate::engine::openai::{Body, Input};
use crate::error::{Error, Result};
use crate::text::Message;

use super::args::ModelArgs;
use super::cache::ReuseArgs;
use super::conversation::{self, Kept, text};
use super::generate::AnswerArgs;
use super::interrupt::Work;
use super::line::{Line, Lines};
use super::listen::Listener;
use super::report;
use super::sampling::SamplingArgs;
use super::session::{self, EngineArgs};
use super::settings::Settings;
use super::{term, tty};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart chat
  headstart chat trip.json
  headstart chat -m model.gguf --system 'Answer in one sentence.'
  headstart chat --temperature 0.7 --seed 1
  printf 'Hello!\\nAnd in French?\\n' | headstart chat

Commands in the chat: /help shows them. A line that ends in \\ goes on in the next, and a message of several lines stands between two \"\"\".")]
pub(crate) struct Args {
    /// Keep the conversation in this file, NAME.json, and continue the one that it holds
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

struct Chat<'a> {
    args: &'a Args,
    session: Session,
    cache: Option<CacheOptions>,
    messages: Vec<Message>,
    /// The last question, if it did not fit the context.
    waiting: Option<Message>,
    file: Option<Kept>,
    /// Whether something was said or changed that the file may lack.
    is_changed: bool,
    /// Whether the person was told that leaving loses it.
    is_warned: bool,
    settings: Settings,
    problems: report::Problems,
    answers: u64,
    /// How many commands were refused.
    refused: u64,
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
    let conversed = converse(args);
    // What was said until then is kept, also where the terminal is gone.
    tty::leave();
    conversed
}

fn converse(args: &Args) -> Result<()> {
    let settings = Settings::new(&args.sampling, &args.answer, args.reuse.exact);
    settings.stops()?;
    args.sampling.wishes().validate()?;
    let file = args.file.as_deref().map(Kept::open).transpose()?;
    let mut lines = Lines::open()?;
    let cache = args.reuse.options(&args.reuse.salt(None))?;
    let model = open(&args.model, &settings)?;
    term::notes(&args.engine.warnings(&model)?);
    let session = session::start(model, &args.engine, cache.as_ref())?;
    let problems = report::Problems::default();
    let messages = file.as_ref().map_or(Vec::new(), |file| file.messages().to_vec());
    let mut chat = Chat {
        args,
        session,
        cache,
        messages,
        waiting: None,
        file,
        is_changed: false,
        is_warned: false,
        settings,
        problems,
        answers: 0,
        refused: 0,
        last: None,
    };
    if lines.is_interactive() {
        term::note(&format!("{}. /help shows the commands, Ctrl-D leaves.", chat.place()));
        chat.greet();
    }
    if let Some(text) = &args.system {
        let former = chat.messages.iter().find(|message| message.role == "system").map(conversation::text);
        if former.is_some_and(|former| former != *text) {
            term::note("--system takes the place of the conversation's system text");
        }
        chat.system(text);
    }
    // A file may end with a question that nobody has answered.
    if room::is_open(&chat.messages) {
        let answered = chat.say(chat.messages.clone());
        chat.survive(answered, lines.is_interactive())?;
    }
    while let Some(name) = chat.talk(&mut lines)? {
        chat = chat.load(name)?;
    }
    pollster::block_on(chat.session.answers.persist())?;
    chat.problems.show(chat.session.engine());
    match chat.refused {
        0 => Ok(()),
        _ if lines.is_interactive() || tty::is_leaving() => Ok(()),
        // Who wrote the lines may not read what was told of them.
        count => {
            let commands = if count == 1 { "1 command was".to_owned() } else { format!("{count} commands were") };
            Err(Error::Request { field: "chat", problem: format!("{commands} refused, see above") })
        }
    }
}

/// Opens a model, and checks that it has a chat template and that the settings fit it.
fn open(name: &ModelArgs, settings: &Settings) -> Result<Model> {
    let model = name.open()?;
    model.language.template()?;
    settings.sampling(&model.config)?;
    Ok(model)
}

/// The field of errors that refuse a command.
const COMMAND: &str = "command";

impl Chat<'_> {
    /// The model and the adapter, for people.
    fn place(&self) -> String {
        format!("{} on {}", self.session.path.display(), self.session.engine().adapter().name)
    }

    /// Tells where the conversation is kept, and what of it is there already.
    fn greet(&self) {
        let Some(file) = &self.file else { return };
        let (path, count) = (file.path().display(), file.messages().len());
        let Some(last) = file.messages().last() else {
            term::note(&format!("The conversation is kept in {path}."));
            return;
        };
        let messages = if count == 1 { "message" } else { "messages" };
        term::note(&format!("{path} is continued after {count} {messages}. The last, of {}:", last.role));
        let _ = term::dim(&format!("{}\n", text(last)));
    }

    /// Writes the conversation to its file, if it has one and has changed.
    fn keep(&mut self) -> Result<()> {
        if let Some(file) = self.file.as_mut().filter(|_| self.is_changed) {
            file.write(&self.messages)?;
        }
        self.is_changed = false;
        Ok(())
    }

    /// Answers `messages`, which end with a question, and keeps both. A question that is refused is not kept.
    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        // Until the answer is kept.
        let work = Work::begin()?;
        self.is_changed = true;
        // However the program ends, the question is there the next time. A failure is told after the answer.
        let is_kept = self.file.as_mut().is_none_or(|file| file.write(&messages).is_ok());
        let before = self.messages.clone();
        let answered = self.answer(&work, messages);
        let is_open = answered.as_ref().is_err_and(|error| !refuses(error)) && self.messages == before;
        let kept = if is_open {
            self.is_changed = !is_kept;
            Ok(())
        } else {
            self.keep()
        };
        kept.and(answered.map(drop))
    }

    /// Shows an error that does not end the conversation. In a pipe, where nobody could correct a message, it does.
    fn survive(&self, done: Result<()>, is_interactive: bool) -> Result<()> {
        let Err(error) = done else { return Ok(()) };
        if is_interactive && is_refusal(&error) {
            self.tell(&error);
            return Ok(());
        }
        let problem = self.too_long(&error, false);
        Err(problem.map_or(error, |problem| Error::Request { field: "prompt", problem }))
    }

    /// Shows an error at the prompt.
    fn tell(&self, error: &Error) {
        match self.too_long(error, true) {
            Some(problem) => term::note(&report::capitalized(&problem)),
            None => tell(error),
        }
    }

    /// Whether the chat may end: a person who would lose something is told once before.
    fn leaves(&mut self, is_interactive: bool) -> Result<bool> {
        match self.keep() {
            Err(error) if is_interactive && !self.is_warned => {
                tell(&error);
                term::note("the conversation is not kept: /save FILE writes it elsewhere, leaving once more loses it");
                self.is_warned = true;
                Ok(false)
            }
            kept => kept.map(|()| true),
        }
    }

    /// Reads and answers entries until the person leaves, or a signal ends the program (`None`), or another model is named.
    fn talk(&mut self, lines: &mut Lines) -> Result<Option<String>> {
        let mut leaving = false;
        while !tty::is_leaving() {
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
            let is_interactive = lines.is_interactive();
            match line {
                Line::End if self.leaves(is_interactive)? => return Ok(None),
                Line::Interrupted if goes && self.leaves(is_interactive)? => return Ok(None),
                Line::End => {}
                Line::Interrupted => term::note("Ctrl-C again, Ctrl-D or /bye leaves."),
                Line::Message(text) if text.trim().is_empty() => {}
                Line::Message(text) => {
                    let question = Message::new("user", text);
                    let said = self.say([&self.messages[..], std::slice::from_ref(&question)].concat());
                    self.waiting = matches!(said, Err(Error::Context { .. })).then_some(question);
                    self.survive(said, is_interactive)?;
                }
                Line::Command(command) => {
                    let before = self.messages.clone();
                    let next = self.command(&command);
                    self.refused += u64::from(next.is_err());
                    let kept = if self.messages == before {
                        Ok(())
                    } else {
                        self.is_changed = true;
                        self.keep()
                    };
                    match kept.and(next) {
                        Ok(Next::Leave) if self.leaves(is_interactive)? => return Ok(None),
                        Ok(Next::Entry | Next::Leave) => {}
                        Ok(Next::Load(name)) => return Ok(Some(name)),
                        Err(error) if is_refusal(&error) => self.tell(&error),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(None)
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
                self.refused += 1;
                return Ok(self);
            }
        };
        term::notes(&warnings);
        pollster::block_on(self.session.answers.persist())?;
        self.problems.show(self.session.engine());
        let Self {
            session,
            mut cache,
            messages,
            file,
            is_changed,
            is_warned,
            settings,
            problems,
            answers,
            mut refused,
            ..
        } = self;
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
                refused += 1;
                session::start(pollster::block_on(Model::open(former))?, engine, cache.as_ref())?
            }
        };
        let chat = Self {
            args,
            session,
            cache,
            messages,
            waiting: None,
            file,
            is_changed,
            is_warned,
            settings,
            problems,
            answers,
            refused,
            last: None,
        };
        let kept = match chat.messages.len() {
            0 => String::new(),
            1 => "; 1 message is kept".to_owned(),
            count => format!("; {count} messages are kept, of which it has to read what it has not met itself"),
        };
        term::note(&format!("{}{kept}.", chat.place()));
        Ok(chat)
    }

    /// Answers `messages`, and makes them and the answer the conversation. Without an answer, the conversation stays as it was.
    /// Returns whether the answer was not interrupted.
    fn answer(&mut self, work: &Work, messages: Vec<Message>) -> Result<bool> {
        let body = self.body(messages.clone())?;
        self.answers += 1;
        let Asked { id, .. } = self.session.ask(&body)?;
        let mut listener = Listener::new(work, true);
        let answer = pollster::block_on(self.session.answers.run(id, &mut |news| listener.hear(news)))?;
        let heard = listener.end();
        session::log(&self.session, &body.input, &answer, self.cache.as_ref());
        if answer.finish_reason.is_none() && answer.text.is_empty() {
            heard?;
            // The question of a file, or of a former answer, stays.
            let effect = match self.messages.starts_with(&messages) {
                true => "the conversation is as it was",
                false => "the message is not part of the conversation",
            };
            term::note(&format!("[stopped before the first token; {effect}]"));
            return Ok(false);
        }
        self.messages = [&messages[..], &[Message::new("assistant", &answer.text)]].concat();
        heard?;
        if !answer.text.ends_with('\n') {
            term::out("\n")?;
        }
        match answer.finish_reason {
            Some(FinishReason::Length) => {
                let most = self.settings.max_tokens();
                term::note(&format!("[cut after {most} tokens: --max-tokens, or /set max_tokens]"));
            }
            Some(FinishReason::Context) => term::note("[the context is full: /drop makes room, /clear starts anew]"),
            None => term::note("[stopped]"),
            Some(FinishReason::Stop) => {}
        }
        term::note(&report::stats(&answer, None));
        let is_whole = answer.finish_reason.is_some();
        self.last = Some(Last { answer, asked: body.input });
        Ok(is_whole)
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
}

/// Errors that refuse a message or a command.
fn refuses(error: &Error) -> bool {
    matches!(error, Error::Request { .. } | Error::Context { .. } | Error::Template { .. })
}

/// The same, and those that leave the file as it was.
fn is_refusal(error: &Error) -> bool {
    refuses(error) || matches!(error, Error::Io { .. })
}

/// Shows an error at the prompt. The problem of a command is a sentence of its own.
fn tell(error: &Error) {
    match error {
        Error::Request { field: COMMAND, problem } => term::note(problem),
        error => term::note(&format!("error: {error}")),
    }
}
