//! `chat`: a conversation. Ctrl-C ends an answer, not the program; lines that begin with `/` are commands.
//!
//! The whole conversation is rendered and submitted for every answer; what of it need not be computed again is the
//! engine's knowledge. What was said of an interrupted answer stays in the conversation.

use std::path::Path;

use serde_json::{Value, json};
use web_time::Instant;

use crate::engine::answers::Answer;
use crate::engine::explain::Conversation;
use crate::engine::{FinishReason, Request};
use crate::error::{Error, Result};
use crate::sample::SamplingParams;
use crate::text::{Content, Inputs, Message, StopStrings};

use super::args::ModelArgs;
use super::cache::ReuseArgs;
use super::generate::{AnswerArgs, MAX_TOKENS};
use super::interrupt::{self, Work};
use super::line::{Line, Lines};
use super::listen::Listener;
use super::report;
use super::sampling::{SamplingArgs, new_seed};
use super::session::{EngineArgs, Model, Session};
use super::term;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart chat
  headstart chat -m model.gguf --system 'Answer in one sentence.'
  headstart chat --temperature 0.7 --seed 1
  printf 'Hello!\\nAnd in French?\\n' | headstart chat

Commands in the chat: /help shows them. A line that ends in \\ goes on in the next.")]
pub(crate) struct Args {
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
/help          this list
/clear         forget the conversation, keep the system text
/system TEXT   set the system text and start anew; without TEXT, take it away
/retry         answer the last message again
/save FILE     write the conversation as JSON, as `generate --messages` reads it
/stats         adapter, speed and counters
/cache         how much of the last prompt was reused, from where, and why not all
/exit          leave (also Ctrl-D, or Ctrl-C twice)
A line that ends in \\ goes on in the next. Ctrl-C ends an answer.
";

struct Chat<'a> {
    reuse: &'a ReuseArgs,
    session: Session,
    /// What was asked of every prompt.
    asked: &'a AnswerArgs,
    messages: Vec<Message>,
    stops: StopStrings,
    sampling: SamplingParams,
    /// What all requests have in common.
    request: Request,
    answers: u64,
    last: Option<Last>,
}

/// An answer and what it was the answer to.
struct Last {
    answer: Answer,
    messages: Vec<Message>,
    now: i64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let stops = StopStrings::new(&args.answer.stop)?;
    let model = Model::open(&args.model)?;
    model.language.template()?;
    let sampling = args.sampling.wishes().over(&model.config.sampling.params(), new_seed);
    sampling.validate(model.config.vocab)?;
    term::notes(&args.engine.warnings(&model)?);
    interrupt::install()?;
    let mut lines = Lines::open()?;
    let salt = args.reuse.salt(None);
    let session = args.reuse.start(model, &args.engine, &salt)?;
    let messages = args.system.iter().map(|text| Message::new("system", text)).collect();
    let max_tokens = args.answer.max_tokens.unwrap_or(MAX_TOKENS);
    let (no_cache, exact) = (args.reuse.no_cache, args.reuse.exact);
    let request = Request { no_cache, exact, cache_salt: salt, max_tokens, explain: true, ..Request::default() };
    let reuse = &args.reuse;
    let mut chat =
        Chat { reuse, session, asked: &args.answer, messages, stops, sampling, request, answers: 0, last: None };
    if lines.is_interactive() {
        let (name, adapter) = (chat.session.model.path.display(), &chat.session.engine().adapter().name);
        term::note(&format!("{name} on {adapter}. /help shows the commands, Ctrl-D leaves."));
    }
    chat.talk(&mut lines)?;
    chat.session.persist()?;
    report::problems(chat.session.engine());
    Ok(())
}

