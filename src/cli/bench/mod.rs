//! `bench`: measures how fast a model runs here, and where the time of a step goes.

mod charts;
mod modes;
mod prefix;
mod profile;
mod speed;
mod workload;

use crate::error::{Error, Result};

use super::args::{ModelArgs, TextArgs, positive, whole};
use super::session::{self, EngineArgs};
use super::{report, term};
use crate::chat::session::Session;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  headstart bench
  headstart bench prefix
  headstart bench -m model.gguf --prefill 16,128,512,2048 --runs 5
  headstart bench -m model.gguf --decode 32 --depth 16,1024,4096 --batch 1,4,16
  headstart bench -m model.gguf --depth 2048 --batch 8 --shared
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
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_values_t = [512], value_parser = positive)]
    prefill: Vec<usize>,

    /// Tokens to decode; 0 leaves decoding out
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = whole::<usize>)]
    decode: usize,

    /// Tokens of context behind which decoding begins
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_values_t = [16], value_parser = positive)]
    depth: Vec<usize>,

    /// Answers that are decoded at once
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_values_t = [1], value_parser = positive)]
    batch: Vec<usize>,

    /// The answers that are decoded at once share their context, as requests with one system prompt do; a run without it
    /// measures the same answers apart
    #[arg(long)]
    shared: bool,

    /// Runs of each, after half a second of runs that are not counted
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = positive)]
    runs: usize,

    #[command(flatten)]
    engine: EngineArgs,

    /// Show instead where the time of one decode step and of one prefill step goes, kernel by kernel: the time, the bytes read and
    /// written, the operations, and the share of the rate at which the GPU copies. Times are the GPU's own timestamps; if it has
    /// none, each kernel is waited for and timed by the host's clock
    #[arg(long, conflicts_with_all = ["decode", "batch", "shared"])]
    profile: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Measure what the prefix cache saves, and draw charts of it
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
    if args.decode == 1 {
        return refuse("decode", "one token comes from prefill; give at least 2, or 0 to leave decoding out");
    }
    let text = args.text.text()?;
    let model = args.model.open()?;
    let source = model.language.tokenizer.encode(text.as_deref().unwrap_or(TEXT))?;
    if source.is_empty() {
        return refuse("prompt", "holds no token to measure with");
    }
    term::notes(&args.engine.warnings(&model)?);
    if args.shared && args.batch.iter().all(|&answers| answers == 1) {
        term::note("note: --shared has no effect on one answer at a time; --batch 4 decodes four at once");
    }
    let mut session = session::start(model, &args.engine, None)?;
    speed::check(args, session.engine())?;
    if args.profile {
        return profile::run(args, &mut session);
    }
    speed::run(args, &mut session, &source)
}

/// What is measured, and on what.
fn heading(session: &Session) -> String {
    let (load, compile) = (report::duration(session.load_ms), report::duration(session.compile_ms));
    format!(
        "model    {}\nadapter  {}\nload     {load}, of it {compile} for shaders after the weights\n",
        session.path.display(),
        report::place(session.engine()),
    )
}
