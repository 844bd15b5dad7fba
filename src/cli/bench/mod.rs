//! `bench`: how fast a model runs here, and where the time of a step goes.

mod charts;
mod modes;
mod prefix;
mod speed;
mod workload;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine::Profile;
use crate::error::{Error, Result};

use super::args::{ModelArgs, TextArgs};
use super::session::{EngineArgs, Model, Session};
use super::term;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  headstart bench
  headstart bench prefix
  headstart bench -m model.gguf --prefill 16,128,512,2048 --runs 5
  headstart bench -m model.gguf --decode 32 --depth 16,1024,4096 --batch 1,4,16
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

    /// Tokens to decode; 0 leaves decoding out
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode: usize,

    /// Tokens of context behind which decoding begins
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_values_t = [16])]
    depth: Vec<usize>,

    /// Answers that are decoded at once
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_values_t = [1])]
    batch: Vec<usize>,

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

const TEXT: &str = "A lighthouse keeper wrote down what the sea did each night. On calm evenings the page held one line; \
    when storms came, the ink ran for hours, and by morning the lamp had burned through a week of oil. Years later, \
    ships' captains asked to read the book, and found in it the currents, the shoals and the hours of every tide. ";

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(Other::Prefix(args)) = &args.other {
        return prefix::run(args);
    }
    let refuse = |field, problem: &str| Err(Error::Request { field, problem: problem.into() });
    if args.runs == 0 {
        return refuse("runs", "0 measures nothing; give at least 1");
    }
    for (field, counts) in [("prefill", &args.prefill), ("depth", &args.depth), ("batch", &args.batch)] {
        if counts.is_empty() || counts.contains(&0) {
            return refuse(field, "0 measures nothing; give at least 1");
        }
    }
    if args.decode == 1 {
        return refuse("decode", "one token comes from prefill; give at least 2, or 0 to leave decoding out");
    }
    let text = args.text.text()?;
    let model = Model::open(&args.model)?;
    let source = model.language.tokenizer.encode(text.as_deref().unwrap_or(TEXT))?;
    if source.is_empty() {
        return refuse("prompt", "holds no token to measure with");
    }
    term::notes(&args.engine.warnings(&model)?);
    let mut session = Session::start(model, &args.engine, None)?;
    speed::check(args, session.engine())?;
    if args.profile {
        return profile(args, &mut session);
    }
    speed::run(args, &mut session, &source)
}

/// The time of each kernel of a decode step and of a prefill step after `--depth` tokens, waited for one by one, and the host's.
fn profile(args: &Args, session: &mut Session) -> Result<()> {
    let mut steps = Vec::new();
    for (what, decode) in [("decode", true), ("prefill", false)] {
        let mut run =
            || pollster::block_on(session.answers.engine_mut().profile(decode, args.depth[0], args.prefill[0]));
        // The first run pays for what happens once.
        run()?;
        let Profile { samples, dispatches, host } = run()?;
        let mut kernels: BTreeMap<String, (usize, f64)> = BTreeMap::new();
        for sample in samples {
            let (count, ms) = kernels.entry(sample.label).or_default();
            *count += 1;
            *ms += sample.time.as_secs_f64() * 1e3;
        }
        let mut kernels: Vec<_> = kernels.into_iter().collect();
        kernels.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        steps.push((what, kernels, dispatches, host.as_secs_f64() * 1e6));
    }
    if args.json {
        let rows = |kernels: &[(String, (usize, f64))]| -> Value {
            kernels.iter().map(|(kernel, (count, ms))| json!({ "kernel": kernel, "count": count, "ms": ms })).collect()
        };
        let mut profile: Value = steps.iter().map(|(what, kernels, ..)| (*what, rows(kernels))).collect();
        let host = |(what, _, dispatches, us): &(&'static str, _, usize, f64)| {
            (*what, json!({ "dispatches": dispatches, "us": us }))
        };
        profile["host"] = steps.iter().map(host).collect();
        return term::json(&profile);
    }
    let mut text = String::new();
    for (what, kernels, dispatches, us) in &steps {
        let total: f64 = kernels.iter().map(|(_, (_, ms))| ms).sum();
        text += &format!(
            "{what}: {total:.1} ms, each kernel waited for; on the host {us:.0} µs for {dispatches} dispatches\n"
        );
        for (kernel, (count, ms)) in kernels {
            text += &format!("{ms:>9.2} ms {count:>4} × {kernel}\n");
        }
    }
    term::out(&text)
}
