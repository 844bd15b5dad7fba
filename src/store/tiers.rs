//! Memory before slower stores. A value found further back is copied to the front; a saved value goes to all.
//!
//! `save` encodes a blob once, beside the engine's thread. Memory and the stores behind it share the encoded
//! bytes, and so do memory and loaders; slow stores write later (see [`Store::put`]). `load` returns only what
//! [`Blob::view`] accepts. A rejected blob is counted by reason and removed, and the next tier is asked. A store's
//! fault is never an error here, but every fault is counted.
//!
//! Blobs that decode kernels wrote are marked as such. They are not bit-identical to what another process would
//! compute, and never replace one that is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use super::ahead::Unpack;
use super::workers::{Digester, Hash, Workers};
use super::{
    Blob, Bytes, Clock, Deadline, Expected, Manifest, MemoryStore, Producer, Record, Reject, Store, StoreAnswer,
    StoreError, StoreKey, Wanted, Written, manifest, seal::FORGED, system_clock,
};

/// Up to so many bytes are verified on the spot: handing them to threads takes longer, and a browser would spare a tenth
/// of a millisecond.
const LITTLE: usize = 64 << 10;

/// Settings of all tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TiersConfig {
    /// Time to live of everything that is saved or copied to the front.
    pub ttl: Option<Duration>,
}

/// What one tier has done since the start.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TierStats {
    /// Requested blobs that were found and accepted.
    pub hits: u64,
    /// Requested blobs that were absent or unreadable.
    pub misses: u64,
    /// Blobs that were found and rejected, by [`Reject::name`].
    pub rejected: BTreeMap<&'static str, u64>,
    /// Operations that failed.
    pub failures: u64,
    /// Failures because of the deadline.
    pub late: u64,
    /// Bytes of all hits.
    pub loaded_bytes: u64,
    /// Milliseconds spent reading and verifying them.
    pub load_ms: f64,
    /// Values that the store wrote.
    pub saved: u64,
    /// Bytes of the written values.
    pub saved_bytes: u64,
    /// Blobs that were not written because the queue was full or the store failed.
    pub dropped: u64,
}

/// The value made of a verified blob, and where the blob came from.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Loaded<T = Blob> {
    pub value: T,
    /// Index of the tier, 0 for memory, and its name.
    pub tier: usize,
    pub name: &'static str,
    pub bytes: usize,
    pub(crate) ms: f64,
}

/// Why a block that a tier was expected to have could not be loaded.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// It is gone, or its tier failed.
    Absent,
    /// The bytes found are not the block.
    Damaged,
    /// Its tier did not answer in time; it takes at least so many milliseconds.
    Late { ms: f64 },
}

impl Missing {
    /// This reason, unless `further` is more specific.
    pub(super) fn or(self, further: Self) -> Self {
        if matches!((self, further), (Self::Absent, _) | (_, Self::Late { .. })) { further } else { self }
    }
}

/// Where blocks lie.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// For each block, the nearest tier that has it, if any.
    pub tiers: Vec<Option<usize>>,
    /// Whether a tier did not answer in time.
    pub(crate) late: bool,
}

/// The verified answer of a tier for a block.
pub(super) enum Checked<T> {
    Absent,
    /// The value made of the blob, and the blob's bytes.
    Whole(T, Bytes),
    Refused(Reject),
    Failed(StoreError),
}

/// Verifies a tier's bytes, and unpacks exactly the bytes that were verified. Costs one SHA-256.
async fn check<T>(bytes: Option<Bytes>, wanted: Wanted, unpack: Unpack<T>, hash: Hash) -> Checked<T> {
    let Some(bytes) = bytes else { return Checked::Absent };
    if bytes == FORGED {
        return Checked::Refused(Reject::Forged);
    }
    let verified = match Blob::claim(&bytes, &wanted.expected(&wanted.fields())) {
        Ok(claim) => {
            let found = hash.of(claim.covered()).await;
            claim.open(&found).map(|blob| unpack(blob))
        }
        Err(reason) => Err(reason),
    };
    match verified {
        Ok(value) => Checked::Whole(value, bytes),
        Err(reason) => Checked::Refused(reason),
    }
}

/// A blob, encoded for the tiers.
struct Encoded {
    key: StoreKey,
    bytes: Bytes,
    /// Whether it replaces what the tiers have under its key.
    replaces: bool,
}

