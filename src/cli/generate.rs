//! `generate`: one prompt in, one answer out, streamed as text or whole as JSON.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use web_time::Instant;

use crate::engine::Request;
use crate::engine::completion::{self, Answer, Completion};
use crate::error::Result;
use crate::text::{Message, StopStrings};

use super::args::{ModelArgs, TextArgs};
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

    /// A conversation to answer: a JSON array of {role, content}, as in OpenAI's API; `-` is standard input
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

    /// Print one JSON object: text, tokens, usage, cache, timings, adapter, counters
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Debug, clap::Args)]
pub struct AnswerArgs {
    /// Most tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,

    /// End the answer before this text (repeatable)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
}

/// What is to be answered, before a model has seen it.
enum Input {
    Raw(String),
    Conversation(Vec<Message>),
}

impl Args {
    fn input(&self) -> Result<Input> {
        if let Some(path) = &self.messages {
            return Ok(Input::Conversation(input::messages(path)?));
        }
        let text = self.text.text()?.unwrap_or_default();
        if self.raw {
            return Ok(Input::Raw(text));
        }
        let system = self.system.iter().map(|system| Message::new("system", system));
        Ok(Input::Conversation(system.chain([Message::new("user", text)]).collect()))
    }
}

pub fn run(args: &Args) -> Result<()> {
    let input = args.input()?;
    let stops = StopStrings::new(&args.answer.stop)?;
    let model = Model::open(&args.model)?;
    let sampling = args.sampling.over(&model.sampling());
    sampling.validate(model.config.vocab)?;

    let arrived = Instant::now();
    let tokens = match &input {
        Input::Raw(text) => model.tokenizer.encode(text)?,
        Input::Conversation(messages) => model.prompt(&model.template()?, messages)?,
    };
    let preparation = arrived.elapsed();
    let mut session = Session::start(model, &args.engine)?;
    let request = Request {
        tokens,
        max_tokens: args.answer.max_tokens,
        stop_tokens: session.model.config.stop_tokens.clone(),
        sampling: sampling.clone(),
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
        return term::json(&as_json(&answer, &session));
    }
    if !answer.text.ends_with('\n') {
        term::out("\n")?;
    }
    term::note(&report::stats(&answer, (!sampling.is_greedy()).then_some(sampling.seed)));
    Ok(())
}

fn as_json(answer: &Answer, session: &Session) -> Value {
    json!({
        "text": answer.text,
        "token_ids": answer.token_ids,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "cache": answer.cache,
        "timings": report::timings(session.load_ms, &answer.timings),
        "adapter": report::adapter(session.engine.adapter()),
        "counters": session.engine.counters(),
    })
}
