//! `WasmHost`: the calls that need no GPU. They work at any time, also during a step.

use std::cell::RefCell;
use std::rc::Rc;

use headstart::{
    engine::{
        Counters, Engine, KvIdentity, PageUse, check_ids,
        explain::{Comparison, Side},
        language::Language,
        openai,
        openai::Input,
    },
    kv::Owner,
    store::{TierStats, Tiers},
};
use js_sys::{Array, ArrayBuffer, Uint32Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::{
    error::{Result, bad_input, thrown},
    events::divergence,
    js,
};

/// The state of an engine after its last step.
pub struct Snapshot {
    pages: PageUse,
    counters: Counters,
    tiers: Vec<(&'static str, TierStats)>,
}

impl Snapshot {
    pub fn of(engine: &Engine) -> Self {
        let tiers = engine.tiers().map(Tiers::stats).unwrap_or_default();
        Self { pages: engine.page_use(), counters: engine.counters(), tiers }
    }
}

#[wasm_bindgen]
pub struct WasmHost {
    language: Rc<Language>,
    identity: KvIdentity,
    vocab: usize,
    snapshot: Rc<RefCell<Snapshot>>,
}

impl WasmHost {
    pub fn new(language: Rc<Language>, engine: &Engine, snapshot: Rc<RefCell<Snapshot>>) -> Result<Self> {
        let identity = engine.identity().map_err(thrown)?;
        Ok(Self { language, identity, vocab: engine.config().vocab, snapshot })
    }
}

#[wasm_bindgen]
impl WasmHost {
    /// The tokens that a request with this `prompt` has. They begin with BOS if the model asks for it.
    pub fn tokenize(&self, text: JsValue) -> Result<Uint32Array> {
        let tokens = self.language.tokenizer.encode_text(&js::text(&text, "text")?).map_err(thrown)?;
        Ok(Uint32Array::from(&tokens[..]))
    }

    pub fn detokenize(&self, tokens: JsValue) -> Result<String> {
        let whole = |id: &f64| id.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(id);
        let id = |token: JsValue| token.as_f64().filter(whole).map(|id| id as u32);
        let is_list = Array::is_array(&tokens) || ArrayBuffer::is_view(&tokens);
        let ids = is_list.then(|| Array::from(&tokens).iter().map(id).collect::<Option<Vec<_>>>()).flatten();
        let ids = ids.ok_or_else(|| js::bad_input("tokens", "must be a list of token ids"))?;
        check_ids("tokens", &ids, self.vocab).map_err(bad_input)?;
        Ok(self.language.tokenizer.decode(&ids, false))
    }

    #[wasm_bindgen(js_name = countTokens)]
    pub fn count_tokens(&self, messages: JsValue) -> Result<usize> {
        let request = json!({ "messages": js::read(&messages)? });
        let tokens = Input::read(&request).and_then(|input| self.language.tokens(&input));
        tokens.map(|tokens| tokens.len()).map_err(thrown)
    }

    /// The tokens of a conversation, the text of each token, and the message that owns it.
    #[wasm_bindgen(js_name = renderPrompt)]
    pub fn render_prompt(&self, messages: JsValue, options: JsValue) -> Result<JsValue> {
        let mut request = js::read(&options)?;
        if request.is_null() {
            request = json!({});
        }
        if !request.is_object() {
            return Err(js::bad_input("options", "must be an object"));
        }
        request["messages"] = js::read(&messages)?;
        let rendered = self.render(&request).map_err(thrown)?;
        js::write(&rendered)
    }

    fn render(&self, request: &Value) -> headstart::error::Result<Value> {
        let input = Input::Conversation(Box::new(openai::conversation(request)?));
        let conversation = self.language.conversation(&input)?;
        let tokens = &conversation.tokens;
        let bytes = |token: &u32| self.language.tokenizer.token_bytes(*token).unwrap_or_default();
        let pieces: Vec<_> = tokens.iter().map(|token| String::from_utf8_lossy(bytes(token))).collect();
        let mut owners = vec![-1_i64; tokens.len()];
        for span in &conversation.spans {
            if let Owner::Message { message, .. } = span.owner {
                owners[span.tokens.clone()].fill(message as i64);
            }
        }
        Ok(json!({ "tokens": tokens, "pieces": pieces, "message": owners }))
    }

    /// What the cache could reuse of `prompt` after `known`.
    pub fn explain(&self, known: JsValue, prompt: JsValue) -> Result<JsValue> {
        let explained = self.compare(&js::read(&known)?, &js::read(&prompt)?).map_err(thrown)?;
        js::write(&explained)
    }

    fn compare(&self, known: &Value, prompt: &Value) -> headstart::error::Result<Value> {
        // Both get the same time. `date_token` tells where the template writes the date.
        let now = self.language.now();
        let [known, prompt] = [known, prompt].map(|request| {
            let salt = openai::text(request, "cache_salt")?.unwrap_or_default();
            Side::new(&self.language, self.identity.namespace(&salt), request, now)
        });
        let (known, prompt) = (known?, prompt?);
        let Comparison { explanation, differences, fixed, requests, .. } = Comparison::new(&known, &prompt)?;
        let [known_tokens, prompt_tokens] = [&known, &prompt].map(|side| side.conversation.tokens.len());
        Ok(json!({
            "tokens": { "known": known_tokens, "prompt": prompt_tokens },
            "shared_tokens": explanation.shared,
            "divergences": differences,
            "fixed_shared_tokens": fixed,
            "fixed": requests,
            "cache": explanation.report,
            "divergence": explanation.divergence.as_ref().map(divergence),
            "date_token": prompt.date_token(),
        }))
    }

    /// Pages, tiers and counters after the last step.
    pub fn stats(&self) -> Result<JsValue> {
        let Snapshot { pages, counters, tiers } = &*self.snapshot.borrow();
        let tiers = tiers.iter().map(|(name, stats)| {
            let mut plain = json!(stats);
            plain["name"] = json!(name);
            plain
        });
        js::write(&json!({ "pages": pages, "tiers": tiers.collect::<Vec<Value>>(), "counters": counters }))
    }
}