impl Encoded {
    /// Lays out the file at once, and computes its digests when it is awaited.
    fn new(blob: &Blob, heals: bool, hash: Hash) -> impl Future<Output = Self> + use<> {
        let replaces = (heals || blob.last_hidden.is_some()) && blob.producer == Producer::Prefill;
        let (key, mut draft) = (blob.key, blob.draft());
        async move {
            while let Some(covered) = draft.covered() {
                let digest = hash.of([covered, &[]]).await;
                draft.write(&digest);
            }
            Self { key, bytes: draft.finish().into(), replaces }
        }
    }
}

/// Stores in the order in which they are asked: memory first, then slower ones.
pub struct Tiers {
    memory: MemoryStore,
    behind: Vec<Box<dyn Store>>,
    config: TiersConfig,
    stats: RefCell<Vec<TierStats>>,
    clock: Clock,
    workers: Workers,
}

impl Tiers {
    /// `behind` in the order in which to ask: nearest first.
    pub fn new(memory: MemoryStore, behind: Vec<Box<dyn Store>>, config: TiersConfig) -> Self {
        let stats = RefCell::new(vec![TierStats::default(); 1 + behind.len()]);
        Self { memory, behind, config, stats, clock: system_clock(), workers: Workers::default() }
    }

    /// Leaves digests to `digester` in a browser. Natively threads compute them.
    #[must_use]
    pub fn with_digester(self, digester: Digester) -> Self {
        Self { workers: Workers::new(digester), ..self }
    }

    /// All stores, memory first.
    pub fn stores(&self) -> impl Iterator<Item = &dyn Store> {
        std::iter::once(&self.memory as &dyn Store).chain(self.behind.iter().map(|store| &**store))
    }

    pub(super) fn store(&self, tier: usize) -> &dyn Store {
        tier.checked_sub(1).map_or(&self.memory, |behind| &*self.behind[behind])
    }

    /// Name and counters of every tier, memory first.
    pub fn stats(&self) -> Vec<(&'static str, TierStats)> {
        let written = |(store, stats): (&dyn Store, &TierStats)| {
            let usage = store.usage();
            let (saved, saved_bytes) = (usage.written, usage.written_bytes);
            let dropped = stats.dropped + usage.dropped;
            (store.name(), TierStats { saved, saved_bytes, dropped, ..stats.clone() })
        };
        self.stores().zip(self.stats.borrow().iter()).map(written).collect()
    }

    /// Which tier has each of `keys`. Costs one round trip for every tier that must be asked.
    #[doc(hidden)]
    pub async fn find(&self, keys: &[StoreKey], deadline: Deadline) -> Places {
        let mut found = Places { tiers: vec![None; keys.len()], late: false };
        for (tier, store) in self.stores().enumerate() {
            let open: Vec<usize> = (0..keys.len()).filter(|&i| found.tiers[i].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if deadline.passed() {
                found.late = true;
                self.failed(tier, &StoreError::Late { store: store.name(), ms: 0 });
                break;
            }
            let asked: Vec<StoreKey> = open.iter().map(|&i| keys[i]).collect();
            match self.bounded(tier, deadline, store.contains(&asked)).await {
                Ok(present) => {
                    open.iter().zip(present).filter(|(_, is)| *is).for_each(|(&i, _)| found.tiers[i] = Some(tier));
                }
                Err(error) => {
                    found.late |= matches!(error, StoreError::Late { .. });
                    self.failed(tier, &error);
                }
            }
        }
        found
    }

    /// Whether a tier does not use what it has of `key`, because that belongs to another user.
    pub(crate) async fn is_anothers(&self, key: &StoreKey, deadline: Deadline) -> bool {
        for (tier, store) in self.stores().enumerate() {
            if let Ok(true) = self.bounded(tier, deadline, store.is_anothers(key)).await {
                return true;
            }
        }
        false
    }

    /// The blob from the nearest tier that has it intact.
    #[doc(hidden)]
    pub async fn load(&self, expected: &Expected<'_>) -> Option<Loaded> {
        let unpack: Unpack<Blob> = Arc::new(|blob| blob.into_owned());
        self.load_from(0, &Wanted::from(*expected), &unpack, Deadline::NEVER).await.ok()
    }

    /// The block from the nearest tier, from `first` on, that has it intact.
    pub(super) async fn load_from<T: Send + 'static>(
        &self,
        first: usize,
        wanted: &Wanted,
        unpack: &Unpack<T>,
        until: Deadline,
    ) -> Result<Loaded<T>, Missing> {
        let mut missing = Missing::Absent;
        for (tier, store) in self.stores().enumerate().skip(first) {
            if until.passed() {
                break;
            }
            let began = Instant::now();
            let got = self.bounded(tier, until, store.get(&wanted.key)).await;
            let checked = match got {
                Ok(bytes) => self.check_all(vec![bytes], vec![wanted.clone()], unpack).await.pop(),
                Err(error) => Some(Checked::Failed(error)),
            };
            let checked = checked.unwrap_or(Checked::Absent);
            let ms = began.elapsed().as_secs_f64() * 1e3;
            match self.accept(tier, checked, wanted, ms, until).await {
                Ok(loaded) => return Ok(loaded),
                Err(further) => missing = missing.or(further),
            }
        }
        Err(missing)
    }

