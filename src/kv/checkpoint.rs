//! Pages with a state: a layer's state beside keys and values is known after the last token of a page alone, so a hit must end
//! there. A prompt that ends inside a page leaves that page as a checkpoint, and its sequence continues in a copy.

use super::cache::Cache;
use super::index::Node;
use super::key::PAGE;
use super::table::{BlockTable, PageCopy};

impl Cache {
    /// Whether a page holds all that a continuation after its first `tokens` tokens needs.
    pub(super) fn holds(&self, node: &Node, tokens: usize) -> bool {
        !self.config.has_state || tokens == node.block.len()
    }

    /// If pages have a state, makes a sequence continue in a copy of the page in which it ends. The page itself stays unchanged
    /// for other prompts that begin with the same tokens. The copy must run before anything else is written.
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
