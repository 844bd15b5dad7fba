//! The cache as the engine uses it: admit, append, publish, release; fork, pin, grow.
//!
//! `policy` is the private half; `pool`, `index` and `evict` keep the books. A page that nobody holds is either unindexed and
//! free, or indexed and cached. When no page is free, the least recently used cached leaf is evicted. Costs: `admit` is
//! O(prompt pages) hashes, `append` O(new pages · log leaves), `publish` one hash for each filled page.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::PageId;
use super::evict::{Ghosts, Gone, Leaves, Stamp};
use super::explain::{Miss, Reason, Report, Sources};
use super::index::{Children, Index, Match, Parent};
use super::key::{Key, Namespace, PAGE};
use super::pool::Pool;
use super::table::{BlockTable, OutOfPages, PageCopy, Producer};

/// Size and policy of the cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Number of pages at the start.
    pub capacity: usize,
    /// Whether a layer keeps a state beside the KV (as short convolutions do). A page holds it for its last token alone, so a
    /// hit must end at a page's last token.
    pub has_state: bool,
    /// The widest sliding window of the model's layers, in tokens; `None` without such layers. A page before the window may
    /// lack the KV of those layers (see `window`).
    pub window: Option<usize>,
    /// Bytes of one page over all layers, in which quotas are counted.
    pub page_bytes: u64,
    /// Cached pages that are unused for this long are forgotten.
    pub ttl_ms: Option<u64>,
    /// The largest share of all pages that can be pinned, in percent.
    pub pinned_percent: usize,
    /// Bytes of indexed pages allowed to each salt that has no quota of its own.
    pub quota: Option<u64>,
    /// How many keys of evicted or expired blocks are remembered.
    pub ghosts: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            capacity: 0,
            has_state: false,
            window: None,
            page_bytes: 1,
            ttl_ms: None,
            pinned_percent: 50,
            quota: None,
            ghosts: 16384,
        }
    }
}

/// How much of the known prefix a prompt may reuse.
#[derive(Clone, Debug, Default)]
pub struct AdmitOptions {
    /// Reuse at most this many tokens. The default is all but the last, whose logits have to be computed.
    pub max: Option<usize>,
    /// Reuse nothing if the hit is shorter than this.
    pub min: usize,
    /// Reuse only what is bit-identical to a cold prefill.
    pub exact: bool,
    /// Resume this sequence: after its prompt, reuse only the pages that it gave up.
    pub left: Option<Left>,
    /// End the hit at a page boundary, because the rest will be loaded page by page from another tier.
    pub whole_pages: bool,
    /// Let the report say what other salts hold. Only for a machine with one user, since it tells tenants about each other.
    pub across_salts: bool,
}

/// The pages with which a preempted sequence's answer can be resumed. Other pages may hold the same tokens with other bits,
/// because other kernels computed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub(super) prompt: usize,
    pub(super) births: Vec<u64>,
}

/// A sequence that has begun. Its table holds the reused tokens; the rest is to be appended.
#[derive(Debug)]
pub struct Admission {
    /// Holds the pages of the reused tokens.
    pub table: BlockTable,
    /// How many leading tokens are reused.
    pub cached_tokens: usize,
    /// Must run before anything is written to the table's slots.
    pub copy: Option<PageCopy>,
    /// Where the whole prompt's KV comes from, and why not all of it was reused.
    pub report: Report,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CacheStats {
    pub(crate) queried_tokens: u64,
    /// Prompt tokens that were reused.
    pub hit_tokens: u64,
    pub(crate) copied_pages: u64,
    /// Pages evicted to make room.
    pub evicted_pages: u64,
    pub(crate) expired_pages: u64,
}

/// Identifies a pin, from [`Engine::pin`](crate::Engine::pin) to [`unpin`](crate::Engine::unpin).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinId(u64);

/// How much of a prefix was pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Releases the pin, given to `unpin`.
    pub id: PinId,
    /// Leading tokens that are pinned, in whole pages; 0 if none was known.
    pub tokens: usize,
}

/// The pin would exceed the share of pages that can be pinned; nothing was pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} pages would be pinned, at most {allowed} can be; unpin something or give the cache more memory")]
pub struct PinsFull {
    /// Pages of all pins, including the one asked for.
    pub asked: usize,
    /// Pages that may be pinned at the cache's present size.
    pub allowed: usize,
}

/// An indexed token sequence that is not the prefix of a longer one.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The namespace of its keys.
    pub namespace: Namespace,
    /// All tokens, from the first of the prompt.
    pub tokens: Vec<u32>,
    /// Leading tokens that are bit-identical to a cold prefill.
    pub exact: usize,
    /// The pages that hold the tokens, in order.
    pub pages: Vec<PageId>,
}

