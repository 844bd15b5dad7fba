//! `bench prefix`: measures what the prefix cache saves, by prefix length, kind of use and mode.
//!
//! Modes that are compared run one after the other on the same tokens, so that a machine's drift hits them alike.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Value, json};
use web_time::Instant;

use crate::error::{Error, Result};
use crate::gpu::AdapterKind;

use super::charts;
use super::modes::{Bench, Mode, Sample};
use super::workload::{REUSABLE, Tokens, WORKLOADS};
use crate::chat::session::Session;
use crate::cli::args::{ModelArgs, positive, whole};
use crate::cli::interrupt::Work;
use crate::cli::session::{self, EngineArgs};
use crate::cli::{report, term};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart bench prefix
  headstart bench prefix --out charts --lengths 256,1024,2048 --runs 5
  headstart bench prefix -m model.gguf --prompt 512 --json

Writes prefix.json, prefix.csv, restart.svg, ttft.svg and saved.svg into the folder of --out. Those of an earlier run are replaced;
other files of these names are kept, and the folder is refused.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Where the results and charts go
    #[arg(long, value_name = "FOLDER", default_value = "bench-prefix")]
    out: PathBuf,

    /// Prefix lengths whose time to first token is measured [default: 64,128,256 on a CPU, 128,256,512,1024 on a GPU]
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', value_parser = positive)]
    lengths: Vec<usize>,

    /// Tokens that follow a prefix
    #[arg(long, value_name = "N", default_value_t = 18, value_parser = positive)]
    suffix: usize,

    /// Tokens of a workload's prompt [default: 128 on a CPU, 1024 on a GPU]
    #[arg(long, value_name = "N", value_parser = positive)]
    prompt: Option<usize>,

    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    answer: usize,

    /// Longest prompt that is also measured without a KV cache
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = whole::<usize>)]
    no_kv_cache: usize,

    /// Runs of each length
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = positive)]
    runs: usize,

    /// Begin no measurement after so many seconds, and show what was measured; 0 measures all
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = whole::<u64>)]
    seconds: u64,

    /// Print the JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Defaults, by adapter.
const CPU_LENGTHS: [usize; 3] = [64, 128, 256];
const GPU_LENGTHS: [usize; 4] = [128, 256, 512, 1024];
const CPU_PROMPT: usize = 128;
const GPU_PROMPT: usize = 1024;

/// Requests of one prefix length in one mode.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) prefix_tokens: usize,
    pub(crate) mode: Mode,
    /// Medians over the runs.
    pub(crate) ttft_ms: f64,
    pub(crate) answer_ms: f64,
    pub(crate) samples: Vec<Sample>,
}

/// The requests of one workload in one mode.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) workload: &'static str,
    pub(crate) reusable_percent: usize,
    pub(crate) mode: Mode,
    pub(crate) mean_ttft_ms: f64,
    pub(crate) computed_tokens: usize,
    pub(crate) saved_tokens: usize,
    pub(crate) requests: Vec<Sample>,
}

/// Figures that relate modes of one run to each other; medians over the runs.
#[derive(Debug, Serialize)]
struct Ratios {
    prefix_tokens: usize,
    /// Prefill with an empty cache over prefill without a cache: the cost of caching when it cannot help.
    cold_over_kv_cache: Option<f64>,
    /// A hit over the part that it cannot save.
    gpu_hit_over_suffix_alone: Option<f64>,
    exact_repeat_over_suffix_alone: Option<f64>,
    /// The cost of the prefix: computed, and loaded from each tier, beyond a hit on the GPU.
    prefill_ms: Option<f64>,
    load_from_memory_ms: Option<f64>,
    load_from_disk_ms: Option<f64>,
}

#[derive(Default)]
struct Results {
    points: Vec<Point>,
    ratios: Vec<Ratios>,
    cells: Vec<Cell>,
    /// Whether measurements were left out for lack of time.
    is_cut: bool,
}

/// The files of a run, of which the first tells that the others are of a run too.
const FILES: [&str; 5] = ["prefix.json", "prefix.csv", "ttft.svg", "restart.svg", "saved.svg"];

