//! One answer: turns the engine's tokens into text for a reader.
//!
//! Tokens become text that never contains half a character. The text is cut before the first stop string, and usage and
//! times are counted. Steps know nothing of text, so stop strings end a sequence here. Cost: O(bytes of the token) a
//! token.

use serde::Serialize;
use web_time::{Duration, Instant};

use super::AnswerId;
use crate::engine::{FinishReason, Request, SequenceId, Usage};
use crate::kv::Report;
use crate::text::{StopStrings, TokenStream, Tokenizer, thinking};

/// An answer. It is complete once it has finished.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, up to a stop string and without special tokens.
    pub text: String,
    /// Every token of the answer. It includes the tokens of a stop string, but not a stop token.
    pub token_ids: Vec<u32>,
    /// Why it ended; `None` if the reader ended it.
    pub finish_reason: Option<FinishReason>,
    /// How many tokens went in and came out.
    pub usage: Usage,
    /// Where the prompt's KV came from; empty if the answer ended before its prompt was looked up.
    pub cache: Report,
    /// How long it took.
    pub timings: Timings,
    /// How often the device was lost and the answer continued on another.
    pub recovered: usize,
}

impl Answer {
    /// What the model thought before it answered, without the tags; `None` where the text has none. The answer of a model
    /// whose template opens the thinking, and that was cut before it closed it, counts as said.
    pub fn thinking(&self) -> Option<&str> {
        thinking(&self.text).0
    }

    /// The text without what the model thought before.
    pub fn said(&self) -> &str {
        thinking(&self.text).1
    }
}

/// Milliseconds and rates of one answer; a rate over no time is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// From the arrival of the request to its first token.
    pub ttft_ms: f64,
    /// From submission to the first token.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// Prompt tokens that were computed, a second of prefill.
    pub prefill_tok_s: f64,
    /// Tokens after the first, a second of decode.
    pub decode_tok_s: f64,
}

/// An answer in progress, and the engine's sequence that computes it.
pub(super) struct Live {
    pub(crate) id: AnswerId,
    pub(crate) sequence: SequenceId,
    request: Request,
    stream: TokenStream,
    stops: StopStrings,
    arrived: Instant,
    submitted: Instant,
    first: Option<Instant>,
    last: Instant,
    /// The logits of the next token.
    pub(crate) logits: Option<Vec<f32>>,
    /// Prompt tokens reported as done.
    pub(crate) read: usize,
    /// Prompt positions whose logits were reported.
    pub(crate) told_logits: usize,
    reading: bool,
    /// Whether it stands still until it is wanted.
    pub(crate) is_held: bool,
    answer: Answer,
    stopped: bool,
}

impl Live {
    /// The text of the tokens that `request` lists as generated is part of the answer, and is not reported again.
    pub(crate) fn new(
        id: AnswerId,
        sequence: SequenceId,
        request: Request,
        tokenizer: &Tokenizer,
        stops: StopStrings,
        arrived: Instant,
    ) -> Self {
        let submitted = Instant::now();
        let usage = Usage { prompt_tokens: request.tokens.len(), ..Usage::default() };
        let answer = Answer {
            text: String::new(),
            token_ids: Vec::new(),
            finish_reason: None,
            usage,
            cache: Report::default(),
            timings: Timings::default(),
            recovered: 0,
        };
        let stream = TokenStream::new(tokenizer);
        let mut live = Self {
            id,
            sequence,
            request,
            stream,
            stops,
            arrived,
            submitted,
            first: None,
            last: submitted,
            logits: None,
            read: 0,
            told_logits: 0,
            reading: true,
            is_held: false,
            answer,
            stopped: false,
        };
        for token in live.request.generated.clone() {
            live.take(token);
        }
        live
    }

    /// The request that continues this answer on another engine.
    pub(crate) fn again(&self) -> Request {
        Request { generated: self.answer.token_ids.clone(), ..self.request.clone() }
    }

    /// Continues with that sequence.
    pub(crate) fn follow(&mut self, sequence: SequenceId) {
        self.sequence = sequence;
        self.logits = None;
        (self.read, self.reading) = (0, true);
        self.answer.recovered += 1;
    }

    /// Whether a stop string has ended it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether its prompt is still being computed.
    pub(crate) fn is_reading(&self) -> bool {
        self.reading
    }

    /// Tokens of its prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.request.tokens.len()
    }

    /// Records where the prompt came from.
    pub(crate) fn account(&mut self, cache: &Report) {
        self.answer.usage.cached_tokens = cache.reused();
        self.answer.cache = cache.clone();
    }

    /// Records that the prompt is done and the next token is known.
    pub(crate) fn mark(&mut self) {
        self.last = Instant::now();
        self.first = self.first.or(Some(self.last));
        self.reading = false;
    }

    /// Adds a token and returns the text that it adds, often none.
    pub(crate) fn take(&mut self, token: u32) -> String {
        self.answer.token_ids.push(token);
        self.answer.usage.completion_tokens += 1;
        let Some(piece) = self.stream.push(token) else { return String::new() };
        let cut = self.stops.push(&piece);
        self.answer.text.push_str(&cut.text);
        self.stopped = cut.stop.is_some();
        cut.text
    }

    /// Returns the text that was held back, for an answer that no stop string ended.
    pub(crate) fn rest(&mut self) -> String {
        let cut = self.stops.push(&self.stream.finish().unwrap_or_default());
        let text = if cut.stop.is_some() { cut.text } else { cut.text + &self.stops.finish() };
        self.answer.text.push_str(&text);
        text
    }

    pub(crate) fn finish(self, finish_reason: Option<FinishReason>) -> Answer {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let rate = |tokens: usize, time: Duration| match time.is_zero() {
            true => 0.0,
            false => tokens as f64 / time.as_secs_f64(),
        };
        let first = self.first.unwrap_or(self.last);
        let (prefill, decode) = (first - self.submitted, self.last - first);
        let usage = self.answer.usage;
        let computed = usage.prompt_tokens - usage.cached_tokens;
        let decoded = usage.completion_tokens.saturating_sub(1 + self.request.generated.len());
        let timings = Timings {
            ttft_ms: milliseconds(first - self.arrived),
            prefill_ms: milliseconds(prefill),
            decode_ms: milliseconds(decode),
            prefill_tok_s: if self.first.is_some() { rate(computed, prefill) } else { 0.0 },
            decode_tok_s: rate(decoded, decode),
        };
        Answer { finish_reason, timings, ..self.answer }
    }
}
