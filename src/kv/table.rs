//! A sequence's block table: which page holds which of its tokens.
//!
//! Positions have three parts: `0..written` have their KV in the pages, `written..len` have slots that the current step writes,
//! the rest has none. A page that is not full belongs to one table alone, so a slot is given to one sequence only.

use std::collections::BTreeSet;

use super::PageId;
use super::key::{Key, Namespace, PAGE};

/// The pages of one sequence. Give it back with `Cache::release`: dropping it leaks its pages.
#[must_use = "pages leak unless the table is released"]
#[derive(Debug)]
pub struct BlockTable {
    pub(super) namespace: Namespace,
    pub(super) pages: Vec<PageId>,
    pub(super) len: usize,
    pub(super) tokens: Vec<u32>,
    /// Keys of the blocks that are written completely.
    pub(super) keys: Vec<Key>,
    /// Leading tokens whose KV prefill kernels computed, from such KV alone.
    pub(super) exact: usize,
    /// Indices in `pages` of those that lack the KV of sliding-window layers.
    pub(super) partial: BTreeSet<usize>,
}

impl BlockTable {
    /// Page ids in token order, as the kernels read them: position `i` is in `pages()[i / PAGE]`.
    pub fn pages(&self) -> &[PageId] {
        &self.pages
    }

    /// Number of tokens that have a slot.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of tokens whose KV has been written or was found in the cache.
    pub fn written(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens whose KV has been written.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Keys of the full blocks that have been written, in order.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key of all written tokens: that of the last block, whether full or not.
    pub fn key(&self) -> Key {
        let last = self.keys.last().copied().unwrap_or(self.namespace.key());
        match &self.tokens[self.keys.len() * PAGE..] {
            [] => last,
            partial => Key::block(&last, partial),
        }
    }

    /// Number of leading tokens that are bit-identical to a cold prefill.
    pub fn exact(&self) -> usize {
        self.exact
    }

    /// Records that page `number` will be written without the KV of sliding-window layers.
    pub fn omit_windows(&mut self, number: usize) {
        self.partial.insert(number);
    }

    /// The slot of a position that has one: `page · PAGE + offset`.
    pub fn slot(&self, position: usize) -> u32 {
        self.pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32
    }

    pub(super) fn slots(&self, positions: std::ops::Range<usize>) -> Vec<u32> {
        positions.map(|position| self.slot(position)).collect()
    }

    /// Records the tokens of newly written slots, and hashes the blocks that they fill.
    pub(super) fn write(&mut self, tokens: &[u32], kind: Producer) {
        if kind == Producer::Prefill && self.exact == self.written() {
            self.exact += tokens.len();
        }
        self.tokens.extend_from_slice(tokens);
        self.hash();
    }

    pub(super) fn hash(&mut self) {
        for block in self.tokens.chunks_exact(PAGE).skip(self.keys.len()) {
            let parent = self.keys.last().copied().unwrap_or(self.namespace.key());
            self.keys.push(Key::block(&parent, block));
        }
    }
}

/// Which kernels wrote KV. Decode kernels may round differently, so exact reuse leaves their KV out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    Prefill,
    Decode,
}

/// Copy the KV of the first `tokens` slots of page `from` to page `to`, in every layer. Copies must run in the order in which
/// they were given, before any write to a slot given later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCopy {
    pub from: PageId,
    pub to: PageId,
    pub tokens: usize,
}

/// The pages do not suffice; nothing was changed. Grow the cache, release a table, or wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the KV cache is full: {needed} pages needed, {free} can be had")]
pub struct OutOfPages {
    pub needed: usize,
    pub free: usize,
}