/// The pages, the index over them, and their holders.
pub struct Cache {
    pub(super) config: CacheConfig,
    pub(super) pool: Pool,
    pub(super) index: Index,
    pub(super) leaves: Leaves,
    /// Indexed pages that nobody holds.
    pub(super) cached: usize,
    /// Number of indexed pages of each salt.
    pub(super) tenants: HashMap<Key, usize>,
    pub(super) pins: BTreeMap<PinId, Vec<PageId>>,
    pub(super) quotas: HashMap<Key, u64>,
    pub(super) ghosts: Ghosts,
    pub(super) clock: Stamp,
    pub(super) stats: CacheStats,
    /// How many pages have been indexed since the start.
    pub(super) births: u64,
    next_pin: u64,
}

impl Cache {
    /// A cache whose pages are all free.
    pub fn new(config: CacheConfig) -> Self {
        Self {
            pool: Pool::new(config.capacity),
            index: Index::default(),
            leaves: Leaves::default(),
            cached: 0,
            tenants: HashMap::new(),
            pins: BTreeMap::new(),
            quotas: HashMap::new(),
            ghosts: Ghosts::new(config.ghosts),
            clock: Stamp::default(),
            births: 0,
            next_pin: 0,
            stats: CacheStats::default(),
            config,
        }
    }

    /// Number of pages.
    pub fn capacity(&self) -> usize {
        self.pool.capacity()
    }

    /// Pages that can be allocated: the free ones and the cached ones, which would be evicted.
    pub fn available(&self) -> usize {
        self.pool.free().len() + self.cached
    }

    /// Number of indexed pages that nobody holds.
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// Counters since the start.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// Grows to `capacity` pages; new ids follow the old ones. A smaller capacity changes nothing.
    pub fn grow(&mut self, capacity: usize) {
        self.pool.grow(capacity);
    }

    /// Sets the bytes of indexed pages allowed to the salt of `namespace`.
    pub fn set_quota(&mut self, namespace: &Namespace, bytes: u64) {
        self.quotas.insert(namespace.tenant(), bytes);
    }

    /// Advances the clock to `now_ms` (never back) and forgets what has expired.
    pub fn advance(&mut self, now_ms: u64) {
        self.clock.ms = self.clock.ms.max(now_ms);
        let Some(ttl) = self.config.ttl_ms else { return };
        let alive = (self.clock.ms + 1).saturating_sub(ttl);
        while let Some(page) = self.leaves.used_before(alive) {
            self.unindex(page, Some(Gone::Expired));
        }
    }

    /// How many tokens `admit` would reuse.
    pub fn lookup(&self, namespace: &Namespace, tokens: &[u32], options: &AdmitOptions) -> usize {
        let found = self.find(namespace, tokens, options).tokens();
        if found < options.min { 0 } else { found }
    }

    /// Whether [`admit`](Self::admit) would have enough pages.
    pub(crate) fn fits(&self, namespace: &Namespace, tokens: &[u32], options: &AdmitOptions) -> bool {
        let found = self.find(namespace, tokens, options);
        let cached = found.pages.iter().filter(|page| self.pool.refs(**page) == 0).count();
        tokens.len().div_ceil(PAGE) - found.pages.len() <= self.available() - cached
    }

    /// Begins a sequence with the longest known prefix of `tokens`, and takes only that prefix's pages. Fails without changing
    /// anything if the whole prompt would not fit.
    pub fn admit(
        &mut self,
        namespace: &Namespace,
        tokens: &[u32],
        options: &AdmitOptions,
    ) -> Result<Admission, OutOfPages> {
        let max = options.limit(tokens);
        let mut found = self.find(namespace, tokens, options);
        let mut misses = self.misses(namespace, &tokens[..max], &found, options);
        let diverged = misses.iter().find(|miss| miss.reason == Reason::Diverged).map(|miss| miss.from);
        if (1..options.min).contains(&found.tokens()) {
            misses.insert(0, Miss { reason: Reason::BelowMin, from: 0, tokens: found.tokens() });
            found = Match::default();
        }

        let known = found.tokens();
        if options.whole_pages {
            found.tail = None;
        }

        for &page in &found.pages {
            self.hold(page);
        }
        let needed = tokens.len().div_ceil(PAGE) - found.pages.len();
        let free = self.available();
        if needed > free {
            found.pages.iter().for_each(|&page| self.let_go(page));
            return Err(OutOfPages { needed, free });
        }
        let asked = found.tokens();
        let (cached, copy) = match found.tail.and_then(|(page, tokens)| self.take_tail(page, tokens)) {
            Some((page, copy)) => {
                found.pages.push(page);
                (asked, copy)
            }
            None => (found.pages.len() * PAGE, None),
        };

        if cached < known {
            misses.insert(0, Miss { reason: Reason::Evicted, from: cached, tokens: known - cached });
        }
        misses.retain(|miss| miss.tokens > 0);
        self.stats.queried_tokens += tokens.len() as u64;
        self.stats.hit_tokens += cached as u64;
        let partial = self.partial_pages(&found.pages);
        let table = BlockTable {
            namespace: namespace.clone(),
            pages: found.pages,
            len: cached,
            tokens: tokens[..cached].to_vec(),
            keys: found.keys,
            exact: found.exact.min(cached),
            partial,
        };
        let sources = Sources { gpu: cached, computed: tokens.len() - cached, ..Sources::default() };
        let report =
            Report { prompt_tokens: tokens.len(), sources, misses, first_divergent: diverged, ..Report::default() };
        Ok(Admission { table, cached_tokens: cached, copy, report })
    }

