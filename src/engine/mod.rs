//! The engine: requests in, tokens out.
//!
//! text → template → tokens → [`Request`] → [`Sequence`](sequence::Sequence) → prefix match → [`scheduler`] (which tokens
//! of which sequences) → [`batch`] (one step buffer) → the model records → one submit → sampling on the GPU → 4 bytes a
//! row come back → collect (written pages are published) → [`Event`]s.
//!
//! `Engine` is `&mut self` and owned by one thread or worker. It awaits in three places: opening the device, reading
//! weights, reading results back.

pub mod answers;
pub mod batch;
mod breakpoints;
pub mod choice;
pub mod explain;
mod handover;
mod identity;
pub mod language;
pub mod memory;
pub mod openai;
pub mod packs;
pub mod pages;
mod persist;
mod profile;
pub mod request;
pub mod scheduler;
pub mod score;
pub mod sequence;
pub mod stats;
pub mod step;

use std::collections::VecDeque;
use std::time::Duration;

pub use identity::KvIdentity;
pub use request::{Event, FinishReason, MAX_BREAKPOINTS, Request, SequenceId, Usage};
pub use stats::Counters;
use web_time::Instant;

use crate::{
    error::{Error, Result},
    gpu::{AdapterInfo, AdapterKind, Gpu, readback::Staging},
    kernels,
    kv::{Cache, Fields, Namespace, PinId, Pinned, PinsFull},
    model::{self, Activations, Config, Model, Uploader},
    quant::Format,
    weights::Checkpoint,
};
use breakpoints::Breakpoints;
use choice::Rate;
use memory::KvMemory;
use pages::PageLayout;
use persist::Persistence;
use sequence::Sequence;

/// What a person can choose when loading a model.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Longest context in tokens; the model's own by default, and at most that.
    pub context: Option<usize>,
    /// What 16- and 32-bit weights become: Q8_0 or Q4_0.
    pub quantize: Option<Format>,
    /// Prompt tokens in one step.
    pub chunk: Option<usize>,
    /// Sequences that run at once.
    pub max_sequences: Option<usize>,
    /// Tokens of KV cache allocated at the start; it grows as needed.
    pub kv_tokens: Option<usize>,
    /// Pages that nobody used for so long are forgotten on the GPU; by default only when they are needed.
    pub ttl: Option<Duration>,
    /// Bytes of KV that pages may keep for each salt; by default all there are.
    pub salt_quota: Option<u64>,
}

/// How far loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub done: u64,
    pub total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes of weights.
    Weights,
    /// Pipelines.
    Shaders,
}

/// Pages of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PageUse {
    pub total: usize,
    /// Held by sequences.
    pub used: usize,
    /// Held by nobody, and kept for those to come.
    pub cached: usize,
}

pub struct Engine {
    gpu: Gpu,
    config: Config,
    context: usize,
    chunk: usize,
    max_sequences: usize,
    model: Box<dyn Model>,
    memory: Activations,
    step_buffer: crate::gpu::Buffer,
    staging: Staging,
    kv: KvMemory,
    layout: PageLayout,
    cache: Cache,
    breakpoints: Breakpoints,
    quantize: Option<Format>,
    fields: Fields,
    /// Of requests without a salt.
    namespace: Namespace,
    persistence: Option<Persistence>,
    /// Tokens a millisecond.
    prefill: Rate,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    next_id: u64,
    stats: stats::Stats,
    /// From which the cache's time is counted.
    began: Instant,
}

