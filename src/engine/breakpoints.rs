//! Last hidden states, with which an exact repeat of a prompt runs only the LM head.
//!
//! A breakpoint is the end of a prompt, identified by the chain key of its tokens. It keeps the last token's residual
//! stream after the last layer, `[hidden]` f32. Beyond a budget, the least recently used are dropped. Every operation
//! is O(log n).

use std::collections::{BTreeMap, HashMap};

use crate::kv::Key;

/// Bytes of hidden states that are kept.
const BUDGET: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Breakpoint {
    pub(crate) hidden: Vec<f32>,
    /// Whether it is bit-identical to a cold prefill.
    pub(crate) exact: bool,
    used: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Breakpoints {
    entries: HashMap<Key, Breakpoint>,
    order: BTreeMap<u64, Key>,
    bytes: usize,
    tick: u64,
}

impl Breakpoints {
    /// An inexact state does not replace an exact one.
    pub(crate) fn insert(&mut self, key: Key, hidden: Vec<f32>, exact: bool) {
        if self.entries.get(&key).is_some_and(|known| known.exact && !exact) {
            return;
        }
        self.remove(&key);
        self.tick += 1;
        self.bytes += 4 * hidden.len();
        self.order.insert(self.tick, key);
        self.entries.insert(key, Breakpoint { hidden, exact, used: self.tick });
        while self.bytes > BUDGET
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
    }

    /// The hidden state after a prompt, with `exact` only an exact one. It becomes the most recently used.
    pub(crate) fn get(&mut self, key: &Key, exact: bool) -> Option<&[f32]> {
        let entry = self.entries.get_mut(key).filter(|known| known.exact || !exact)?;
        self.tick += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.tick, *key);
        entry.used = self.tick;
        Some(&entry.hidden)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= 4 * entry.hidden.len();
        }
    }
}
