//! `Cache::check` walks every invariant of the cache. O(pages + table pages); for tests and an idle server.

use std::collections::HashSet;

use super::PageId;
use super::cache::Cache;
use super::index::Parent;
use super::key::{Key, PAGE};
use super::table::BlockTable;

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

impl Cache {
    /// Verifies the books against `tables`, all tables that have not been released. The error names what is wrong.
    pub fn check<'a>(&self, tables: impl IntoIterator<Item = &'a BlockTable>) -> Result<(), String> {
        let mut refs = vec![0; self.capacity()];
        let mut writers = vec![0; self.capacity()];
        for table in tables {
            self.check_table(table)?;
            for (number, &page) in table.pages.iter().enumerate() {
                refs[page as usize] += 1;
                writers[page as usize] += usize::from((number + 1) * PAGE > table.written());
            }
        }
        for (page, &writers) in writers.iter().enumerate() {
            ensure!(
                writers == 0 || (writers == 1 && refs[page] == 1),
                "page {page} is written by one and held by others"
            );
        }
        for &page in self.pins.values().flatten() {
            refs[page as usize] += 1;
        }
        for (page, &refs) in refs.iter().enumerate() {
            let counted = self.pool.refs(page as PageId);
            ensure!(counted == refs, "page {page} counts {counted} holders and has {refs}");
        }
        self.check_free()?;
        self.check_index()?;
        self.check_pins()
    }

    fn check_table(&self, table: &BlockTable) -> Result<(), String> {
        let (len, written) = (table.len, table.written());
        ensure!(written <= len && table.exact <= written, "a table has {written} of {len} tokens written");
        ensure!(table.pages.len() == len.div_ceil(PAGE), "a table of {len} tokens has {} pages", table.pages.len());
        ensure!(table.keys.len() == written / PAGE, "a table of {written} tokens has {} keys", table.keys.len());
        for (page, tokens) in table.pages.iter().zip(table.tokens.chunks(PAGE)) {
            if let Some(node) = self.index.nodes.get(page) {
                ensure!(
                    tokens.starts_with(node.block.tokens()),
                    "page {page} is indexed with other tokens than its table's"
                );
            }
        }
        Ok(())
    }

    fn check_free(&self) -> Result<(), String> {
        let free: HashSet<PageId> = self.pool.free().iter().copied().collect();
        ensure!(free.len() == self.pool.free().len(), "a page is free twice");
        let mut cached = 0;
        for page in 0..self.capacity() as PageId {
            let (held, indexed) = (self.pool.refs(page) > 0, self.index.nodes.contains_key(&page));
            cached += usize::from(!held && indexed);
            ensure!(free.contains(&page) != (held || indexed), "page {page} is free and in use, or neither");
        }
        ensure!(cached == self.cached, "{} pages counted as cached, {cached} are", self.cached);
        Ok(())
    }

    fn check_index(&self) -> Result<(), String> {
        let index = &self.index;
        let (mut children, mut full, mut leaves) = (0, 0, 0);
        for (page, node) in &index.nodes {
            ensure!((*page as usize) < self.capacity(), "page {page} is indexed and does not exist");
            ensure!(index.child(node.parent, &node.block) == Some(*page), "page {page} is not its parent's child");
            if let Parent::Page(parent) = node.parent {
                ensure!(index.nodes[&parent].block.is_full(), "page {parent} is not full and has a child");
            }
            ensure!(node.key.is_some() == node.block.is_full(), "page {page} has a key without being full, or none");
            ensure!(
                node.key.is_none_or(|key| index.full.get(&key) == Some(page)),
                "the key of page {page} is not its own"
            );
            ensure!(node.exact <= node.block.len(), "page {page} is exact beyond its tokens");
            let leaf = self.pool.refs(*page) == 0 && node.children.is_empty();
            let listed = self.leaves.contains(node.tenant, node.stamp, *page);
            ensure!(leaf == listed, "page {page} is listed as evictable: {listed}, is: {leaf}");
            children += node.children.len();
            full += usize::from(node.key.is_some());
            leaves += usize::from(leaf);
        }
        for root in index.roots.values() {
            ensure!(!root.children.is_empty(), "a namespace without pages is kept");
            children += root.children.len();
        }
        ensure!(children == index.nodes.len(), "{children} children, {} nodes", index.nodes.len());
        ensure!(full == index.full.len(), "{full} full nodes, {} keys", index.full.len());
        ensure!(leaves == self.leaves.len(), "{leaves} evictable leaves, {} listed", self.leaves.len());
        let owned: usize = self.tenants.values().sum();
        ensure!(owned == index.nodes.len(), "tenants own {owned} pages of {}", index.nodes.len());
        Ok(())
    }

    fn check_pins(&self) -> Result<(), String> {
        for page in self.pins.values().flatten() {
            ensure!(self.index.nodes.contains_key(page), "page {page} is pinned and not indexed");
        }
        let pinned: HashSet<_> = self.pins.values().flatten().collect();
        let allowed = self.capacity() * self.config.pinned_percent / 100;
        ensure!(pinned.len() <= allowed, "{} pages pinned, {allowed} allowed", pinned.len());
        Ok(())
    }

    /// Recomputes every key in the index from its tokens. Slower than `check`: one hash a page.
    pub fn check_keys(&self) -> Result<(), String> {
        for (page, node) in &self.index.nodes {
            let parent = match node.parent {
                Parent::Root(key) => Some(key),
                Parent::Page(page) => self.index.nodes[&page].key,
            };
            let key = parent.map(|parent| Key::block(&parent, node.block.tokens()));
            ensure!(
                key.is_some() && node.key.is_none_or(|own| Some(own) == key),
                "page {page} is indexed under a wrong key"
            );
        }
        Ok(())
    }
}
