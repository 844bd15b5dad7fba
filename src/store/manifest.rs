//! Which blocks were written behind a prefix. Manifests find a block that a prompt diverges from midway, and remember
//! blocks that are no longer kept.
//!
//! Blocks are named by hashes, so a store cannot tell which of its blocks begins as a prompt continues. A manifest can,
//! for one group: all blocks up to [`GROUP`] deep behind a root. A root is the namespace or every sixteenth block of a
//! chain. Stores keep a manifest under its own key ([`Manifest::key`]) and under a separate budget, so that it far
//! outlives the blocks.
//!
//! A manifest is a hint. The blocks that it names are verified like any others. A lost or damaged manifest costs the
//! tokens of part of a block. Of two simultaneous writers, the later may drop the other's entries. An entry expires
//! together with its block.
//!
//! Cost: recording reads and writes one small value. No manifest is read if all blocks of a prompt are found.

use std::ops::Range;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::blob::{BLOCK, Producer};
use super::{Bytes, Store, StoreError, StoreKey};

/// The depth of a group, in blocks.
pub const GROUP: usize = 16;

/// Most blocks that a manifest names. Beyond that, the oldest entries are dropped.
const MOST: usize = 2048;
/// Bytes of the largest manifest.
pub(super) const MAX_BYTES: usize = HEAD + MOST * (NODE + 4 * BLOCK);

const FORMAT: &[u8; 20] = b"headstart-manifest/2";
/// Format, digest, and the MAC that the store writes (see [`super::seal`]).
const HEAD: usize = FORMAT.len() + 32 + 32;
/// Parent, tokens, flags, expiry.
const NODE: usize = 2 + 1 + 1 + 8;
/// The ending of a manifest's key.
const MARK: &[u8; 8] = b"manifest";
const KEPT: u8 = 1;
const EXACT: u8 = 2;

/// A written block, as an entry for the manifest of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key of the block, under which a store may have it.
    pub key: StoreKey,
    /// All tokens from the root of the group to the end of the block.
    pub path: Vec<u32>,
    /// Which kernels computed it.
    pub producer: Producer,
}

/// Blocks of one group to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// In any order.
    pub(crate) written: Vec<Written>,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// After how long they are forgotten; `None`: when others need the room.
    pub(crate) ttl: Option<Duration>,
}

/// A block that was written at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// 1 to [`BLOCK`].
    pub tokens: Vec<u32>,
    /// Whether a store had it when it was recorded.
    pub kept: bool,
    /// Which kernels computed it, as far as is known.
    pub producer: Producer,
    expires_ms: u64,
}

/// The blocks that were written behind one root, as a tree of at most 2,048.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Each behind its parent.
    nodes: Vec<(Option<usize>, Noted)>,
}

/// Bytes that a store has for manifests, besides its budget for blocks.
pub(super) fn budget(blocks: u64) -> u64 {
    match blocks {
        0 => 0,
        blocks => (blocks / 32).max(256 << 10),
    }
}

/// Turns a name into that of a manifest.
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
pub(super) fn marked(mut name: StoreKey) -> StoreKey {
    name[32 - MARK.len()..].copy_from_slice(MARK);
    name
}

/// The digest in a manifest's bytes, and the place of its MAC.
pub(super) fn digest_and_mac(bytes: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let digest = bytes.strip_prefix(FORMAT)?.get(..32)?;
    (bytes.len() >= HEAD).then_some((digest, HEAD - 32..HEAD))
}

/// Whether `key` is the key of a manifest.
pub(super) fn is_manifest(key: &StoreKey) -> bool {
    key.ends_with(MARK)
}

impl Manifest {
    /// The key of the manifest of the group behind `root`.
    pub fn key(root: &StoreKey) -> StoreKey {
        let mut key: StoreKey = Sha256::new_with_prefix(FORMAT).chain_update(root).finalize().into();
        key[32 - MARK.len()..].copy_from_slice(MARK);
        key
    }

    /// The blocks known to follow `path`, which consists of whole blocks from the root on.
    pub fn behind(&self, path: &[u32]) -> Vec<&Noted> {
        let Some(at) = self.find(path) else { return Vec::new() };
        self.nodes.iter().filter(|(parent, _)| *parent == at).map(|(_, noted)| noted).collect()
    }

