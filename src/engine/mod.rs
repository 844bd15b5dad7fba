//! The engine: requests in, tokens out.
//!
//! text → template → tokens → [`Request`] → `Sequence` → prefix match → [`scheduler`] (which tokens
//! of which sequences) → `batch` (one step buffer) → the model records → one submit → sampling on the GPU → 4 bytes a
//! row come back → collect (written pages are published) → [`Event`]s.
//!
//! `Engine` is `&mut self` and owned by one thread or worker: a thin face over what runs steps (`runner`) and what reuses
//! (`reuse`), with its sequences. It awaits in four places: opening the device, reading weights, reading results back, and,
//! where nothing can be computed, stores.

mod ahead;
pub mod answers;
mod audit;
mod batch;
mod breakpoints;
#[doc(hidden)]
pub mod choice;
pub mod explain;
mod fetch;
mod fields;
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
pub use request::{Event, FinishReason, MAX_BREAKPOINTS, Request, SequenceId, Usage};
pub use stats::Counters;

use crate::{
    error::Result,
    gpu::{AdapterInfo, AdapterKind, Caps, Numerics, Preset},
    kv::{Namespace, PinId, Pinned, PinsFull, Report},
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
    /// Longest context in tokens; the model's own by default, and at most that.
    pub context: Option<usize>,
    /// What 16- and 32-bit weights become: Q8_0 or Q4_0.
    pub quantize: Option<Format>,
    /// Which kernels run; without, those that `HEADSTART_KERNELS` names, else what suits the adapter.
    pub kernels: Option<Preset>,
    /// Prompt tokens in one step.
    pub chunk: Option<usize>,
    /// Sequences that run at once.
    pub max_sequences: Option<usize>,
    /// Tokens of KV cache allocated at the start; it grows as needed.
    pub kv_tokens: Option<usize>,
    /// Tokens of KV cache that there are ever to be; by default as many as the context and the sequences can take.
    pub kv_limit: Option<usize>,
    /// Pages that nobody used for so long are forgotten on the GPU; by default only when they are needed.
    pub ttl: Option<Duration>,
    /// Bytes of KV that pages may keep for each salt; by default all there are.
    pub salt_quota: Option<u64>,
}

/// How far loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is under way.
    pub stage: Stage,
    /// Pipelines in [`Stage::Shaders`], bytes in the other stages.
    pub done: u64,
    /// In the same unit; it holds for the whole stage.
    pub total: u64,
}

/// A part of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes of weights.
    Weights,
    /// Pipelines.
    Shaders,
    /// Bytes of weights that are hashed, where that takes longer than loading them. The engine itself does not hash.
    Digest,
}

/// Pages of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PageUse {
    /// All that there are, free ones included.
    pub total: usize,
    /// Held by sequences.
    pub used: usize,
    /// Held by nobody, and kept for those to come.
    pub cached: usize,
}

/// A model on a GPU, and the KV cache it computes with. Not `Send`: one thread or worker owns it.
pub struct Engine {
    runner: Runner,
    reuse: Reuse,
    /// By id: who came first.
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    /// The step that follows the last that was waited for, where it is on its way already.
    ahead: Option<Launched>,
    next_id: u64,
    /// A sequence had to give its pages up, and none has ended since: nobody begins.
    is_short: bool,
    /// How long the last step took that computed something, in milliseconds.
    step_ms: f64,
    /// The sequence that computes anew what decoding wrote; nothing else runs then.
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

    /// Keeps KV beyond the GPU in `tiers` from now on, under the digest of the model's weights. A request waits for stores
    /// no longer than `deadline` in all, and computes the rest.
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

    /// Milliseconds that computing the reused tokens of `report` would have taken beyond loading them, by the rates
    /// measured so far; none before the first measurement.
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

    /// Whether that is a GPU, or a processor that stands in for one.
    pub fn adapter_kind(&self) -> AdapterKind {
        self.runner.caps().kind
    }

    /// What the device can do, as far as kernels ask.
    #[doc(hidden)]
    pub fn caps(&self) -> &Caps {
        self.runner.caps()
    }

    /// What the bits of a prompt's KV depend on beside the adapter.
    pub fn numerics(&self) -> Numerics {
        self.runner.caps().numerics()
    }

    /// What a person should know of how it was loaded: kernels that are not used, since the driver computes them wrong.
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

    /// What decoding cost so far, in means over its steps.
    pub fn counters(&self) -> Counters {
        self.runner.counters()
    }

    /// Pages of the KV cache, by what they are for.
    pub fn page_use(&self) -> PageUse {
        let (total, cached) = (self.kv_pages(), self.reuse.cache.cached());
        PageUse { total, cached, used: total - self.reuse.cache.available() }
    }

    /// Waits until the GPU has done all it was given, so that what follows is measured by itself. A step that gives no token
    /// does not wait. In a browser, which waits for nothing, it returns at once.
    #[doc(hidden)]
    pub fn drain(&mut self) -> Result<()> {
        self.runner.gpu.flush()
    }

    /// Loses the device: all GPU memory is given back at once, and what follows fails with [`Error::DeviceLost`].
    #[doc(hidden)]
    pub fn destroy_device(&self) {
        self.runner.gpu.destroy();
    }

    /// Sequences that run at once at most.
    #[doc(hidden)]
    pub fn max_sequences(&self) -> usize {
        self.runner.max_sequences
    }

    /// Pages of the KV cache that exist, free ones included.
    #[doc(hidden)]
    pub fn kv_pages(&self) -> usize {
        self.runner.kv.pages()
    }

    /// Bytes of the pages of the KV cache, free ones included.
    #[doc(hidden)]
    pub fn kv_bytes(&self) -> u64 {
        self.runner.kv.layers().iter().map(|layer| layer.size).sum()
    }

    /// What it took to put pages from stores in their places.
    #[doc(hidden)]
    pub fn placed(&self) -> memory::Placed {
        self.runner.kv.placed()
    }

    /// Takes a request. Its tokens come as events of later steps.
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

    /// Ends a sequence; what it has computed stays in the cache. No event follows.
    #[doc(hidden)]
    pub fn cancel(&mut self, id: SequenceId) {
        let waited = self.waiting.len();
        self.waiting.retain(|sequence| sequence.id != id);
        // It may be the one that all the others make way for.
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

    /// Whether any of them does not stand still.
    #[doc(hidden)]
    pub fn is_busy(&self) -> bool {
        self.has_requests() && self.waiting.iter().chain(&self.running).any(|sequence| !sequence.is_held)
    }

    /// Keeps what pages hold of `tokens` under `salt` there, whatever else is asked, until [`unpin`](Self::unpin).
    ///
    /// # Errors
    /// [`PinsFull`] where more than half of the pages would be pinned.
    pub fn pin(&mut self, tokens: &[u32], salt: &str) -> Result<Pinned, PinsFull> {
        let namespace = self.namespace(salt);
        self.reuse.cache.pin(&namespace, tokens)
    }

    /// False if there is no such pin.
    pub fn unpin(&mut self, pin: PinId) -> bool {
        self.reuse.cache.unpin(pin)
    }

    /// Forgets every prefix that pages hold. Tiers keep what they have.
    pub fn clear_cache(&mut self) {
        self.interrupt_healing();
        self.reuse.cache.clear();
        self.reuse.breakpoints.clear();
        self.reuse.decoded.clear();
    }
}
