//! `WasmEngine`: one model on one device.

use std::time::Duration;

use headstart::{
    engine::{Engine, EngineOptions, Progress, Request, Stage, completion::Completion, explain, language},
    error::Error,
    kv::{Owner, Report},
    sample::SamplingOverrides,
    store::{MemoryStore, Pack, PackLimits, PackStore, Store, Tiers, TiersConfig, system_clock},
    text::StopStrings,
    weights::{ByteSource, Checkpoint},
};
use js_sys::{Array, Function, Reflect, Uint8Array, Uint32Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use web_time::Instant;

use crate::{
    error::{Result, thrown},
    events::{Run, Runs, divergence},
    js,
    prompt::{self, Input, Language},
    source::{JsSource, ModelFile, Thrown, is_digest},
    store::JsStore,
};

/// Host memory for KV that has left the GPU.
const MEMORY_BYTES: usize = 32 << 20;
/// The largest pack, which stays in this module's memory whole.
const PACK_BYTES: u64 = 512 << 20;
/// The longest that restoring one request may take before the rest is computed.
const DEADLINE: Duration = Duration::from_secs(5);

#[wasm_bindgen]
pub struct WasmEngine {
    engine: Engine,
    language: Language,
    digest: String,
    model: String,
    packs: PackStore,
    runs: Runs,
}

#[wasm_bindgen]
impl WasmEngine {
    /// Opens the device and puts the model on it.
    pub async fn load(options: JsValue, on_progress: Function) -> Result<WasmEngine> {
        let unread = Thrown::default();
        let loaded = Self::open(&options, &on_progress, &unread).await;
        // What a file threw says more than that it could not be read.
        loaded.map_err(|error| unread.take().unwrap_or(error))
    }

    async fn open(options: &JsValue, on_progress: &Function, unread: &Thrown) -> Result<WasmEngine> {
        let files: Vec<ModelFile> =
            Array::from(&Reflect::get(options, &"files".into())?).iter().map(JsCast::unchecked_into).collect();
        let plain = js::read(&numbers(options)?)?;
        let checkpoint = checkpoint(files, unread).await.map_err(thrown)?;
        let tokenizer = language::tokenizer(&checkpoint).map_err(bad_model)?;
        let language = Language::new(tokenizer, language::template(&checkpoint));

        let whole = |field| prompt::whole(&plain, field).map_err(thrown);
        let engine_options = EngineOptions {
            context: whole("context")?,
            kv_tokens: whole("kvTokens")?,
            chunk: whole("chunk")?,
            ..EngineOptions::default()
        };
        let mut progress = |progress: Progress| {
            let stage = if progress.stage == Stage::Weights { "upload" } else { "compile" };
            let plain = json!({ "stage": stage, "done": progress.done, "total": progress.total });
            // What a listener throws is its own affair.
            let _ = js::write(&plain).and_then(|plain| on_progress.call1(&JsValue::NULL, &plain));
        };
        let mut engine = Engine::load(&checkpoint, &engine_options, &mut progress).await.map_err(thrown)?;

        let given = prompt::text(&plain, "weightsDigest").map_err(thrown)?.filter(|digest| is_digest(digest));
        let digest = match given {
            Some(digest) => digest,
            // Files that bring their own are not read for it.
            None => checkpoint.digest(&mut |_, _| {}).await.map_err(thrown)?,
        };

        let packs = PackStore::default();
        let mut behind: Vec<Box<dyn Store>> = vec![Box::new(packs.clone())];
        let store = Reflect::get(options, &"store".into())?;
        if store.is_object() {
            behind.push(Box::new(JsStore::new(store.unchecked_into())));
        }
        let memory = MemoryStore::new(whole("memoryBytes")?.unwrap_or(MEMORY_BYTES) as u64, system_clock());
        engine.attach(Tiers::new(memory, behind, TiersConfig::default()), &digest, DEADLINE);
        Ok(Self { engine, language, digest, model: checkpoint.name, packs, runs: Runs::default() })
    }

    pub fn info(&self) -> Result<JsValue> {
        js::write(&json!({
            "adapter": self.engine.adapter(),
            "context": self.engine.context(),
            "vocab": self.engine.config().vocab,
            "weightsDigest": self.digest,
            "model": self.model,
            "stopTokens": self.engine.config().stop_tokens,
            "hasTemplate": self.language.has_template(),
        }))
    }

    /// Takes a request: the id of its sequence.
    pub fn submit(&mut self, request: JsValue) -> Result<f64> {
        let arrived = Instant::now();
        let request = js::read(&request)?;
        self.start(&request, arrived).map_err(thrown)
    }

    fn start(&mut self, request: &Value, arrived: Instant) -> headstart::error::Result<f64> {
        let input = Input::read(request)?;
        let stops = StopStrings::new(prompt::stops(request)?)?;
        let tokens = self.language.tokens(&input)?;
        let prompt = tokens.clone();
        let generated = prompt::tokens(request, "generated")?.unwrap_or_default();
        let wishes: SamplingOverrides = prompt::sampling(request)?;
        let config = self.engine.config();
        let room = self.engine.context().saturating_sub(tokens.len()).max(1);
        let random = || (js_sys::Math::random() * (1u64 << 53) as f64) as u64;
        let request = Request {
            max_tokens: prompt::whole(request, "max_tokens")?.unwrap_or(room),
            tokens,
            generated,
            sampling: wishes.over(&config.sampling.params(), random),
            stop_tokens: config.stop_tokens.clone(),
            no_cache: prompt::flag(request, "no_cache")?,
            exact: prompt::flag(request, "exact")?,
            cache_salt: prompt::text(request, "cache_salt")?.unwrap_or_default(),
            explain: true,
            logits: prompt::flag(request, "logits")?,
            ..Request::default()
        };
        let completion = Completion::submit(&mut self.engine, &self.language.tokenizer, request, stops, arrived)?;
        let id = completion.sequence().0 as f64;
        self.runs.push(Run { input, prompt, completion, logits: None });
        Ok(id)
    }

    /// The prompt of a sequence that has not ended.
    #[wasm_bindgen(js_name = promptTokens)]
    pub fn prompt_tokens(&self, id: f64) -> Uint32Array {
        Uint32Array::from(self.runs.get(id).map_or(&[][..], |run| &run.prompt))
    }

    /// One step for all sequences, or, when there are none, a piece of what waits to be saved.
    pub async fn step(&mut self) -> Result<Array> {
        if !self.runs.has_events() {
            let events = self.engine.step().await.map_err(thrown)?;
            self.runs.take(&mut self.engine, &self.language, events)?;
        }
        Ok(self.runs.fetch().into_iter().collect())
    }

    /// Whether a step has anything to do: answers, events to give, KV to save.
    #[wasm_bindgen(js_name = isBusy)]
    pub fn is_busy(&self) -> bool {
        self.runs.has_events() || self.engine.is_busy() || self.engine.has_unsaved()
    }

    /// Ends a sequence and keeps what it computed.
    pub fn cancel(&mut self, id: f64) -> Result<Array> {
        self.runs.cancel(&mut self.engine, &self.language, id)?;
        Ok(self.runs.fetch().into_iter().collect())
    }

    /// As for a request with `prompt`: with BOS, where the model asks for it.
    pub fn tokenize(&self, text: &str) -> Result<Uint32Array> {
        let tokens = self.language.tokenizer.encode_text(text).map_err(thrown)?;
        Ok(Uint32Array::from(&tokens[..]))
    }

    #[wasm_bindgen(js_name = countTokens)]
    pub fn count_tokens(&self, messages: JsValue) -> Result<usize> {
        let request = json!({ "messages": js::read(&messages)? });
        let tokens = Input::read(&request).and_then(|input| self.language.tokens(&input));
        tokens.map(|tokens| tokens.len()).map_err(thrown)
    }

    pub fn detokenize(&self, tokens: Vec<u32>) -> String {
        self.language.tokenizer.decode(&tokens, false)
    }

    /// The tokens of a conversation, the text of each, and whose they are.
    #[wasm_bindgen(js_name = renderPrompt)]
    pub fn render_prompt(&self, messages: JsValue, options: JsValue) -> Result<JsValue> {
        let mut request = js::read(&options)?;
        if !request.is_object() {
            request = json!({});
        }
        request["messages"] = js::read(&messages)?;
        let rendered = self.render(&request).map_err(thrown)?;
        js::write(&rendered)
    }

    fn render(&self, request: &Value) -> headstart::error::Result<Value> {
        let input = Input::Conversation(Box::new(prompt::conversation(request)?));
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

    /// Computes what neither pages nor stores have of the beginning of a conversation, and saves it.
    pub async fn warm(&mut self, prefix: JsValue) -> Result<JsValue> {
        let (tokens, salt) = self.prefix(&js::read(&prefix)?).map_err(thrown)?;
        let report = self.compute(&tokens, &salt).await?;
        self.engine.persist().await.map_err(thrown)?;
        js::write(&report)
    }

    fn prefix(&self, request: &Value) -> headstart::error::Result<(Vec<u32>, String)> {
        let tokens = self.language.shared(&prompt::conversation(request)?)?;
        Ok((tokens, prompt::text(request, "cache_salt")?.unwrap_or_default()))
    }

    /// Prefills `tokens` beside whatever runs; the events of the others wait for the next step.
    async fn compute(&mut self, tokens: &[u32], salt: &str) -> Result<Report> {
        let request = Request { tokens: tokens.to_vec(), cache_salt: salt.into(), exact: true, ..Request::default() };
        let id = self.engine.submit(request).map_err(thrown)?;
        loop {
            let events = self.engine.step().await.map_err(thrown)?;
            let found = events.iter().find_map(|event| match event {
                headstart::engine::Event::Finished { sequence, cache, .. } if *sequence == id => Some(cache.clone()),
                _ => None,
            });
            self.runs.take(&mut self.engine, &self.language, events)?;
            if let Some(report) = found {
                return Ok(report);
            }
        }
    }

    /// The beginning of a conversation as a file for others.
    #[wasm_bindgen(js_name = exportPack)]
    pub async fn export_pack(&mut self, prefix: JsValue) -> Result<Uint8Array> {
        let request = js::read(&prefix)?;
        let (tokens, salt) = self.prefix(&request).map_err(thrown)?;
        let name = prompt::text(&request, "name").map_err(thrown)?.unwrap_or_else(|| "prefix".into());
        self.compute(&tokens, &salt).await?;
        let text = self.language.tokenizer.decode(&tokens, false);
        let pack = self.engine.export_pack(&name, &tokens, &salt, Some(&text)).await.map_err(thrown)?;
        Ok(Uint8Array::from(pack.bytes()))
    }

    /// Keeps a pack in memory, where requests of that salt find it.
    #[wasm_bindgen(js_name = importPack)]
    pub async fn import_pack(&mut self, bytes: Uint8Array, cache_salt: Option<String>) -> Result<JsValue> {
        let size = bytes.length();
        if u64::from(size) > PACK_BYTES {
            let problem = format!("{size} bytes, more than the {PACK_BYTES} that are taken");
            return Err(thrown(Error::Pack { pack: "the pack".into(), problem }));
        }
        let held = self.hold(bytes.to_vec(), &cache_salt.unwrap_or_default());
        let (name, tokens) = held.map_err(thrown)?;
        js::write(&json!({ "name": name, "tokens": tokens, "bytes": size }))
    }

    fn hold(&self, bytes: Vec<u8>, salt: &str) -> headstart::error::Result<(String, usize)> {
        let refused =
            |problem: &dyn std::fmt::Display| Error::Pack { pack: "the pack".into(), problem: problem.to_string() };
        let pack = Pack::read(bytes, &PackLimits::default()).map_err(|problem| refused(&problem))?;
        let (name, tokens) = (pack.header().name.clone(), pack.tokens().len());
        self.engine.identity()?.hold(pack, salt, &self.packs).map_err(|problem| refused(&problem))?;
        Ok((name, tokens))
    }

    /// What the cache would make of one request after another.
    pub fn explain(&self, known: JsValue, prompt: JsValue) -> Result<JsValue> {
        let explained = self.compare(&js::read(&known)?, &js::read(&prompt)?).map_err(thrown)?;
        js::write(&explained)
    }

    fn compare(&self, known: &Value, prompt: &Value) -> headstart::error::Result<Value> {
        // One time for both: what differs from day to day is told by what asks for the day.
        let now = self.language.now();
        let side = |request: &Value| {
            let mut input = Input::read(request)?;
            let mut dated = true;
            if let Input::Conversation(prompt) = &mut input {
                dated = prompt.now.is_none();
                prompt.now = prompt.now.or(now);
            }
            let salt = prompt::text(request, "cache_salt")?.unwrap_or_default();
            Ok((self.engine.namespace(&salt), self.language.conversation(&input)?, dated))
        };
        let (known, prompt) = (side(known)?, side(prompt)?);
        let found = explain::explain((&known.0, &known.1), (&prompt.0, &prompt.1), &self.language.tokenizer);
        Ok(json!({
            "tokens": { "known": known.1.tokens.len(), "prompt": prompt.1.tokens.len() },
            "shared_tokens": found.shared,
            "cache": found.report,
            "divergence": found.divergence.as_ref().map(divergence),
            "date_token": prompt.1.dated().filter(|_| prompt.2),
        }))
    }

    pub fn stats(&self) -> Result<JsValue> {
        let tiers = self.engine.tiers().map(Tiers::stats).unwrap_or_default();
        let tiers = tiers.into_iter().map(|(name, stats)| {
            let mut plain = json!(stats);
            plain["name"] = json!(name);
            plain
        });
        js::write(&json!({
            "pages": self.engine.page_use(),
            "tiers": tiers.collect::<Vec<Value>>(),
            "counters": self.engine.counters(),
        }))
    }

    /// Saves all that waits, durably.
    pub async fn persist(&mut self) -> Result<()> {
        self.engine.persist().await.map_err(thrown)
    }

    /// Forgets every prefix, here and in the store.
    pub async fn clear(&mut self) -> Result<()> {
        for header in self.packs.headers() {
            self.packs.remove_pack(&header.key);
        }
        self.engine.clear_all().await.map_err(thrown)
    }

    #[wasm_bindgen(js_name = destroyDeviceForTest)]
    pub fn destroy_device_for_test(&self) {
        self.engine.destroy_device();
    }
}

impl Drop for WasmEngine {
    /// A page would keep the GPU's memory until its garbage is collected.
    fn drop(&mut self) {
        self.engine.destroy_device();
    }
}

async fn checkpoint(files: Vec<ModelFile>, unread: &Thrown) -> headstart::error::Result<Checkpoint> {
    let source = |file| Box::new(JsSource::new(file, unread.clone())) as Box<dyn ByteSource>;
    let mut sources: Vec<_> = files.into_iter().map(source).collect();
    let name = |source: &dyn ByteSource| source.name().to_owned();
    if sources.is_empty() {
        return Err(Error::Request { field: "files", problem: "are none; give the files of a model".into() });
    }
    if sources.len() == 1 {
        return Checkpoint::gguf(sources.remove(0)).await;
    }
    let weights = sources.iter().map(|source| name(&**source)).find(|name| name.ends_with(".safetensors"));
    let files = sources.into_iter().map(|source| (name(&*source), source)).collect();
    Checkpoint::safetensors(weights.unwrap_or_else(|| "the model".into()), files).await
}

/// The options that are plain: neither files nor a store.
fn numbers(options: &JsValue) -> Result<JsValue> {
    let plain = js_sys::Object::new();
    for field in ["context", "kvTokens", "chunk", "memoryBytes", "weightsDigest"] {
        js::set(&plain, field, &Reflect::get(options, &field.into())?)?;
    }
    Ok(plain.into())
}

/// A tokenizer or template that does not load is the model's fault, not a request's.
fn bad_model(error: Error) -> JsValue {
    let value = thrown(error);
    let _ = js::set(&value, "code", &"bad_model".into());
    value
}