    /// Records a block. Unknown blocks before it are recorded with the same properties.
    fn add(&mut self, path: &[u32], kept: bool, producer: Producer, expires_ms: u64) {
        let mut parent = None;
        let last = path.len().div_ceil(BLOCK);
        for (number, tokens) in path.chunks(BLOCK).enumerate() {
            parent = match self.child(parent, tokens) {
                Some(at) => {
                    let noted = &mut self.nodes[at].1;
                    if number + 1 == last {
                        (noted.kept, noted.producer) = (kept, producer);
                    }
                    noted.expires_ms = noted.expires_ms.max(expires_ms);
                    Some(at)
                }
                None => {
                    self.nodes.push((parent, Noted { tokens: tokens.to_vec(), kept, producer, expires_ms }));
                    Some(self.nodes.len() - 1)
                }
            };
        }
    }

    /// Merges another tier's manifest of the same group. A block counts as kept if either tier had it.
    pub(super) fn merge(&mut self, other: &Self) {
        let mut places: Vec<usize> = Vec::with_capacity(other.nodes.len());
        for (parent, noted) in &other.nodes {
            let parent = parent.map(|parent| places[parent]);
            places.push(match self.child(parent, &noted.tokens) {
                Some(at) => {
                    let own = &mut self.nodes[at].1;
                    own.kept |= noted.kept;
                    if noted.producer == Producer::Prefill {
                        own.producer = Producer::Prefill;
                    }
                    at
                }
                None => {
                    self.nodes.push((parent, noted.clone()));
                    self.nodes.len() - 1
                }
            });
        }
    }

    /// Forgets a block and all behind it. False if it is not known.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn forget(&mut self, path: &[u32]) -> bool {
        let Some(Some(at)) = self.find(path) else { return false };
        self.retain(|index, _| index != at);
        true
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The block at the end of `path`, or the root.
    fn find(&self, path: &[u32]) -> Option<Option<usize>> {
        path.chunks(BLOCK).try_fold(None, |parent, tokens| self.child(parent, tokens).map(Some))
    }

    fn child(&self, parent: Option<usize>, tokens: &[u32]) -> Option<usize> {
        self.nodes.iter().position(|(theirs, noted)| *theirs == parent && noted.tokens == tokens)
    }

    fn expire(&mut self, now_ms: u64) {
        self.retain(|_, noted| noted.expires_ms > now_ms);
    }

    /// The remaining time to live of its longest-lived block.
    pub(super) fn ttl(&self, now_ms: u64) -> Option<Duration> {
        let last = self.nodes.iter().map(|(_, noted)| noted.expires_ms).max().filter(|at| *at < u64::MAX)?;
        Some(Duration::from_millis(last.saturating_sub(now_ms)))
    }

    /// Drops entries down to [`MOST`]: leaves first, the oldest first.
    fn bound(&mut self) {
        while self.nodes.len() > MOST {
            let leaf = |at: &usize| self.nodes.iter().all(|(parent, _)| *parent != Some(*at));
            let Some(oldest) = (0..self.nodes.len()).find(leaf) else { return };
            self.retain(|index, _| index != oldest);
        }
    }

