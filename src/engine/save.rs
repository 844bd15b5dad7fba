//! Saves KV to the tiers: blocks are queued when they are written, read back from their pages while steps run, and
//! written by the stores at their own pace.
//!
//! Every step gives a small share of its time to saving, so that blocks are saved under load too, before their pages
//! are reused. A step starts to read back as many pages as recent steps have left time for. When they have arrived, a
//! later step has threads encode them and hands them to the stores. No step waits for a store or for the readback of
//! pages.
//!
//! Cost of a saved block: one copy to the host, and one SHA-256 beside the engine's thread.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use web_time::Instant;

use super::{
    Engine,
    choice::Rate,
    pages::{PageLayout, Parts},
    rates::Remembered,
    search::Found,
};
use crate::{
    error::{Error, Result},
    gpu::readback::Reading,
    kernels::PAGE,
    kv::{BlockTable, Key, Namespace},
    store::{self, Blob, BoxFuture, Deadline, GROUP, Producer, Tiers, Written},
};

/// Most blocks that wait to be saved. Further ones are not saved.
const MOST_WAITING: usize = 8192;
/// Most blocks that are known to be marked in a store. Beyond that all are forgotten, and their marks stay.
const MOST_MARKED: usize = 65536;
/// Most ended sequences that the tiers were not told of.
const MOST_ENDED: usize = 64;
/// The longest that saving waits for a store if there is nothing else to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// The share of a step's time that saving may take.
const SHARE: f64 = 0.03;

/// The tiers and their measured speed.
pub(super) struct Persistence {
    pub(crate) tiers: Rc<Tiers>,
    /// Loading rates in bytes a millisecond, by tier.
    pub(crate) rates: Vec<Rate>,
    /// The blocks of ended sequences whose use was not reported to the tiers yet.
    used: Vec<Vec<store::StoreKey>>,
    /// The longest that one request waits for stores.
    deadline: Duration,
    waiting: VecDeque<Block>,
    saving: Saving,
    /// Blocks that were given to the stores or could not be, and must be recorded in manifests.
    unrecorded: Vec<(store::StoreKey, Written)>,
    /// Blocks in tiers that prefill kernels should replace: decode kernels wrote them or their ancestors, or they
    /// follow a damaged block.
    marked: HashSet<store::StoreKey>,
    /// The file in which rates outlive the process.
    pub(crate) remembered: Option<Remembered>,
    /// The rate of saving, in pages a millisecond of steps.
    pace: Rate,
    /// Milliseconds that steps have left for saving, and how many saving has taken since the last pages were saved.
    left_ms: f64,
    taken_ms: f64,
}

/// A block that has been written to a page.
#[derive(Clone)]
pub(super) struct Block {
    pub(crate) namespace: Namespace,
    pub(crate) parent: Key,
    pub(crate) key: Key,
    /// The key at which its group begins (see [`store::Manifest`]), and all tokens from there to its end.
    pub(crate) root: Key,
    pub(crate) path: Vec<u32>,
    pub(crate) hidden: Option<Vec<f32>>,
}

/// What is being saved.
enum Saving {
    Nothing,
    /// Pages are being read back, each with whether prefill kernels wrote all of it.
    Pages {
        reading: Reading,
        blocks: Vec<(Block, bool)>,
    },
    /// So many blobs are being handed to the stores.
    Blobs(BoxFuture<'static, ()>, usize),
}

impl Block {
    /// Block `number` of `tokens`, whose whole blocks have these `keys`. It ends where the tokens or its page end.
    pub(crate) fn new(namespace: &Namespace, keys: &[Key], tokens: &[u32], number: usize) -> Self {
        let before = |block: usize| block.checked_sub(1).map_or(namespace.key(), |last| keys[last]);
        let group = number - number % GROUP;
        let path = tokens[group * PAGE..tokens.len().min((number + 1) * PAGE)].to_vec();
        let parent = before(number);
        let key = Key::block(&parent, &path[(number - group) * PAGE..]);
        Self { namespace: namespace.clone(), parent, key, root: before(group), path, hidden: None }
    }

