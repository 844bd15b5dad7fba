//! The engine: requests in, tokens out.
//!
//! text → template → tokens → [`Request`] → `Sequence` → prefix match → [`scheduler`] (which tokens
//! of which sequences) → `batch` (one step buffer) → the model records → one submit → sampling on the GPU → 4 bytes a
//! row come back → collect (written pages are published) → [`Event`]s.
//!
//! `Engine` takes `&mut self` and is owned by one thread or worker. It is a thin face over `runner`, which runs steps,
//! and `reuse`, which finds known KV, and holds the sequences. It awaits in four places: opening the device, reading
//! weights, reading results back, and stores, if there is nothing to compute.

mod ahead;
pub mod answers;
mod audit;
mod batch;
mod breakpoints;
#[doc(hidden)]
pub mod choice;
pub mod explain;
mod fetch;
pub(crate) mod fields;
mod handover;
mod heal;
mod hold;
mod identity;
pub mod language;
mod memory;
pub mod openai;
#[doc(hidden)]
pub mod pace;
pub(crate) mod packs;
mod pages;
#[doc(hidden)]
mod profile;
#[doc(hidden)]
pub mod proof;
#[doc(hidden)]
pub mod rates;
mod request;
mod restore;
mod reuse;
mod runner;
mod save;
#[doc(hidden)]
pub mod scheduler;
mod search;
mod sequence;
mod stats;
mod step;

use std::collections::VecDeque;
use std::time::Duration;

pub use audit::Audited;
pub use identity::KvIdentity;
#[doc(hidden)]
pub use profile::Profile;
#[doc(hidden)]
pub use request::check_ids;
pub use request::{Event, FinishReason, MAX_BREAKPOINTS, Request, SequenceId, Usage};
pub use stats::Counters;

use crate::{
    error::Result,
    gpu::{AdapterInfo, AdapterKind, Caps, Instance, Numerics, Preset},
    kv::{KvFormat, Namespace, PinId, Pinned, PinsFull, Report},
    model::Config,
    quant::Format,
    store::Tiers,
    weights::Checkpoint,
};
use reuse::Reuse;
use runner::Runner;
use sequence::Sequence;
use step::Launched;

/// What a person can choose when loading a model.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Longest context in tokens: by default the model's own, and at most that.
    pub context: Option<usize>,
    /// The format to which 16- and 32-bit weights are quantised: Q8_0, Q4_K or Q4_0.
    pub quantize: Option<Format>,
    /// How keys and values are stored: a prefix in one format is not found in another.
    pub kv: KvFormat,
    /// Which kernels run; by default those that `HEADSTART_KERNELS` names, else those that suit the adapter.
    pub kernels: Option<Preset>,
    /// Most prompt tokens in one step.
    pub chunk: Option<usize>,
    /// Most sequences that run at once.
    pub max_sequences: Option<usize>,
    /// Tokens of KV cache allocated at the start; it grows as needed.
    pub kv_tokens: Option<usize>,
    /// Most tokens of KV cache; by default as many as the context and the sequences can use.
    pub kv_limit: Option<usize>,
    /// Pages that were unused for so long are dropped from the GPU; by default only when their memory is needed.
    pub ttl: Option<Duration>,
    /// Most bytes of KV that pages keep for each salt; by default there is no limit.
    pub salt_quota: Option<u64>,
    /// The instance on which the device is opened; by default a new one.
    pub instance: Option<Instance>,
}

/// Progress of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The current stage.
    pub stage: Stage,
    /// Pipelines in [`Stage::Shaders`], bytes in the other stages.
    pub done: u64,
    /// The total in the same unit. It does not change within a stage.
    pub total: u64,
}

/// A stage of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes of weights.
    Weights,
    /// Pipelines. They are compiled beside the weights, and this is the wait for the last of them.
    Shaders,
    /// Bytes of weights that are hashed, where that takes longer than loading them. The engine itself does not hash.
    Digest,
}

/// Pages of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PageUse {
    /// All pages, free ones included.
    pub total: usize,
    /// Pages held by sequences.
    pub used: usize,
    /// Pages that no sequence holds and that are kept for later ones.
    pub cached: usize,
}

/// A model on a GPU with its KV cache. It is not `Send`: one thread or worker owns it.
pub struct Engine {
    runner: Runner,
    reuse: Reuse,
    /// Ordered by id, the oldest first.
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    /// The next step, if it was already launched.
    ahead: Option<Launched>,
    next_id: u64,
    /// A sequence had to give up its pages, and none has ended since, so no other may begin.
    is_short: bool,
    /// Duration of the last step that computed something, in milliseconds.
    step_ms: f64,
    /// The sequence that recomputes what decoding wrote. Nothing else runs meanwhile.
    healing: Option<SequenceId>,
}

impl Engine {
    /// Opens the GPU and puts the model on it.
    pub async fn load(
        checkpoint: &Checkpoint,
        options: &EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let runner = Runner::load(checkpoint, options, progress).await?;
        let reuse = Reuse::new(&runner, options);
        let (waiting, running) = (VecDeque::new(), Vec::new());
        Ok(Self {
            runner,
            reuse,
            waiting,
            running,
            ahead: None,
            next_id: 0,
            is_short: false,
            step_ms: 0.0,
            healing: None,
        })
    }

    /// Keeps KV beyond the GPU in `tiers` from now on, named by the digest of the model's weights. A request waits for
    /// stores for at most `deadline` in all, and computes the rest.
    pub fn attach(&mut self, tiers: Tiers, weights_digest: &str, deadline: Duration) {
        self.reuse.attach(&self.runner.config, tiers, weights_digest, deadline);
    }