    /// A tier's answer, if it comes in time.
    pub(super) async fn bounded<T>(
        &self,
        tier: usize,
        deadline: Deadline,
        answer: StoreAnswer<'_, T>,
    ) -> Result<T, StoreError> {
        let (began, store) = (Instant::now(), self.store(tier).name());
        let late = || Err(StoreError::Late { store, ms: began.elapsed().as_millis() as u64 });
        deadline.bound(answer).await.unwrap_or_else(late)
    }

    /// Verifies and unpacks a tier's blocks, in their order, beside this thread where that pays off.
    pub(super) async fn check_all<T: Send + 'static>(
        &self,
        values: Vec<Option<Bytes>>,
        wanted: Vec<Wanted>,
        unpack: &Unpack<T>,
    ) -> Vec<Checked<T>> {
        let little = values.iter().flatten().map(Bytes::len).sum::<usize>() <= LITTLE;
        let checks = values.into_iter().zip(wanted).map(|(bytes, wanted)| {
            let unpack = unpack.clone();
            move |hash| check(bytes, wanted, unpack, hash)
        });
        let mut checked = Vec::with_capacity(checks.len());
        if little {
            for check in checks {
                checked.push(check(Hash::default()).await);
            }
            return checked;
        }
        let under_way: Vec<_> = checks.map(|check| self.workers.run(check)).collect();
        for check in under_way {
            checked.push(check.await);
        }
        checked
    }

    /// Accepts a tier's answer, which took `ms` milliseconds, if it is the requested blob or its start.
    pub(super) async fn accept<T>(
        &self,
        tier: usize,
        got: Checked<T>,
        wanted: &Wanted,
        ms: f64,
        until: Deadline,
    ) -> Result<Loaded<T>, Missing> {
        let (value, bytes) = match got {
            Checked::Whole(value, bytes) => (value, bytes),
            Checked::Refused(reason) => {
                self.discard(tier, &wanted.key, reason, until).await;
                return Err(Missing::Damaged);
            }
            Checked::Absent => {
                self.stat(tier, |stats| stats.misses += 1);
                return Err(Missing::Absent);
            }
            Checked::Failed(error) => {
                self.failed(tier, &error);
                self.stat(tier, |stats| stats.misses += 1);
                let late = matches!(error, StoreError::Late { .. });
                return Err(if late { Missing::Late { ms } } else { Missing::Absent });
            }
        };
        self.stat(tier, |stats| {
            stats.hits += 1;
            stats.loaded_bytes += bytes.len() as u64;
            stats.load_ms += ms;
        });
        // The start of a file is not kept in place of the file.
        for nearer in (0..tier).filter(|_| !wanted.is_start()) {
            self.keep(nearer, &wanted.key, &bytes, false).await;
        }
        Ok(Loaded { value, tier, name: self.store(tier).name(), bytes: bytes.len(), ms })
    }

    /// Marks a chain, given from the root on, as used in every tier, so that eviction takes it from its leaf.
    pub(crate) async fn touch(&self, keys: &[StoreKey]) {
        for store in self.stores() {
            store.touch(keys).await;
        }
    }

    /// Puts the blob into every tier that does not have it. A blob of prefill kernels with a last hidden state replaces
    /// what lies there, because it holds more.
    #[doc(hidden)]
    pub async fn save(&self, blob: &Blob) {
        self.put(Encoded::new(blob, false, Hash::default()).await).await;
    }

    /// As [`Tiers::save`], and replaces a blob that decode kernels wrote.
    #[doc(hidden)]
    pub async fn heal(&self, blob: &Blob) {
        self.put(Encoded::new(blob, true, Hash::default()).await).await;
    }

    /// Makes and encodes blobs beside this thread, starting at once. Each comes with whether it replaces a marked one.
    /// The returned future puts them into every tier, in order.
    pub(crate) fn save_all<M>(self: Rc<Self>, blobs: Vec<(M, bool)>) -> impl Future<Output = ()> + 'static
    where
        M: FnOnce() -> Blob + Send + 'static,
    {
        let encode = |(make, heals): (M, bool)| self.workers.run(move |hash| Encoded::new(&make(), heals, hash));
        let under_way: Vec<_> = blobs.into_iter().map(encode).collect();
        async move {
            for encoded in under_way {
                self.put(encoded.await).await;
            }
        }
    }

    async fn put(&self, Encoded { key, bytes, replaces }: Encoded) {
        for tier in 0..=self.behind.len() {
            self.keep(tier, &key, &bytes, replaces).await;
        }
    }

    /// Records in every tier's manifests which blocks were written, each with the root of its group (see [`Manifest`]),
    /// and which of them the tier has. Called once they were saved or could not be.
    #[doc(hidden)]
    pub async fn record(&self, written: Vec<(StoreKey, Written)>) {
        let mut groups: BTreeMap<StoreKey, Vec<Written>> = BTreeMap::new();
        written.into_iter().for_each(|(root, written)| groups.entry(root).or_default().push(written));
        for (root, written) in groups {
            let record = Record { written, now_ms: (self.clock)(), ttl: self.config.ttl };
            for (tier, store) in self.stores().enumerate() {
                match store.record(&root, &record).await {
                    Ok(()) | Err(StoreError::ReadOnly { .. } | StoreError::TooLarge { .. }) => {}
                    Err(error) => self.failed(tier, &error),
                }
            }
        }
    }

    /// The blocks known to have been written behind each of `roots`, merged over all tiers. Costs one round trip a
    /// tier.
    #[doc(hidden)]
    pub async fn manifests(&self, roots: &[StoreKey], deadline: Deadline) -> Vec<Manifest> {
        let keys: Vec<StoreKey> = roots.iter().map(Manifest::key).collect();
        let mut values = Vec::new();
        for (tier, store) in self.stores().enumerate() {
            match self.bounded(tier, deadline, store.get_many(&keys, usize::MAX)).await {
                Ok(found) => values.push(found),
                Err(error) => self.failed(tier, &error),
            }
        }
        manifest::merged(&keys, values, (self.clock)())
    }

    /// Waits until the stores have written or dropped what they were given.
    pub async fn flush(&self) {
        for (tier, store) in self.stores().enumerate() {
            if let Err(error) = store.flush().await {
                self.failed(tier, &error);
            }
        }
    }

    /// Counts blobs that were to be saved and were not.
    pub(crate) fn drop_unsaved(&self, blobs: u64) {
        self.stat(0, |stats| stats.dropped += blobs);
    }

    async fn keep(&self, tier: usize, key: &StoreKey, bytes: &Bytes, replaces: bool) {
        let (store, ttl) = (self.store(tier), self.config.ttl);
        let kept = match replaces {
            true => store.put(key, bytes, ttl).await,
            false => store.put_new(key, bytes, ttl).await,
        };
        match kept {
            Ok(()) => {}
            Err(StoreError::ReadOnly { .. }) => {}
            Err(StoreError::TooLarge { .. } | StoreError::QueueFull { .. }) => {
                self.stat(tier, |stats| stats.dropped += 1);
            }
            Err(error) => {
                self.stat(tier, |stats| stats.dropped += 1);
                self.failed(tier, &error);
            }
        }
    }

    /// A rejected blob is removed, so that it is not fetched twice. If the store cannot remove it, that counts as a
    /// failure.
    async fn discard(&self, tier: usize, key: &StoreKey, reason: Reject, until: Deadline) {
        let removed = self.bounded(tier, until, self.store(tier).remove(key)).await;
        self.stat(tier, |stats| *stats.rejected.entry(reason.name()).or_default() += 1);
        if let Err(error) = removed {
            self.failed(tier, &error);
        }
    }

    fn failed(&self, tier: usize, error: &StoreError) {
        self.stat(tier, |stats| {
            stats.failures += 1;
            stats.late += u64::from(matches!(error, StoreError::Late { .. }));
        });
    }

    fn stat(&self, tier: usize, change: impl FnOnce(&mut TierStats)) {
        change(&mut self.stats.borrow_mut()[tier]);
    }
}
