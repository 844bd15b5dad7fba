//! Reads from the index what is known to follow a prefix: the other side of a divergence.
//!
//! Cost: O(tokens / PAGE · log siblings), no hash, plus the siblings on the way that continue the prefix.

use super::PageId;
use super::cache::Cache;
use super::index::{Block, Parent};
use super::key::{Namespace, PAGE};

impl Cache {
    /// What is known to follow `tokens[..at]` other than by `tokens[at]`: of several continuations, the one used last.
    /// At most `limit` tokens; empty where none is known.
    pub fn known_continuation(&self, namespace: &Namespace, tokens: &[u32], at: usize, limit: usize) -> Vec<u32> {
        let (shared, rest) = tokens.split_at(at.min(tokens.len()));
        let (blocks, begun) = shared.as_chunks::<PAGE>();
        let root = Some(Parent::Root(namespace.key()));
        let parent =
            blocks.iter().fold(root, |parent, block| self.index.child(parent?, &Block::new(block)).map(Parent::Page));
        let Some(children) = parent.and_then(|parent| self.index.children(parent)) else { return Vec::new() };

        let differs = |block: &Block| block.tokens().get(begun.len()).is_some_and(|next| Some(next) != rest.first());
        let begin = children.range(Block::new(begun)..).take_while(|(block, _)| block.tokens().starts_with(begun));
        let mut next = self.used_last(begin.filter(|(block, _)| differs(block)));
        let mut known = Vec::new();
        let mut skip = begun.len();
        while let Some(page) = next.filter(|_| known.len() < limit) {
            let node = &self.index.nodes[&page];
            known.extend(&node.block.tokens()[skip..]);
            skip = 0;
            next = self.used_last(node.children.iter());
        }
        known.truncate(limit);
        known
    }

    fn used_last<'a>(&self, children: impl Iterator<Item = (&'a Block, &'a PageId)>) -> Option<PageId> {
        children.map(|(_, &page)| page).max_by_key(|page| (self.index.nodes[page].stamp, *page))
    }
}
