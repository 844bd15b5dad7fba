//! Which token sequences lie in a directory, and how one of them is removed.
//!
//! A chain is a block that no other goes on from, with its ancestors. A partial block that another one begins with, as the
//! end of a prompt is the beginning of its answer's first block, belongs to the other's chain. What is listed is what files say of themselves, so
//! it is for people: a file whose name is not the key in it, or whose header is not one the encoder writes, is counted
//! and passed over, but the digest is not checked, since that takes reading the KV. No listing is a use: the order in
//! which blocks go stays as it was.
//!
//! Cost: one open and some kilobytes read a block, in memory the tokens of every chain.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::rc::Rc;

use super::blob::{BLOCK, Blob, Description};
use super::filesystem::FilesystemStore;
use super::lru::Entry;
use super::manifest::{GROUP, Manifest};
use super::pins::{Listing, Named, load};
use super::{Key, Store, StoreError, scan};

/// A stored token sequence that no stored one continues.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// From the first block that is there to the leaf.
    pub keys: Vec<Key>,
    /// All tokens of those blocks.
    pub tokens: Vec<u32>,
    pub namespace: Rc<BTreeMap<String, String>>,
    /// What all blocks take, in whole disk blocks, and what would be free without this chain.
    pub bytes: u64,
    pub own_bytes: u64,
    /// Of the leaf, milliseconds since the Unix epoch.
    pub used_ms: u64,
    /// When the first of its blocks that is not pinned expires.
    pub expires_ms: Option<u64>,
    /// The pins that hold any of its blocks, and how many blocks they hold.
    pub pins: Vec<String>,
    pub pinned: usize,
    /// Whether its first block is the namespace's first. Without its ancestors a chain serves nobody.
    pub complete: bool,
    /// Whether the leaf has the hidden state that makes an exact repeat cheap.
    pub last_hidden: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub blocks: usize,
    /// In whole disk blocks.
    pub bytes: u64,
}

struct Block {
    entry: Entry,
    parent: Key,
    tokens: Vec<u32>,
    namespace: Rc<BTreeMap<String, String>>,
    last_hidden: bool,
}

/// All blocks of a directory, by what they say of themselves.
struct Tree {
    blocks: HashMap<Key, Block>,
    /// The blocks that say they go on from a key, in the order of their tokens.
    children: HashMap<Key, Vec<Key>>,
    pins: HashMap<Key, BTreeSet<String>>,
}