    /// The tiers, if any are attached.
    pub fn tiers(&self) -> Option<&Tiers> {
        self.reuse.persistence.as_ref().map(|persistence| &*persistence.tiers)
    }

    /// The root of the keys of requests with this salt.
    pub fn namespace(&self, salt: &str) -> Namespace {
        self.reuse.namespace(salt)
    }

    /// Milliseconds that reuse saved: the time to compute the reused tokens of `report`, minus the time to load them,
    /// by the rates measured so far. `None` before the first measurement.
    pub fn saved_ms(&self, report: &Report) -> Option<f64> {
        let loading: f64 = report.choices.iter().filter(|choice| choice.load).filter_map(|choice| choice.load_ms).sum();
        Some((self.reuse.prefill.ms(report.reused() as f64)? - loading).max(0.0))
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.runner.config
    }

    /// The adapter that it runs on.
    pub fn adapter(&self) -> &AdapterInfo {
        self.runner.adapter()
    }

    /// Whether the adapter is a GPU or a CPU.
    pub fn adapter_kind(&self) -> AdapterKind {
        self.runner.caps().kind
    }

    /// What the device can do, as far as kernels ask.
    #[doc(hidden)]
    pub fn caps(&self) -> &Caps {
        self.runner.caps()
    }

    /// What the bits of a prompt's KV depend on, besides the adapter.
    pub fn numerics(&self) -> Numerics {
        self.runner.caps().numerics()
    }

    /// Notes for a person about loading: kernels that are not used because the driver computes them wrong.
    pub fn notes(&self) -> &[String] {
        &self.runner.notes
    }

    /// Most prompt tokens of one step.
    pub fn chunk(&self) -> usize {
        self.runner.pace.most()
    }

    /// Longest context of a sequence, in tokens.
    pub fn context(&self) -> usize {
        self.runner.context
    }

    /// The cost of decoding so far, as means over its steps.
    pub fn counters(&self) -> Counters {
        self.runner.counters()
    }

    /// Pages of the KV cache by use.
    pub fn page_use(&self) -> PageUse {
        let (total, cached) = (self.kv_pages(), self.reuse.cache.cached());
        PageUse { total, cached, used: total - self.reuse.cache.available() }
    }

    /// Waits until the GPU is idle, so that what follows can be measured alone. A step without a token does not wait.
    /// In a browser this returns at once.
    #[doc(hidden)]
    pub fn drain(&mut self) -> Result<()> {
        self.runner.gpu.flush()
    }

    /// Destroys the device and frees all GPU memory at once. Later operations fail with [`Error::DeviceLost`].
    #[doc(hidden)]
    pub fn destroy_device(&self) {
        self.runner.gpu.destroy();
    }

    /// Most sequences that run at once.
    #[doc(hidden)]
    pub fn max_sequences(&self) -> usize {
        self.runner.max_sequences
    }

    /// Allocated pages of the KV cache, free ones included.
    #[doc(hidden)]
    pub fn kv_pages(&self) -> usize {
        self.runner.kv.pages()
    }

    /// Bytes of the pages of the KV cache, free ones included.
    #[doc(hidden)]
    pub fn kv_bytes(&self) -> u64 {
        self.runner.kv.layers().iter().map(|layer| layer.size).sum()
    }

    /// The cost of placing pages from stores.
    #[doc(hidden)]
    pub fn placed(&self) -> memory::Placed {
        self.runner.kv.placed()
    }

    /// Submits a request. Its tokens come as events of later steps.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty prompt, one that leaves no room in the context, ids outside the vocabulary, or
    /// sampling values out of range.
    #[doc(hidden)]
    pub fn submit(&mut self, request: Request) -> Result<SequenceId> {
        request.validate(self.config().vocab, self.context(), self.config().context)?;
        self.interrupt_healing();
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        self.waiting.push_back(Sequence::new(id, request));
        Ok(id)
    }

    /// Ends a sequence without a further event. What it has computed stays in the cache.
    #[doc(hidden)]
    pub fn cancel(&mut self, id: SequenceId) {
        let waited = self.waiting.len();
        self.waiting.retain(|sequence| sequence.id != id);
        // The others may be waiting for this one.
        self.is_short &= self.waiting.len() == waited;
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let sequence = self.running.remove(at);
            self.release(sequence);
        }
    }

    /// Whether any request is unfinished.
    #[doc(hidden)]
    pub fn has_requests(&self) -> bool {
        self.healing.is_none() && (!self.waiting.is_empty() || !self.running.is_empty())
    }

    /// Whether any request is not held.
    #[doc(hidden)]
    pub fn is_busy(&self) -> bool {
        self.has_requests() && self.waiting.iter().chain(&self.running).any(|sequence| !sequence.is_held)
    }

    /// Keeps the pages that hold `tokens` under `salt` from eviction, until [`unpin`](Self::unpin).
    ///
    /// # Errors
    /// [`PinsFull`] if more than half of the pages would be pinned.
    pub fn pin(&mut self, tokens: &[u32], salt: &str) -> Result<Pinned, PinsFull> {
        let namespace = self.namespace(salt);
        self.reuse.cache.pin(&namespace, tokens)
    }

    /// False if there is no such pin.
    pub fn unpin(&mut self, pin: PinId) -> bool {
        self.reuse.cache.unpin(pin)
    }

    /// Forgets every prefix in pages. Tiers keep theirs.
    pub fn clear_cache(&mut self) {
        self.interrupt_healing();
        self.reuse.cache.clear();
        self.reuse.breakpoints.clear();
        self.reuse.decoded.clear();
    }
}
