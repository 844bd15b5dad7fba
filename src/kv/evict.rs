//! Chooses the pages that are evicted first, and remembers which were.
//!
//! `Leaves` orders the pages that may go: indexed, held by nobody, without a child in the index. Taking only leaves
//! keeps every indexed page reachable from its root. The order is that of last use; time to live follows the same
//! order, since the clock never runs backwards. All operations are O(log n).

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::PageId;
use super::key::Key;

/// When a page was last used: a counter that orders, and the injected clock in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(crate) tick: u64,
    pub(crate) ms: u64,
}

#[derive(Default)]
pub(super) struct Leaves {
    all: BTreeSet<(Stamp, PageId)>,
    tenants: HashMap<Key, BTreeSet<(Stamp, PageId)>>,
}

impl Leaves {
    pub(crate) fn insert(&mut self, tenant: Key, stamp: Stamp, page: PageId) {
        self.all.insert((stamp, page));
        self.tenants.entry(tenant).or_default().insert((stamp, page));
    }

    pub(crate) fn remove(&mut self, tenant: Key, stamp: Stamp, page: PageId) {
        self.all.remove(&(stamp, page));
        if let Some(own) = self.tenants.get_mut(&tenant) {
            own.remove(&(stamp, page));
            if own.is_empty() {
                self.tenants.remove(&tenant);
            }
        }
    }

    pub(crate) fn oldest(&self) -> Option<PageId> {
        self.all.first().map(|leaf| leaf.1)
    }

    pub(crate) fn oldest_of(&self, tenant: Key) -> Option<PageId> {
        self.tenants.get(&tenant)?.first().map(|leaf| leaf.1)
    }

    /// The oldest leaf if its last use was before `ms`.
    pub(crate) fn used_before(&self, ms: u64) -> Option<PageId> {
        self.all.first().filter(|leaf| leaf.0.ms < ms).map(|leaf| leaf.1)
    }

    pub(crate) fn contains(&self, tenant: Key, stamp: Stamp, page: PageId) -> bool {
        self.all.contains(&(stamp, page)) && self.tenants.get(&tenant).is_some_and(|own| own.contains(&(stamp, page)))
    }

    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.all.len(), self.tenants.values().map(BTreeSet::len).sum::<usize>());
        self.all.len()
    }
}

/// Why a block is not in the index any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Evicted,
    Expired,
}

/// The keys of blocks that went, the last `limit` of them: what tells `evicted` and `expired` from `cold`.
pub(super) struct Ghosts {
    limit: usize,
    gone: HashMap<Key, (Gone, u64)>,
    order: VecDeque<(Key, u64)>,
    next: u64,
}

impl Ghosts {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, gone: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    pub(crate) fn insert(&mut self, key: Key, why: Gone) {
        self.gone.insert(key, (why, self.next));
        self.order.push_back((key, self.next));
        self.next += 1;
        while self.order.len() > self.limit {
            let Some((key, number)) = self.order.pop_front() else { break };
            if self.gone.get(&key).is_some_and(|ghost| ghost.1 == number) {
                self.gone.remove(&key);
            }
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Gone> {
        self.gone.get(key).map(|ghost| ghost.0)
    }

    /// The block is back.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.gone.remove(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }
}