#[doc(hidden)]
impl FilesystemStore {
    /// The sequences in the directory, of whatever process, the last used first. `root` gives the key that the first block
    /// of a namespace has as its parent, from the namespace's fields, or `None` for fields that are no namespace.
    pub fn chains(
        &self,
        root: &dyn Fn(&BTreeMap<String, String>) -> Option<Key>,
    ) -> Result<Listing<Chain>, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let read = self.tree();
        let (tree, mut damaged) = self.count(inner, &self.root, read)?;
        let mut roots: BTreeMap<Rc<BTreeMap<String, String>>, Option<Key>> = BTreeMap::new();
        let mut listed = HashSet::new();
        let mut found = Vec::new();
        for leaf in tree.blocks.keys().filter(|key| !tree.children.contains_key(*key)) {
            if tree.begins_another(leaf) {
                listed.insert(*leaf);
                continue;
            }
            let mut chain = tree.chain(leaf);
            let first = tree.blocks[&chain.keys[0]].parent;
            let begin = *roots.entry(chain.namespace.clone()).or_insert_with_key(|fields| root(fields));
            chain.complete = begin == Some(first);
            listed.extend(chain.keys.iter().copied());
            found.push(chain);
        }
        // Blocks that say they go on from each other in a circle, or from one that is not full.
        damaged += tree.blocks.len() - listed.len();
        found.sort_by(|a, b| b.used_ms.cmp(&a.used_ms).then_with(|| a.keys.cmp(&b.keys)));
        Ok(Listing { found, damaged })
    }

    /// Removes the blocks of a chain, and what manifests note of them, from its leaf up to where another chain, or a pinned
    /// one, goes on from it; with the last of all blocks, all that manifests remember. Nothing if there is no such leaf; an error, and nothing either, if the leaf is pinned. What
    /// another process stores meanwhile behind a removed block serves nobody and goes like anything that is not used.
    pub fn remove_chain(&self, leaf: &Key) -> Result<Removed, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let read = self.tree();
        let (tree, _) = self.count(inner, &self.root, read)?;
        if let Some(pins) = tree.pins.get(leaf) {
            return Err(StoreError::Pinned { pins: pins.iter().cloned().collect() });
        }
        let mut removed = Removed::default();
        let path = tree.path(leaf);
        let own = tree.own(&path);
        self.forget(&tree, &path, &own)?;
        for key in &own {
            inner.lru.remove(key);
            let gone = scan::remove(&self.path(key));
            if self.count(inner, &self.path(key), gone)? {
                removed.blocks += 1;
                removed.bytes += tree.blocks[key].entry.bytes;
            }
        }
        if let Some(manifests) = self.manifests.as_ref().filter(|_| removed.blocks == tree.blocks.len()) {
            pollster::block_on(manifests.clear())?;
        }
        Ok(removed)
    }

    /// Takes the blocks `own`, each behind one of `path`, out of the manifests of their groups.
    fn forget(&self, tree: &Tree, path: &[Key], own: &[Key]) -> Result<(), StoreError> {
        let Some(manifests) = &self.manifests else { return Ok(()) };
        let mut parents: Vec<Key> = path.first().map(|first| tree.blocks[first].parent).into_iter().collect();
        parents.extend(path);
        for (begin, root) in parents.iter().enumerate() {
            let key = Manifest::key(root);
            let bytes = pollster::block_on(manifests.get(&key))?;
            let Some(mut manifest) = bytes.and_then(|bytes| Manifest::decode(&key, &bytes)) else { continue };
            for block in own {
                let parent = &tree.blocks[block].parent;
                let Some(before) = parents[begin..].iter().take(GROUP).position(|key| key == parent) else { continue };
                let blocks = path[begin..begin + before].iter().chain([block]);
                manifest.forget(&blocks.flat_map(|key| tree.blocks[key].tokens.iter().copied()).collect::<Vec<_>>());
            }
            pollster::block_on(async {
                match manifest.is_empty() {
                    true => manifests.remove(&key).await.map(drop),
                    false => manifests.put(&key, &manifest.encode(&key), manifest.ttl((self.clock)())).await,
                }
            })?;
        }
        Ok(())
    }

    /// With the number of files that were passed over.
    fn tree(&self) -> io::Result<(Tree, usize)> {
        let now = (self.clock)();
        let pins = by_key(load(&self.root)?.found);
        let mut tree = Tree { blocks: HashMap::new(), children: HashMap::new(), pins };
        let mut namespaces = BTreeSet::new();
        let mut damaged = 0;
        for (key, entry) in scan::entries(&self.root, scan::Kind::Blocks)? {
            if entry.expires_ms.is_some_and(|at| at <= now) && !tree.pins.contains_key(&key) {
                continue;
            }
            let described = match self.describe(&key, &entry) {
                Ok(described) => described.filter(|about| about.key == key),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => None,
            };
            let Some(about) = described else {
                damaged += 1;
                continue;
            };
            let namespace = namespaces.get(&about.namespace).cloned().unwrap_or_else(|| Rc::new(about.namespace));
            namespaces.insert(namespace.clone());
            tree.children.entry(about.parent).or_default().push(key);
            let (parent, last_hidden) = (about.parent, about.hidden.is_some());
            tree.blocks.insert(key, Block { entry, parent, tokens: about.tokens, namespace, last_hidden });
        }
        for children in tree.children.values_mut() {
            children.sort_unstable_by(|a, b| tree.blocks[a].tokens.cmp(&tree.blocks[b].tokens).then_with(|| a.cmp(b)));
        }
        Ok((tree, damaged))
    }

    fn describe(&self, key: &Key, entry: &Entry) -> io::Result<Option<Description>> {
        let mut file = File::open(self.path(key))?;
        let length = file.metadata()?.len();
        let described = Blob::describe(&mut file, length).ok();
        // Reading is a use for the system, and none for us.
        let _ = scan::stamp_use(&file, entry.used);
        Ok(described)
    }
}