/// Makes the folder of the results.
///
/// # Errors
/// [`Error::Io`]; [`Error::Request`] for what is no folder, and for one that has other files of these names.
fn prepare(out: &Path) -> Result<()> {
    if out.exists() && !out.is_dir() {
        let problem = format!("{} is no folder: name one, or a new one", out.display());
        return Err(Error::Request { field: "out", problem });
    }
    std::fs::create_dir_all(out).map_err(|error| Error::io(out, error))?;
    let results = std::fs::read(out.join(FILES[0])).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let is_ours = results.is_some_and(|results| ["ratios", "workloads"].iter().all(|field| results[field].is_array()));
    let other = FILES.iter().map(|name| out.join(name)).find(|path| path.symlink_metadata().is_ok());
    match other.filter(|_| !is_ours) {
        None => Ok(()),
        Some(path) => {
            let problem = format!("{} is there already, and of no earlier run: name another folder", path.display());
            Err(Error::Request { field: "out", problem })
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let refuse = |field, problem: String| Err(Error::Request { field, problem });
    prepare(&args.out)?;
    let model = args.model.open()?;
    term::notes(&args.engine.warnings(&model)?);
    let mut session = session::start(model, &args.engine, None)?;
    let context = session.engine().context();
    let is_cpu = session.engine().adapter_kind() == AdapterKind::Cpu;
    let usual = if is_cpu { &CPU_LENGTHS[..] } else { &GPU_LENGTHS[..] };
    let lengths = if args.lengths.is_empty() { usual } else { &args.lengths[..] };
    let longest = lengths.iter().max().unwrap_or(&0) + args.suffix + args.answer;
    if longest >= context {
        return refuse("lengths", format!("{longest} tokens with suffix and answer do not fit a context of {context}"));
    }
    let prompt = args.prompt.unwrap_or(if is_cpu { CPU_PROMPT } else { GPU_PROMPT });
    if prompt * 3 / 2 + args.answer >= context {
        return refuse("prompt", format!("{prompt} and half as many more must fit a context of {context}"));
    }
    if !args.json {
        term::out(&super::heading(&session))?;
    }
    let mut results = Results::default();
    let measured = measure(args, lengths, &mut session, prompt, &mut results);
    // After an interrupt, the measurements so far are kept, if there are any.
    match &measured {
        Err(Error::Interrupted) if !results.points.is_empty() => {}
        Err(_) => return measured,
        Ok(()) => {}
    }
    let json = as_json(args, &session, prompt, &results);
    let adapter = session.engine().adapter().name.clone();
    let texts = [
        format!("{json:#}\n"),
        csv(&results),
        charts::ttft(&results.points, args.suffix, &adapter)?,
        charts::restart(&results.points, args.suffix, &adapter)?,
        charts::saved(&results.cells)?,
    ];
    for (name, text) in FILES.iter().zip(&texts) {
        let path = args.out.join(name);
        std::fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
    }
    match args.json {
        true => term::json(&json),
        false => term::out(&ending(args, &results)),
    }?;
    measured
}

fn measure(args: &Args, lengths: &[usize], session: &mut Session, prompt: usize, results: &mut Results) -> Result<()> {
    let work = Work::begin()?;
    let began = Instant::now();
    let is_late = || args.seconds > 0 && began.elapsed() > Duration::from_secs(args.seconds);
    let tell = |bar: &ProgressBar, text: String| if args.json { Ok(()) } else { bar.suspend(|| term::out(&text)) };
    let vocabulary = session.engine().config().vocab;
    let bar = term::bar("lengths", ((args.runs + 1) * lengths.len()) as u64, "runs");
    let mut bench = Bench::new(&mut session.answers, &work, args.answer)?;
    // Pays for what happens once: the cache grows to what will be needed.
    let longest = lengths.iter().max().copied().unwrap_or(1);
    bench.forget()?;
    sweep(&mut bench, args, longest, &mut Tokens::new(0, vocabulary), false)?;
    tell(&bar, format!("Time to first token, a prefix and {} tokens more, medians of {}:\n", args.suffix, args.runs))?;
    for &length in lengths {
        let mut runs = Vec::with_capacity(args.runs);
        for run in 0..args.runs {
            // One run at least, so that there is something to tell.
            if is_late() && (run > 0 || !results.points.is_empty()) {
                results.is_cut = true;
                break;
            }
            let mut tokens = Tokens::new((run * 1_000_003 + length) as u64, vocabulary);
            runs.push(sweep(&mut bench, args, length, &mut tokens, run % 2 == 1)?);
            bar.inc(1);
        }
        if runs.is_empty() {
            break;
        }
        let ratios = relate(length, &runs);
        let points = by_mode(length, runs);
        tell(&bar, point_lines(&points) + &ratio_lines(&ratios))?;
        results.ratios.push(ratios);
        results.points.extend(points);
    }
    bar.finish_and_clear();

    let modes = [Mode::NoKvCache, Mode::KvCache, Mode::Cold, Mode::GpuHit, Mode::MemoryHit, Mode::DiskHit];
    let bar = term::bar("workloads", (WORKLOADS.len() * REUSABLE.len() * modes.len()) as u64, "cells");
    tell(&bar, "Workloads, mean time to first token and prompt tokens computed:\n".into())?;
    for workload in &WORKLOADS {
        for reusable in REUSABLE {
            if is_late() {
                results.is_cut = true;
                break;
            }
            let seed = (reusable * 31 + workload.requests) as u64;
            let prompts = workload.prompts(prompt, reusable, &mut Tokens::new(seed, vocabulary));
            for mode in modes {
                bar.inc(1);
                if mode == Mode::NoKvCache && prompts.iter().any(|prompt| prompt.len() > args.no_kv_cache) {
                    continue;
                }
                bench.forget()?;
                let mut requests = Vec::with_capacity(prompts.len());
                for prompt in &prompts {
                    bench.recall(mode)?;
                    requests.push(bench.measure(mode, prompt)?);
                }
                let cell = cell(workload.name, reusable, mode, requests);
                tell(&bar, cell_line(&cell))?;
                results.cells.push(cell);
            }
        }
    }
    bar.finish_and_clear();
    work.end()
}

type Run = Vec<(Mode, Sample)>;

/// Hits are short: each kind is measured so often in a run.
const HITS: usize = 5;

/// A prefix of `length` tokens in every mode, each time with another suffix.
fn sweep(bench: &mut Bench, args: &Args, length: usize, tokens: &mut Tokens, cold_first: bool) -> Result<Run> {
    let prefix = tokens.take(length);
    let mut run = Vec::new();
    let mut first = [Mode::KvCache, Mode::Cold];
    if cold_first {
        first.reverse();
    }
    let without = (length <= args.no_kv_cache).then_some(Mode::NoKvCache);
    for mode in without.into_iter().chain(first) {
        bench.recall(mode)?;
        let prompt = [&prefix[..], &tokens.take(args.suffix)].concat();
        run.push((mode, bench.measure(mode, &prompt)?));
    }
    let chunk = bench.answers.engine().chunk();
    for _ in 0..HITS {
        if length.is_multiple_of(chunk) && args.suffix <= chunk {
            // All but the last chunk of the prefix is known: that is one step, and the suffix the next.
            let known = length - chunk;
            let prompt = [&prefix[..known], &tokens.take(chunk + args.suffix)].concat();
            bench.recall(Mode::SuffixAlone)?;
            run.push((Mode::SuffixAlone, bench.second_step(&prompt)?));
        }
        let hit = [&prefix[..], &tokens.take(args.suffix)].concat();
        for mode in [Mode::GpuHit, Mode::ExactRepeat] {
            bench.recall(mode)?;
            run.push((mode, bench.measure(mode, &hit)?));
        }
    }
    for mode in [Mode::MemoryHit, Mode::DiskHit] {
        for _ in 0..HITS {
            bench.recall(mode)?;
            let hit = [&prefix[..], &tokens.take(args.suffix)].concat();
            run.push((mode, bench.measure(mode, &hit)?));
        }
    }
    Ok(run)
}

fn relate(prefix_tokens: usize, runs: &[Run]) -> Ratios {
    let ttft =
        |run: &Run, mode| median(run.iter().filter(|(of, _)| *of == mode).map(|(_, sample)| sample.ttft_ms).collect());
    let each = |relate: fn(f64, f64) -> f64, mode, base| {
        median(runs.iter().filter_map(|run| Some(relate(ttft(run, mode)?, ttft(run, base)?))).collect())
    };
    let (ratio, difference) = (|a, b| a / b, |a, b| a - b);
    Ratios {
        prefix_tokens,
        cold_over_kv_cache: each(ratio, Mode::Cold, Mode::KvCache),
        gpu_hit_over_suffix_alone: each(ratio, Mode::GpuHit, Mode::SuffixAlone),
        exact_repeat_over_suffix_alone: each(ratio, Mode::ExactRepeat, Mode::SuffixAlone),
        prefill_ms: each(difference, Mode::KvCache, Mode::SuffixAlone),
        load_from_memory_ms: each(difference, Mode::MemoryHit, Mode::GpuHit),
        load_from_disk_ms: each(difference, Mode::DiskHit, Mode::GpuHit),
    }
}

fn by_mode(prefix_tokens: usize, runs: Vec<Run>) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for (mode, sample) in runs.into_iter().flatten() {
        match points.iter_mut().find(|point| point.mode == mode) {
            Some(point) => point.samples.push(sample),
            None => points.push(Point { prefix_tokens, mode, ttft_ms: 0.0, answer_ms: 0.0, samples: vec![sample] }),
        }
    }
    for point in &mut points {
        let of = |figure: fn(&Sample) -> f64| median(point.samples.iter().map(figure).collect()).unwrap_or_default();
        (point.ttft_ms, point.answer_ms) = (of(|sample| sample.ttft_ms), of(|sample| sample.answer_ms));
    }
    points
}

fn cell(workload: &'static str, reusable_percent: usize, mode: Mode, requests: Vec<Sample>) -> Cell {
    let mean_ttft_ms = requests.iter().map(|sample| sample.ttft_ms).sum::<f64>() / requests.len().max(1) as f64;
    let computed_tokens = requests.iter().map(|sample| sample.sources.computed).sum();
    let prompt_tokens: usize = requests.iter().map(|sample| sample.prompt_tokens).sum();
    let saved_tokens = prompt_tokens - computed_tokens;
    Cell { workload, reusable_percent, mode, mean_ttft_ms, computed_tokens, saved_tokens, requests }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

fn as_json(args: &Args, session: &Session, prompt: usize, results: &Results) -> Value {
    json!({
        "model": session.path.display().to_string(),
        "adapter": report::adapter(session.engine()),
        "kv": session.engine().config().kv.to_string(),
        "chunk": session.engine().chunk(),
        "suffix_tokens": args.suffix,
        "answer_tokens": args.answer,
        "workload_prompt_tokens": prompt,
        "runs": args.runs,
        "is_cut": results.is_cut,
        "lengths": results.points,
        "ratios": results.ratios,
        "workloads": results.cells,
    })
}

fn csv(results: &Results) -> String {
    let mut text =
        "kind,prefix_tokens,reusable_percent,mode,request,prompt_tokens,cached_tokens,ttft_ms,answer_ms\n".to_owned();
    let mut rows = |kind: &str, prefix: &str, reusable: &str, mode: Mode, samples: &[Sample]| {
        for (index, sample) in samples.iter().enumerate() {
            let Sample { prompt_tokens, sources, ttft_ms, answer_ms, .. } = sample;
            let cached = prompt_tokens - sources.computed;
            text += &format!(
                "{kind},{prefix},{reusable},{},{index},{prompt_tokens},{cached},{ttft_ms:.3},{answer_ms:.3}\n",
                mode.label().replace(',', ""),
            );
        }
    };
    for point in &results.points {
        rows("length", &point.prefix_tokens.to_string(), "", point.mode, &point.samples);
    }
    for cell in &results.cells {
        rows(cell.workload, "", &cell.reusable_percent.to_string(), cell.mode, &cell.requests);
    }
    text
}

fn point_lines(points: &[Point]) -> String {
    let line = |point: &Point| {
        let ttft = report::duration(point.ttft_ms);
        format!("  {:>6} tokens  {:<20} {ttft:>10}\n", point.prefix_tokens, point.mode.label())
    };
    points.iter().map(line).collect()
}

/// Medians within a run.
fn ratio_lines(ratios: &Ratios) -> String {
    let ratio = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.4}"));
    let time = |ms: Option<f64>| ms.map(report::duration);
    let figures = [
        ("cold over KV cache only", ratio(ratios.cold_over_kv_cache)),
        ("GPU hit over suffix alone", ratio(ratios.gpu_hit_over_suffix_alone)),
        ("exact repeat over suffix alone", ratio(ratios.exact_repeat_over_suffix_alone)),
        ("prefix computed", time(ratios.prefill_ms)),
        ("loaded from memory", time(ratios.load_from_memory_ms)),
        ("loaded from disk", time(ratios.load_from_disk_ms)),
    ];
    let line = |(what, figure): (&str, Option<String>)| {
        Some(format!("  {:>6} tokens  {what:<31} {:>10}\n", ratios.prefix_tokens, figure?))
    };
    figures.into_iter().filter_map(line).collect()
}

fn cell_line(cell: &Cell) -> String {
    format!(
        "  {:<24} {:>3} %  {:<20} {:>10} {:>8} tokens\n",
        cell.workload,
        cell.reusable_percent,
        cell.mode.label(),
        report::duration(cell.mean_ttft_ms),
        cell.computed_tokens,
    )
}

fn ending(args: &Args, results: &Results) -> String {
    let cut = match results.is_cut {
        true => format!("Some was left out after {} seconds; --seconds 0 measures all\n", args.seconds),
        false => String::new(),
    };
    cut + &format!("Results and charts are in {}\n", args.out.display())
}
