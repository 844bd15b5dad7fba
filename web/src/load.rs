//! Makes an engine from files and options: at the start, and again after each lost device.

use headstart::{
    Config, Instance, KvFormat, Preset,
    engine::{Engine, EngineOptions, Progress, language::Language, openai},
    error::{Error, Result},
    weights::{ByteSource, Checkpoint},
};
use js_sys::Array;
use serde_json::Value;
use wasm_bindgen::prelude::*;

use crate::error::{bad_model, thrown};
use crate::source::{JsSource, ModelFile, Thrown};

/// Throws if the model in these files cannot run. It reads the headers, the tokenizer and the configuration only, and needs no
/// GPU.
#[wasm_bindgen]
pub async fn judge(files: Array) -> crate::error::Result<()> {
    let unread = Thrown::default();
    let files = files.iter().map(JsCast::unchecked_into).collect();
    let loader = Loader::new(files, &Value::Null, unread.clone()).map_err(thrown)?;
    // The error that a file threw is more precise than the engine's, which only says that a read failed.
    loader.judge().await.map_err(|error| unread.take().unwrap_or(error))
}

/// The one of `all` that the option `field` names.
fn named<T: Copy>(options: &Value, field: &'static str, all: &[(&'static str, T)]) -> Result<Option<T>> {
    let Some(name) = openai::text(options, field)? else { return Ok(None) };
    if let Some((_, found)) = all.iter().find(|(own, _)| *own == name) {
        return Ok(Some(*found));
    }
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    Err(Error::Request { field, problem: format!("{name:?} is none of {}", names.join(", ")) })
}

/// The engine's options among those of `create`.
pub fn settings(options: &Value) -> Result<EngineOptions> {
    let whole = |field| openai::whole(options, field);
    Ok(EngineOptions {
        context: whole("context")?,
        kv_tokens: whole("kvTokens")?,
        chunk: whole("chunk")?,
        kv: named(options, "kv", &KvFormat::ALL)?.unwrap_or_default(),
        kernels: named(options, "kernels", &Preset::ALL)?,
        ..EngineOptions::default()
    })
}

pub struct Loader {
    files: Vec<ModelFile>,
    /// The name of a model that consists of several files.
    name: Option<String>,
    options: EngineOptions,
    unread: Thrown,
}

impl Loader {
    /// `unread` receives the error that a file throws when it is read.
    pub fn new(files: Vec<ModelFile>, options: &Value, unread: Thrown) -> Result<Self> {
        Ok(Self { files, name: openai::text(options, "name")?, options: settings(options)?, unread })
    }

    /// Loads engines on `instance`, even when the host no longer offers WebGPU: Node does so for the first load alone.
    pub fn on(mut self, instance: Instance) -> Self {
        self.options.instance = Some(instance);
        self
    }

    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        self.unread.take();
        let source =
            |file: &ModelFile| Box::new(JsSource::new(file.clone(), self.unread.clone())) as Box<dyn ByteSource>;
        let mut sources: Vec<_> = self.files.iter().map(source).collect();
        let name = |source: &dyn ByteSource| source.name().to_owned();
        let weights = || sources.iter().map(|source| name(&**source)).find(|name| name.ends_with(".safetensors"));
        let is_gguf = |source: &dyn ByteSource| source.name().ends_with(".gguf");
        if sources.len() < 2 {
            return Checkpoint::gguf_shards(sources).await;
        }
        // GGUF shards are complete: other files beside them are not needed.
        if weights().is_none() && sources.iter().any(|source| is_gguf(&**source)) {
            sources.retain(|source| is_gguf(&**source));
            return Checkpoint::gguf_shards(sources).await;
        }
        let called = self.name.clone().or_else(weights).unwrap_or_else(|| "the model".into());
        let files = sources.into_iter().map(|source| (name(&*source), source)).collect();
        Checkpoint::safetensors(called, files).await
    }

    async fn judge(&self) -> crate::error::Result<()> {
        let checkpoint = self.checkpoint().await.map_err(thrown)?;
        let config = Config::from_checkpoint(&checkpoint).map_err(bad_model)?;
        config.check_tensors(&checkpoint).map_err(thrown)?;
        Language::open(&checkpoint).map(drop).map_err(bad_model)
    }

    pub async fn engine(&self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(Progress)) -> Result<Engine> {
        Engine::load(checkpoint, &self.options, progress).await
    }
}
