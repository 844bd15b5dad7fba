//! The token sequences in a directory, and how to remove one.
//!
//! A chain is a block without successors, with its ancestors. A partial block that is the beginning of another belongs
//! to that one's chain; the end of a prompt, for instance, is the beginning of its answer's first block. A listing
//! shows what files claim, so it is for people only. A file whose name is not the key in it, or whose header is not one
//! that the encoder writes, is counted and skipped. The digest is not checked, since that would take reading the KV. A
//! listing does not count as a use, so it leaves the eviction order as it was.
//!
//! The store's configuration bounds the blocks that a listing looks at and the bytes that it reads. Beyond that, the
//! least recently used are left out and counted.
//!
//! Cost: for each block, one open and some kilobytes read; in memory, its tokens and some hundred bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::rc::Rc;

use super::blob::{Blob, Description};
use super::filesystem::FilesystemStore;
use super::lru::Entry;
use super::manifest::{GROUP, Manifest};
use super::pins::{Named, load};
use super::tree::Tree;
use super::{Store, StoreError, StoreKey, private, scan};

/// A stored token sequence that no other stored sequence continues.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The key of its last block.
    pub key: StoreKey,
    /// Blocks that are present.
    pub blocks: usize,
    /// Tokens of these blocks.
    pub tokens: usize,
    /// The first tokens, at most 64.
    pub beginning: Rc<[u32]>,
    pub namespace: Rc<BTreeMap<String, String>>,
    /// Bytes of all its blocks, in whole disk blocks, and the bytes that removing it would free.
    pub bytes: u64,
    pub own_bytes: u64,
    /// Last use of the leaf, in milliseconds since the Unix epoch.
    pub used_ms: u64,
    /// When the first unpinned block expires.
    pub expires_ms: Option<u64>,
    /// The pins that hold any of its blocks, and how many blocks they hold.
    pub pins: Rc<BTreeSet<String>>,
    pub pinned: usize,
    /// Whether it reaches back to the namespace's first block. A chain without its ancestors cannot be used.
    pub complete: bool,
    /// Whether the leaf has the hidden state that makes an exact repeat cheap.
    pub last_hidden: bool,
}

/// The chains of a directory, the most recently used first.
pub struct Chains {
    pub found: Vec<Chain>,
    /// Files that were skipped because the store does not write such files.
    pub damaged: usize,
    /// Blocks that were left out because there are too many.
    pub left_out: usize,
    tree: Tree,
}

impl Chains {
    /// Tokens of the blocks of a chain, from the first present block to the leaf.
    pub fn keys(&self, chain: &Chain) -> Vec<StoreKey> {
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

/// What was read of a directory, and how many files were skipped or not read.
struct Listed {
    tree: Tree,
    damaged: usize,
    left_out: usize,
}

#[doc(hidden)]
impl FilesystemStore {
    /// The sequences in the directory, whichever process stored them, the most recently used first. From the fields of
    /// a namespace, `root` gives the parent key of its first block, or `None` for fields that are not a namespace.
    pub fn chains(&self, root: &dyn Fn(&BTreeMap<String, String>) -> Option<StoreKey>) -> Result<Chains, StoreError> {
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

    /// Removes the blocks of a chain and their manifest entries, from its leaf up to where another chain or a pinned
    /// one branches off. With the last block of all, the manifests go too. It removes nothing if there is no such leaf,
    /// and fails if the leaf is pinned. Blocks that another process stores behind a removed one meanwhile are
    /// unreachable and are evicted in time; so are those that a listing would leave out.
    pub fn remove_chain(&self, leaf: &StoreKey) -> Result<Removed, StoreError> {
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

    /// Removes the blocks `own`, each behind one of `path`, from the manifests of their groups.
    fn forget(&self, tree: &Tree, path: &[usize], own: &[usize]) -> Result<(), StoreError> {
        let Some(manifests) = &self.manifests else { return Ok(()) };
        let mut parents: Vec<StoreKey> = path.first().map(|&first| tree.blocks[first].parent).into_iter().collect();
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
                // Another process removed it.
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

    /// What a file says of itself, if it can be read. Adds the bytes that were read to `read`.
    fn describe(&self, key: &StoreKey, entry: &Entry, read: &mut u64) -> io::Result<Option<Option<Description>>> {
        let found = self.find(key)?.map_or(Ok(None), |path| private::open(&path))?;
        let Some((file, found)) = found else { return Ok(None) };
        let mut counted = Counted { file: &file, read };
        let described = Blob::describe(&mut counted, found.len()).ok();
        // The system counts reading as a use; we do not.
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

fn by_key(pins: Vec<Named>) -> HashMap<StoreKey, BTreeSet<String>> {
    let mut names: HashMap<StoreKey, BTreeSet<String>> = HashMap::new();
    for (name, keys) in pins {
        for key in keys {
            names.entry(key).or_default().insert(name.clone());
        }
    }
    names
}
