//! Sequences on their way, and what JavaScript hears of them.

use headstart::engine::{
    Engine, Event, FinishReason,
    completion::{Answer, Completion},
    explain::Conversation,
};
use js_sys::Float32Array;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use crate::{
    error::Result,
    js,
    prompt::{Input, Language},
};

/// A sequence that was submitted and has not ended.
pub struct Run {
    pub input: Input,
    pub prompt: Vec<u32>,
    pub completion: Completion,
    /// Of the token that comes next.
    pub logits: Option<Vec<f32>>,
}

/// All sequences, and events that nobody has fetched yet.
#[derive(Default)]
pub struct Runs {
    runs: Vec<Run>,
    events: Vec<JsValue>,
}

impl Runs {
    pub fn push(&mut self, run: Run) {
        self.runs.push(run);
    }

    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub fn fetch(&mut self) -> Vec<JsValue> {
        std::mem::take(&mut self.events)
    }

    pub fn get(&self, id: f64) -> Option<&Run> {
        self.position(id).map(|at| &self.runs[at])
    }

    fn position(&self, id: f64) -> Option<usize> {
        self.runs.iter().position(|run| run.completion.sequence().0 as f64 == id)
    }

    /// Takes what a step brought forth.
    pub fn take(&mut self, engine: &mut Engine, language: &Language, events: Vec<Event>) -> Result<()> {
        for event in events {
            let (sequence, token) = match &event {
                Event::Logits { sequence, .. } | Event::Finished { sequence, .. } => (*sequence, None),
                // The face never asks for them.
                Event::PromptLogits { .. } => continue,
                Event::Token { sequence, token } => (*sequence, Some(*token)),
            };
            let Some(at) = self.runs.iter().position(|run| run.completion.sequence() == sequence) else { continue };
            let run = &mut self.runs[at];
            if let Event::Logits { logits, .. } = event {
                run.logits = Some(logits);
                continue;
            }
            let text = run.completion.accept(engine, &event);
            if token.is_some() || !text.is_empty() {
                let logits = run.logits.take();
                self.events.push(text_event(sequence.0, &text, token, logits.as_deref())?);
            }
            if self.runs[at].completion.is_finished() {
                self.finish(engine, language, at)?;
            }
        }
        Ok(())
    }

    /// Ends a sequence where it is; one that is unknown has ended.
    pub fn cancel(&mut self, engine: &mut Engine, language: &Language, id: f64) -> Result<()> {
        let Some(at) = self.position(id) else { return Ok(()) };
        let text = self.runs[at].completion.cancel(engine);
        if !text.is_empty() {
            self.events.push(text_event(id as u64, &text, None, None)?);
        }
        self.finish(engine, language, at)
    }

    fn finish(&mut self, engine: &Engine, language: &Language, at: usize) -> Result<()> {
        let Run { input, prompt, completion, .. } = self.runs.remove(at);
        let id = completion.sequence().0;
        let answer = completion.into_answer();
        self.events.push(js::write(&json!({
            "type": "finish",
            "id": id,
            "reason": answer.finish_reason.map_or(json!("cancelled"), |reason: FinishReason| json!(reason)),
            "usage": answer.usage,
            "warnings": language.warnings(&input),
            "cache": account(engine, language, &input, &prompt, &answer),
            "timings": answer.timings,
        }))?);
        Ok(())
    }
}

/// Where the prompt came from, what it met where it left what is known, and what was saved.
fn account(engine: &Engine, language: &Language, input: &Input, prompt: &[u32], answer: &Answer) -> Value {
    let report = &answer.cache;
    let mut account = json!(report);
    account["divergence"] = Value::Null;
    if !report.known.is_empty() {
        // A template that asks for the time may say something else by now.
        let conversation = language.conversation(input).ok().filter(|found| found.tokens == prompt);
        let conversation = conversation.unwrap_or_else(|| Conversation::raw(prompt.to_vec()));
        if let Some(found) = conversation.divergence(report, &language.tokenizer) {
            account["divergence"] = divergence(&found);
        }
    }
    if let Some(saved) = engine.saved_ms(report) {
        account["saved_ms"] = json!(saved);
    }
    account
}

/// With the advice for a person.
pub fn divergence(found: &headstart::kv::Divergence) -> Value {
    let mut plain = json!(found);
    plain["advice"] = json!(found.advice());
    plain
}

/// Text that is held back to the end belongs to no token.
fn text_event(id: u64, text: &str, token: Option<u32>, logits: Option<&[f32]>) -> Result<JsValue> {
    let mut plain = json!({ "type": "text", "id": id, "text": text });
    if let Some(token) = token {
        plain["token"] = json!(token);
    }
    let event = js::write(&plain)?;
    if let Some(logits) = logits {
        js::set(&event, "logits", &Float32Array::from(logits))?;
    }
    Ok(event)
}