    /// Undoes an admission: releases its table and does not count it.
    pub fn withdraw(&mut self, admission: Admission) {
        self.stats.queried_tokens -= admission.report.prompt_tokens as u64;
        self.stats.hit_tokens -= admission.report.sources.gpu as u64;
        self.release(admission.table);
    }

    /// The indexed page of block `key` after `parent` that begins with `tokens` (1 to `PAGE`), and how many of these are exact.
    /// `None` if the page is partial.
    pub(crate) fn page(&self, parent: &Key, key: &Key, tokens: &[u32]) -> Option<(PageId, usize)> {
        let page = match tokens.len() {
            PAGE => *self.index.full.get(key)?,
            _ => self.index.beginning(parent, tokens)?,
        };
        let node = self.index.nodes.get(&page)?;
        let held = !node.partial && self.holds(node, tokens.len()) && node.block.tokens().starts_with(tokens);
        held.then(|| (page, node.exact.min(tokens.len())))
    }

    /// Slots for the next `count` tokens: all of them, or an error.
    pub fn append(&mut self, table: &mut BlockTable, count: usize) -> Result<Vec<u32>, OutOfPages> {
        let begin = table.len;
        let needed = (begin + count).div_ceil(PAGE) - table.pages.len();
        let free = self.available();
        if needed > free {
            return Err(OutOfPages { needed, free });
        }
        for _ in 0..needed {
            let page = self.take().expect("the pages were counted");
            table.pages.push(page);
        }
        table.len += count;
        Ok(table.slots(begin..table.len))
    }

    /// Gives back slots that were appended but not written.
    pub fn cancel(&mut self, table: &mut BlockTable) {
        for page in table.pages.split_off(table.written().div_ceil(PAGE)) {
            self.let_go(page);
        }
        table.len = table.written();
    }

    /// Records that `tokens` occupy the slots after the written ones, and indexes them so that others find them. Call it once
    /// the work that writes them is submitted. Panics if fewer slots were appended.
    pub fn publish(&mut self, table: &mut BlockTable, tokens: &[u32], producer: Producer) {
        assert!(table.written() + tokens.len() <= table.len, "more tokens published than slots appended");
        let mut first = table.written() / PAGE;
        table.write(tokens, producer);
        while first > 0 && !self.index.full.contains_key(&table.keys[first - 1]) {
            first -= 1;
        }
        let mut parent = match first {
            0 => Parent::Root(table.namespace.key()),
            _ => Parent::Page(self.index.full[&table.keys[first - 1]]),
        };
        for block in first..table.written().div_ceil(PAGE) {
            match self.index_block(table, block, parent) {
                Some(page) => parent = Parent::Page(page),
                None => break,
            }
        }
    }

    /// A second sequence with the same written tokens: full pages are shared, the last page is copied.
    pub fn fork(&mut self, table: &BlockTable) -> Result<(BlockTable, Option<PageCopy>), OutOfPages> {
        let (full, rest) = (table.written() / PAGE, table.written() % PAGE);
        let mut pages = table.pages[..full].to_vec();
        let mut copy = None;
        if rest > 0 {
            let to = self.take().ok_or(OutOfPages { needed: 1, free: 0 })?;
            copy = Some(PageCopy { from: table.pages[full], to, tokens: rest });
            self.stats.copied_pages += 1;
            pages.push(to);
        }
        for &page in &pages[..full] {
            self.pool.retain(page);
        }
        let fork = BlockTable {
            namespace: table.namespace.clone(),
            pages,
            len: table.written(),
            tokens: table.tokens.clone(),
            keys: table.keys.clone(),
            exact: table.exact,
            partial: table.partial.clone(),
        };
        Ok((fork, copy))
    }

