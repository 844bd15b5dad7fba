//! Which token sequences lie in a directory, and how one of them is removed.
//!
//! A chain is a block that no other goes on from, with its ancestors. A partial block that another one begins with, as the
//! end of a prompt is the beginning of its answer's first block, belongs to the other's chain. What is listed is what files say of themselves, so
//! it is for people: a file whose name is not the key in it, or whose header is not one the encoder writes, is counted
//! and passed over, but the digest is not checked, since that takes reading the KV. No listing is a use: the order in
//! which blocks go stays as it was.
//!
//! A listing looks at so many blocks, and reads so many bytes, as the configuration of the store allows: of more, those
//! that were used longest ago are left out and counted.
//!
//! Cost: one open and some kilobytes read a block, in memory the tokens of every block, and some hundred bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::rc::Rc;

use super::blob::{Blob, Description};
use super::filesystem::FilesystemStore;
use super::lru::Entry;
use super::manifest::{GROUP, Manifest};
use super::pins::{Named, load};
use super::tree::Tree;
use super::{Key, Store, StoreError, private, scan};

/// A stored token sequence that no stored one continues.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Of its last block.
    pub key: Key,
    /// Blocks that are there.
    pub blocks: usize,
    /// Of those.
    pub tokens: usize,
    /// The first of them, at most 64.
    pub beginning: Rc<[u32]>,
    pub namespace: Rc<BTreeMap<String, String>>,
    /// What all blocks take, in whole disk blocks, and what would be free without this chain.
    pub bytes: u64,
    pub own_bytes: u64,
    /// Of the leaf, milliseconds since the Unix epoch.
    pub used_ms: u64,
    /// When the first of its blocks that is not pinned expires.
    pub expires_ms: Option<u64>,
    /// The pins that hold any of its blocks, and how many blocks they hold.
    pub pins: Rc<BTreeSet<String>>,
    pub pinned: usize,
    /// Whether its first block is the namespace's first. Without its ancestors a chain serves nobody.
    pub complete: bool,
    /// Whether the leaf has the hidden state that makes an exact repeat cheap.
    pub last_hidden: bool,
}

/// The chains of a directory, the last used first.
pub struct Chains {
    pub found: Vec<Chain>,
    /// Files that were passed over because they are not what the store writes.
    pub damaged: usize,
    /// Blocks that were not looked at, because there are too many.
    pub left_out: usize,
    tree: Tree,
}

impl Chains {
    /// Of the blocks of a chain, from the first that is there to the leaf.
    pub fn keys(&self, chain: &Chain) -> Vec<Key> {
        self.path(chain).map(|at| self.tree.blocks[at].key).collect()
    }

    /// All tokens of a chain.
    pub fn tokens(&self, chain: &Chain) -> Vec<u32> {
        self.path(chain).flat_map(|at| self.tree.tokens(at)).copied().collect()
    }

    /// The last tokens of a chain, at most as many as asked for and as its last blocks have. O(tokens given).
    pub fn ending(&self, chain: &Chain, most: usize) -> Vec<u32> {
        let mut blocks = Vec::new();
        let mut count = 0;
        for at in self.tree.leaf(&chain.key).into_iter().flat_map(|leaf| self.tree.back(leaf)) {
            let tokens = self.tree.tokens(at);
            (count, _) = (count + tokens.len(), blocks.push(tokens));
            if count >= most {
                break;
            }
        }
        let tokens: Vec<u32> = blocks.into_iter().rev().flatten().copied().collect();
        tokens[tokens.len().saturating_sub(most)..].to_vec()
    }

    fn path(&self, chain: &Chain) -> impl Iterator<Item = usize> {
        self.tree.leaf(&chain.key).map_or_else(Vec::new, |leaf| self.tree.path(leaf)).into_iter()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub blocks: usize,
    /// In whole disk blocks.
    pub bytes: u64,
}

/// What was read of a directory, and how many files were passed over or not read.
struct Listed {
    tree: Tree,
    damaged: usize,
    left_out: usize,
}

#[doc(hidden)]
impl FilesystemStore {
    /// The sequences in the directory, of whatever process, the last used first. `root` gives the key that the first block
    /// of a namespace has as its parent, from the namespace's fields, or `None` for fields that are no namespace.
    pub fn chains(&self, root: &dyn Fn(&BTreeMap<String, String>) -> Option<Key>) -> Result<Chains, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let read = self.tree();
        let Listed { tree, damaged, left_out } = self.count(inner, &self.root, read)?;
        let mut roots = HashMap::new();
        let chain = |leaf: usize| {
            let sequence = tree.sequence_of(leaf)?;
            let last = &tree.blocks[leaf];
            let begin = *roots.entry(Rc::as_ptr(&last.namespace)).or_insert_with(|| root(&last.namespace));
            Some(Chain {
                key: last.key,
                blocks: sequence.blocks,
                tokens: sequence.tokens,
                beginning: sequence.beginning.clone(),
                namespace: last.namespace.clone(),
                bytes: sequence.bytes,
                own_bytes: tree.own(leaf).into_iter().map(|at| tree.blocks[at].entry.bytes).sum(),
                used_ms: last.entry.used / 1_000_000,
                expires_ms: sequence.expires_ms,
                pins: sequence.pins.clone(),
                pinned: sequence.pinned,
                complete: begin == Some(tree.blocks[sequence.first].parent),
                last_hidden: last.last_hidden,
            })
        };
        let mut found: Vec<Chain> =
            tree.leaves().filter(|&leaf| !tree.begins_another(leaf)).filter_map(chain).collect();
        found.sort_by(|a, b| b.used_ms.cmp(&a.used_ms).then_with(|| a.key.cmp(&b.key)));
        Ok(Chains { found, damaged: damaged + tree.stray(), left_out, tree })
    }