impl Engine {
    /// Opens the GPU and puts the model on it.
    pub async fn load(
        checkpoint: &Checkpoint,
        options: &EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let config = Config::from_checkpoint(checkpoint)?;
        config.check_tensors(checkpoint)?;
        let context = context(&config, options)?;
        let mut gpu = Gpu::open(kernels::SHADERS).await?;
        let caps = gpu.caps().clone();
        let chunk = options.chunk.unwrap_or(memory::default_chunk(&caps)).clamp(1, context);
        let max_sequences = options.max_sequences.unwrap_or(memory::MAX_SEQUENCES).max(1);

        let total = checkpoint.tensors.values().map(|tensor| tensor.bytes).sum();
        let mut weights = |done, total| progress(Progress { stage: Stage::Weights, done, total });
        let mut uploader = Uploader {
            gpu: &mut gpu,
            checkpoint,
            config: &config,
            quantize: options.quantize,
            progress: &mut weights,
            done: 0,
            total,
        };
        let model = model::load(&mut uploader, &config, context, &caps).await?;
        weights(total, total);
        gpu.flush()?;

        let kernels = model.kernels();
        for (done, kernel) in kernels.iter().enumerate() {
            gpu.compile(kernel).await?;
            progress(Progress { stage: Stage::Shaders, done: done as u64 + 1, total: kernels.len() as u64 });
        }

        let rows = chunk + max_sequences;
        let memory = memory::activations(&mut gpu, &config, context, rows, max_sequences).await?;
        let words = batch::capacity(&model.heads(), rows, max_sequences, context);
        let step_buffer = gpu.alloc("the step buffer", 4 * words as u64, "lower --context").await?;
        let tokens = options.kv_tokens.unwrap_or(memory::INITIAL_TOKENS).min(context);
        let kv = KvMemory::new(&mut gpu, &model.heads(), config.layers, tokens, context, max_sequences).await?;
        let cache = Cache::new(crate::kv::Config {
            capacity: kv.pages(),
            page_bytes: model.heads().page_bytes() * config.layers as u64,
            ttl_ms: options.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            quota: options.salt_quota,
            ..Default::default()
        });
        let layout = PageLayout::new(&model.heads(), config.layers);
        let fields = identity::fields(&config, &checkpoint.name, options.quantize);
        let stats = stats::Stats::new(model.weight_bytes());
        let mut engine = Self {
            gpu,
            config,
            context,
            chunk,
            max_sequences,
            model,
            memory,
            step_buffer,
            staging: Staging::default(),
            kv,
            layout,
            cache,
            breakpoints: Breakpoints::default(),
            quantize: options.quantize,
            namespace: Namespace::new(fields.clone()),
            fields,
            persistence: None,
            prefill: Rate::default(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            next_id: 0,
            stats,
            began: Instant::now(),
        };
        engine.prepare();
        Ok(engine)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn adapter(&self) -> &AdapterInfo {
        self.gpu.info()
    }

    pub fn adapter_kind(&self) -> AdapterKind {
        self.gpu.caps().kind
    }

    /// Most prompt tokens of one step.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Longest context of a sequence, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    pub fn counters(&self) -> Counters {
        self.stats.counters()
    }

    /// Pages of the KV cache, by what they are for.
    pub fn page_use(&self) -> PageUse {
        let (total, cached) = (self.kv.pages(), self.cache.cached());
        PageUse { total, cached, used: total - self.cache.available() }
    }

    /// Waits until the GPU has done all it was given, so that what follows is measured by itself. A step that gives no token
    /// does not wait. In a browser, which waits for nothing, it returns at once.
    pub fn drain(&mut self) -> Result<()> {
        self.gpu.flush()
    }

    /// Loses the device: all GPU memory is given back at once, and what follows fails with [`Error::DeviceLost`].
    pub fn destroy_device(&self) {
        self.gpu.destroy();
    }

    /// Pages of the KV cache that exist, free ones included.
    pub fn kv_pages(&self) -> usize {
        self.kv.pages()
    }

    /// Takes a request. Its tokens come as events of later steps.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty prompt, one that leaves no room in the context, ids outside the vocabulary, or
    /// sampling values out of range.
    pub fn submit(&mut self, request: Request) -> Result<SequenceId> {
        request.validate(self.config.vocab, self.context)?;
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        self.waiting.push_back(Sequence::new(id, request));
        Ok(id)
    }

    /// Ends a sequence; what it has computed stays in the cache. No event follows.
    pub fn cancel(&mut self, id: SequenceId) {
        self.waiting.retain(|sequence| sequence.id != id);
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let sequence = self.running.remove(at);
            self.release(sequence);
        }
    }

    /// Whether any request is unfinished.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    /// Keeps what pages hold of `tokens` under `salt` there, whatever else is asked, until [`unpin`](Self::unpin).
    ///
    /// # Errors
    /// [`PinsFull`] where more than half of the pages would be pinned.
    pub fn pin(&mut self, tokens: &[u32], salt: &str) -> Result<Pinned, PinsFull> {
        let namespace = self.namespace(salt);
        self.cache.pin(&namespace, tokens)
    }

    /// False if there is no such pin.
    pub fn unpin(&mut self, pin: PinId) -> bool {
        self.cache.unpin(pin)
    }

    /// Forgets every prefix that pages hold. Tiers keep what they have.
    pub fn clear_cache(&mut self) {
        self.cache.clear();
        self.breakpoints.clear();
    }
}

fn context(config: &Config, options: &EngineOptions) -> Result<usize> {
    match options.context {
        None => Ok(config.context),
        Some(0) => Err(Error::Request { field: "context", problem: "must be at least 1 token".into() }),
        Some(wanted) if wanted > config.context => Err(Error::Request {
            field: "context",
            problem: format!("{wanted} tokens are more than the {} the model was made for", config.context),
        }),
        Some(wanted) => Ok(wanted),
    }
}
