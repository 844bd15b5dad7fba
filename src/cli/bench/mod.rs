//! `bench`: prefill and decode speed, each the median of several runs, with the counters that explain them.
//!
//! Nothing is reused from the cache, and the first run of each is not counted: it pays for what happens once.

mod charts;
mod modes;
mod prefix;
mod workload;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use web_time::Instant;

use crate::engine::Request;
use crate::engine::answers::Timings;
use crate::error::{Error, Result};
use crate::text::StopStrings;

use super::args::{ModelArgs, TextArgs};
use super::interrupt::Work;
use super::session::{EngineArgs, Model, Session};
use super::{report, term};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  headstart bench
  headstart bench prefix
  headstart bench -m model.gguf --prefill 128,512 --decode 64 --runs 5
  headstart bench --prompt-file book.txt --json
  headstart bench --profile"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    other: Option<Other>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    text: TextArgs,

    /// Prompt lengths to prefill
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_values_t = [512])]
    prefill: Vec<usize>,

    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode: usize,

    /// Runs of each, after one that is not counted
    #[arg(long, value_name = "R", default_value_t = 3)]
    runs: usize,

    #[command(flatten)]
    engine: EngineArgs,

    /// Show instead where the time of one decode step and of one prefill step goes, kernel by kernel
    #[arg(long)]
    profile: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Measure what the prefix cache saves, and draw it
    Prefix(prefix::Args),
}

/// The prompt that decoding goes on from, in tokens.
const DECODE_PROMPT: usize = 16;

const TEXT: &str = "A lighthouse keeper wrote down what the sea did each night. On calm evenings the page held one line; \
    when storms came, the ink ran for hours, and by morning the lamp had burned through a week of oil. Years later, \
    ships' captains asked to read the book, and found in it the currents, the shoals and the hours of every tide. ";

/// Tokens a second over the runs.
struct Rate {
    median: f64,
    min: f64,
    max: f64,
}

impl Rate {
    fn of(mut rates: Vec<f64>) -> Self {
        rates.sort_by(f64::total_cmp);
        let middle = rates.len() / 2;
        let median = if rates.len() % 2 == 1 { rates[middle] } else { (rates[middle - 1] + rates[middle]) / 2.0 };
        Self { median, min: rates[0], max: rates[rates.len() - 1] }
    }

    fn json(&self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }

