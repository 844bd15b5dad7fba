//! The blocks of a directory by what they say of themselves: which goes on from which, and what a sequence of them comes to.
//!
//! What a block adds to the sequence before it is added up once, so a thousand sequences that share a long beginning
//! cost no more than their own ends. Whatever files claim, the work is linear in their number but for sorting, and the
//! memory in the bytes that were read: tokens lie in one list, and namespaces are shared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::Key;
use super::blob::{BLOCK, Description};
use super::lru::Entry;

/// Tag and value of every field.
pub(super) type Namespace = Rc<BTreeMap<String, String>>;

/// Tokens that a sequence is shown by.
const BEGINNING: usize = 64;
/// Bytes of different namespaces that are held.
const NAMESPACES: usize = 16 << 20;

pub(super) struct Block {
    pub(crate) key: Key,
    pub(crate) entry: Entry,
    pub(crate) parent: Key,
    /// Where its tokens lie.
    from: usize,
    count: usize,
    pub(crate) namespace: Namespace,
    pub(crate) last_hidden: bool,
}

/// A block with all before it.
#[derive(Clone)]
pub(super) struct Sequence {
    /// The block before, if it is there and this one goes on from it.
    before: Option<usize>,
    pub(crate) first: usize,
    pub(crate) blocks: usize,
    pub(crate) tokens: usize,
    pub(crate) bytes: u64,
    /// When the first of those expires that are not pinned.
    pub(crate) expires_ms: Option<u64>,
    pub(crate) pins: Rc<BTreeSet<String>>,
    pub(crate) pinned: usize,
    pub(crate) beginning: Rc<[u32]>,
}

/// Blocks are named by their place.
#[derive(Default)]
pub(super) struct Tree {
    pub(crate) blocks: Vec<Block>,
    /// Of the blocks that a leaf goes on from, and of leaves.
    sequences: Vec<Option<Sequence>>,
    places: HashMap<Key, usize>,
    /// The blocks that say they go on from a key, in the order of their tokens.
    children: HashMap<Key, Vec<usize>>,
    tokens: Vec<u32>,
    namespaces: BTreeSet<Namespace>,
    namespace_bytes: usize,
    pins: HashMap<Key, BTreeSet<String>>,
}

impl Tree {
    pub(super) fn new(pins: HashMap<Key, BTreeSet<String>>) -> Self {
        Self { pins, ..Self::default() }
    }

    /// False if there is no room for one more namespace.
    pub(super) fn add(&mut self, entry: Entry, about: Description) -> bool {
        let Description { key, parent, tokens, namespace, hidden, .. } = about;
        let namespace = match self.namespaces.get(&namespace) {
            Some(known) => known.clone(),
            None => {
                self.namespace_bytes += namespace.iter().map(|(tag, value)| tag.len() + value.len()).sum::<usize>();
                if self.namespace_bytes > NAMESPACES {
                    return false;
                }
                let namespace = Rc::new(namespace);
                self.namespaces.insert(namespace.clone());
                namespace
            }
        };
        let (from, count, last_hidden) = (self.tokens.len(), tokens.len(), hidden.is_some());
        self.tokens.extend(tokens);
        self.places.insert(key, self.blocks.len());
        self.children.entry(parent).or_default().push(self.blocks.len());
        self.blocks.push(Block { key, entry, parent, from, count, namespace, last_hidden });
        true
    }

    /// Adds up all sequences, once all blocks are there.
    pub(super) fn add_up(&mut self) {
        let mut children = std::mem::take(&mut self.children);
        for siblings in children.values_mut() {
            siblings.sort_unstable_by(|&a, &b| {
                self.tokens(a).cmp(self.tokens(b)).then_with(|| self.blocks[a].key.cmp(&self.blocks[b].key))
            });
        }
        self.children = children;
        self.sequences = vec![None; self.blocks.len()];
        let mut seen = vec![false; self.blocks.len()];
        for leaf in self.leaves().collect::<Vec<_>>() {
            let mut path = vec![leaf];
            seen[leaf] = true;
            // Up to what is added up, or has nobody before, or was on this way: those go on from each other in a circle.
            let mut before = self.before(leaf);
            while let Some(at) = before.filter(|&at| !seen[at]) {
                seen[at] = true;
                path.push(at);
                before = self.before(at);
            }
            before = before.filter(|&at| self.sequences[at].is_some());
            for at in path.into_iter().rev() {
                self.sequences[at] = Some(self.sequence(at, before));
                before = Some(at);
            }
        }
    }

    /// The block that another goes on from: a full one of the same namespace.
    fn before(&self, at: usize) -> Option<usize> {
        let before = *self.places.get(&self.blocks[at].parent)?;
        let Block { count, namespace, .. } = &self.blocks[before];
        (*count == BLOCK && Rc::ptr_eq(namespace, &self.blocks[at].namespace)).then_some(before)
    }

