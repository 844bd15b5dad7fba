//! Shows results. This is the one place that knows the JSON of adapters, counters and timings, and their short text.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::chat::CacheOptions;
use crate::engine::answers::{Answer, Timings};
use crate::engine::{Counters, Engine, FinishReason};
use crate::error::Error;
use crate::gpu::AdapterInfo;
use crate::kv::{Divergence, Miss, Reason, Report};
use crate::store::{TierStats, Tiers};

use super::term;

pub(crate) fn adapter(engine: &Engine) -> Value {
    let AdapterInfo { name, backend, driver } = engine.adapter();
    json!({ "name": name, "backend": backend, "driver": driver, "numerics": engine.numerics().to_string() })
}

/// The adapter, with what the figures measured on it depend on: the class of the kernels, and the format of keys and values.
pub(crate) fn place(engine: &Engine) -> String {
    let AdapterInfo { name, backend, driver } = engine.adapter();
    format!("{name} ({backend}, {driver}), prompts in {}, KV in {}", engine.numerics(), engine.config().kv)
}

/// The counters, one a line.
pub(crate) fn counter_lines(counted: &Counters) -> String {
    let Value::Object(fields) = json!(counted) else { return String::new() };
    fields.iter().map(|(name, value)| format!("{name:<30} {value}\n")).collect()
}

pub(crate) fn timings(load_ms: f64, timings: &Timings) -> Value {
    json!({
        "load_ms": load_ms,
        "ttft_ms": timings.ttft_ms,
        "prefill_ms": timings.prefill_ms,
        "decode_ms": timings.decode_ms,
        "prefill_tok_s": timings.prefill_tok_s,
        "decode_tok_s": timings.decode_tok_s,
    })
}

/// One line about an answer, with the seed that gives it again, if there is one.
pub(crate) fn stats(answer: &Answer, seed: Option<u64>) -> String {
    let (usage, timings) = (&answer.usage, &answer.timings);
    let mut parts = vec![
        format!("TTFT {}", duration(timings.ttft_ms)),
        format!("{:.1} tokens/s", timings.decode_tok_s),
        format!("{} prompt tokens ({} cached)", usage.prompt_tokens, usage.cached_tokens),
        format!("{} answer tokens", usage.completion_tokens),
        format!("ended by {}", ended_by(answer.finish_reason)),
    ];
    parts.extend(seed.map(|seed| format!("seed {seed}")));
    format!("[{}]", parts.join(" · "))
}

/// One line about a prompt: how much was reused from where, and why the rest was computed.
pub(crate) fn cache(report: &Report) -> String {
    let sources = &report.sources;
    let tiers = [
        (sources.gpu, "the GPU"),
        (sources.memory, "memory"),
        (sources.disk, "disk"),
        (sources.remote, "the shared store"),
        (sources.pack, "a prefix pack"),
    ];
    let mut parts = vec![format!("{} prompt tokens", report.prompt_tokens)];
    parts.extend(tiers.iter().filter(|tier| tier.0 > 0).map(|(tokens, tier)| format!("{tokens} reused from {tier}")));
    let mut misses: Vec<String> = report.misses.iter().map(|missed| miss(missed, report.first_divergent)).collect();
    misses.extend(
        Some(report.needed()).filter(|&needed| needed > 0).map(|needed| format!("{needed} to begin the answer")),
    );
    let why = if misses.is_empty() { String::new() } else { format!(": {}", misses.join(", ")) };
    parts.push(format!("{} computed{why}", sources.computed));
    format!("[{}]", parts.join(" · "))
}

/// The counters of each tier, the nearest first, and its last problem.
pub(crate) fn tiers(engine: &Engine) -> Value {
    let Some(tiers) = engine.tiers() else { return json!([]) };
    let stats = tiers.stats().into_iter().zip(tiers.stores());
    stats.map(|((tier, stats), store)| json!(TierReport { tier, stats, problem: store.problem() })).collect()
}

