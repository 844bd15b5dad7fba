//! A directory as a store. Any number of processes share it without a lock.
//!
//! A value is written to a temporary file and renamed, so a reader finds all of it or nothing. Two writers of one key
//! write the same bytes. There is no fsync: after a power cut a renamed file may be empty or incomplete. The digest
//! detects that, and the block is prefilled again; an fsync a block would cost every answer milliseconds to avoid that
//! rare case. A file that vanishes under a reader is a miss. Names and times are hints; [`super::Blob::decode`]
//! decides.
//!
//! The budget covers the whole directory. The directory is scanned at the first write, then at intervals and after
//! every sixteenth of the budget written, so N processes overshoot by N/16 at most. Eviction spares a file that another
//! process has used since the scan, and always spares pinned files (see `pins`). Writes go through a breaker: a full or
//! unwritable disk makes the store read-only for a while instead of failing at every block.
//!
//! Manifests have a small budget and an eviction order of their own, so that they outlive the blocks.
//!
//! Calls do their I/O synchronously. A caller that must not wait for the disk puts a [`super::Background`] in front.
//! Cost: four system calls and the bytes a read, seven a write.
//!
//! Only directories and files that belong to the user alone are used, see `private`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lru::{Entry, Lru};
use super::manifest;
use super::private::{self, Private, Refused};
use super::scan::{self, Kind};
use super::seal::FORGED;
use super::{
    BoxFuture, Breaker, BreakerConfig, Bytes, Clock, Seal, Store, StoreAnswer, StoreError, StoreKey, StoreUsage,
};

/// Bounds of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesystemConfig {
    /// Bytes for all values, in whole disk blocks of 4 KiB.
    pub budget: u64,
    /// A longer value is neither written nor read. The blocks of the largest models take about 10 MiB.
    pub max_value: u64,
    /// Pins may hold at most this part of the budget, in percent.
    pub pinned_percent: u64,
    /// After how long the directory is scanned again for what other processes did.
    pub rescan_ms: u64,
    /// A temporary file that was not touched for so long belongs to a process that died.
    pub stale_ms: u64,
    /// Most blocks that a listing looks at, the most recently used first.
    pub listed_blocks: usize,
    /// Most bytes of headers and tokens that a listing reads.
    pub listed_bytes: u64,
    /// The breaker of writes. A write that ends after the deadline counts as failed, though the value stays.
    pub breaker: BreakerConfig,
}

impl Default for FilesystemConfig {
    fn default() -> Self {
        let breaker = BreakerConfig { failures: 3, deadline_ms: 5_000, pause_ms: 30_000, max_pause_ms: 600_000 };
        let (budget, max_value, pinned_percent) = (4 << 30, 64 << 20, 50);
        let (rescan_ms, stale_ms) = (60_000, 600_000);
        let (listed_blocks, listed_bytes) = (1 << 16, 128 << 20);
        Self { budget, max_value, pinned_percent, rescan_ms, stale_ms, listed_blocks, listed_bytes, breaker }
    }
}

/// A directory of values, one file each, shared with other processes.
pub struct FilesystemStore {
    pub(super) root: PathBuf,
    pub(super) private: Private,
    pub(super) config: FilesystemConfig,
    pub(super) clock: Clock,
    pub(super) inner: RefCell<Inner>,
    kind: Kind,
    seal: Option<Seal>,
    /// The store of manifests; only the store of blocks has one.
    pub(super) manifests: Option<Box<FilesystemStore>>,
}

pub(super) struct Inner {
    pub(crate) lru: Lru,
    /// When the directory was scanned into `lru`, and the bytes written since.
    scanned_ms: Option<u64>,
    written: u64,
    /// The last use stamp given out, nanoseconds since the Unix epoch.
    last: u64,
    breaker: Breaker,
    pub(crate) usage: StoreUsage,
}

