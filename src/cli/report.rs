//! How results are shown: the one place that knows the JSON of adapters, counters and timings, and their short text.

use serde_json::{Value, json};

use crate::engine::completion::{Answer, Timings};
use crate::engine::{Counters, FinishReason};
use crate::gpu::AdapterInfo;

pub fn adapter(adapter: &AdapterInfo) -> Value {
    json!({ "name": adapter.name, "backend": adapter.backend, "driver": adapter.driver })
}

/// The counters a line each.
pub fn counter_lines(counted: &Counters) -> String {
    let Value::Object(fields) = json!(counted) else { return String::new() };
    fields.iter().map(|(name, value)| format!("{name:<30} {value}\n")).collect()
}

pub fn timings(load_ms: f64, timings: &Timings) -> Value {
    json!({
        "load_ms": load_ms,
        "ttft_ms": timings.ttft_ms,
        "prefill_ms": timings.prefill_ms,
        "decode_ms": timings.decode_ms,
        "prefill_tok_s": timings.prefill_tok_s,
        "decode_tok_s": timings.decode_tok_s,
    })
}

/// One line about an answer. `seed` is said where it would give the text again.
pub fn stats(answer: &Answer, seed: Option<u64>) -> String {
    let (usage, timings) = (&answer.usage, &answer.timings);
    let mut parts = vec![
        format!("TTFT {}", duration(timings.ttft_ms)),
        format!("{:.1} tokens/s", timings.decode_tok_s),
        format!("{} prompt tokens ({} cached)", usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens),
        format!("{} answer tokens", usage.completion_tokens),
        format!("ended by {}", ended_by(answer.finish_reason)),
    ];
    parts.extend(seed.map(|seed| format!("seed {seed}")));
    format!("[{}]", parts.join(" · "))
}

fn ended_by(reason: Option<FinishReason>) -> &'static str {
    match reason {
        Some(FinishReason::Stop) => "stop",
        Some(FinishReason::Length) => "length",
        Some(FinishReason::Context) => "context",
        None => "the reader",
    }
}

pub fn duration(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}
