//! How pages change state: held, cached, evicted, indexed. The private half of `Cache`.

use super::PageId;
use super::cache::{AdmitOptions, Cache};
use super::evict::Gone;
use super::explain::{Miss, Reason};
use super::index::{Block, Children, Match, Node, Parent, Stop};
use super::key::{Key, Namespace, PAGE};
use super::table::{BlockTable, PageCopy};

impl AdmitOptions {
    pub(super) fn limit(&self, tokens: &[u32]) -> usize {
        self.max.unwrap_or(tokens.len().saturating_sub(1)).min(tokens.len())
    }

    /// How many shared tokens may be reused, as far as their keys and values are concerned; see `index::Usable`.
    fn usable(&self, begin: usize, node: &Node, shared: usize) -> usize {
        let usable = if self.exact { node.exact } else { node.block.len() };
        let usable = match &self.left {
            Some(left) if left.births.contains(&node.birth) => node.block.len(),
            Some(left) => usable.min(left.prompt.saturating_sub(begin)),
            None => usable,
        };
        usable.min(shared)
    }
}

impl Cache {
    /// The longest known prefix that may be reused.
    pub(super) fn find(&self, namespace: &Namespace, tokens: &[u32], options: &AdmitOptions) -> Match {
        let found = self.index.find(namespace, tokens, options.limit(tokens), &|begin, node, shared| {
            let usable = options.usable(begin, node, shared);
            if self.holds(node, usable) { usable } else { 0 }
        });
        self.seen(found)
    }

    /// The longest known prefix, whichever kernels computed it.
    pub(super) fn known(&self, namespace: &Namespace, tokens: &[u32]) -> Match {
        self.index.find(namespace, tokens, tokens.len(), &|_, node, shared| shared.min(node.block.len()))
    }

    pub(super) fn hold(&mut self, page: PageId) {
        if self.pool.refs(page) == 0 {
            self.idle_leaf(page, false);
            self.cached -= 1;
        }
        self.pool.retain(page);
    }

    pub(super) fn let_go(&mut self, page: PageId) {
        if !self.pool.release(page) {
            return;
        }
        if self.index.nodes.contains_key(&page) {
            self.cached += 1;
            self.idle_leaf(page, true);
        } else {
            self.pool.put(page);
        }
    }

    /// If a page is a leaf that nobody holds, adds it to the evictable leaves or removes it from them.
    fn idle_leaf(&mut self, page: PageId, enter: bool) {
        let Some(node) = self.index.nodes.get(&page) else { return };
        if self.pool.refs(page) > 0 || !node.children.is_empty() {
            return;
        }
        match enter {
            true => self.leaves.insert(node.tenant, node.stamp, page),
            false => self.leaves.remove(node.tenant, node.stamp, page),
        }
    }

    pub(super) fn touch(&mut self, page: PageId) {
        self.idle_leaf(page, false);
        if let Some(node) = self.index.nodes.get_mut(&page) {
            node.stamp = self.clock;
        }
        self.idle_leaf(page, true);
    }

    /// Allocates a page: a free one, else the oldest evictable leaf, else the oldest cached page with its subtree. The last
    /// case occurs if sequences in use hang below every cached page; their tables hold their own copies of it.
    pub(super) fn take(&mut self) -> Option<PageId> {
        if self.pool.free().is_empty() {
            if let Some(page) = self.leaves.oldest() {
                self.unindex(page, Some(Gone::Evicted));
            } else {
                let cached = self.index.nodes.iter().filter(|(page, _)| self.pool.refs(**page) == 0);
                let page = *cached.min_by_key(|(page, node)| (node.stamp, **page))?.0;
                self.unindex_below(page, Some(Gone::Evicted));
            }
        }
        self.pool.take()
    }

    /// Removes a leaf from the index. Its page becomes free if nobody holds it.
    pub(super) fn unindex(&mut self, page: PageId, why: Option<Gone>) {
        self.idle_leaf(page, false);
        let Some(node) = self.index.nodes.get(&page) else { return };
        let (key, tenant, parent) = (why.and_then(|_| self.index.key(node)), node.tenant, node.parent);
        self.index.remove(page);
        if let Some((why, key)) = why.zip(key) {
            self.ghosts.insert(key, why);
            match why {
                Gone::Evicted => self.stats.evicted_pages += 1,
                Gone::Expired => self.stats.expired_pages += 1,
            }
        }
        if let Some(pages) = self.tenants.get_mut(&tenant) {
            *pages -= 1;
            if *pages == 0 {
                self.tenants.remove(&tenant);
            }
        }
        if self.pool.refs(page) == 0 {
            self.cached -= 1;
            self.pool.put(page);
        }
        if let Parent::Page(parent) = parent {
            self.idle_leaf(parent, true);
        }
    }