impl FilesystemStore {
    /// Touches nothing yet. The first write creates the directory.
    pub fn new(root: impl Into<PathBuf>, config: FilesystemConfig, clock: Clock) -> Self {
        Self::for_salt(root, "", config, clock)
    }

    fn of_kind(kind: Kind, root: &Path, salt: &str, config: FilesystemConfig, clock: Clock) -> Self {
        let inner = Inner {
            lru: Lru::default(),
            scanned_ms: None,
            written: 0,
            last: 0,
            breaker: Breaker::new(config.breaker),
            usage: StoreUsage::default(),
        };
        let below = scan::tenant(salt);
        let part = if salt.is_empty() { root.to_owned() } else { root.join(&below) };
        let private = Private::new(root, below);
        Self { root: part, private, config, clock, inner: RefCell::new(inner), kind, seal: None, manifests: None }
    }

    /// Adds a MAC to every value that it writes, and returns no value that was written without this key. Without a
    /// seal, whoever can write to the directory can put forged KV into it.
    #[must_use]
    pub fn sealed(self, seal: Seal) -> Self {
        let manifests = self.manifests.map(|manifests| Box::new(manifests.sealed(seal.clone())));
        Self { seal: Some(seal), manifests, ..self }
    }

    /// The part of a shared cache directory that belongs to a salt; for the empty salt, the directory itself. Each part
    /// has its own budget, eviction order and pins, so no tenant evicts what another stored. Together they may take the
    /// sum of the budgets.
    pub fn for_salt(root: impl Into<PathBuf>, salt: &str, config: FilesystemConfig, clock: Clock) -> Self {
        let (root, max_value) = (root.into(), manifest::MAX_BYTES as u64);
        let of_manifests = FilesystemConfig { budget: manifest::budget(config.budget), max_value, ..config };
        let manifests = Self::of_kind(Kind::Manifests, &root, salt, of_manifests, clock.clone());
        Self { manifests: Some(Box::new(manifests)), ..Self::of_kind(Kind::Blocks, &root, salt, config, clock) }
    }

    /// Checks that the directory belongs to the user alone. A directory that does not exist passes: the first write
    /// creates it so.
    ///
    /// # Errors
    /// [`StoreError::Io`], with the reason and the remedy.
    pub fn check(&self) -> Result<(), StoreError> {
        let refused = self.private.folder("").err().filter(|error| Refused::of(error).is_some());
        refused.map_or(Ok(()), |error| self.count(&mut self.inner.borrow_mut(), &self.root, Err(error)))
    }

    /// The directories of all salts that stored something below `root`, that of the empty salt first. Their names do
    /// not reveal the salts. [`FilesystemStore::new`] opens them.
    pub fn tenants(root: &Path) -> Result<Vec<PathBuf>, StoreError> {
        scan::tenants(root).map_err(|source| failed(root, source))
    }

