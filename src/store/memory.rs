//! Host memory as a store: a byte budget, least recently used first, expiry to the millisecond.
//!
//! Manifests have a small budget of their own, so that they outlive the blocks.
//!
//! Invariant: the budget is never exceeded; every entry counts as its bytes and [`MemoryStore::OVERHEAD`]. Expired
//! entries are evicted first. Every operation is O(log n), and none copies a value: values are shared with callers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::lru::{Entry, Lru};
use super::manifest::{self, is_manifest};
use super::{BoxFuture, Bytes, Clock, Store, StoreAnswer, StoreError, StoreKey, StoreUsage};

/// Values in this process's memory. The least recently used are evicted first.
pub struct MemoryStore {
    budget: u64,
    clock: Clock,
    inner: RefCell<Inner>,
    /// The store of manifests; only the store of blocks has one.
    manifests: Option<Box<MemoryStore>>,
}

#[derive(Default)]
struct Inner {
    lru: Lru,
    values: HashMap<StoreKey, Bytes>,
    tick: u64,
    usage: StoreUsage,
}

impl MemoryStore {
    /// Bytes that an entry takes in the maps, besides its value.
    pub const OVERHEAD: u64 = 256;

    /// At most `budget` bytes; with 0 it keeps nothing.
    pub fn new(budget: u64, clock: Clock) -> Self {
        let manifests = Self::of_one_kind(manifest::budget(budget), clock.clone());
        Self { manifests: Some(Box::new(manifests)), ..Self::of_one_kind(budget, clock) }
    }

    fn of_one_kind(budget: u64, clock: Clock) -> Self {
        Self { budget, clock, inner: RefCell::default(), manifests: None }
    }

    /// The store that holds the value of `key`.
    fn home(&self, key: &StoreKey) -> &Self {
        self.manifests.as_deref().filter(|_| is_manifest(key)).unwrap_or(self)
    }

    fn insert(&self, key: &StoreKey, value: &Bytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        let bytes = (value.len() as u64).saturating_add(Self::OVERHEAD);
        if bytes > self.budget {
            return Err(StoreError::TooLarge { bytes, budget: self.budget });
        }
        let now = (self.clock)();
        let inner = &mut *self.inner.borrow_mut();
        inner.remove(key);
        inner.expire(now);
        while inner.lru.bytes() + bytes > self.budget {
            let Some(oldest) = inner.lru.oldest() else { break };
            inner.remove(&oldest);
            inner.usage.evicted += 1;
        }
        let used = inner.next_tick();
        let expires_ms = ttl.map(|ttl| now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
        inner.lru.insert(*key, Entry { bytes, used, expires_ms });
        inner.values.insert(*key, value.clone());
        inner.usage.written += 1;
        inner.usage.written_bytes += value.len() as u64;
        Ok(())
    }

    /// The first `most` bytes of a value, or all if there are fewer. Counts as a use.
    fn start(&self, key: &StoreKey, most: usize) -> Option<Bytes> {
        let inner = &mut *self.home(key).inner.borrow_mut();
        inner.expire((self.clock)());
        let used = inner.next_tick();
        inner.lru.touch(key, used);
        inner.values.get(key).map(|value| value.slice(..value.len().min(most)))
    }
}

impl Inner {
    fn remove(&mut self, key: &StoreKey) -> bool {
        self.values.remove(key);
        self.lru.remove(key).is_some()
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some(key) = self.lru.expired(now_ms) {
            self.remove(&key);
            self.usage.expired += 1;
        }
    }

    fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.start(key, usize::MAX)) })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move { Ok(keys.iter().map(|key| self.start(key, most)).collect()) })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move { self.home(key).insert(key, bytes, ttl) })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move {
            let inner = &mut *self.inner.borrow_mut();
            inner.expire((self.clock)());
            Ok(keys.iter().map(|key| inner.lru.get(key).is_some()).collect())
        })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move {
            let inner = &mut *self.home(key).inner.borrow_mut();
            inner.expire((self.clock)());
            Ok(inner.remove(key))
        })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            {
                let inner = &mut *self.inner.borrow_mut();
                inner.lru = Lru::default();
                inner.values.clear();
            }
            match &self.manifests {
                Some(manifests) => manifests.clear().await,
                None => Ok(()),
            }
        })
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let inner = &mut *self.inner.borrow_mut();
            for key in keys.iter().rev() {
                let used = inner.next_tick();
                inner.lru.touch(key, used);
            }
        })
    }

    fn usage(&self) -> StoreUsage {
        let inner = self.inner.borrow();
        StoreUsage { entries: inner.lru.len() as u64, bytes: inner.lru.bytes(), ..inner.usage }
    }
}