#[derive(Serialize)]
struct TierReport {
    tier: &'static str,
    #[serde(flatten)]
    stats: TierStats,
    problem: Option<String>,
}

/// The problems of tiers that were shown. Such a problem costs time, but no answer.
#[derive(Default)]
pub(crate) struct Problems {
    shown: BTreeSet<String>,
}

impl Problems {
    /// Shows the last problem of each tier, unless it was shown before.
    pub(crate) fn show(&mut self, engine: &Engine) {
        for store in engine.tiers().into_iter().flat_map(Tiers::stores) {
            let Some(problem) = store.problem() else { continue };
            let flag = match store.name() {
                "disk" if problem.ends_with("more room") => " with --cache-budget",
                "memory" if problem.ends_with("more room") => " with --cache-memory",
                _ => "",
            };
            let text = format!("prefix cache: {problem}{flag}");
            if !self.shown.contains(&text) {
                term::note(&text);
                self.shown.insert(text);
            }
        }
    }
}

/// Notes why nothing is kept in the directory, if so, and logs where KV is kept.
pub(crate) fn places(cache: &CacheOptions, unkept: Option<&Error>) {
    match (unkept, cache.directory()) {
        (Some(problem), _) => term::note(&format!(
            "note: nothing is kept for later runs: {problem} (--cache-dir names another directory, --no-cache keeps nothing and \
             says nothing)"
        )),
        (None, Ok(dir)) => log::info!("prefixes in {}, at most {}", dir.display(), term::bytes(cache.budget)),
        (None, Err(_)) => {}
    }
    if cache.shared.is_some() {
        log::info!("prefixes in a store that is shared, waited for {:?}", cache.deadline);
    }
    log::info!("prefixes in memory, at most {}", term::bytes(cache.memory));
}

/// One sentence about where a prompt diverged from what is known, and what to do about it.
pub(crate) fn divergence(found: &Divergence) -> String {
    capitalized(&found.to_string())
}

pub(crate) fn capitalized(clause: &str) -> String {
    let mut chars = clause.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn miss(miss: &Miss, first_divergent: Option<usize>) -> String {
    let Miss { tokens, from, .. } = miss;
    let why = match miss.reason {
        Reason::Cold => "had not been seen".into(),
        Reason::Diverged => format!("follow where the text differs, at token {}", first_divergent.unwrap_or(*from)),
        Reason::BelowMin => "were too few to be worth reusing".into(),
        Reason::Evicted => "had to make room".into(),
        Reason::NotKept => "were known, and no store kept them".into(),
        Reason::AnotherUsers => "are stored in files of another user, which are not used".into(),
        Reason::Expired => "had gone unused for too long".into(),
        Reason::NamespaceChanged { field: "weights" } => "are known for another model file".into(),
        Reason::NamespaceChanged { field: "kv_dtype" } => {
            "are known in another format of keys and values (--kv)".into()
        }
        Reason::NamespaceChanged { field: "numerics" } => "are known from kernels of another class (--kernels)".into(),
        Reason::NamespaceChanged { field } => format!("are known for another {field}"),
        Reason::Salt => "are known under another salt".into(),
        Reason::Integrity => "were stored damaged".into(),
        Reason::Deadline => "could not be loaded in time".into(),
        Reason::SlowerThanComputing => "are stored, but loading them is slower than computing".into(),
        Reason::DecodeWritten => "were written while decoding, which exact reuse leaves out".into(),
        Reason::NoState => {
            "are known, but this model's state is kept only where a block, a prompt or an answer ended".into()
        }
    };
    format!("{tokens} {why}")
}

fn ended_by(reason: Option<FinishReason>) -> &'static str {
    match reason {
        Some(FinishReason::Stop) => "stop",
        Some(FinishReason::Length) => "length",
        Some(FinishReason::Context) => "context",
        None => "the reader",
    }
}

pub(crate) fn duration(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}