    /// The store that holds the value of `key`.
    fn home(&self, key: &StoreKey) -> &Self {
        self.manifests.as_deref().filter(|_| Kind::of(key) == Kind::Manifests).unwrap_or(self)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the value of `key` is or would be.
    pub fn path(&self, key: &StoreKey) -> PathBuf {
        scan::path(&self.root, key)
    }

    /// Where the value of `key` is or would be, if its folder exists.
    pub(super) fn find(&self, key: &StoreKey) -> io::Result<Option<PathBuf>> {
        let name = scan::name(key);
        let (folder, file) = name.rsplit_once('/').unwrap_or_default();
        Ok(self.private.folder(folder)?.map(|folder| folder.join(file)))
    }

    /// False if there was none.
    pub(super) fn delete(&self, key: &StoreKey) -> io::Result<bool> {
        self.find(key)?.map_or(Ok(false), |path| scan::remove(&path))
    }

    /// A file's place in the eviction order, if it may be a value.
    fn look(&self, key: &StoreKey) -> io::Result<Option<Entry>> {
        let entry = self.find(key)?.map_or(Ok(None), |path| scan::look(&path))?;
        Ok(entry.filter(|entry| self.fits(entry)))
    }

    fn fits(&self, entry: &Entry) -> bool {
        entry.bytes <= scan::cost(self.config.max_value)
    }

    /// The keys of all entries that are present, whichever process wrote them, in no order.
    pub fn keys(&self) -> Result<Vec<StoreKey>, StoreError> {
        let entries = scan::entries(&self.private, self.kind);
        let entries = self.count(&mut self.inner.borrow_mut(), &self.root, entries)?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    /// Scans the directory again, removes expired entries and the leftovers of dead writers, and evicts down to the
    /// budget. The store does this on its own. Any number of processes may do it at the same time.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let swept = self.rescan(inner);
        self.make_room(inner, None, 0);
        self.count(inner, &self.root, swept)?;
        self.manifests.as_ref().map_or(Ok(()), |manifests| manifests.sweep())
    }

    pub(super) fn rescan(&self, inner: &mut Inner) -> io::Result<()> {
        let now = (self.clock)();
        // Set first, so that a directory that cannot be read is not tried again at every write.
        inner.scanned_ms = Some(now);
        inner.written = 0;
        let entries = scan::entries(&self.private, self.kind)?;
        inner.lru.clear();
        self.refresh_pins(inner);
        for (key, entry) in entries {
            match self.fits(&entry) {
                true => inner.lru.insert(key, entry),
                // Nobody reads it, and it would push all others out.
                false => inner.usage.evicted += u64::from(self.delete(&key)?),
            }
        }
        scan::sweep_temporary(&self.private, now, self.config.stale_ms)
    }

    /// Removes expired entries and then the least recently used, until `bytes` fit in place of the value of `key`, or
    /// only pinned entries are left.
    fn make_room(&self, inner: &mut Inner, key: Option<&StoreKey>, bytes: u64) {
        let now = (self.clock)();
        if inner.lru.expired(now).is_some() {
            // Pinning is a use, so an old entry that was pinned since is spared already; an expired one is not.
            self.refresh_pins(inner);
        }
        loop {
            let replaced = key.and_then(|key| inner.lru.get(key)).map_or(0, |entry| entry.bytes);
            let full = inner.lru.bytes() - replaced + bytes > self.config.budget;
            let expired = inner.lru.expired(now);
            let Some(victim) = expired.or(inner.lru.oldest().filter(|_| full)) else { break };
            let known = inner.lru.remove(&victim);
            match self.look(&victim) {
                // Another process used or rewrote it.
                Ok(Some(entry)) if known != Some(entry) => inner.lru.insert(victim, entry),
                Ok(Some(_)) => match self.delete(&victim) {
                    Ok(_) if expired.is_some() => inner.usage.expired += 1,
                    Ok(_) => inner.usage.evicted += 1,
                    Err(_) => inner.usage.failures += 1,
                },
                Ok(None) => {}
                Err(_) => inner.usage.failures += 1,
            }
        }
    }

    /// False if pins leave no room.
    fn write(&self, inner: &mut Inner, key: &StoreKey, bytes: &[u8], ttl: Option<Duration>) -> io::Result<bool> {
        let now = (self.clock)();
        let age = inner.scanned_ms.map(|at| now.saturating_sub(at));
        if age.is_none_or(|age| age >= self.config.rescan_ms) || inner.written > self.config.budget / 16 {
            self.rescan(inner)?;
        }
        let cost = scan::cost(bytes.len() as u64);
        let own = inner.lru.get(key).filter(|_| inner.lru.is_pinned(key)).map_or(0, |entry| entry.bytes);
        if inner.lru.pinned_bytes() - own + cost > self.config.budget {
            return Ok(false);
        }
        self.make_room(inner, Some(key), cost);

        let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let expires = ttl_ms.map_or(scan::NEVER_MS, |ttl| now.saturating_add(ttl)).min(scan::NEVER_MS);
        let used = inner.stamp(now);
        let name = scan::name(key);
        let (folder, name) = name.rsplit_once('/').unwrap_or_default();
        self.replace(folder, name, |file| {
            match self.seal.as_ref().and_then(|seal| seal.fill(key, bytes)) {
                Some((before, mac, behind)) => {
                    [before, &mac, behind].iter().try_for_each(|part| file.write_all(part))?
                }
                None => file.write_all(bytes)?,
            }
            scan::stamp(file, used, expires)
        })?;
        inner.written += cost;
        let expires_ms = Some(expires).filter(|at| *at < scan::NEVER_MS);
        inner.lru.insert(*key, Entry { bytes: cost, used, expires_ms });
        inner.usage.written += 1;
        inner.usage.written_bytes += bytes.len() as u64;
        Ok(true)
    }

    /// Writes a file with `fill` and moves it into a folder, or leaves everything as it was.
    pub(super) fn replace(
        &self,
        folder: &str,
        name: &str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut file, temporary) =
            self.within(scan::TEMPORARY, |folder| private::create(folder, &format!("{}-", std::process::id())))?;
        let filled = fill(&mut file);
        drop(file);
        filled
            .and_then(|()| self.within(folder, |folder| private::commit(&temporary, &folder.join(name))))
            .inspect_err(|_| drop(scan::remove(&temporary)))
    }