    /// Its own tokens, 1 to [`PAGE`].
    pub(crate) fn tokens(&self) -> &[u32] {
        self.path.chunks(PAGE).next_back().unwrap_or_default()
    }

    /// Its entry for a manifest.
    pub(crate) fn written(self, producer: Producer) -> (store::StoreKey, Written) {
        (self.root.0, Written { key: self.key.0, path: self.path, producer })
    }

    /// The blob of the block with its page's content, for tiers and packs.
    pub(crate) fn blob(&self, layout: &PageLayout, producer: Producer, page: &[u32]) -> Blob {
        let fields = self.namespace.fields().entries();
        let Parts { kv, state } = layout.to_blob(page, self.tokens().len());
        Blob {
            key: self.key.0,
            parent: self.parent.0,
            namespace: fields.iter().map(|(tag, value)| ((*tag).into(), (*value).into())).collect(),
            producer,
            last_hidden: self.hidden.clone(),
            element: layout.element(),
            rows: layout.rows(),
            windows: layout.windows(),
            kv,
            state,
            tokens: self.tokens().to_vec(),
        }
    }
}

impl Persistence {
    pub(crate) fn new(tiers: Tiers, deadline: Duration) -> Self {
        let rates = tiers.stores().map(|_| Rate::default()).collect();
        Self {
            tiers: Rc::new(tiers),
            rates,
            used: Vec::new(),
            deadline,
            waiting: VecDeque::new(),
            saving: Saving::Nothing,
            unrecorded: Vec::new(),
            marked: HashSet::new(),
            remembered: None,
            pace: Rate::default(),
            left_ms: 0.0,
            taken_ms: 0.0,
        }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.deadline)
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.has_news() || !matches!(self.saving, Saving::Nothing)
    }

    /// Whether there is news for the stores besides waiting blocks.
    fn has_news(&self) -> bool {
        !self.used.is_empty() || !self.unrecorded.is_empty()
    }

    pub(crate) fn push(&mut self, block: Block) {
        match self.waiting.len() < MOST_WAITING {
            true => self.waiting.push_back(block),
            false => self.lose(block),
        }
    }

    /// Gives up a block that cannot be saved. It is counted, and recorded as having existed.
    fn lose(&mut self, block: Block) {
        self.tiers.drop_unsaved(1);
        if self.unrecorded.len() < MOST_WAITING {
            self.unrecorded.push(block.written(Producer::Decode));
        }
    }

    fn lose_all(&mut self) {
        while let Some(block) = self.waiting.pop_front() {
            self.lose(block);
        }
    }

    /// Drops all waiting blocks, since their pages are gone.
    pub(crate) fn forget_pages(&mut self) {
        self.lose_all();
        if let Saving::Pages { .. } = self.saving {
            self.saving = Saving::Nothing;
        }
    }

    /// A block that waits to be saved.
    pub(crate) fn queued(&mut self, key: &Key) -> Option<&mut Block> {
        self.waiting.iter_mut().rev().find(|queued| queued.key == *key)
    }

    /// Notes that a tier has this block with the mark of decode kernels.
    pub(crate) fn mark(&mut self, key: store::StoreKey) {
        if self.marked.len() >= MOST_MARKED {
            self.marked.clear();
        }
        self.marked.insert(key);
    }

    /// Marks these blocks, so that blocks of prefill kernels replace them in the tiers.
    pub(crate) fn renew(&mut self, found: &VecDeque<Found>) {
        found.iter().for_each(|found| self.mark(found.key.0));
    }

    /// Records the end of a sequence. Once its blocks are saved, they are reported as used, so that eviction takes a
    /// chain from its end.
    pub(crate) fn end(&mut self, table: &BlockTable) {
        let partial = (!table.written().is_multiple_of(PAGE)).then(|| table.key());
        self.used.push(table.keys().iter().copied().chain(partial).map(|key| key.0).collect());
    }

