//! The eviction order of a store: sizes, last uses and expiries, without the values.
//!
//! Invariants: `bytes` is the sum over all entries, `pinned_bytes` over the pinned ones. Every unpinned entry is in
//! `order` once, and in `expiries` once if it expires; a pinned entry is in neither. Every operation is O(log n);
//! pinning is O(log n) a key.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::StoreKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(crate) bytes: u64,
    /// Greater is later. Stamps are unique in practice; ties are broken by key.
    pub(crate) used: u64,
    pub(crate) expires_ms: Option<u64>,
}

#[derive(Default)]
pub(super) struct Lru {
    entries: HashMap<StoreKey, Entry>,
    order: BTreeSet<(u64, StoreKey)>,
    expiries: BTreeSet<(u64, StoreKey)>,
    pinned: HashSet<StoreKey>,
    bytes: u64,
    pinned_bytes: u64,
}

impl Lru {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, key: &StoreKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn insert(&mut self, key: StoreKey, entry: Entry) {
        self.remove(&key);
        self.bytes += entry.bytes;
        if self.pinned.contains(&key) {
            self.pinned_bytes += entry.bytes;
        } else {
            self.order.insert((entry.used, key));
            self.expiries.extend(entry.expires_ms.map(|at| (at, key)));
        }
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: &StoreKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        if self.pinned.contains(key) {
            self.pinned_bytes -= entry.bytes;
        }
        self.order.remove(&(entry.used, *key));
        if let Some(at) = entry.expires_ms {
            self.expiries.remove(&(at, *key));
        }
        Some(entry)
    }

    /// False if there is no such entry.
    pub(crate) fn touch(&mut self, key: &StoreKey, used: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if self.order.remove(&(entry.used, *key)) {
            self.order.insert((used, *key));
        }
        entry.used = used;
        true
    }

    /// The least recently used entry.
    pub(crate) fn oldest(&self) -> Option<StoreKey> {
        self.order.first().map(|(_, key)| *key)
    }

    /// An expired entry.
    pub(crate) fn expired(&self, now_ms: u64) -> Option<StoreKey> {
        self.expiries.first().filter(|(at, _)| *at <= now_ms).map(|(_, key)| *key)
    }
}

/// Only a directory has pins.
#[cfg(not(target_arch = "wasm32"))]
impl Lru {
    /// Forgets the entries, but not which keys are pinned.
    pub(crate) fn clear(&mut self) {
        *self = Self { pinned: std::mem::take(&mut self.pinned), ..Self::default() };
    }

    pub(crate) fn is_pinned(&self, key: &StoreKey) -> bool {
        self.pinned.contains(key)
    }

    /// Bytes of the pinned entries.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    /// Pins exactly these keys: only [`Lru::remove`] takes them from now on. Keys that were pinned before are unpinned.
    pub(crate) fn pin(&mut self, keys: HashSet<StoreKey>) {
        let changed: Vec<StoreKey> = keys.symmetric_difference(&self.pinned).copied().collect();
        let entries: Vec<_> = changed.iter().filter_map(|key| Some((*key, self.remove(key)?))).collect();
        self.pinned = keys;
        entries.into_iter().for_each(|(key, entry)| self.insert(key, entry));
    }
}
