//! `WasmEngine`: one model on one device. After the device is lost it opens another one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use headstart::{
    AdapterInfo, Instance,
    engine::{
        Progress, Stage,
        answers::{AnswerId, Answers, Update, unheard},
        language::Language,
        openai::{self, Body},
    },
    error::Error,
    store::{MemoryStore, Pack, PackKey, PackLimits, PackStore, Store, Tiers, TiersConfig, system_clock},
};
use js_sys::{Array, Function, Reflect, Uint8Array, Uint32Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use web_time::Instant;

use crate::{
    error::{Result, bad_model, thrown},
    events::Runs,
    hash::hash,
    host::{Snapshot, WasmHost},
    js,
    load::Loader,
    options,
    source::{Thrown, is_digest},
    store::JsStore,
};

/// Host memory for KV that the GPU no longer holds.
const MEMORY_BYTES: usize = 32 << 20;
/// The largest pack that is accepted. A pack stays in this module's memory as a whole.
const PACK_BYTES: u64 = 512 << 20;
/// How long restoring the KV of one request may take. After that the rest is computed.
const DEADLINE: Duration = Duration::from_secs(5);
/// Blocks of a pack that an audit computes unless it is told otherwise.
const AUDITED: usize = 8;

#[wasm_bindgen]
pub struct WasmEngine {
    answers: Answers,
    language: Rc<Language>,
    digest: String,
    model: String,
    packs: PackStore,
    runs: Runs,
    snapshot: Rc<RefCell<Snapshot>>,
    unread: Thrown,
}

#[wasm_bindgen]
impl WasmEngine {
    /// Opens the device and uploads the model. After each lost device the files are read again.
    pub async fn load(options: JsValue, on_progress: Function) -> Result<WasmEngine> {
        let unread = Thrown::default();
        let loaded = Self::open(&options, &on_progress, &unread).await;
        // The error that a file threw is more precise than the engine's, which only says that a read failed.
        loaded.map_err(|error| unread.take().unwrap_or(error))
    }

    async fn open(options: &JsValue, on_progress: &Function, unread: &Thrown) -> Result<WasmEngine> {
        let files = Array::from(&Reflect::get(options, &"files".into())?).iter().map(JsCast::unchecked_into).collect();
        let plain = js::read(&plain(options)?)?;
        let loader = Loader::new(files, &plain, unread.clone()).map_err(thrown)?.on(Instance::default());
        let checkpoint = loader.checkpoint().await.map_err(thrown)?;
        let language = Language::open(&checkpoint).map_err(bad_model)?;
        let mut progress = |progress: Progress| {
            let stage = if progress.stage == Stage::Weights { "upload" } else { "compile" };
            let plain = json!({ "stage": stage, "done": progress.done, "total": progress.total });
            // An exception of the listener does not end the load.
            let _ = js::write(&plain).and_then(|plain| on_progress.call1(&JsValue::NULL, &plain));
        };
        let mut engine = loader.engine(&checkpoint, &mut progress).await.map_err(thrown)?;

        let given = openai::text(&plain, "weightsDigest").map_err(thrown)?.filter(|digest| is_digest(digest));
        let digest = match given {
            Some(digest) => digest,
            // A file that carries its digest is not read for this.
            None => checkpoint.digest(&mut |_, _| {}).await.map_err(thrown)?,
        };

        let packs = PackStore::default();
        let mut behind: Vec<Box<dyn Store>> = vec![Box::new(packs.clone())];
        let store = Reflect::get(options, &"store".into())?;
        if store.is_object() {
            behind.push(Box::new(JsStore::new(store.unchecked_into())));
        }
        let memory = openai::whole(&plain, "memoryBytes").map_err(thrown)?.unwrap_or(MEMORY_BYTES);
        let memory = MemoryStore::new(memory as u64, system_clock());
        let tiers = Tiers::new(memory, behind, TiersConfig::default()).with_digester(Rc::new(hash));
        engine.attach(tiers, &digest, DEADLINE);
        let snapshot = Rc::new(RefCell::new(Snapshot::of(&engine)));
        let reload = async move || loader.engine(&loader.checkpoint().await?, &mut |_| {}).await;
        Ok(Self {
            answers: Answers::new(engine, &language.tokenizer, Some(Box::new(reload))),
            language: Rc::new(language),
            digest,
            model: checkpoint.name,
            packs,
            runs: Runs::default(),
            snapshot,
            unread: unread.clone(),
        })
    }

    pub fn info(&self) -> Result<JsValue> {
        let engine = self.answers.engine();
        let AdapterInfo { name, backend, driver } = engine.adapter();
        let numerics = engine.numerics().to_string();
        js::write(&json!({
            "adapter": { "name": name, "backend": backend, "driver": driver, "numerics": numerics, "notes": engine.notes() },
            "context": engine.context(),
            "vocab": engine.config().vocab,
            "weightsDigest": self.digest,
            "model": self.model,
            "stopTokens": engine.config().stop_tokens,
            "hasTemplate": self.language.template().is_ok(),
        }))
    }

    /// The part that needs no GPU, as a separate object. It may be called while a promise of this one is pending.
    pub fn host(&self) -> Result<WasmHost> {
        WasmHost::new(self.language.clone(), self.answers.engine(), self.snapshot.clone())
    }

    /// Accepts a request and returns the id of its answer.
    pub fn submit(&mut self, request: JsValue) -> Result<f64> {
        let arrived = Instant::now();
        let request = js::read(&request)?;
        self.start(&request, arrived).map_err(thrown)
    }

    fn start(&mut self, request: &Value, arrived: Instant) -> headstart::error::Result<f64> {
        let body = Body::read(request)?;
        let tokens = self.language.tokens(&body.input)?;
        let random = || (js_sys::Math::random() * (1u64 << 53) as f64) as u64;
        let engine = self.answers.engine();
        let asked = body.request(tokens.clone(), engine.config(), engine.context(), random);
        let id = self.answers.ask(asked, body.stops, arrived)?;
        self.runs.begin(id, body.input, tokens);
        Ok(id.0 as f64)
    }

    /// The prompt tokens of an answer that has not ended.
    #[wasm_bindgen(js_name = promptTokens)]
    pub fn prompt_tokens(&self, id: f64) -> Uint32Array {
        Uint32Array::from(self.runs.prompt(AnswerId(id as u64)).unwrap_or_default())
    }

    /// Runs one step for all answers. Without answers it saves some of the KV that waits.
    pub async fn step(&mut self) -> Result<Array> {
        let updates = self.answers.step().await;
        self.renew();
        self.events(updates.map_err(thrown)?)
    }

    /// Whether a step has work: an answer that is not held, an event to report, or KV to save.
    #[wasm_bindgen(js_name = isBusy)]
    pub fn is_busy(&self) -> bool {
        self.answers.is_busy() || self.answers.engine().has_unsaved()
    }

    /// Pauses an answer while the others continue, or resumes it.
    pub fn hold(&mut self, id: f64, still: bool) {
        self.answers.hold(AnswerId(id as u64), still);
    }

    /// Ends an answer and keeps the KV it computed. Returns its events and the pending events of the others.
    pub fn cancel(&mut self, id: f64) -> Result<Array> {
        self.answers.cancel(AnswerId(id as u64));
        self.renew();
        let updates = self.answers.take();
        self.events(updates)
    }

    fn events(&mut self, updates: Vec<Update>) -> Result<Array> {
        let Self { answers, language, runs, unread, .. } = self;
        let event = |update| runs.event(update, answers.engine(), language, unread).transpose();
        updates.into_iter().filter_map(event).collect()
    }

    fn renew(&mut self) {
        self.snapshot.replace(Snapshot::of(self.answers.engine()));
    }

    /// Computes the tokens of a conversation's prefix that neither pages nor stores hold, and saves them. Events of other
    /// answers wait for the next step.
    pub async fn warm(&mut self, prefix: JsValue) -> Result<JsValue> {
        let (tokens, salt) = self.prefix(&js::read(&prefix)?).map_err(thrown)?;
        let answer = self.answers.warm(&tokens, &salt, &mut unheard).await.map_err(thrown)?;
        self.renew();
        js::write(&answer.cache)
    }

    fn prefix(&self, request: &Value) -> headstart::error::Result<(Vec<u32>, String)> {
        let tokens = self.language.shared(&openai::conversation(request)?)?;
        Ok((tokens, openai::text(request, "cache_salt")?.unwrap_or_default()))
    }

    /// The prefix of a conversation as a pack: one file that others can import.
    #[wasm_bindgen(js_name = exportPack)]
    pub async fn export_pack(&mut self, prefix: JsValue) -> Result<Option<Uint8Array>> {
        let mut request = js::read(&prefix)?;
        let name = openai::text(&request, "name").map_err(thrown)?.unwrap_or_else(|| "prefix".into());
        // It names the pack and is no field of a conversation.
        request.as_object_mut().and_then(|fields| fields.remove("name"));
        let (tokens, salt) = self.prefix(&request).map_err(thrown)?;
        let text = self.language.tokenizer.decode(&tokens, false);
        let pack = self.answers.export_pack(&name, &tokens, &salt, Some(&text), &mut unheard).await.map_err(thrown)?;
        self.renew();
        Ok(pack.map(|pack| Uint8Array::from(pack.bytes())))
    }

    /// Keeps a pack in memory. Requests with the same `cache_salt` find it. With `key`, only if that key signed it.
    #[wasm_bindgen(js_name = importPack)]
    pub fn import_pack(&mut self, bytes: Uint8Array, options: JsValue) -> Result<JsValue> {
        let options = js::read(&options)?;
        options::check(&options, "", options::IMPORT)?;
        let size = bytes.length();
        let held = self.take_pack(&bytes, salt_of(&options), options["key"].as_str());
        let (name, tokens) = held.map_err(thrown)?;
        self.renew();
        js::write(&json!({ "name": name, "tokens": tokens, "bytes": size }))
    }

    fn take_pack(
        &self,
        bytes: &Uint8Array,
        salt: &str,
        key: Option<&str>,
    ) -> headstart::error::Result<(String, usize)> {
        let problem = "is not a signer's key: give the 64 hexadecimal digits that `prefix export --sign` shows";
        let parse = |text| PackKey::parse(text).ok_or_else(|| Error::Request { field: "key", problem: problem.into() });
        let key = key.map(parse).transpose()?;
        let pack = read_pack(bytes)?;
        if let Some(key) = key {
            pack.header().check_signature(&[key]).map_err(|problem| refused(&problem))?;
        }
        let (name, tokens) = (pack.header().name.clone(), pack.tokens().len());
        self.answers.engine().identity()?.hold(pack, salt, &self.packs).map_err(|problem| refused(&problem))?;
        Ok((name, tokens))
    }

    /// Computes `blocks` blocks of a pack again, 8 by default, and compares them bit for bit, or roughly with `otherAdapter`.
    #[wasm_bindgen(js_name = auditPack)]
    pub async fn audit_pack(&mut self, bytes: Uint8Array, nonce: String, options: JsValue) -> Result<JsValue> {
        let options = js::read(&options)?;
        options::check(&options, "", options::AUDIT)?;
        let blocks = openai::whole(&options, "blocks").map_err(thrown)?.unwrap_or(AUDITED);
        let other_adapter = options["otherAdapter"] == true;
        let pack = read_pack(&bytes).map_err(thrown)?;
        let salt = salt_of(&options);
        let audited = self.answers.audit(pack, salt, blocks, &nonce, other_adapter, &mut unheard).await;
        self.renew();
        js::write(&audited.map_err(thrown)?)
    }

    /// Saves all KV that waits, durably.
    pub async fn persist(&mut self) -> Result<()> {
        let saved = self.answers.persist().await;
        self.renew();
        saved.map_err(thrown)
    }

    /// Removes every prefix, in this engine and in the store.
    pub async fn clear(&mut self) -> Result<()> {
        for header in self.packs.headers() {
            self.packs.remove_pack(&header.key);
        }
        let cleared = self.answers.engine_mut().clear_all().await;
        self.renew();
        cleared.map_err(thrown)
    }

    #[wasm_bindgen(js_name = destroyDeviceForTest)]
    pub fn destroy_device_for_test(&self) {
        self.answers.engine().destroy_device();
    }
}

impl Drop for WasmEngine {
    /// Without it the page would keep the GPU's memory until the garbage collector runs.
    fn drop(&mut self) {
        self.answers.engine().destroy_device();
    }
}

fn salt_of(options: &Value) -> &str {
    options["cache_salt"].as_str().unwrap_or_default()
}

fn refused(problem: &dyn std::fmt::Display) -> Error {
    Error::Pack { pack: "the pack".into(), problem: problem.to_string() }
}

/// Parses a pack and checks its digests. It may belong to any model.
fn read_pack(bytes: &Uint8Array) -> headstart::error::Result<Pack> {
    let size = bytes.length();
    if u64::from(size) > PACK_BYTES {
        return Err(refused(&format!("has {size} bytes; at most {PACK_BYTES} are accepted")));
    }
    Pack::read(bytes.to_vec(), &PackLimits::default()).map_err(|problem| refused(&problem))
}

/// The options that are plain data, without the files and the store.
fn plain(options: &JsValue) -> Result<JsValue> {
    let plain = js_sys::Object::new();
    for field in ["name", "context", "kvTokens", "kv", "kernels", "chunk", "memoryBytes", "weightsDigest"] {
        js::set(&plain, field, &Reflect::get(options, &field.into())?)?;
    }
    Ok(plain.into())
}