    /// Ends a sequence that will be resumed with [`AdmitOptions::left`]. The first `prompt` tokens are not its own answer.
    pub fn leave(&mut self, table: BlockTable, prompt: usize) -> Left {
        let births = table.pages[(prompt / PAGE).min(table.pages.len())..].iter();
        let births = births.filter_map(|page| Some(self.index.nodes.get(page)?.birth)).collect();
        self.release(table);
        Left { prompt, births }
    }

    /// Ends a sequence. The blocks that it published stay indexed until their pages are needed.
    pub fn release(&mut self, table: BlockTable) {
        self.clock.tick += 1;
        for key in &table.keys {
            if let Some(&page) = self.index.full.get(key) {
                self.touch(page);
            }
        }
        for &page in table.pages.iter().rev() {
            self.touch(page);
            self.let_go(page);
        }
    }

    /// Pins the known part of `tokens`, so that it is not evicted and does not expire.
    pub fn pin(&mut self, namespace: &Namespace, tokens: &[u32]) -> Result<Pinned, PinsFull> {
        let found = self.known(namespace, tokens);
        let whole = |&(page, tokens): &(PageId, usize)| self.index.nodes[&page].block.len() == tokens;
        let tail = found.tail.filter(whole);
        let mut pages = found.pages;
        let tokens = pages.len() * PAGE + tail.map_or(0, |tail| tail.1);
        pages.extend(tail.map(|tail| tail.0));
        let asked = self.pins.values().flatten().chain(&pages).collect::<HashSet<_>>().len();
        let allowed = self.capacity() * self.config.pinned_percent / 100;
        if asked > allowed {
            return Err(PinsFull { asked, allowed });
        }
        pages.iter().for_each(|&page| self.hold(page));
        let id = PinId(self.next_pin);
        self.next_pin += 1;
        self.pins.insert(id, pages);
        Ok(Pinned { id, tokens })
    }

    /// Releases a pin; false if there is no such pin.
    pub fn unpin(&mut self, id: PinId) -> bool {
        let Some(pages) = self.pins.remove(&id) else { return false };
        pages.into_iter().rev().for_each(|page| self.let_go(page));
        true
    }

    /// Forgets all that is not pinned. Running sequences continue.
    pub fn clear(&mut self) {
        let pinned: HashSet<PageId> = self.pins.values().flatten().copied().collect();
        let mut pages: Vec<PageId> = self.index.nodes.keys().copied().filter(|page| !pinned.contains(page)).collect();
        // The order in which pages become free is fixed, so that equal histories give equal pages.
        pages.sort_unstable();
        pages.into_iter().for_each(|page| self.unindex_below(page, None));
    }

    /// Forgets an indexed sequence that is not the prefix of a longer one: from its end back to the first page that another
    /// sequence or a pin shares. Returns the number of pages forgotten. Running sequences continue, and index again what they
    /// write.
    pub fn forget(&mut self, namespace: &Namespace, tokens: &[u32]) -> usize {
        let found = self.known(namespace, tokens);
        let whole = |&(page, tokens): &(PageId, usize)| self.index.nodes[&page].block.len() == tokens;
        let mut path = found.pages;
        path.extend(found.tail.filter(whole).map(|tail| tail.0));
        let known: usize = path.iter().map(|page| self.index.nodes[page].block.len()).sum();
        if known < tokens.len() {
            return 0;
        }
        let pinned: HashSet<PageId> = self.pins.values().flatten().copied().collect();
        let loose = |cache: &Self, page| cache.index.nodes[&page].children.is_empty() && !pinned.contains(&page);
        let mut forgotten = 0;
        for page in path.into_iter().rev() {
            if !loose(self, page) {
                break;
            }
            self.unindex(page, None);
            forgotten += 1;
        }
        forgotten
    }

    /// The indexed token sequences that are not the prefix of a longer one, ordered by their tokens within a namespace.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for root in self.index.roots.values() {
            let whole = |children: &Children| children.values().rev().map(|&page| (page, 0, 0)).collect::<Vec<_>>();
            let (mut open, mut path, mut pages) = (whole(&root.children), Vec::new(), Vec::new());
            while let Some((page, depth, exact)) = open.pop() {
                let node = &self.index.nodes[&page];
                path.truncate(depth);
                pages.truncate(depth / PAGE);
                pages.push(page);
                path.extend_from_slice(node.block.tokens());
                let exact = if exact == depth { exact + node.exact } else { exact };
                open.extend(node.children.values().rev().map(|&child| (child, path.len(), exact)));
                if node.children.is_empty() {
                    entries.push(Entry {
                        namespace: root.namespace.clone(),
                        tokens: path.clone(),
                        exact,
                        pages: pages.clone(),
                    });
                }
            }
        }
        entries
    }
}
