//! `generate`: one prompt in, one answer out, streamed as text or whole as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};
use web_time::Instant;

use crate::chat::CacheOptions;
use crate::chat::session::{Asked, Session};
use crate::engine::answers::Answer;
use crate::engine::openai::{Body, Input};
use crate::error::{Error, Result};
use crate::text::{Message, PastThinking, StopStrings, parse_time};

use super::args::{ModelArgs, PromptArgs, positive};
use super::cache::{ReuseArgs, recall};
use super::interrupt::Work;
use super::listen::Listener;
use super::sampling::SamplingArgs;
use super::session::{self, EngineArgs};
use super::{input, report, term};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart generate 'Name three rivers.'
  cat notes.txt | headstart generate 'Summarise this:'
  git diff | headstart generate --system 'Review this change.'
  headstart generate -m model.gguf -p 'Once upon a time' --raw --max-tokens 100
  headstart generate 'A haiku about rain' --temperature 0.8 --top-k 40 --seed 7
  headstart generate --messages conversation.json --stop '\\n\\n' --json")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// A conversation to answer: a JSON array of {role, content}, or an object as in OpenAI's API, with `messages` and, if
    /// wanted, `tools` and more (see `prefix explain --help`). Flags take precedence over its `temperature`, `max_tokens`,
    /// `stop` and the like. `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["system", "raw", "words", "prompt", "prompt_file"])]
    messages: Option<PathBuf>,

    /// What the model should know and be before it reads the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw", allow_hyphen_values = true)]
    system: Option<String>,

    /// Continue the text itself, without the model's chat template
    #[arg(long, conflicts_with_all = ["date", "past_thinking", "split_special_tokens"])]
    raw: bool,

    #[command(flatten)]
    answer: AnswerArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON object: text, tokens, warnings, usage, cache, timings, adapter, kv, counters
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    reuse: ReuseArgs,
}

/// Most tokens of an answer, if neither a flag nor the request says how many.
pub(crate) const MAX_TOKENS: usize = 512;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AnswerArgs {
    /// Most tokens of an answer [default: 512]
    #[arg(short = 'n', long, value_name = "N", value_parser = positive)]
    pub(crate) max_tokens: Option<usize>,

    /// End the answer before this text (repeatable)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,

    /// What the chat template takes for today, such as 2026-11-23: the same date keeps the prompt the same [default: today]
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    pub(crate) date: Option<i64>,

    /// Keep or strip what the model thought before the last question; not every chat template can keep it. Kept thoughts take
    /// room in the context. If they are stripped, the answers behind them are computed again [default: as the template does]
    #[arg(long, value_name = "keep|strip", value_parser = PastThinking::parse)]
    pub(crate) past_thinking: Option<PastThinking>,

    /// Control tokens that messages and tools spell out, such as <|im_end|>, stay text
    #[arg(long)]
    pub(crate) split_special_tokens: bool,
}

impl AnswerArgs {
    /// Puts the values of the flags over those of a request.
    pub(crate) fn over(&self, body: &mut Body) -> Result<()> {
        body.max_tokens = self.max_tokens.or(body.max_tokens).or(Some(MAX_TOKENS));
        if !self.stop.is_empty() {
            body.stops = StopStrings::new(&self.stop)?;
        }
        if let Input::Conversation(prompt) = &mut body.input {
            prompt.now = self.date.or(prompt.now);
            prompt.past_thinking = self.past_thinking.or(prompt.past_thinking);
            prompt.split_special_tokens |= self.split_special_tokens;
        }
        Ok(())
    }
}

const NO_BOS: &str = "is for a text as it is: give --raw too, since a chat template writes its BOS itself";

impl Args {
    /// The request in the file, or the one that the flags describe.
    fn body(&self) -> Result<Body> {
        if let Some(path) = &self.messages {
            return input::body(path);
        }
        let no_bos = self.prompt.text.no_bos;
        if no_bos && !self.raw {
            return Err(Error::Request { field: "no-bos", problem: NO_BOS.into() });
        }
        let text = self.prompt.text(false)?.unwrap_or_else(|| super::lacks_prompt("generate"));
        if self.raw {
            let input = if no_bos { Input::Exactly(text) } else { Input::Text(text) };
            return Ok(input.into());
        }
        let system = self.system.iter().map(|system| Message::new("system", system));
        let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
        Ok(Input::from(messages).into())
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut body = args.body()?;
    args.answer.over(&mut body)?;
    body.sampling = args.sampling.wishes().or(body.sampling);
    body.sampling.validate()?;
    body.no_cache |= args.reuse.no_cache;
    body.exact |= args.reuse.exact;
    let salt = args.reuse.salt(body.cache_salt.as_deref());
    let cache = args.reuse.options(&salt)?;
    body.cache_salt = Some(salt);
    let model = args.model.open()?;
    // Wrong values are reported before the model is loaded.
    body.sampling.over(&model.config.sampling.params(), || 0).validate(model.config.vocab)?;

    let arrived = Instant::now();
    let tokens = model.language.tokens(&body.input)?;
    let preparation = arrived.elapsed();
    let warnings = [model.language.warnings(&body.input), args.engine.warnings(&model)?].concat();
    if !args.json {
        term::notes(&warnings);
    }
    let mut session = session::start(model, &args.engine, cache.as_ref())?;
    let mut problems = report::Problems::default();
    if !args.json {
        problems.show(session.engine());
    }
    let work = Work::begin()?;
    // TTFT leaves out loading, which came between the tokens of the prompt and its first step.
    let Asked { id, seed, .. } = session.ask_tokens(tokens, &body, Instant::now() - preparation)?;
    let mut listener = Listener::new(&work, !args.json);
    let answer = pollster::block_on(session.answers.run(id, &mut |news| listener.hear(news)))?;
    listener.end()?;
    session::log(&session, &body.input, &answer, cache.as_ref());
    if args.json {
        // The counters of the tiers include what was saved.
        pollster::block_on(session.answers.persist())?;
        term::json(&as_json(answer, &session, &body.input, cache.as_ref(), &warnings)?)?;
        return work.end();
    }
    if !answer.text.ends_with('\n') && (answer.finish_reason.is_some() || !answer.text.is_empty()) {
        term::out("\n")?;
    }
    if answer.finish_reason.is_some() {
        term::note(&report::stats(&answer, seed));
    }
    pollster::block_on(session.answers.persist())?;
    problems.show(session.engine());
    work.end()
}

fn as_json(
    mut answer: Answer,
    session: &Session,
    input: &Input,
    cache: Option<&CacheOptions>,
    warnings: &[String],
) -> Result<Value> {
    let (language, engine) = (&session.language, session.engine());
    let conversation = language.conversation(input)?;
    recall(cache, engine, &conversation.tokens, &mut answer.cache);
    let mut account = json!(answer.cache);
    account["divergence"] = json!(conversation.divergence(&answer.cache, &language.tokenizer));
    account["tiers"] = report::tiers(engine);
    Ok(json!({
        "text": answer.text,
        "token_ids": answer.token_ids,
        "finish_reason": answer.finish_reason,
        "warnings": warnings,
        "usage": answer.usage,
        "cache": account,
        "timings": report::timings(session.load_ms, &answer.timings),
        "adapter": report::adapter(engine),
        "kv": engine.config().kv.to_string(),
        "counters": engine.counters(),
    }))
}