    /// Removes a node and its descendants from the index.
    pub(super) fn unindex_below(&mut self, page: PageId, why: Option<Gone>) {
        for page in self.index.subtree(page).into_iter().rev() {
            self.unindex(page, why);
        }
    }

    /// The page in which a new writer continues after the first `tokens` tokens of `page`: the page itself if nobody holds it
    /// and it ends there, else a copy. `None` if no page is left for the copy.
    pub(super) fn take_tail(&mut self, page: PageId, tokens: usize) -> Option<(PageId, Option<PageCopy>)> {
        let ends = self.index.nodes[&page].block.len() == tokens;
        let idle = self.pool.refs(page) == 0;
        self.hold(page);
        // A page with a state stays unchanged, as a checkpoint.
        if ends && idle && tokens < PAGE && !self.config.has_state {
            return Some((page, None));
        }
        let to = self.take();
        self.let_go(page);
        let copy = PageCopy { from: page, to: to?, tokens };
        self.stats.copied_pages += 1;
        Some((copy.to, Some(copy)))
    }

    /// Indexes a written block of a table below `parent`. Returns the indexed page, which is another sequence's if that one was
    /// first. `None` if the tenant's quota has no room.
    pub(super) fn index_block(&mut self, table: &BlockTable, number: usize, parent: Parent) -> Option<PageId> {
        let begin = number * PAGE;
        let block = Block::new(&table.tokens[begin..table.written().min(begin + PAGE)]);
        let exact = table.exact.saturating_sub(begin).min(block.len());
        let page = table.pages[number];
        let indexed = self.index.nodes.get(&page).map(|node| node.block);
        if indexed == Some(block) {
            return Some(page);
        }
        let grown = indexed.is_some();
        if grown {
            self.unindex(page, None);
        }
        let partial = table.partial.contains(&number);
        if let Some(twin) = self.index.child(parent, &block) {
            self.touch(twin);
            let Node { exact: known, partial: lacks, .. } = self.index.nodes[&twin];
            if (known, !lacks) < (exact, !partial) {
                self.replace(twin, page, exact, partial);
                self.move_pins(twin, page);
                return Some(page);
            }
            self.move_pins(page, twin);
            return Some(twin);
        }
        let tenant = table.namespace.tenant();
        if !grown && !self.make_room(tenant, parent) {
            return None;
        }
        if let Parent::Page(parent) = parent {
            self.idle_leaf(parent, false);
        }
        let key = table.keys.get(number).copied();
        if let Some(key) = &key {
            self.ghosts.remove(key);
        }
        self.births += 1;
        let (children, stamp, birth) = (Children::new(), self.clock, self.births);
        let node = Node { tenant, parent, block, exact, partial, children, stamp, birth, key };
        self.index.insert(&table.namespace, page, node);
        *self.tenants.entry(tenant).or_default() += 1;
        Some(page)
    }

    /// Replaces an indexed page by a held one that has more exact tokens, or that is not partial.
    fn replace(&mut self, old: PageId, new: PageId, exact: usize, partial: bool) {
        self.idle_leaf(old, false);
        let was_cached = self.pool.refs(old) == 0;
        self.births += 1;
        self.index.replace(old, new, self.births);
        if let Some(node) = self.index.nodes.get_mut(&new) {
            node.exact = exact;
            node.partial = partial;
        }
        if was_cached {
            self.cached -= 1;
            self.pool.put(old);
        }
    }

    fn move_pins(&mut self, old: PageId, new: PageId) {
        let mut moved = 0;
        for page in self.pins.values_mut().flatten().filter(|page| **page == old) {
            *page = new;
            moved += 1;
        }
        for _ in 0..moved {
            self.hold(new);
            self.let_go(old);
        }
    }

