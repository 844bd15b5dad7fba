//! Memory before slower stores: what is found further back moves to the front, what is saved goes back later.
//!
//! `save` costs an encoding and a copy into memory; writing behind happens in `flush`, whenever the caller has time, from
//! a queue of bounded size. `load` lets nothing through that [`Blob::decode`] rejects: it is counted by reason, removed
//! where it lay, and the next tier is asked. No fault of a store is an error here; every one is counted.
//!
//! Blobs that decode kernels wrote stay in memory, unless configured otherwise: they are not bit-identical to what another
//! process would compute.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use web_time::Instant;

use super::{Blob, Expected, Key, MemoryStore, Producer, Reject, Store, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TiersConfig {
    /// For everything saved or moved to the front.
    pub ttl: Option<Duration>,
    /// Bytes that may wait to be written behind; what comes when they do is not written.
    pub queue_bytes: usize,
    /// Write also behind what decode kernels produced.
    pub decoded_behind: bool,
}

impl Default for TiersConfig {
    fn default() -> Self {
        Self { ttl: None, queue_bytes: 256 << 20, decoded_behind: false }
    }
}

/// What one tier did since the start.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TierStats {
    /// Blobs asked for, found and accepted.
    pub hits: u64,
    /// Blobs asked for and not there, or not readable.
    pub misses: u64,
    /// Blobs found and refused, by [`Reject::name`].
    pub rejected: BTreeMap<&'static str, u64>,
    /// Operations that the store did not do.
    pub failures: u64,
    /// Bytes of the hits, and how long they took to read and verify.
    pub loaded_bytes: u64,
    pub load_ms: f64,
    pub saved: u64,
    pub saved_bytes: u64,
    /// Blobs that were not written: the queue was full, or the store did not take them.
    pub dropped: u64,
}

/// A verified blob, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub blob: Blob,
    /// Index of the tier, 0 for memory, and its name.
    pub tier: usize,
    pub name: &'static str,
    pub bytes: usize,
    pub ms: f64,
}

pub struct Tiers {
    memory: MemoryStore,
    behind: Vec<Box<dyn Store>>,
    config: TiersConfig,
    queue: RefCell<Queue>,
    stats: RefCell<Vec<TierStats>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Clone)]
struct Waiting {
    key: Key,
    bytes: Rc<[u8]>,
    /// Tiers `1..tiers` shall have it.
    tiers: usize,
    /// It holds more than what may lie there under its key.
    replaces: bool,
}

impl Queue {
    /// At least one, if any wait, so that every flush gets on.
    fn take(&mut self, max_bytes: usize) -> Vec<Waiting> {
        let (mut batch, mut taken) = (Vec::new(), 0);
        while taken < max_bytes.max(1) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            taken += waiting.bytes.len();
            batch.push(waiting);
        }
        self.bytes -= taken;
        batch
    }
}

impl Tiers {
    /// `behind` in the order in which to ask: nearest first.
    pub fn new(memory: MemoryStore, behind: Vec<Box<dyn Store>>, config: TiersConfig) -> Self {
        let stats = RefCell::new(vec![TierStats::default(); 1 + behind.len()]);
        Self { memory, behind, config, queue: RefCell::default(), stats }
    }

    /// All stores, memory first.
    pub fn stores(&self) -> impl Iterator<Item = &dyn Store> {
        std::iter::once(&self.memory as &dyn Store).chain(self.behind.iter().map(|store| &**store))
    }

    /// Name and counters of every tier, memory first.
    pub fn stats(&self) -> Vec<(&'static str, TierStats)> {
        self.stores().map(|store| store.name()).zip(self.stats.borrow().iter().cloned()).collect()
    }