    /// Hands blocks to the stores and reports used ones. Blocks are recorded in manifests a group at a time, or when
    /// none waits.
    fn hand_on(&mut self, blocks: Vec<(Block, bool)>, words: Vec<u32>, layout: &PageLayout) {
        let tiers = self.tiers.clone();
        let used = match self.waiting.is_empty() || self.used.len() > MOST_ENDED {
            true => std::mem::take(&mut self.used),
            false => Vec::new(),
        };
        let words = Arc::new(words);
        let mut blobs = Vec::with_capacity(blocks.len());
        for (at, (block, exact)) in blocks.into_iter().enumerate() {
            let (key, producer) = (block.key.0, if exact { Producer::Prefill } else { Producer::Decode });
            let heals = exact && self.marked.remove(&key);
            if !exact {
                self.mark(key);
            }
            self.unrecorded.push(block.clone().written(producer));
            let (words, layout) = (words.clone(), layout.clone());
            let make = move || block.blob(&layout, producer, &words[at * layout.words()..(at + 1) * layout.words()]);
            blobs.push((make, heals));
        }
        let records = self.waiting.is_empty() || self.unrecorded.len() >= GROUP;
        let written = if records { std::mem::take(&mut self.unrecorded) } else { Vec::new() };
        let (count, saving) = (blobs.len(), tiers.clone().save_all(blobs));
        let writing = async move {
            saving.await;
            tiers.record(written).await;
            for chain in &used {
                tiers.touch(chain).await;
            }
        };
        self.saving = Saving::Blobs(Box::pin(writing), count);
    }

    /// How many pages this step may save, given the duration of the last step: as many as steps have left time for
    /// since the last readback started, or one if the cost is not known yet.
    fn share(&mut self, step_ms: f64, most: usize) -> usize {
        let Some(ms) = self.pace.ms(1.0) else { return 1 };
        self.left_ms = (self.left_ms + step_ms * SHARE).min(ms * most as f64);
        // Overdrawn time is paid back first.
        (self.left_ms / ms).max(0.0) as usize
    }

    /// The stores have accepted the blobs, so the cost for steps is known.
    fn taken(&mut self) {
        if let Saving::Blobs(_, blobs) = self.saving
            && blobs > 0
        {
            self.pace.measure(blobs as f64, self.taken_ms);
        }
        self.left_ms -= self.taken_ms;
        (self.saving, self.taken_ms) = (Saving::Nothing, 0.0);
    }
}

impl Engine {
    /// Whether anything waits to be saved. An idle [`step`](Self::step) saves some of it.
    pub fn has_unsaved(&self) -> bool {
        self.reuse.persistence.as_ref().is_some_and(Persistence::has_work)
    }

    /// Saves some of the waiting blocks, and returns whether more wait. Call it when nothing runs and a request may
    /// come.
    ///
    /// # Errors
    /// As [`Engine::persist`].
    pub(crate) async fn persist_some(&mut self) -> Result<bool> {
        self.send_for_pages(self.runner.kv.most_read()).await?;
        self.hand_pages_on().await?;
        self.written().await;
        Ok(self.has_unsaved())
    }

    /// Saves all waiting blocks in every tier. Call it when nothing runs.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the pages cannot be read back. A store's fault is never an error here.
    pub async fn persist(&mut self) -> Result<()> {
        while self.persist_some().await? {}
        if let Some(persistence) = &self.reuse.persistence {
            persistence.tiers.flush().await;
        }
        self.write_rates();
        Ok(())
    }