    fn row(&self, what: &str, tokens: usize) -> String {
        let Self { median, min, max } = self;
        format!("{what:<8} {tokens:>6} tokens  {median:>10.1} tok/s  (min {min:.1}, max {max:.1})\n")
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(Other::Prefix(args)) = &args.other {
        return prefix::run(args);
    }
    let refuse = |field, problem: &str| Err(Error::Request { field, problem: problem.into() });
    if args.runs == 0 {
        return refuse("runs", "0 measures nothing; give at least 1");
    }
    if args.prefill.is_empty() || args.prefill.contains(&0) {
        return refuse("prefill", "0 tokens cannot be prefilled; give at least 1");
    }
    if args.decode == 1 {
        return refuse("decode", "one token comes from prefill; give at least 2, or 0 to leave decode out");
    }
    let text = args.text.text()?;
    let model = Model::open(&args.model)?;
    let source = model.language.tokenizer.encode(text.as_deref().unwrap_or(TEXT))?;
    if source.is_empty() {
        return refuse("prompt", "holds no token to measure with");
    }
    term::notes(&args.engine.warnings(&model)?);
    let mut session = Session::start(model, &args.engine, None)?;
    if args.profile {
        return profile(args, &mut session);
    }
    let rounds = (args.runs + 1) * (args.prefill.len() + usize::from(args.decode > 0));
    let bar = term::bar("bench", rounds as u64, "runs");
    let work = Work::begin()?;
    // What was interrupted has no rate.
    let measure = |session: &mut Session, prompt: usize, answer: usize, rate: fn(&Timings) -> f64| {
        let mut rates = Vec::with_capacity(args.runs + 1);
        for _ in 0..=args.runs {
            let tokens = source.iter().copied().cycle().take(prompt).collect();
            let Some(timings) = once(session, &work, tokens, answer)? else { return Ok(None) };
            rates.push(rate(&timings));
            bar.inc(1);
        }
        Ok(Some(Rate::of(rates.split_off(1))))
    };
    let mut prefill = Vec::new();
    for &length in &args.prefill {
        let rate = measure(&mut session, length, 1, |timings| timings.prefill_tok_s)?;
        prefill.extend(rate.map(|rate| (length, rate)));
    }
    let decode = match args.decode {
        0 => None,
        length => measure(&mut session, DECODE_PROMPT, length, |timings| timings.decode_tok_s)?,
    };
    bar.finish_and_clear();
    match args.json {
        true => term::json(&as_json(args, &session, &prefill, decode.as_ref())),
        false => term::out(&as_text(args, &session, &prefill, decode.as_ref())),
    }?;
    work.end()
}

/// The time of each kernel of a decode step and of a prefill step after `DECODE_PROMPT` tokens, waited for one by one.
fn profile(args: &Args, session: &mut Session) -> Result<()> {
    let mut steps = Vec::new();
    for (what, decode) in [("decode", true), ("prefill", false)] {
        // The first run pays for what happens once.
        let mut samples = Vec::new();
        for _ in 0..2 {
            samples = pollster::block_on(session.answers.engine_mut().profile(decode, DECODE_PROMPT, args.prefill[0]))?;
        }
        let mut kernels: BTreeMap<String, (usize, f64)> = BTreeMap::new();
        for sample in samples {
            let (count, ms) = kernels.entry(sample.label).or_default();
            *count += 1;
            *ms += sample.time.as_secs_f64() * 1e3;
        }
        let mut kernels: Vec<_> = kernels.into_iter().collect();
        kernels.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        steps.push((what, kernels));
    }
    if args.json {
        let rows = |kernels: &[(String, (usize, f64))]| -> Value {
            kernels.iter().map(|(kernel, (count, ms))| json!({ "kernel": kernel, "count": count, "ms": ms })).collect()
        };
        return term::json(&steps.iter().map(|(what, kernels)| (*what, rows(kernels))).collect::<Value>());
    }
    let mut text = String::new();
    for (what, kernels) in &steps {
        let total: f64 = kernels.iter().map(|(_, (_, ms))| ms).sum();
        text += &format!("{what}: {total:.1} ms, each kernel waited for\n");
        for (kernel, (count, ms)) in kernels {
            text += &format!("{ms:>9.2} ms {count:>4} × {kernel}\n");
        }
    }
    term::out(&text)
}

/// One greedy answer of exactly `answer` tokens: no token stops it. `None` where it was interrupted.
fn once(session: &mut Session, work: &Work, tokens: Vec<u32>, answer: usize) -> Result<Option<Timings>> {
    let request = Request { tokens, max_tokens: answer, no_cache: true, ..Request::default() };
    let id = session.answers.ask(request, StopStrings::default(), Instant::now())?;
    let answer = pollster::block_on(session.answers.run(id, &mut |_| Ok(work.flow())))?;
    Ok(answer.finish_reason.map(|_| answer.timings))
}

fn as_json(args: &Args, session: &Session, prefill: &[(usize, Rate)], decode: Option<&Rate>) -> Value {
    json!({
        "model": session.model.path.display().to_string(),
        "adapter": report::adapter(session.engine().adapter()),
        "load_ms": session.load_ms,
        "compile_ms": session.compile_ms,
        "runs": args.runs,
        "prefill": prefill
            .iter()
            .map(|(length, rate)| json!({ "tokens": length, "tok_s": rate.json() }))
            .collect::<Value>(),
        "decode": decode.map(|rate| json!({ "tokens": args.decode, "tok_s": rate.json() })),
        "counters": session.engine().counters(),
    })
}

fn as_text(args: &Args, session: &Session, prefill: &[(usize, Rate)], decode: Option<&Rate>) -> String {
    let adapter = session.engine().adapter();
    let (load, compile) = (report::duration(session.load_ms), report::duration(session.compile_ms));
    let mut text = format!(
        "model    {}\nadapter  {} ({}, {})\nload     {load}, of it shaders {compile}\n",
        session.model.path.display(),
        adapter.name,
        adapter.backend,
        adapter.driver,
    );
    for (length, rate) in prefill {
        text += &rate.row("prefill", *length);
    }
    if let Some(rate) = decode {
        text += &rate.row("decode", args.decode);
    }
    text + &report::counter_lines(&session.engine().counters())
}