impl Chat<'_> {
    fn talk(&mut self, lines: &mut Lines) -> Result<()> {
        let mut leaving = false;
        loop {
            // What was said is saved while somebody thinks of what to say, and made exact where that is what is reused.
            let exact = self.request.exact && lines.is_interactive();
            let answers = &mut self.session.answers;
            let mut idle = || match exact {
                true => pollster::block_on(answers.heal_some()),
                false => pollster::block_on(answers.persist_some()),
            };
            let entry = match lines.read(&mut idle)? {
                Line::End => return Ok(()),
                Line::Interrupted if leaving => return Ok(()),
                Line::Interrupted => {
                    term::note("Ctrl-C again leaves.");
                    leaving = true;
                    continue;
                }
                Line::Text(entry) => entry,
            };
            leaving = false;
            let done = match entry.strip_prefix('/') {
                _ if entry.trim().is_empty() => continue,
                Some("exit" | "quit") => return Ok(()),
                Some(command) => self.command(command),
                None => {
                    self.messages.push(Message::new("user", entry));
                    self.answer()
                }
            };
            match done {
                // A command or message that cannot be served ends itself, not the conversation; in a pipe nobody is
                // there to do better.
                Err(error @ (Error::Request { .. } | Error::Io { .. } | Error::Template { .. }))
                    if lines.is_interactive() =>
                {
                    term::note(&format!("error: {error}"));
                }
                other => other?,
            }
        }
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let (rest, refuse) =
            (rest.trim(), |problem: &str| Error::Request { field: "command", problem: problem.into() });
        match name {
            "help" => term::out(HELP),
            "clear" => {
                self.messages.retain(|message| message.role == "system");
                Ok(())
            }
            "system" => {
                self.messages.clear();
                self.messages.extend((!rest.is_empty()).then(|| Message::new("system", rest)));
                Ok(())
            }
            "retry" => {
                let asked = self.messages.iter().rposition(|message| message.role == "user");
                self.messages.truncate(asked.ok_or_else(|| refuse("/retry has no message to answer yet"))? + 1);
                self.answer()
            }
            "save" if rest.is_empty() => Err(refuse("/save needs a file name")),
            "save" => self.save(Path::new(rest)),
            "stats" => {
                term::out(&self.stats())?;
                term::dim(&report::counter_lines(&self.session.engine().counters()))
            }
            "cache" => {
                let last = self.last.as_ref().ok_or_else(|| refuse("/cache has no answer to tell about yet"))?;
                term::out(&self.account(last))
            }
            _ => Err(refuse(&format!("/{name} is not known; /help lists what is"))),
        }
    }

    /// Answers the last message. If nothing can be answered, the message is taken back.
    fn answer(&mut self) -> Result<()> {
        let last = match self.stream() {
            Ok(answered) => answered,
            Err(error) => {
                self.messages.pop();
                return Err(error);
            }
        };
        let answer = &last.answer;
        self.messages.push(Message::new("assistant", &answer.text));
        if !answer.text.ends_with('\n') {
            term::out("\n")?;
        }
        match answer.finish_reason {
            Some(FinishReason::Length) => {
                term::note(&format!("[cut after {} tokens: --max-tokens]", self.request.max_tokens));
            }
            Some(FinishReason::Context) => term::note("[the context is full: /clear starts anew]"),
            None => term::note("[stopped]"),
            Some(FinishReason::Stop) => {}
        }
        term::note(&report::stats(answer, None));
        self.last = Some(last);
        Ok(())
    }

    /// Where the last prompt came from, and what it met where it left what was known.
    fn account(&self, last: &Last) -> String {
        let (model, engine) = (&self.session.model, self.session.engine());
        let tokenizer = &model.language.tokenizer;
        // What cannot be explained is accounted for all the same.
        let prompt = (model.language.template())
            .and_then(|template| Conversation::new(template, tokenizer, &self.inputs(&last.messages, last.now)))
            .ok();
        let mut account = last.answer.cache.clone();
        if let Some(prompt) = &prompt {
            self.reuse.recall(engine, &self.request.cache_salt, &prompt.tokens, &mut account);
        }
        let divergence = prompt.and_then(|prompt| prompt.divergence(&account, tokenizer));
        let divergence = divergence.as_ref().map(|found| report::divergence(found) + "\n");
        format!("{}\n{}", report::cache(&account), divergence.unwrap_or_default())
    }

    /// What the template is given for an answer.
    fn inputs<'m>(&self, messages: &'m [Message], now: i64) -> Inputs<'m> {
        Inputs {
            messages,
            add_generation_prompt: true,
            now: Some(now),
            past_thinking: self.asked.past_thinking,
            split_special_tokens: self.asked.split_special_tokens,
            ..Inputs::default()
        }
    }

    fn stream(&mut self) -> Result<Last> {
        let (work, arrived) = (Work::begin()?, Instant::now());
        let Model { language, .. } = &self.session.model;
        let template = language.template()?;
        let now = self.asked.date.unwrap_or_else(|| template.now());
        let tokens = template.encode(&language.tokenizer, &self.inputs(&self.messages, now))?;
        // A seed gives one conversation, not the same draws for each of its answers.
        let seed = self.sampling.seed.wrapping_add(self.answers);
        self.answers += 1;
        let request = Request {
            tokens,
            sampling: SamplingParams { seed, ..self.sampling.clone() },
            stop_tokens: self.session.model.config.stop_tokens.clone(),
            ..self.request.clone()
        };
        let answers = &mut self.session.answers;
        let id = answers.ask(request, self.stops.clone(), arrived)?;
        let mut listener = Listener::new(&work, true);
        let answer = pollster::block_on(answers.run(id, &mut |news| listener.hear(news)))?;
        Ok(Last { answer, messages: self.messages.clone(), now })
    }

    fn save(&self, path: &Path) -> Result<()> {
        let content = |message: &Message| match &message.content {
            Content::Text(text) => json!(text),
            Content::Parts(parts) => json!(parts.join("\n")),
            Content::Absent => Value::Null,
        };
        let entry = |message: &Message| json!({ "role": message.role, "content": content(message) });
        let messages: Value = self.messages.iter().map(entry).collect();
        std::fs::write(path, format!("{messages:#}\n")).map_err(|error| Error::io(path, error))?;
        term::note(&format!("{} messages written to {}", self.messages.len(), path.display()));
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
