//! `generate`: one prompt in, one answer out, streamed as text or whole as JSON.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use web_time::Instant;

use crate::engine::Request;
use crate::engine::completion::{self, Answer, Completion};
use crate::engine::explain::Conversation;
use crate::error::{Error, Result};
use crate::text::{Message, StopStrings, parse_time};

use super::args::{ModelArgs, TextArgs};
use super::cache::ReuseArgs;
use super::input::Prompt;
use super::sampling::SamplingArgs;
use super::session::{EngineArgs, Model, Session};
use super::{input, report, term};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart generate -p 'Name three rivers.'
  headstart generate -m model.gguf -p 'Once upon a time' --raw --max-tokens 100
  headstart generate -p 'A haiku about rain' --temperature 0.8 --top-k 40 --seed 7
  headstart generate --messages conversation.json --stop '\\n\\n' --json
  git diff | headstart generate --system 'Review this change.' --prompt-file -")]
#[command(group(clap::ArgGroup::new("input").required(true).args(["prompt", "prompt_file", "messages"])))]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    text: TextArgs,

    /// A conversation to answer: a JSON array of {role, content}, or an object with `messages` and, where wanted,
    /// `tools` and more (see `prefix explain --help`), as in OpenAI's API; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["system", "raw"])]
    messages: Option<PathBuf>,

    /// What the model should know and be before it reads the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw", allow_hyphen_values = true)]
    system: Option<String>,

    /// Continue the text itself, without the model's chat template
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    answer: AnswerArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON object: text, tokens, warnings, usage, cache, timings, adapter, counters
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    reuse: ReuseArgs,
}

#[derive(Debug, clap::Args)]
pub struct AnswerArgs {
    /// Most tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,

    /// End the answer before this text (repeatable)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,

    /// What the chat template takes for today, such as 2026-11-23: the same date keeps the prompt the same [default: today]
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    pub date: Option<i64>,
}

/// What is to be answered, before a model has seen it.
enum Input {
    Raw(String),
    Conversation(Box<Prompt>),
}

impl Input {
    fn cache_salt(&self) -> Option<&str> {
        match self {
            Self::Raw(_) => None,
            Self::Conversation(prompt) => prompt.cache_salt.as_deref(),
        }
    }

    /// What a person may not expect of the prompt.
    fn warnings(&self, model: &Model) -> Result<Vec<String>> {
        match self {
            Self::Raw(_) => Ok(Vec::new()),
            Self::Conversation(prompt) => Ok(model.template()?.warnings(&prompt.inputs())),
        }
    }
}

const NO_BOS: &str = "is for a text as it is: give --raw too, since a chat template writes its BOS itself";

impl Args {
    fn input(&self) -> Result<Input> {
        if let Some(path) = &self.messages {
            let mut prompt = input::prompt(path)?;
            prompt.now = self.answer.date.or(prompt.now);
            return Ok(Input::Conversation(prompt.into()));
        }
        let text = self.text.text()?.unwrap_or_default();
        if self.text.no_bos && !self.raw {
            return Err(Error::Request { field: "no-bos", problem: NO_BOS.into() });
        }
        if self.raw {
            return Ok(Input::Raw(text));
        }
        let system = self.system.iter().map(|system| Message::new("system", system));
        let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
        Ok(Input::Conversation(Box::new(Prompt { now: self.answer.date, ..messages.into() })))
    }
}

pub fn run(args: &Args) -> Result<()> {
    let input = args.input()?;
    let stops = StopStrings::new(&args.answer.stop)?;
    let model = Model::open(&args.model)?;
    let sampling = args.sampling.over(&model.config.sampling.params());
    sampling.validate(model.config.vocab)?;

    let arrived = Instant::now();
    let tokens = match &input {
        Input::Raw(text) => args.text.tokens(&model.tokenizer, text)?,
        Input::Conversation(prompt) => model.prompt(&model.template()?, &prompt.inputs())?,
    };
    let preparation = arrived.elapsed();
    let warnings = input.warnings(&model)?;
    if !args.json {
        warnings.iter().for_each(|warning| term::note(&format!("note: {warning}")));
    }
    let salt = args.reuse.salt(input.cache_salt());
    let mut session = args.reuse.start(model, &args.engine, &salt)?;
    let request = Request {
        tokens,
        max_tokens: args.answer.max_tokens,
        stop_tokens: session.model.config.stop_tokens.clone(),
        sampling: sampling.clone(),
        no_cache: args.reuse.no_cache,
        exact: args.reuse.exact,
        cache_salt: salt,
        explain: args.json,
        ..Request::default()
    };
    // Loading stands between the prompt's tokens and its first step; TTFT counts what a loaded model would take.
    let arrived = Instant::now() - preparation;
    let completion = Completion::submit(&mut session.engine, &session.model.tokenizer, request, stops, arrived)?;
    let mut each = |text: &str| {
        if !args.json && !text.is_empty() {
            term::out(text)?;
        }
        Ok(ControlFlow::Continue(()))
    };
    let answer = pollster::block_on(completion::run(&mut session.engine, completion, &mut each))?;
    if args.json {
        // What was saved belongs to the account.
        session.persist()?;
        return term::json(&as_json(answer, &session, &input, args, &warnings)?);
    }
    if !answer.text.ends_with('\n') {
        term::out("\n")?;
    }
    term::note(&report::stats(&answer, (!sampling.is_greedy()).then_some(sampling.seed)));
    session.persist()?;
    report::problems(&session.engine);
    Ok(())
}

fn as_json(mut answer: Answer, session: &Session, input: &Input, args: &Args, warnings: &[String]) -> Result<Value> {
    let reuse = &args.reuse;
    let Session { model, engine, .. } = session;
    let conversation = match input {
        Input::Raw(text) => Conversation::raw(args.text.tokens(&model.tokenizer, text)?),
        Input::Conversation(prompt) => Conversation::new(&model.template()?, &model.tokenizer, &prompt.inputs())?,
    };
    reuse.recall(engine, &reuse.salt(input.cache_salt()), &conversation.tokens, &mut answer.cache);
    let mut account = json!(answer.cache);
    account["divergence"] = json!(conversation.divergence(&answer.cache, &model.tokenizer));
    account["tiers"] = report::tiers(engine);
    Ok(json!({
        "text": answer.text,
        "token_ids": answer.token_ids,
        "finish_reason": answer.finish_reason,
        "warnings": warnings,
        "usage": answer.usage,
        "cache": account,
        "timings": report::timings(session.load_ms, &answer.timings),
        "adapter": report::adapter(engine.adapter()),
        "counters": engine.counters(),
    }))
}
