//! The events about answers that JavaScript receives.

use headstart::engine::{
    Engine,
    answers::{Answer, AnswerId, Update, What},
    explain::Conversation,
    language::Language,
    openai::Input,
};
use js_sys::Float32Array;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use crate::{
    error::{Result, thrown},
    js,
    source::Thrown,
};

/// An answer that has not ended, with its request.
struct Run {
    id: AnswerId,
    input: Input,
    prompt: Vec<u32>,
}

/// All answers that have not ended.
#[derive(Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    pub fn begin(&mut self, id: AnswerId, input: Input, prompt: Vec<u32>) {
        self.0.push(Run { id, input, prompt });
    }

    /// The prompt tokens of an answer that has not ended.
    pub fn prompt(&self, id: AnswerId) -> Option<&[u32]> {
        self.0.iter().find(|run| run.id == id).map(|run| &run.prompt[..])
    }

    /// The event for an update, or `None` for an update that JavaScript does not receive. `unread` holds the error that a file
    /// threw; it is more precise than the engine's.
    pub fn event(
        &mut self,
        update: Update,
        engine: &Engine,
        language: &Language,
        unread: &Thrown,
    ) -> Result<Option<JsValue>> {
        let id = update.id.0;
        match update.what {
            What::Prompt { done, total } => {
                js::write(&json!({ "type": "progress", "id": id, "done": done, "total": total }))
            }
            // JavaScript cannot request them.
            What::PromptLogits { .. } => return Ok(None),
            What::Text { text, token, logits } => text_event(id, &text, token, logits.as_deref()),
            What::Finished(answer) => {
                let run = self.end(update.id);
                let cache = run.as_ref().map(|run| account(engine, language, run, &answer));
                let warnings = run.map(|run| language.warnings(&run.input)).unwrap_or_default();
                js::write(&json!({
                    "type": "finish",
                    "id": id,
                    "reason": answer.finish_reason.map_or(json!("cancelled"), |reason| json!(reason)),
                    "usage": answer.usage,
                    "warnings": warnings,
                    "cache": cache,
                    "timings": answer.timings,
                    "recovered": answer.recovered,
                }))
            }
            What::Failed(error) => {
                self.end(update.id);
                let event = js::write(&json!({ "type": "failed", "id": id }))?;
                let error = unread.borrow().clone().unwrap_or_else(|| thrown(error));
                js::set(&event, "error", &error)?;
                Ok(event)
            }
        }
        .map(Some)
    }

    fn end(&mut self, id: AnswerId) -> Option<Run> {
        let at = self.0.iter().position(|run| run.id == id)?;
        Some(self.0.remove(at))
    }
}

/// The cache report of the prompt, with its divergence from known prompts and the time that reuse saved.
fn account(engine: &Engine, language: &Language, run: &Run, answer: &Answer) -> Value {
    let report = &answer.cache;
    let mut account = json!(report);
    account["divergence"] = Value::Null;
    if !report.known.is_empty() {
        // A template that reads the clock may render another text by now.
        let conversation = language.conversation(&run.input).ok().filter(|found| found.tokens == run.prompt);
        let conversation = conversation.unwrap_or_else(|| Conversation::raw(run.prompt.clone()));
        if let Some(found) = conversation.divergence(report, &language.tokenizer) {
            account["divergence"] = divergence(&found);
        }
    }
    if let Some(saved) = engine.saved_ms(report) {
        account["saved_ms"] = json!(saved);
    }
    account
}

/// A divergence as plain data, with its advice.
pub fn divergence(found: &headstart::kv::Divergence) -> Value {
    let mut plain = json!(found);
    plain["advice"] = json!(found.advice());
    plain
}

/// `token` is `None` for text that was held back until the end.
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
