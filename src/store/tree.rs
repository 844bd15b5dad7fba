//! The blocks of a directory as a tree, by what their headers say: which block continues which, and the totals of each
//! sequence.
//!
//! Totals are accumulated once a block, so a thousand sequences that share a long beginning cost no more than their own
//! ends. Whatever the files claim, the work is linear in their number except for sorting, and the memory is linear in
//! the bytes read: all tokens are in one list, and namespaces are shared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::StoreKey;
use super::blob::{BLOCK, Description};
use super::lru::Entry;

/// Tag and value of every field.
pub(super) type Namespace = Rc<BTreeMap<String, String>>;

/// Tokens shown of a sequence.
const BEGINNING: usize = 64;
/// Most bytes of distinct namespaces in memory.
const NAMESPACES: usize = 16 << 20;

pub(super) struct Block {
    pub(crate) key: StoreKey,
    pub(crate) entry: Entry,
    pub(crate) parent: StoreKey,
    /// The range of its tokens.
    from: usize,
    count: usize,
    pub(crate) namespace: Namespace,
    pub(crate) last_hidden: bool,
}

/// A block together with its ancestors.
#[derive(Clone)]
pub(super) struct Sequence {
    /// The block that it continues, if that is present.
    before: Option<usize>,
    pub(crate) first: usize,
    pub(crate) blocks: usize,
    pub(crate) tokens: usize,
    pub(crate) bytes: u64,
    /// When the first unpinned one of them expires.
    pub(crate) expires_ms: Option<u64>,
    pub(crate) pins: Rc<BTreeSet<String>>,
    pub(crate) pinned: usize,
    pub(crate) beginning: Rc<[u32]>,
}

/// Blocks are identified by their index.
#[derive(Default)]
pub(super) struct Tree {
    pub(crate) blocks: Vec<Block>,
    /// Of the blocks that a leaf goes on from, and of leaves.
    sequences: Vec<Option<Sequence>>,
    places: HashMap<StoreKey, usize>,
    /// The blocks that name a key as their parent, ordered by their tokens.
    children: HashMap<StoreKey, Vec<usize>>,
    tokens: Vec<u32>,
    namespaces: BTreeSet<Namespace>,
    namespace_bytes: usize,
    pins: HashMap<StoreKey, BTreeSet<String>>,
}

impl Tree {
    pub(super) fn new(pins: HashMap<StoreKey, BTreeSet<String>>) -> Self {
        Self { pins, ..Self::default() }
    }

    /// Adds a block. False if there is no room for another namespace.
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

    /// Computes the totals of all sequences. Called once all blocks are added.
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
            // Climbs to a block with known totals, without a parent, or already visited. In the last case the blocks
            // form a cycle.
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

    /// The parent of a block: a full block of the same namespace.
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

    /// The blocks that no block names as its parent.
    pub(super) fn leaves(&self) -> impl Iterator<Item = usize> {
        (0..self.blocks.len()).filter(|&at| self.is_leaf(at))
    }

    fn is_leaf(&self, at: usize) -> bool {
        !self.children.contains_key(&self.blocks[at].key)
    }

    pub(super) fn leaf(&self, key: &StoreKey) -> Option<usize> {
        self.places.get(key).copied().filter(|&at| self.is_leaf(at))
    }

    /// The sequence that ends at this block, if it is a leaf or an ancestor of one.
    pub(super) fn sequence_of(&self, at: usize) -> Option<&Sequence> {
        self.sequences[at].as_ref()
    }

    /// Blocks that belong to no sequence: they form a cycle, or continue a block that is not full.
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

    /// The range of the siblings, which are sorted by tokens, whose tokens begin with `tokens`.
    fn beginning_with(&self, siblings: &[usize], tokens: &[u32]) -> (usize, usize) {
        let first = siblings.partition_point(|&other| self.tokens(other) < tokens);
        let begin = siblings[first..].partition_point(|&other| self.tokens(other).starts_with(tokens));
        (first, first + begin)
    }

    /// Whether the leaf is unpinned and its tokens begin those of a sibling, so that it is part of that one's chain. O(log
    /// siblings).
    pub(super) fn begins_another(&self, leaf: usize) -> bool {
        let tokens = self.tokens(leaf);
        if self.pins_of(leaf).is_some() || tokens.len() == BLOCK {
            return false;
        }
        let siblings = self.siblings(leaf);
        let (_, end) = self.beginning_with(siblings, tokens);
        siblings[..end].last().is_some_and(|&other| self.tokens(other).len() > tokens.len())
    }

    /// The unpinned blocks that belong to this leaf's sequence alone, the leaf first, with the partial blocks that
    /// begin only these. Linear in the output.
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

    /// The partial blocks that are beginnings of this one and of no other.
    fn begin(&self, at: usize) -> Vec<usize> {
        let (siblings, tokens) = (self.siblings(at), self.tokens(at));
        let mut begin = Vec::new();
        for length in (1..tokens.len()).rev() {
            let (from, end) = self.beginning_with(siblings, &tokens[..length]);
            let all = &siblings[from..end];
            // At most this one, the longer beginnings of it, and one other.
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
