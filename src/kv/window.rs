//! Layers with a window: the token behind a hit attends to no more of them than the window. Pages of earlier tokens that were loaded
//! for such a hit may lack these layers (partial). A hit that ends earlier needs what they lack, so it cannot use them.

use std::collections::BTreeSet;

use super::PageId;
use super::cache::Cache;
use super::index::{Match, Stop};
use super::key::PAGE;
use super::table::BlockTable;

/// Whether a page may lack what layers with a window keep where a hit ends behind token `end`: block `number` is before all that the next
/// token sees.
pub fn is_unseen(number: usize, window: usize, end: usize) -> bool {
    (number + 1) * PAGE + window <= end + 1
}

impl Cache {
    /// As much of a match as ends where all is there that the next token sees.
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

    /// Whether a table's pages hold all that the token behind its last sees.
    pub fn is_seen(&self, table: &BlockTable) -> bool {
        let Some(window) = self.config.window else { return true };
        table.partial.iter().all(|&number| is_unseen(number, window, table.written()))
    }

    /// The numbers of those of `pages` that are partial.
    pub(super) fn partial_pages(&self, pages: &[PageId]) -> BTreeSet<usize> {
        let is_partial = |page: &PageId| self.index.nodes.get(page).is_some_and(|node| node.partial);
        (0..pages.len()).filter(|&number| is_partial(&pages[number])).collect()
    }
}