fn by_key(pins: Vec<Named>) -> HashMap<Key, BTreeSet<String>> {
    let mut names: HashMap<Key, BTreeSet<String>> = HashMap::new();
    for (name, keys) in pins {
        for key in keys {
            names.entry(key).or_default().insert(name.clone());
        }
    }
    names
}

impl Tree {
    /// A leaf's ancestors as far as they are there, and the leaf as the last; empty if that is not there or no leaf.
    fn path(&self, leaf: &Key) -> Vec<Key> {
        let mut path = Vec::new();
        let mut seen = HashSet::new();
        let mut next = *leaf;
        while let Some(block) = self.blocks.get(&next)
            && (path.is_empty() != self.children.contains_key(&next))
            && (path.is_empty() || block.tokens.len() == BLOCK && block.namespace == self.blocks[leaf].namespace)
            && seen.insert(next)
        {
            path.push(next);
            next = block.parent;
        }
        path.reverse();
        path
    }

    /// Whether a leaf's tokens are the beginning of another block's, and nothing else keeps it. O(log siblings).
    fn begins_another(&self, leaf: &Key) -> bool {
        let Block { tokens, parent, .. } = &self.blocks[leaf];
        if self.pins.contains_key(leaf) || tokens.len() == BLOCK {
            return false;
        }
        let siblings = &self.children[parent];
        // Whatever begins with these tokens follows them in order.
        let next = siblings.partition_point(|other| self.blocks[other].tokens <= *tokens);
        siblings.get(next).is_some_and(|other| self.blocks[other].tokens.starts_with(tokens))
    }

    /// The blocks of a path that are no other chain's and not pinned, the leaf first, and those that begin them.
    fn own(&self, path: &[Key]) -> Vec<Key> {
        let mut own = Vec::new();
        for key in path.iter().rev() {
            let tokens = |key: &Key| &self.blocks[key].tokens;
            let mut children = self.children.get(key).into_iter().flatten();
            if self.pins.contains_key(key) || children.any(|child| !own.contains(child)) {
                break;
            }
            own.push(*key);
            let siblings = &self.children[&self.blocks[key].parent];
            let (begin, others): (Vec<&Key>, Vec<&Key>) = siblings
                .iter()
                .filter(|other| *other != key)
                .partition(|other| self.begins_another(other) && tokens(key).starts_with(tokens(other)));
            let alone = |other: &&Key| !others.iter().any(|third| tokens(third).starts_with(tokens(other)));
            own.extend(begin.into_iter().filter(alone));
        }
        own
    }

    /// Not said to be complete. `leaf` is one.
    fn chain(&self, leaf: &Key) -> Chain {
        let keys = self.path(leaf);
        let blocks = || keys.iter().map(|key| &self.blocks[key]);
        let loose = keys.iter().filter(|key| !self.pins.contains_key(*key)).map(|key| &self.blocks[key]);
        let names: BTreeSet<&String> = keys.iter().filter_map(|key| self.pins.get(key)).flatten().collect();
        let last = &self.blocks[leaf];
        Chain {
            tokens: blocks().flat_map(|block| &block.tokens).copied().collect(),
            namespace: last.namespace.clone(),
            bytes: blocks().map(|block| block.entry.bytes).sum(),
            own_bytes: self.own(&keys).iter().map(|key| self.blocks[key].entry.bytes).sum(),
            used_ms: last.entry.used / 1_000_000,
            expires_ms: loose.filter_map(|block| block.entry.expires_ms).min(),
            pins: names.into_iter().cloned().collect(),
            pinned: keys.iter().filter(|key| self.pins.contains_key(*key)).count(),
            complete: false,
            last_hidden: last.last_hidden,
            keys,
        }
    }
}
