//! Prefill and decode speed, each the median of several runs, with the counters that explain them.
//!
//! Nothing is reused from the cache, unless answers are to share their context. The first runs are not counted, because they pay
//! one-time costs, and because a GPU raises its clocks only under load.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use web_time::Instant;

use super::Args;
use crate::chat::session::Session;
use crate::cli::interrupt::Work;
use crate::cli::{report, term};
use crate::engine::answers::{AnswerId, Answers, What};
use crate::engine::{Engine, Request};
use crate::error::{Error, Result};
use crate::text::StopStrings;

/// Runs that begin within this time are not counted. At least one is not.
const WARM_UP: Duration = Duration::from_millis(500);

/// The median and the range of a figure over the runs.
pub(super) struct Spread {
    pub(super) median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }

    fn json(&self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// One line of the report.
enum Row {
    Prefill {
        tokens: usize,
        rate: Spread,
        first_token_ms: Spread,
    },
    /// `tokens` of each of `batch` answers, behind `depth` tokens each; the rate is that of all together.
    Decode {
        depth: usize,
        batch: usize,
        /// Whether the answers share those tokens.
        shared: bool,
        tokens: usize,
        rate: Spread,
    },
}

impl Row {
    fn text(&self) -> String {
        let (what, rate) = match self {
            Self::Prefill { tokens, rate, first_token_ms } => {
                let first = report::duration(first_token_ms.median);
                (format!("prefill  {tokens:>6} tokens, the first of the answer after {first}"), rate)
            }
            Self::Decode { depth, batch, shared, tokens, rate } => {
                let answers = if *batch == 1 { String::new() } else { format!(" of each of {batch} answers") };
                let shared = if *shared { " shared" } else { "" };
                (format!("decode   {tokens:>6} tokens{answers} behind {depth}{shared}"), rate)
            }
        };
        let Spread { median, min, max } = rate;
        format!("{what:<64} {median:>10.1} tok/s  (min {min:.1}, max {max:.1})\n")
    }

    fn json(&self) -> Value {
        match self {
            Self::Prefill { tokens, rate, first_token_ms } => {
                json!({ "tokens": tokens, "tok_s": rate.json(), "first_token_ms": first_token_ms.json() })
            }
            Self::Decode { depth, batch, shared, tokens, rate } => {
                json!({ "depth": depth, "batch": batch, "shared": shared, "tokens": tokens, "tok_s": rate.json() })
            }
        }
    }
}

pub(super) fn run(args: &Args, session: &mut Session, text: &[u32]) -> Result<()> {
    let places = args.depth.iter().flat_map(|&depth| args.batch.iter().map(move |&batch| (depth, batch)));
    let places: Vec<_> = places.filter(|_| args.decode > 0).collect();
    let decodes = places.iter().map(|&(depth, batch)| decode_tokens(depth, batch, args.decode, args.shared));
    let tokens: usize = args.prefill.iter().copied().chain(decodes).sum();
    if !args.json {
        term::out(&super::heading(session))?;
    }
    let bar = term::bar("bench", ((args.runs + 1) * tokens) as u64, "tokens");
    let work = Work::begin()?;
    let mut rows = Vec::new();
    let mut tell = |row: Row| {
        let told = if args.json { Ok(()) } else { bar.suspend(|| term::out(&row.text())) };
        rows.push(row);
        told
    };
    let shared = args.shared;
    let pace = Pace { bar: &bar, past: 0, run: 0 };
    let mut bench = Bench { answers: &mut session.answers, work: &work, pace, text, runs: args.runs, shared };
    for &tokens in &args.prefill {
        let Some(measured) = bench.prefill(tokens)? else { break };
        let (rates, firsts) = measured.into_iter().unzip();
        tell(Row::Prefill { tokens, rate: Spread::of(rates), first_token_ms: Spread::of(firsts) })?;
    }
    for (depth, batch) in places {
        let Some(rates) = bench.decode(depth, batch, args.decode)? else { break };
        tell(Row::Decode { depth, batch, shared, tokens: args.decode, rate: Spread::of(rates) })?;
    }
    bar.finish_and_clear();
    match args.json {
        true => term::json(&as_json(args, session, &rows)),
        false => term::out(&ending(session)),
    }?;
    work.end()
}

/// Refuses what the engine has no room for.
pub(super) fn check(args: &Args, engine: &Engine) -> Result<()> {
    let most = |counts: &[usize]| counts.iter().max().copied().unwrap_or(0);
    let (context, sequences) = (engine.context(), engine.max_sequences());
    if most(&args.batch) > sequences {
        let problem = format!("{} answers are more than the {sequences} that run at once", most(&args.batch));
        return Err(Error::Request { field: "batch", problem });
    }
    for (field, length) in [("prefill", most(&args.prefill) + 1), ("depth", most(&args.depth) + args.decode + 1)] {
        if length > context {
            let problem = format!("{length} tokens with the answer do not fit a context of {context}");
            return Err(Error::Request { field, problem });
        }
    }
    Ok(())
}

/// Tokens that a decode run computes. Answers that share their context compute it once.
fn decode_tokens(depth: usize, batch: usize, tokens: usize, shared: bool) -> usize {
    (if shared { depth } else { depth * batch }) + batch * tokens
}

/// How far the runs are, in tokens, so that a bar tells early how long they take.
struct Pace<'a> {
    bar: &'a ProgressBar,
    /// Tokens of the runs that have ended.
    past: usize,
    /// Tokens of each run now.
    run: usize,
}