    fn sequence(&self, at: usize, before: Option<usize>) -> Sequence {
        let Block { key, entry, count, .. } = &self.blocks[at];
        let nothing = || Sequence {
            before: None,
            first: at,
            blocks: 0,
            tokens: 0,
            bytes: 0,
            expires_ms: None,
            pins: Rc::default(),
            pinned: 0,
            beginning: Rc::default(),
        };
        let so_far = before.and_then(|before| self.sequences[before].clone()).unwrap_or_else(nothing);
        let pins = self.pins.get(key);
        let loose = entry.expires_ms.filter(|_| pins.is_none());
        Sequence {
            before,
            first: so_far.first,
            blocks: so_far.blocks + 1,
            tokens: so_far.tokens + count,
            bytes: so_far.bytes + entry.bytes,
            expires_ms: [so_far.expires_ms, loose].into_iter().flatten().min(),
            pins: match pins {
                Some(pins) if !pins.is_subset(&so_far.pins) => Rc::new(so_far.pins.union(pins).cloned().collect()),
                _ => so_far.pins,
            },
            pinned: so_far.pinned + usize::from(pins.is_some()),
            beginning: match so_far.beginning.len() {
                BEGINNING => so_far.beginning,
                _ => so_far.beginning.iter().chain(self.tokens(at)).take(BEGINNING).copied().collect(),
            },
        }
    }

    /// What no block says it goes on from.
    pub(super) fn leaves(&self) -> impl Iterator<Item = usize> {
        (0..self.blocks.len()).filter(|&at| self.is_leaf(at))
    }

    fn is_leaf(&self, at: usize) -> bool {
        !self.children.contains_key(&self.blocks[at].key)
    }

    pub(super) fn leaf(&self, key: &Key) -> Option<usize> {
        self.places.get(key).copied().filter(|&at| self.is_leaf(at))
    }

    /// Of a leaf, or what one goes on from.
    pub(super) fn sequence_of(&self, at: usize) -> Option<&Sequence> {
        self.sequences[at].as_ref()
    }

    /// How many blocks no sequence has: they go on from each other in a circle, or from one that is not full.
    pub(super) fn stray(&self) -> usize {
        self.sequences.iter().filter(|sequence| sequence.is_none()).count()
    }

    pub(super) fn tokens(&self, at: usize) -> &[u32] {
        let Block { from, count, .. } = self.blocks[at];
        &self.tokens[from..from + count]
    }

    /// The blocks of a sequence, the last one first.
    pub(super) fn back(&self, last: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(last), |at: &usize| self.sequences[*at].as_ref()?.before)
    }

    /// The blocks of a sequence, the first one first.
    pub(super) fn path(&self, last: usize) -> Vec<usize> {
        let mut path: Vec<usize> = self.back(last).collect();
        path.reverse();
        path
    }

    pub(super) fn pins_of(&self, at: usize) -> Option<&BTreeSet<String>> {
        self.pins.get(&self.blocks[at].key)
    }

    fn siblings(&self, at: usize) -> &[usize] {
        &self.children[&self.blocks[at].parent]
    }

    /// How many of some siblings, which are in the order of their tokens, come before those that begin so, and before those
    /// that come behind.
    fn beginning_with(&self, siblings: &[usize], tokens: &[u32]) -> (usize, usize) {
        let first = siblings.partition_point(|&other| self.tokens(other) < tokens);
        let begin = siblings[first..].partition_point(|&other| self.tokens(other).starts_with(tokens));
        (first, first + begin)
    }

    /// Whether a leaf's tokens are the beginning of another block's, and nothing else keeps it. O(log siblings).
    pub(super) fn begins_another(&self, leaf: usize) -> bool {
        let tokens = self.tokens(leaf);
        if self.pins_of(leaf).is_some() || tokens.len() == BLOCK {
            return false;
        }
        let siblings = self.siblings(leaf);
        let (_, end) = self.beginning_with(siblings, tokens);
        siblings[..end].last().is_some_and(|&other| self.tokens(other).len() > tokens.len())
    }

    /// The blocks that only this leaf's sequence has and that are not pinned, the leaf first, and those that begin them
    /// and no other. Linear in what it gives.
    pub(super) fn own(&self, leaf: usize) -> Vec<usize> {
        let mut own = Vec::new();
        let mut taken = HashSet::new();
        let mut next = Some(leaf);
        while let Some(at) = next.filter(|&at| self.pins_of(at).is_none()) {
            let children = self.children.get(&self.blocks[at].key);
            if children.into_iter().flatten().any(|child| !taken.contains(child)) {
                break;
            }
            let begin = self.begin(at);
            taken.extend(begin.iter().copied().chain([at]));
            own.push(at);
            own.extend(begin);
            next = self.sequences[at].as_ref().and_then(|sequence| sequence.before);
        }
        own
    }

    /// The blocks whose tokens this one begins with, and no other but these.
    fn begin(&self, at: usize) -> Vec<usize> {
        let (siblings, tokens) = (self.siblings(at), self.tokens(at));
        let mut begin = Vec::new();
        for length in (1..tokens.len()).rev() {
            let (from, end) = self.beginning_with(siblings, &tokens[..length]);
            let all = &siblings[from..end];
            // This one, the longer ones that begin it, and one more.
            let own = begin.len() + 1;
            match all.len() - own {
                0 => {}
                1 if self.tokens(all[0]).len() == length && self.pins_of(all[0]).is_none() => begin.push(all[0]),
                _ => break,
            }
        }
        begin
    }
}