    /// Removes the blocks of a chain, and what manifests note of them, from its leaf up to where another chain, or a pinned
    /// one, goes on from it; with the last of all blocks, all that manifests remember. Nothing if there is no such leaf; an error, and nothing either, if the leaf is pinned. What
    /// another process stores meanwhile behind a removed block serves nobody and goes like anything that is not used; so
    /// does what a listing would leave out.
    pub fn remove_chain(&self, leaf: &Key) -> Result<Removed, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let read = self.tree();
        let Listed { tree, left_out, .. } = self.count(inner, &self.root, read)?;
        let mut removed = Removed::default();
        let Some(leaf) = tree.leaf(leaf) else { return Ok(removed) };
        if let Some(pins) = tree.pins_of(leaf) {
            return Err(StoreError::Pinned { pins: pins.iter().cloned().collect() });
        }
        let own = tree.own(leaf);
        self.forget(&tree, &tree.path(leaf), &own)?;
        for at in own {
            let key = &tree.blocks[at].key;
            inner.lru.remove(key);
            let gone = self.delete(key);
            if self.count(inner, &self.path(key), gone)? {
                removed.blocks += 1;
                removed.bytes += tree.blocks[at].entry.bytes;
            }
        }
        let all = left_out == 0 && removed.blocks == tree.blocks.len();
        if let Some(manifests) = self.manifests.as_ref().filter(|_| all) {
            pollster::block_on(manifests.clear())?;
        }
        Ok(removed)
    }

    /// Takes the blocks `own`, each behind one of `path`, out of the manifests of their groups.
    fn forget(&self, tree: &Tree, path: &[usize], own: &[usize]) -> Result<(), StoreError> {
        let Some(manifests) = &self.manifests else { return Ok(()) };
        let mut parents: Vec<Key> = path.first().map(|&first| tree.blocks[first].parent).into_iter().collect();
        parents.extend(path.iter().map(|&at| tree.blocks[at].key));
        for (begin, root) in parents.iter().enumerate() {
            let key = Manifest::key(root);
            let bytes = pollster::block_on(manifests.get(&key))?;
            let Some(mut manifest) = bytes.and_then(|bytes| Manifest::decode(&key, &bytes)) else { continue };
            for block in own {
                let parent = &tree.blocks[*block].parent;
                let Some(before) = parents[begin..].iter().take(GROUP).position(|key| key == parent) else { continue };
                let blocks = path[begin..begin + before].iter().chain([block]);
                manifest.forget(&blocks.flat_map(|&at| tree.tokens(at)).copied().collect::<Vec<_>>());
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

    fn tree(&self) -> io::Result<Listed> {
        let now = (self.clock)();
        let pins = by_key(load(&self.private)?.found);
        let mut entries = scan::entries(&self.private, scan::Kind::Blocks)?;
        entries.retain(|(key, entry)| entry.expires_ms.is_none_or(|at| at > now) || pins.contains_key(key));
        entries.sort_unstable_by(|(a, one), (b, other)| other.used.cmp(&one.used).then_with(|| a.cmp(b)));
        let mut listed = Listed { tree: Tree::new(pins), damaged: 0, left_out: 0 };
        let mut read = 0;
        for (number, (key, entry)) in entries.into_iter().enumerate() {
            if number >= self.config.listed_blocks || read >= self.config.listed_bytes {
                listed.left_out += 1;
                continue;
            }
            match self.describe(&key, &entry, &mut read) {
                // It went meanwhile.
                Ok(None) => {}
                Ok(Some(Some(about))) if about.key == key => {
                    listed.left_out += usize::from(!listed.tree.add(entry, about));
                }
                _ => listed.damaged += 1,
            }
        }
        listed.tree.add_up();
        Ok(listed)
    }

    /// What a file says of itself, if it is there and says anything; adds to `read` the bytes that it took to know.
    fn describe(&self, key: &Key, entry: &Entry, read: &mut u64) -> io::Result<Option<Option<Description>>> {
        let found = self.find(key)?.map_or(Ok(None), |path| private::open(&path))?;
        let Some((file, found)) = found else { return Ok(None) };
        let mut counted = Counted { file: &file, read };
        let described = Blob::describe(&mut counted, found.len()).ok();
        // Reading is a use for the system, and none for us.
        let _ = scan::stamp_use(&file, entry.used);
        Ok(Some(described))
    }
}

struct Counted<'a, R> {
    file: R,
    read: &'a mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        *self.read += read as u64;
        Ok(read)
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