    /// The nearest tier that has each of `keys`, if any: one round trip a tier, none to those that need not be asked.
    pub async fn find(&self, keys: &[Key]) -> Vec<Option<usize>> {
        let mut found = vec![None; keys.len()];
        for (tier, store) in self.stores().enumerate() {
            let open: Vec<usize> = (0..keys.len()).filter(|&i| found[i].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let asked: Vec<Key> = open.iter().map(|&i| keys[i]).collect();
            match store.contains(&asked).await {
                Ok(present) => open.iter().zip(present).filter(|(_, is)| *is).for_each(|(&i, _)| found[i] = Some(tier)),
                Err(_) => self.stat(tier, |stats| stats.failures += 1),
            }
        }
        found
    }

    /// The blob from the nearest tier that has it whole.
    pub async fn load(&self, expected: &Expected<'_>) -> Option<Loaded> {
        for (tier, store) in self.stores().enumerate() {
            let begin = Instant::now();
            let bytes = match store.get(&expected.key).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    self.stat(tier, |stats| stats.misses += 1);
                    continue;
                }
                Err(_) => {
                    self.stat(tier, |stats| (stats.misses, stats.failures) = (stats.misses + 1, stats.failures + 1));
                    continue;
                }
            };
            let blob = match Blob::decode(&bytes, expected) {
                Ok(blob) => blob,
                Err(reason) => {
                    self.discard(tier, store, &expected.key, reason).await;
                    continue;
                }
            };
            let ms = begin.elapsed().as_secs_f64() * 1e3;
            self.stat(tier, |stats| {
                stats.hits += 1;
                stats.loaded_bytes += bytes.len() as u64;
                stats.load_ms += ms;
            });
            let size = bytes.len();
            self.promote(tier, expected.key, bytes).await;
            return Some(Loaded { blob, tier, name: store.name(), bytes: size, ms });
        }
        None
    }

    /// Marks a chain, given from the root on, as used in every tier, so that it goes from its leaf.
    pub async fn touch(&self, keys: &[Key]) {
        for store in self.stores() {
            store.touch(keys).await;
        }
    }

    /// Puts the blob into memory now, and behind at the next flush.
    pub async fn save(&self, blob: &Blob) {
        let bytes = blob.encode();
        self.keep(&blob.key, &bytes).await;
        if blob.producer == Producer::Prefill || self.config.decoded_behind {
            let tiers = 1 + self.behind.len();
            self.enqueue(Waiting { key: blob.key, bytes: bytes.into(), tiers, replaces: blob.last_hidden.is_some() });
        }
    }

    /// Blobs that wait to be written behind.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().waiting.len()
    }

    /// Writes behind all that waits.
    pub async fn flush(&self) -> usize {
        self.flush_some(usize::MAX).await
    }

    /// Writes behind about `max_bytes` of what waits, the oldest first: to each tier what it does not have already. A tier
    /// that fails is left out until the next flush. Returns how many blobs were written, counting every tier. What a
    /// dropped flush had taken from the queue is not written.
    pub async fn flush_some(&self, max_bytes: usize) -> usize {
        let batch = self.queue.borrow_mut().take(max_bytes);
        let mut written = 0;
        for (tier, store) in self.stores().enumerate().skip(1) {
            let mine: Vec<&Waiting> = batch.iter().filter(|waiting| tier < waiting.tiers).collect();
            written += self.write_behind(tier, store, &mine).await;
        }
        written
    }

    async fn write_behind(&self, tier: usize, store: &dyn Store, batch: &[&Waiting]) -> usize {
        if batch.is_empty() {
            return 0;
        }
        let keys: Vec<Key> = batch.iter().map(|waiting| waiting.key).collect();
        let Ok(present) = store.contains(&keys).await else {
            self.stat(tier, |stats| {
                (stats.failures, stats.dropped) = (stats.failures + 1, stats.dropped + keys.len() as u64)
            });
            return 0;
        };
        let mut written = 0;
        let present = present.into_iter().chain(std::iter::repeat(false));
        let missing = batch.iter().zip(present).filter(|(waiting, is)| !is || waiting.replaces);
        let missing: Vec<&Waiting> = missing.map(|(waiting, _)| *waiting).collect();
        for (at, waiting) in missing.iter().enumerate() {
            match store.put(&waiting.key, &waiting.bytes, self.config.ttl).await {
                Ok(()) => {
                    written += 1;
                    self.stat(tier, |stats| {
                        stats.saved += 1;
                        stats.saved_bytes += waiting.bytes.len() as u64;
                    });
                }
                Err(StoreError::TooLarge { .. }) => self.stat(tier, |stats| stats.dropped += 1),
                Err(_) => {
                    let rest = (missing.len() - at) as u64;
                    self.stat(tier, |stats| {
                        (stats.failures, stats.dropped) = (stats.failures + 1, stats.dropped + rest)
                    });
                    break;
                }
            }
        }
        store.touch(&keys).await;
        written
    }

    async fn promote(&self, from: usize, key: Key, bytes: Vec<u8>) {
        if from == 0 {
            return;
        }
        self.keep(&key, &bytes).await;
        if from > 1 {
            self.enqueue(Waiting { key, bytes: bytes.into(), tiers: from, replaces: false });
        }
    }

    async fn keep(&self, key: &Key, bytes: &[u8]) {
        let kept = self.memory.put(key, bytes, self.config.ttl).await.is_ok();
        self.stat(0, |stats| match kept {
            true => (stats.saved, stats.saved_bytes) = (stats.saved + 1, stats.saved_bytes + bytes.len() as u64),
            false => stats.dropped += 1,
        });
    }

    /// A blob that was refused is not asked for twice. A store that cannot remove it has failed once more.
    async fn discard(&self, tier: usize, store: &dyn Store, key: &Key, reason: Reject) {
        let removed = store.remove(key).await.is_ok();
        self.stat(tier, |stats| {
            *stats.rejected.entry(reason.name()).or_default() += 1;
            stats.failures += u64::from(!removed);
        });
    }

    fn enqueue(&self, waiting: Waiting) {
        let mut queue = self.queue.borrow_mut();
        if queue.bytes + waiting.bytes.len() > self.config.queue_bytes {
            (1..waiting.tiers).for_each(|tier| self.stat(tier, |stats| stats.dropped += 1));
            return;
        }
        if waiting.tiers > 1 {
            queue.bytes += waiting.bytes.len();
            queue.waiting.push_back(waiting);
        }
    }

    fn stat(&self, tier: usize, change: impl FnOnce(&mut TierStats)) {
        change(&mut self.stats.borrow_mut()[tier]);
    }
}