    /// Gives saving its share of a step. It waits neither for a store nor for pages that have not arrived yet.
    pub(super) async fn save_share(&mut self) -> Result<()> {
        let began = Instant::now();
        if let Some(Persistence { saving: Saving::Pages { reading, .. }, .. }) = &self.reuse.persistence
            && !self.runner.gpu.has_come(reading)?
        {
            return Ok(());
        }
        self.hand_pages_on().await?;
        let most = self.runner.kv.most_read();
        let Some(persistence) = &mut self.reuse.persistence else { return Ok(()) };
        let is_written = match &mut persistence.saving {
            Saving::Blobs(writing, _) => {
                poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await.is_ready()
            }
            _ => false,
        };
        persistence.taken_ms += began.elapsed().as_secs_f64() * 1e3;
        if is_written {
            persistence.taken();
        }
        let share = persistence.share(self.step_ms, most);
        self.send_for_pages(share).await
    }

    /// Starts to read back the pages of up to `most` waiting blocks that are still there, the oldest first.
    async fn send_for_pages(&mut self, most: usize) -> Result<()> {
        let Some(persistence) = &mut self.reuse.persistence else { return Ok(()) };
        if most == 0 || !matches!(persistence.saving, Saving::Nothing) {
            return Ok(());
        }
        let (mut blocks, mut pages) = (Vec::new(), Vec::new());
        while blocks.len() < most.min(self.runner.kv.most_read())
            && let Some(block) = persistence.waiting.pop_front()
        {
            match self.reuse.cache.page(&block.parent, &block.key, block.tokens()) {
                Some((page, exact)) => {
                    pages.push(page);
                    let exact = exact == block.tokens().len();
                    blocks.push((block, exact));
                }
                None => persistence.lose(block),
            }
        }
        if blocks.is_empty() {
            if persistence.has_news() {
                persistence.hand_on(Vec::new(), Vec::new(), &self.reuse.layout);
            }
            return Ok(());
        }
        match self.runner.kv.start_reading(&mut self.runner.gpu, &pages).await {
            Ok(reading) => persistence.saving = Saving::Pages { reading, blocks },
            // Without memory for readbacks nothing can be saved, but answering goes on.
            Err(Error::GpuMemory { .. }) => {
                blocks.into_iter().for_each(|(block, _)| persistence.lose(block));
                persistence.lose_all();
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Encodes the pages that were read back, and hands them to the stores.
    pub(super) async fn hand_pages_on(&mut self) -> Result<()> {
        let Some(persistence) = &mut self.reuse.persistence else { return Ok(()) };
        let (reading, blocks) = match std::mem::replace(&mut persistence.saving, Saving::Nothing) {
            Saving::Pages { reading, blocks } => (reading, blocks),
            other => {
                persistence.saving = other;
                return Ok(());
            }
        };
        let words = self.runner.gpu.finish_reading(reading).await?;
        persistence.hand_on(blocks, words, &self.reuse.layout);
        Ok(())
    }

    /// Waits until the stores have accepted the blobs, but no longer than [`PATIENCE`].
    async fn written(&mut self) {
        if let Some(persistence) = &mut self.reuse.persistence
            && let Saving::Blobs(writing, blobs) = &mut persistence.saving
        {
            if Deadline::after(PATIENCE).bound(writing).await.is_none() {
                persistence.tiers.drop_unsaved(*blobs as u64);
            }
            persistence.saving = Saving::Nothing;
        }
    }

    /// Forgets every prefix, in pages and in all tiers. Waits for the writes that have begun, since a store may end a
    /// write that nobody waits for any more, and that after it was cleared.
    ///
    /// # Errors
    /// [`Error::Store`] of the first store that failed, after all were asked.
    pub async fn clear_all(&mut self) -> Result<()> {
        self.clear_cache();
        self.written().await;
        let Some(persistence) = &mut self.reuse.persistence else { return Ok(()) };
        persistence.waiting.clear();
        persistence.used.clear();
        persistence.unrecorded.clear();
        persistence.marked.clear();
        persistence.saving = Saving::Nothing;
        let mut outcome = Ok(());
        for store in persistence.tiers.stores() {
            let failed =
                |problem: store::StoreError| Error::Store { store: store.name().into(), problem: problem.to_string() };
            outcome = outcome.and(store.clear().await.map_err(failed));
        }
        outcome
    }
}
