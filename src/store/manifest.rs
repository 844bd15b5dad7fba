//! Which blocks were written behind a prefix: what finds a block that a prompt parts from inside, and remembers the blocks
//! that are not kept any more.
//!
//! Blocks are named by hashes, so that a store cannot say which of its blocks begins as a prompt goes on. A manifest says
//! it of one group: all blocks up to [`GROUP`] deep behind a root, which is the namespace or every sixteenth block of a
//! chain. It lies in the stores under a key of its own ([`Manifest::key`]), beside the blocks and under a budget of its
//! own, so that it outlives them by far.
//!
//! A manifest is a hint. What it names is verified like any block, one that is lost or damaged costs the tokens of a part
//! of a block, and of two writers at a time the later one may drop what the other noted. A block is forgotten when its time
//! to live is over, as the block itself is.
//!
//! Cost: a record reads and writes one small value; nothing is read where a prompt is found whole.

use std::ops::Range;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::blob::{BLOCK, Producer};
use super::{Bytes, Key, Store, StoreError};

/// How deep a group is, in blocks.
pub const GROUP: usize = 16;

/// Blocks that a manifest names; of more, those that were noted first are dropped.
const MOST: usize = 2048;
/// A manifest of this many bytes is the largest.
pub(super) const MAX_BYTES: usize = HEAD + MOST * (NODE + 4 * BLOCK);

const FORMAT: &[u8; 20] = b"headstart-manifest/2";
/// Format, digest, and the MAC of whoever keeps the manifest (see [`super::seal`]).
const HEAD: usize = FORMAT.len() + 32 + 32;
/// Parent, tokens, flags, expiry.
const NODE: usize = 2 + 1 + 1 + 8;
/// What the key of a manifest ends with.
const MARK: &[u8; 8] = b"manifest";
const KEPT: u8 = 1;
const EXACT: u8 = 2;

/// A block that was written, for the manifest of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Under which the block lies, if a store has it.
    pub key: Key,
    /// All tokens from the root of the group to the end of the block.
    pub path: Vec<u32>,
    /// Which kernels computed it.
    pub producer: Producer,
}

/// Blocks of one group that are to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// In any order.
    pub(crate) written: Vec<Written>,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// After which they are forgotten; none: when others need the room.
    pub(crate) ttl: Option<Duration>,
}

/// A block that was written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// 1 to [`BLOCK`].
    pub tokens: Vec<u32>,
    /// A store had it when it was noted.
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

/// Bytes that a store has for manifests, beside a budget for blocks.
pub(super) fn budget(blocks: u64) -> u64 {
    match blocks {
        0 => 0,
        blocks => (blocks / 32).max(256 << 10),
    }
}

/// The name of a manifest, of a name.
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
pub(super) fn marked(mut name: Key) -> Key {
    name[32 - MARK.len()..].copy_from_slice(MARK);
    name
}

/// The digest in the bytes of a manifest, and the place of its MAC.
pub(super) fn digest_and_mac(bytes: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let digest = bytes.strip_prefix(FORMAT)?.get(..32)?;
    (bytes.len() >= HEAD).then_some((digest, HEAD - 32..HEAD))
}

/// Whether `key` is that of a manifest.
pub(super) fn is_manifest(key: &Key) -> bool {
    key.ends_with(MARK)
}

impl Manifest {
    /// Under which the manifest of the group behind `root` lies.
    pub fn key(root: &Key) -> Key {
        let mut key: Key = Sha256::new_with_prefix(FORMAT).chain_update(root).finalize().into();
        key[32 - MARK.len()..].copy_from_slice(MARK);
        key
    }

    /// What is known to follow `path`, whole blocks from the root on.
    pub fn behind(&self, path: &[u32]) -> Vec<&Noted> {
        let Some(at) = self.find(path) else { return Vec::new() };
        self.nodes.iter().filter(|(parent, _)| *parent == at).map(|(_, noted)| noted).collect()
    }

    /// Notes a block, and those before it as what it is itself, where they are not known.
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

    /// Takes in what another tier's manifest of the same group notes: a block that either had was kept.
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

    /// How long the last of its blocks has to live.
    pub(super) fn ttl(&self, now_ms: u64) -> Option<Duration> {
        let last = self.nodes.iter().map(|(_, noted)| noted.expires_ms).max().filter(|at| *at < u64::MAX)?;
        Some(Duration::from_millis(last.saturating_sub(now_ms)))
    }

    /// Down to [`MOST`]: those first that were noted first and that nothing goes on from.
    fn bound(&mut self) {
        while self.nodes.len() > MOST {
            let leaf = |at: &usize| self.nodes.iter().all(|(parent, _)| *parent != Some(*at));
            let Some(oldest) = (0..self.nodes.len()).find(leaf) else { return };
            self.retain(|index, _| index != oldest);
        }
    }

    /// Keeps what `keeps` says of the blocks whose ancestors are kept.
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

    /// As a store keeps it under `key`.
    pub(super) fn encode(&self, key: &Key) -> Bytes {
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

    /// The manifest of `key`, if the bytes are one, whole.
    pub(super) fn decode(key: &Key, bytes: &[u8]) -> Option<Self> {
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

    /// Of whole chains of one group, given by their tokens from the root on, that a store has.
    pub(super) fn of(paths: &[(&[u32], Producer)]) -> Self {
        let mut manifest = Self::default();
        paths.iter().for_each(|(path, producer)| manifest.add(path, true, *producer, u64::MAX));
        manifest.bound();
        manifest
    }
}

fn digest(key: &Key, body: &[u8]) -> Key {
    Sha256::new_with_prefix(FORMAT).chain_update(key).chain_update(body).finalize().into()
}

/// What lies under `key` now, less what expired; nothing known where it is damaged.
async fn read<S: Store + ?Sized>(store: &S, key: &Key, now_ms: u64) -> Result<Manifest, StoreError> {
    let bytes = store.get(key).await?;
    let mut manifest = bytes.and_then(|bytes| Manifest::decode(key, &bytes)).unwrap_or_default();
    manifest.expire(now_ms);
    Ok(manifest)
}

/// Notes in the manifest behind `root` what was written, and which of it the store has.
pub(super) async fn record<S: Store + ?Sized>(store: &S, root: &Key, record: &Record) -> Result<(), StoreError> {
    let Record { written, now_ms, ttl } = record;
    let key = Manifest::key(root);
    let before = read(store, &key, *now_ms).await?;
    let blocks: Vec<Key> = written.iter().map(|written| written.key).collect();
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

/// What all stores' answers say of `roots`, of which each gave one value, if it has one.
pub(super) fn merged(keys: &[Key], values: impl IntoIterator<Item = Vec<Option<Bytes>>>, now_ms: u64) -> Vec<Manifest> {
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
