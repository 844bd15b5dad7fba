//! Pages with a state: the state that a layer keeps beside keys and values is known only at the last token of a page, so reuse
//! ends at the last token of a page. A prompt that ends amid a page leaves that page as a checkpoint and goes on in a copy.

use super::cache::Cache;
use super::index::Node;
use super::key::PAGE;
use super::table::{BlockTable, PageCopy};

impl Cache {
    /// Whether a page holds all that is needed behind its first `tokens` tokens.
    pub(super) fn holds(&self, node: &Node, tokens: usize) -> bool {
        !self.config.has_state || tokens == node.block.len()
    }

    /// Has a sequence go on in a copy of the page in which it ends, where pages have a state: the page stays as it is, for who
    /// begins with the same tokens. The copy is to be made before anything else is written.
    pub fn checkpoint(&mut self, table: &mut BlockTable) -> Option<PageCopy> {
        let tokens = table.written() % PAGE;
        let is_open = table.written() == table.len && tokens > 0;
        let (&from, last) = (table.pages.last()?, table.pages.len() - 1);
        if !self.config.has_state || !is_open || !self.index.nodes.contains_key(&from) {
            return None;
        }
        let to = self.take()?;
        table.pages[last] = to;
        self.let_go(from);
        self.stats.copied_pages += 1;
        Some(PageCopy { from, to, tokens })
    }
}