    /// Runs `work` in a folder, which is created if needed, and runs it again if the folder vanished meanwhile.
    fn within<T>(&self, folder: &str, mut work: impl FnMut(&Path) -> io::Result<T>) -> io::Result<T> {
        if let Some(found) = self.private.folder(folder)? {
            match work(&found) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        work(&self.private.make(folder)?)
    }

    /// The first `most` bytes of a value, or all if there are fewer. Counts as a use.
    fn start(&self, key: &StoreKey, most: usize) -> Result<Option<Bytes>, StoreError> {
        let home = self.home(key);
        let inner = &mut *home.inner.borrow_mut();
        let read = home.read(inner, key, most);
        home.count(inner, &home.path(key), read)
    }

    fn read(&self, inner: &mut Inner, key: &StoreKey, most: usize) -> io::Result<Option<Bytes>> {
        let now = (self.clock)();
        let found = self.find(key)?.map_or(Ok(None), |path| private::open(&path))?;
        let Some((file, found)) = found else {
            inner.lru.remove(key);
            return Ok(None);
        };
        let (entry, length) = (scan::stamped(&found), found.len());
        if entry.expires_ms.is_some_and(|at| at <= now) && !self.is_pinned(inner, key) {
            inner.lru.remove(key);
            inner.usage.expired += u64::from(self.delete(key).unwrap_or(false));
            return Ok(None);
        }
        if length > self.config.max_value {
            return Ok(None);
        }
        let length = length.min(most as u64);
        let mut bytes = Vec::with_capacity(length as usize);
        (&file).take(length).read_to_end(&mut bytes)?;
        if self.seal.as_ref().is_some_and(|seal| seal.refuses(key, &bytes)) {
            return Ok(Some(Bytes::from_static(FORGED)));
        }
        let used = inner.stamp(now);
        // In a read-only directory, the eviction order is this process's alone.
        let _ = scan::stamp_use(&file, used);
        inner.lru.touch(key, used);
        Ok(Some(bytes.into()))
    }

    fn look_up(&self, inner: &mut Inner, keys: &[StoreKey]) -> io::Result<Vec<bool>> {
        let now = (self.clock)();
        let found = keys.iter().map(|key| self.look(key)).collect::<io::Result<Vec<_>>>()?;
        let expired = |entry: &Entry| entry.expires_ms.is_some_and(|at| at <= now);
        if found.iter().zip(keys).any(|(entry, key)| entry.as_ref().is_some_and(expired) && !inner.lru.is_pinned(key)) {
            self.refresh_pins(inner);
        }
        let there = |entry: &Entry, key| !expired(entry) || inner.lru.is_pinned(key);
        Ok(found.iter().zip(keys).map(|(entry, key)| entry.as_ref().is_some_and(|entry| there(entry, key))).collect())
    }

    /// Marks a chain, given from the root on, as used, the root last.
    pub(super) fn mark(&self, inner: &mut Inner, keys: &[StoreKey]) {
        let now = (self.clock)();
        for key in keys.iter().rev() {
            let used = inner.stamp(now);
            let found = self.find(key).and_then(|path| path.map_or(Ok(None), |path| private::open(&path)));
            if let Ok(Some((file, _))) = found {
                let _ = scan::stamp_use(&file, used);
                inner.lru.touch(key, used);
            }
        }
    }

    pub(super) fn count<T>(&self, inner: &mut Inner, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
        result.map_err(|source| {
            inner.usage.failures += 1;
            failed(path, source)
        })
    }
}

impl Inner {
    /// A time of use later than any given out before.
    fn stamp(&mut self, now_ms: u64) -> u64 {
        self.last = now_ms.saturating_mul(1_000_000).max(self.last + 1);
        self.last
    }
}

/// The error for `path`, or the refusal of a directory on the way to it.
fn failed(path: &Path, source: io::Error) -> StoreError {
    let path = Refused::of(&source).map_or(path, |refused| &refused.path).to_owned();
    StoreError::Io { path, source }
}

impl Store for FilesystemStore {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { self.start(key, usize::MAX) })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move { keys.iter().map(|key| self.start(key, most)).collect() })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            let home = self.home(key);
            let (length, budget) = (bytes.len() as u64, home.config.budget.min(home.config.max_value));
            if length > home.config.max_value || scan::cost(length) > home.config.budget {
                return Err(StoreError::TooLarge { bytes: length, budget });
            }
            let inner = &mut *home.inner.borrow_mut();
            let Some(call) = inner.breaker.start((home.clock)()) else {
                inner.usage.refused += 1;
                return Err(StoreError::Paused { store: self.name() });
            };
            let written = home.write(inner, key, bytes, ttl);
            inner.breaker.finish(call, (home.clock)(), written.is_ok());
            match home.count(inner, &home.path(key), written)? {
                true => Ok(()),
                false => {
                    let budget = home.config.budget.saturating_sub(inner.lru.pinned_bytes());
                    Err(StoreError::TooLarge { bytes: length, budget })
                }
            }
        })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move {
            let inner = &mut *self.inner.borrow_mut();
            let found = self.look_up(inner, keys);
            self.count(inner, &self.root, found)
        })
    }

    fn is_anothers<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { Ok(self.private.is_anothers(&scan::name(key))) })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move {
            let home = self.home(key);
            let inner = &mut *home.inner.borrow_mut();
            inner.lru.remove(key);
            let removed = home.delete(key);
            home.count(inner, &home.path(key), removed)
        })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            let mut outcome = Ok(());
            for store in std::iter::once(self).chain(self.manifests.as_deref()) {
                let inner = &mut *store.inner.borrow_mut();
                inner.lru = Lru::default();
                let emptied = super::pins::remove_all(&store.private)
                    .and_then(|()| scan::entries(&store.private, store.kind))
                    .and_then(|found| found.iter().try_for_each(|(key, _)| store.delete(key).map(drop)))
                    .and_then(|()| scan::sweep_temporary(&store.private, (store.clock)(), store.config.stale_ms));
                outcome = outcome.and(store.count(inner, &store.root, emptied));
            }
            outcome
        })
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.mark(&mut self.inner.borrow_mut(), keys);
        })
    }

    fn usage(&self) -> StoreUsage {
        let inner = self.inner.borrow();
        StoreUsage { entries: inner.lru.len() as u64, bytes: inner.lru.bytes(), ..inner.usage }
    }
}