    /// Keeps the blocks that `keeps` accepts and whose ancestors are kept.
    fn retain(&mut self, keeps: impl Fn(usize, &Noted) -> bool) {
        let mut places: Vec<Option<usize>> = Vec::with_capacity(self.nodes.len());
        let mut kept = Vec::with_capacity(self.nodes.len());
        for (index, (parent, noted)) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            let parent = match parent {
                Some(parent) => places[parent].map(Some),
                None => Some(None),
            };
            places.push(parent.filter(|_| keeps(index, &noted)).map(|parent| {
                kept.push((parent, noted));
                kept.len() - 1
            }));
        }
        self.nodes = kept;
    }

    /// The bytes that a store keeps under `key`.
    pub(super) fn encode(&self, key: &StoreKey) -> Bytes {
        let mut body = Vec::with_capacity(self.nodes.len() * (NODE + 4 * BLOCK));
        for (parent, noted) in &self.nodes {
            let parent = parent.map_or(u16::MAX, |parent| parent as u16);
            let exact = if noted.producer == Producer::Prefill { EXACT } else { 0 };
            body.extend(parent.to_le_bytes());
            body.extend([noted.tokens.len() as u8, exact | (u8::from(noted.kept) * KEPT)]);
            body.extend(noted.expires_ms.to_le_bytes());
            body.extend(noted.tokens.iter().flat_map(|token| token.to_le_bytes()));
        }
        [FORMAT, &digest(key, &body)[..], &[0; 32], &body].concat().into()
    }

    /// The manifest of `key`, if the bytes are an intact one.
    pub(super) fn decode(key: &StoreKey, bytes: &[u8]) -> Option<Self> {
        let (digested, rest) = bytes.strip_prefix(FORMAT)?.split_at_checked(32)?;
        let (_, mut body) = rest.split_at_checked(32)?;
        if bytes.len() > MAX_BYTES || digested != digest(key, body) {
            return None;
        }
        let mut nodes: Vec<(Option<usize>, Noted)> = Vec::new();
        while let Some((head, rest)) = body.split_at_checked(NODE) {
            let (parent, expires) = (u16::from_le_bytes([head[0], head[1]]), head[4..].try_into().ok()?);
            let (count, flags) = (usize::from(head[2]), head[3]);
            let (tokens, rest) = rest.split_at_checked(4 * count)?;
            let parent = (parent != u16::MAX).then_some(usize::from(parent));
            let is_full = |at: usize| nodes.get(at).is_some_and(|(_, noted)| noted.tokens.len() == BLOCK);
            if !(1..=BLOCK).contains(&count) || flags > KEPT | EXACT || !parent.is_none_or(is_full) {
                return None;
            }
            let noted = Noted {
                tokens: super::file::words(tokens).map(u32::from_le_bytes).collect(),
                kept: flags & KEPT != 0,
                producer: if flags & EXACT != 0 { Producer::Prefill } else { Producer::Decode },
                expires_ms: u64::from_le_bytes(expires),
            };
            nodes.push((parent, noted));
            body = rest;
        }
        (body.is_empty() && nodes.len() <= MOST).then_some(Self { nodes })
    }

    /// A manifest of whole chains of one group that a store has, each given by its tokens from the root on.
    pub(super) fn of(paths: &[(&[u32], Producer)]) -> Self {
        let mut manifest = Self::default();
        paths.iter().for_each(|(path, producer)| manifest.add(path, true, *producer, u64::MAX));
        manifest.bound();
        manifest
    }
}

fn digest(key: &StoreKey, body: &[u8]) -> StoreKey {
    Sha256::new_with_prefix(FORMAT).chain_update(key).chain_update(body).finalize().into()
}

/// The manifest under `key` without expired entries; an empty one if it is absent or damaged.
async fn read<S: Store + ?Sized>(store: &S, key: &StoreKey, now_ms: u64) -> Result<Manifest, StoreError> {
    let bytes = store.get(key).await?;
    let mut manifest = bytes.and_then(|bytes| Manifest::decode(key, &bytes)).unwrap_or_default();
    manifest.expire(now_ms);
    Ok(manifest)
}

/// Records in the manifest behind `root` which blocks were written, and which of them the store has.
pub(super) async fn record<S: Store + ?Sized>(store: &S, root: &StoreKey, record: &Record) -> Result<(), StoreError> {
    let Record { written, now_ms, ttl } = record;
    let key = Manifest::key(root);
    let before = read(store, &key, *now_ms).await?;
    let blocks: Vec<StoreKey> = written.iter().map(|written| written.key).collect();
    let kept = store.contains(&blocks).await?;
    let lives = |ttl: Duration| now_ms.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let expires_ms = ttl.map_or(u64::MAX, lives);
    let mut after = before.clone();
    for (Written { path, producer, .. }, kept) in written.iter().zip(kept) {
        after.add(path, kept, *producer, expires_ms);
    }
    after.bound();
    if after != before {
        store.put(&key, &after.encode(&key), after.ttl(*now_ms)).await?;
    }
    Ok(())
}

/// Merges what several stores returned for `roots`, one optional value each.
pub(super) fn merged(
    keys: &[StoreKey],
    values: impl IntoIterator<Item = Vec<Option<Bytes>>>,
    now_ms: u64,
) -> Vec<Manifest> {
    let mut manifests = vec![Manifest::default(); keys.len()];
    for of_store in values {
        for ((manifest, key), bytes) in manifests.iter_mut().zip(keys).zip(of_store) {
            if let Some(mut found) = bytes.and_then(|bytes| Manifest::decode(key, &bytes)) {
                found.expire(now_ms);
                manifest.merge(&found);
            }
        }
    }
    manifests
}