    /// Makes room for one more indexed page within the tenant's quota, without evicting `parent`.
    fn make_room(&mut self, tenant: Key, parent: Parent) -> bool {
        let Some(quota) = self.quotas.get(&tenant).copied().or(self.config.quota) else { return true };
        let limit = quota / self.config.page_bytes.max(1);
        if (self.tenants.get(&tenant).copied().unwrap_or(0) as u64) < limit {
            return true;
        }
        let keep = if let Parent::Page(page) = parent { Some(page) } else { None };
        keep.into_iter().for_each(|page| self.hold(page));
        let oldest = self.leaves.oldest_of(tenant);
        oldest.into_iter().for_each(|page| self.unindex(page, Some(Gone::Evicted)));
        keep.into_iter().for_each(|page| self.let_go(page));
        oldest.is_some() && limit > 0
    }

    /// Why the match ends where it does, as runs of tokens in order. `tokens` is the prompt up to the last reusable token.
    pub(super) fn misses(
        &self,
        namespace: &Namespace,
        tokens: &[u32],
        found: &Match,
        options: &AdmitOptions,
    ) -> Vec<Miss> {
        let at = found.tokens();
        let rest = tokens.len() - at;
        if found.stop == Stop::Inexact && self.config.has_state {
            let usable = |begin: usize, node: &Node, shared: usize| options.usable(begin, node, shared);
            let kept = self.index.find(namespace, tokens, tokens.len(), &usable);
            let beyond = if kept.stop == Stop::Diverged { Reason::Diverged } else { Reason::Cold };
            let kept = kept.tokens();
            if kept > at {
                let beyond = Miss { reason: beyond, from: kept, tokens: tokens.len() - kept };
                return vec![Miss { reason: Reason::NoState, from: at, tokens: kept - at }, beyond];
            }
        }
        let (gone, lost) = self.lost(namespace, tokens, found);
        let elsewhere = || (at < PAGE).then(|| self.elsewhere(namespace, tokens, at, options)).flatten();
        let reason = match found.stop {
            Stop::Complete => return Vec::new(),
            Stop::Inexact => Reason::DecodeWritten,
            Stop::Partial => Reason::NotKept,
            Stop::Diverged | Stop::End => match gone {
                Some(Gone::Evicted) => Reason::Evicted,
                Some(Gone::Expired) => Reason::Expired,
                None if found.stop == Stop::Diverged => elsewhere().unwrap_or(Reason::Diverged),
                None => elsewhere().unwrap_or(Reason::Cold),
            },
        };
        let lost = match reason {
            Reason::DecodeWritten | Reason::NotKept => self.known(namespace, tokens).tokens() - at,
            _ if gone.is_some() => lost.min(rest),
            _ => rest,
        };
        let cold = Miss { reason: Reason::Cold, from: at + lost, tokens: rest - lost };
        vec![Miss { reason, from: at, tokens: lost }, cold]
    }

    /// Why the blocks after the match left the index, if they were in it, and how many tokens they held.
    fn lost(&self, namespace: &Namespace, tokens: &[u32], found: &Match) -> (Option<Gone>, usize) {
        if self.ghosts.is_empty() || found.stop == Stop::Complete {
            return (None, 0);
        }
        let mut parent = found.keys.last().copied().unwrap_or(namespace.key());
        let (mut why, mut end) = (None, found.keys.len() * PAGE);
        for block in tokens[end..].chunks(PAGE) {
            let gone = (1..=block.len()).rev().find_map(|n| {
                let key = Key::block(&parent, &block[..n]);
                self.ghosts.get(&key).map(|gone| (gone, n, key))
            });
            let Some((gone, count, key)) = gone.filter(|gone| why.is_none_or(|why| why == gone.0)) else { break };
            (why, parent, end) = (Some(gone), key, end + count);
            if count < PAGE {
                break;
            }
        }
        match end.checked_sub(found.tokens()) {
            Some(lost) if lost > 0 => (why, lost),
            _ => (None, 0),
        }
    }

    /// The field by which another namespace differs that knows more of the prompt's first page; `None` if there is none.
    fn elsewhere(&self, namespace: &Namespace, tokens: &[u32], known: usize, options: &AdmitOptions) -> Option<Reason> {
        let roots = self.index.roots.values().filter(|root| root.namespace != *namespace);
        let visible = roots.filter(|root| options.across_salts || root.namespace.tenant() == namespace.tenant());
        let knows = |shared: usize| shared > known && shared == tokens.len().min(PAGE);
        let reasons = visible.filter(|root| knows(root.shared(tokens))).filter_map(|root| {
            let field = namespace.difference(&root.namespace)?;
            Some(if field == "salt" { Reason::Salt } else { Reason::NamespaceChanged { field } })
        });
        reasons.min_by_key(|reason| *reason != Reason::Salt)
    }
}