impl Pace<'_> {
    /// The next runs are these.
    fn begin(&mut self, what: &'static str, tokens: usize) {
        self.bar.set_message(what);
        self.run = tokens;
    }

    /// `done` tokens of a run are computed. The first of several runs that are not counted shows it.
    fn show(&self, done: usize) {
        let position = (self.past + done.min(self.run)) as u64;
        self.bar.set_position(position.max(self.bar.position()));
    }

    fn end(&mut self) {
        self.show(self.run);
        self.past += self.run;
    }
}

struct Bench<'a> {
    answers: &'a mut Answers,
    work: &'a Work,
    pace: Pace<'a>,
    /// Prompts are cut from this text, which is repeated as needed.
    text: &'a [u32],
    runs: usize,
    /// Whether answers that are decoded at once share their context.
    shared: bool,
}

impl Bench<'_> {
    /// By run, tokens a second and milliseconds to the first token; `None` where it was interrupted.
    fn prefill(&mut self, tokens: usize) -> Result<Option<Vec<(f64, f64)>>> {
        self.pace.begin("prefill", tokens);
        self.each_run(|bench| {
            let id = bench.ask(tokens, 1, false)?;
            let (work, pace) = (bench.work, &bench.pace);
            let mut hear = |news: &[What]| {
                news.iter().for_each(|what| {
                    if let What::Prompt { done, .. } = what {
                        pace.show(*done)
                    }
                });
                Ok(work.flow())
            };
            let answer = pollster::block_on(bench.answers.run(id, &mut hear))?;
            Ok(answer.finish_reason.map(|_| (answer.timings.prefill_tok_s, answer.timings.ttft_ms)))
        })
    }

    /// By run, tokens a second of all answers together, from when each has its first; `None` where it was interrupted.
    fn decode(&mut self, depth: usize, batch: usize, tokens: usize) -> Result<Option<Vec<f64>>> {
        self.pace.begin("decode", decode_tokens(depth, batch, tokens, self.shared));
        self.each_run(|bench| {
            // The first answers have room to go on until the last has begun.
            let room = bench.answers.engine().context() - depth;
            let ids = (0..batch).map(|_| bench.ask(depth, room, bench.shared)).collect::<Result<Vec<_>>>()?;
            let rate = bench.rate(batch, tokens);
            ids.into_iter().for_each(|id| bench.answers.cancel(id));
            bench.answers.take();
            rate
        })
    }

    /// Tokens a second from the step in which the last of `batch` answers has its first token, until each has `tokens - 1` more.
    fn rate(&mut self, batch: usize, tokens: usize) -> Result<Option<f64>> {
        let (mut begun, mut since, mut count) = (BTreeSet::new(), None, 0);
        let (mut read, shared) = (BTreeMap::new(), self.shared);
        while count < batch * (tokens - 1) {
            if let ControlFlow::Break(()) = self.work.flow() {
                return Ok(None);
            }
            for update in pollster::block_on(self.answers.step())? {
                match update.what {
                    What::Prompt { done, .. } => _ = read.insert(update.id, done),
                    What::Text { token: Some(_), .. } => {
                        begun.insert(update.id);
                        count += usize::from(since.is_some());
                    }
                    What::Failed(error) => return Err(error),
                    What::Finished(_) => {
                        let problem =
                            "the first answer filled the context before the last began; give less to do".into();
                        return Err(Error::Request { field: "batch", problem });
                    }
                    _ => {}
                }
            }
            if since.is_none() && begun.len() == batch {
                since = Some(Instant::now());
            }
            let prompts: usize = if shared { read.values().max().copied().unwrap_or(0) } else { read.values().sum() };
            self.pace.show(prompts + begun.len() + count);
        }
        Ok(since.map(|since| count as f64 / since.elapsed().as_secs_f64()))
    }

    /// The results of the counted runs.
    fn each_run<T>(&mut self, mut run: impl FnMut(&mut Self) -> Result<Option<T>>) -> Result<Option<Vec<T>>> {
        let began = Instant::now();
        loop {
            if run(self)?.is_none() {
                return Ok(None);
            }
            if began.elapsed() >= WARM_UP {
                break;
            }
        }
        self.pace.end();
        let mut given = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            let Some(one) = run(self)? else { return Ok(None) };
            given.push(one);
            self.pace.end();
        }
        Ok(Some(given))
    }

    /// Asks for a greedy answer of exactly `answer` tokens: no token stops it.
    fn ask(&mut self, prompt: usize, answer: usize, shared: bool) -> Result<AnswerId> {
        let tokens = self.text.iter().copied().cycle().take(prompt).collect();
        let request = Request { tokens, max_tokens: answer, no_cache: !shared, ..Request::default() };
        self.answers.ask(request, StopStrings::default(), Instant::now())
    }
}

fn ending(session: &Session) -> String {
    let counters = session.engine().counters();
    let (weights, kv) = (term::bytes(counters.weight_bytes), term::bytes(session.engine().kv_bytes()));
    format!("memory   {weights} weights, {kv} KV cache\n{}", report::counter_lines(&counters))
}

fn as_json(args: &Args, session: &Session, rows: &[Row]) -> Value {
    let of = |wanted: fn(&Row) -> bool| -> Value { rows.iter().filter(|row| wanted(row)).map(Row::json).collect() };
    let counters = session.engine().counters();
    json!({
        "model": session.path.display().to_string(),
        "adapter": report::adapter(session.engine()),
        "kv": session.engine().config().kv.to_string(),
        "load_ms": session.load_ms,
        "compile_ms": session.compile_ms,
        "runs": args.runs,
        "prefill": of(|row| matches!(row, Row::Prefill { .. })),
        "decode": of(|row| matches!(row, Row::Decode { .. })),
        "memory": { "weight_bytes": counters.weight_bytes, "kv_bytes": session.engine().kv_bytes() },
        "counters": counters,
    })
}
