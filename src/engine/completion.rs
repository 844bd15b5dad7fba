//! One answer: what lies between the engine's tokens and a reader, for every face alike.
//!
//! A [`Completion`] follows one sequence: tokens become text that never holds half a character, text is cut before the
//! first stop string, and usage and times are counted. Steps know nothing of text, so a stop string ends the sequence
//! from here. Several completions may share an engine: hand each event of [`Engine::step`] to all of them.
//! Cost: O(bytes of the token) an event.

use std::ops::ControlFlow;

use serde::Serialize;
use web_time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::kv::Report;
use crate::text::{StopStrings, TokenStream, Tokenizer};

use super::{Engine, Event, FinishReason, Request, SequenceId};

#[derive(Debug)]
pub struct Completion {
    sequence: SequenceId,
    stream: TokenStream,
    stops: StopStrings,
    arrived: Instant,
    submitted: Instant,
    first: Option<Instant>,
    last: Instant,
    answer: Answer,
    /// Tokens of the answer that were known from the start.
    resumed: usize,
    finished: bool,
}

/// An answer, whole once the completion has finished.
#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    /// Every token of the answer; those of a stop string are among them, a stop token is not.
    pub token_ids: Vec<u32>,
    /// `None` where the reader ended it.
    pub finish_reason: Option<FinishReason>,
    pub usage: Usage,
    /// Where the prompt came from; empty where the answer was ended before its prompt was looked up.
    pub cache: Report,
    pub timings: Timings,
}

/// Tokens, named as in OpenAI's API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub prompt_tokens_details: PromptTokensDetails,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens whose keys and values were there already.
    pub cached_tokens: usize,
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

impl Completion {
    /// Submits `request`. `arrived` is when the work on it began, before templates and tokens. The text of what it knows as
    /// generated is part of the answer, and is not given again.
    ///
    /// # Errors
    /// As [`Engine::submit`], and [`Error::Request`] for an answer of no tokens or a stop string that cannot be met.
    pub fn submit(
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        mut request: Request,
        stops: StopStrings,
        arrived: Instant,
    ) -> Result<Self> {
        if request.max_tokens == 0 {
            return Err(Error::Request { field: "max_tokens", problem: "must be at least 1".into() });
        }
        request.stop_tokens.extend(stops.special_tokens(tokenizer)?);
        let submitted = Instant::now();
        let usage = Usage { prompt_tokens: request.tokens.len(), ..Usage::default() };
        let generated = request.generated.clone();
        let sequence = engine.submit(request)?;
        let answer = Answer {
            text: String::new(),
            token_ids: Vec::new(),
            finish_reason: None,
            usage,
            cache: Report::default(),
            timings: Timings::default(),
        };
        let stream = TokenStream::new(tokenizer);
        let (resumed, finished) = (generated.len(), false);
        let mut completion = Self {
            sequence,
            stream,
            stops,
            arrived,
            submitted,
            first: None,
            last: submitted,
            answer,
            resumed,
            finished,
        };
        for token in generated {
            completion.take(engine, token);
        }
        Ok(completion)
    }

    /// The sequence it follows.
    pub fn sequence(&self) -> SequenceId {
        self.sequence
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes one event of the engine and gives the text it adds, often none. Events of other sequences, and events that
    /// follow the end, add nothing.
    pub fn accept(&mut self, engine: &mut Engine, event: &Event) -> String {
        match event {
            Event::Token { sequence, token } if *sequence == self.sequence && !self.finished => {
                self.token(engine, *token)
            }
            Event::Finished { sequence, reason, cache, .. } if *sequence == self.sequence => {
                self.account(cache);
                if self.finished { String::new() } else { self.finish(Some(*reason)) }
            }
            _ => String::new(),
        }
    }

    /// Ends the answer where it is, and gives the text that was held back.
    pub fn cancel(&mut self, engine: &mut Engine) -> String {
        if self.finished {
            return String::new();
        }
        self.look_up(engine);
        engine.cancel(self.sequence);
        self.finish(None)
    }

    /// The answer so far; whole once finished.
    pub fn into_answer(self) -> Answer {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let rate = |tokens: usize, time: Duration| match time.is_zero() {
            true => 0.0,
            false => tokens as f64 / time.as_secs_f64(),
        };
        let first = self.first.unwrap_or(self.last);
        let (prefill, decode) = (first - self.submitted, self.last - first);
        let usage = self.answer.usage;
        let computed = usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens;
        let timings = Timings {
            ttft_ms: milliseconds(first - self.arrived),
            prefill_ms: milliseconds(prefill),
            decode_ms: milliseconds(decode),
            prefill_tok_s: if self.first.is_some() { rate(computed, prefill) } else { 0.0 },
            decode_tok_s: rate(usage.completion_tokens.saturating_sub(1 + self.resumed), decode),
        };
        Answer { timings, ..self.answer }
    }

    fn account(&mut self, cache: &Report) {
        self.answer.usage.prompt_tokens_details.cached_tokens = cache.reused();
        self.answer.cache = cache.clone();
    }

    /// Takes the account of a sequence that runs.
    fn look_up(&mut self, engine: &Engine) {
        if let Some(sequence) = engine.running.iter().find(|sequence| sequence.id == self.sequence) {
            self.account(&sequence.cache);
        }
    }

    fn token(&mut self, engine: &mut Engine, token: u32) -> String {
        self.last = Instant::now();
        if self.first.is_none() {
            self.first = Some(self.last);
            // Asked now: a sequence that a stop string or a reader ends says nothing more.
            self.look_up(engine);
        }
        self.take(engine, token)
    }

    fn take(&mut self, engine: &mut Engine, token: u32) -> String {
        self.answer.token_ids.push(token);
        self.answer.usage.completion_tokens += 1;
        let Some(piece) = self.stream.push(token) else { return String::new() };
        let cut = self.stops.push(&piece);
        self.answer.text.push_str(&cut.text);
        if cut.stop.is_some() {
            engine.cancel(self.sequence);
            self.answer.finish_reason = Some(FinishReason::Stop);
            self.finished = true;
        }
        cut.text
    }

    fn finish(&mut self, reason: Option<FinishReason>) -> String {
        self.finished = true;
        self.answer.finish_reason = reason;
        let cut = self.stops.push(&self.stream.finish().unwrap_or_default());
        let text = if cut.stop.is_some() { cut.text } else { cut.text + &self.stops.finish() };
        self.answer.text.push_str(&text);
        text
    }
}

/// Steps the engine until `completion` has finished. `each` gets the text of every step, empty ones too, and ends the
/// answer by `Break`; its error ends the sequence too.
pub async fn run(
    engine: &mut Engine,
    mut completion: Completion,
    each: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<Answer> {
    while !completion.is_finished() {
        let mut text = String::new();
        for event in engine.step().await? {
            text += &completion.accept(engine, &event);
        }
        match each(&text) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => {
                // What was held back belongs to the answer; whether to go on is no longer a question.
                let _ = each(&completion.cancel(engine))?;
            }
            Err(error) => {
                completion.cancel(engine);
                return Err(error);
            }
        }
    }
    Ok(completion.into_answer())
}
