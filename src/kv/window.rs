//! Sliding-window layers: the token after a hit attends to the window alone, so earlier pages that were loaded for such a hit
//! may lack the KV of these layers (they are partial). A hit that ends earlier needs that KV and cannot use those pages.

use std::collections::BTreeSet;

use super::PageId;
use super::cache::Cache;
use super::index::{Match, Stop};
use super::key::PAGE;
use super::table::BlockTable;

/// Whether page `number` may lack the KV of sliding-window layers if a hit ends after `end` tokens: the page lies wholly before
/// the `window` tokens that the next token attends to.
pub fn is_unseen(number: usize, window: usize, end: usize) -> bool {
    (number + 1) * PAGE + window <= end + 1
}

impl Cache {
    /// The longest part of a match after which the next token finds its whole window.
    pub(super) fn seen(&self, mut found: Match) -> Match {
        let Some(window) = self.config.window else { return found };
        let partial = |page: &PageId| self.index.nodes[page].partial;
        if found.tail.is_some_and(|(page, _)| partial(&page)) {
            found.tail = None;
            found.stop = Stop::Partial;
        }
        for number in (0..found.pages.len()).rev() {
            if partial(&found.pages[number]) && !is_unseen(number, window, found.tokens()) {
                found.pages.truncate(number);
                found.keys.truncate(number);
                found.tail = None;
                found.stop = Stop::Partial;
            }
        }
        found.exact = found.exact.min(found.tokens());
        found
    }

    /// Whether a table's pages hold the whole window of the token after its last.
    pub fn is_seen(&self, table: &BlockTable) -> bool {
        let Some(window) = self.config.window else { return true };
        table.partial.iter().all(|&number| is_unseen(number, window, table.written()))
    }

    /// The indices of those of `pages` that are partial.
    pub(super) fn partial_pages(&self, pages: &[PageId]) -> BTreeSet<usize> {
        let is_partial = |page: &PageId| self.index.nodes.get(page).is_some_and(|node| node.partial);
        (0..pages.len()).filter(|&number| is_partial(&pages[number])).collect()
    }
}
