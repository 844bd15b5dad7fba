//! Loaded packs as a read-only store. A block is cut out of its pack and encoded on request, so the bytes of a pack are
//! held once. A lookup asks every pack, of which there are few.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::{BlockKeys, Pack, PackError, PackExpected, PackHeader};
use crate::store::manifest::{GROUP, Manifest, is_manifest};
use crate::store::{BLOCK, Bytes, Store, StoreAnswer, StoreError, StoreKey, StoreUsage};

/// A handle. Clones share the store, so that packs can be added while [`Tiers`](crate::store::Tiers) reads it.
#[derive(Clone, Default)]
pub struct PackStore {
    held: Rc<RefCell<Vec<Held>>>,
    /// A block that the store pretends not to have.
    hidden: Rc<Cell<Option<StoreKey>>>,
}

struct Held {
    pack: Pack,
    /// The root, followed by the key of every block.
    keys: Vec<StoreKey>,
    /// Blocks by key.
    blocks: HashMap<StoreKey, usize>,
    /// The first block of each group, by the key of the group's manifest.
    groups: HashMap<StoreKey, usize>,
}

impl Held {
    /// Whether this pack has the hidden state that ends the block.
    fn is_end(&self, block: usize) -> bool {
        block + 1 == self.blocks.len() && self.pack.header().hidden.is_some()
    }
}

impl PackStore {
    /// Adds a pack of this model, once.
    #[doc(hidden)]
    pub fn add(&self, pack: Pack, expected: &PackExpected<'_>, keys: &BlockKeys<'_>) -> Result<(), PackError> {
        pack.check(expected)?;
        let keys = pack.keys(keys)?;
        let packs = &mut *self.held.borrow_mut();
        if packs.iter().all(|held| held.pack.bytes() != pack.bytes()) {
            let blocks = keys[1..].iter().enumerate().map(|(block, key)| (*key, block)).collect();
            let roots = keys[..keys.len() - 1].iter().enumerate().step_by(GROUP);
            let groups = roots.map(|(block, root)| (Manifest::key(root), block)).collect();
            packs.push(Held { pack, keys, blocks, groups });
        }
        Ok(())
    }

    /// Removes the packs whose tokens have this key. False if there was none.
    pub fn remove_pack(&self, key: &StoreKey) -> bool {
        let packs = &mut *self.held.borrow_mut();
        let before = packs.len();
        packs.retain(|held| held.pack.header().key != *key);
        packs.len() < before
    }

    /// Hides this block, so that the engine computes it.
    pub(crate) fn hide(&self, block: Option<StoreKey>) {
        self.hidden.set(block);
    }

    /// The headers of all packs, in the order in which they were added.
    pub fn headers(&self) -> Vec<PackHeader> {
        self.held.borrow().iter().map(|held| held.pack.header().clone()).collect()
    }

    fn manifest(&self, key: &StoreKey) -> Option<Bytes> {
        let packs = &*self.held.borrow();
        let paths = packs.iter().filter_map(|held| {
            let tokens = &held.pack.tokens()[held.groups.get(key)? * BLOCK..];
            Some((&tokens[..tokens.len().min(GROUP * BLOCK)], held.pack.header().producer))
        });
        let paths: Vec<_> = paths.collect();
        (!paths.is_empty()).then(|| Manifest::of(&paths).encode(key))
    }

    fn has(&self, key: &StoreKey) -> bool {
        self.hidden.get() != Some(*key) && self.held.borrow().iter().any(|held| held.blocks.contains_key(key))
    }

    fn block(&self, key: &StoreKey) -> Option<Bytes> {
        if !self.has(key) {
            return None;
        }
        let packs = &*self.held.borrow();
        let found = packs.iter().filter_map(|held| Some((held, *held.blocks.get(key)?)));
        let (held, block) = found.max_by_key(|(held, block)| held.is_end(*block))?;
        Some(held.pack.blob(block, &held.keys).encode().into())
    }
}

impl Store for PackStore {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(if is_manifest(key) { self.manifest(key) } else { self.block(key) }) })
    }

    fn put<'a>(&'a self, _: &'a StoreKey, _: &'a Bytes, _: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move { Err(StoreError::ReadOnly { store: self.name() }) })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move { Ok(keys.iter().map(|key| self.has(key)).collect()) })
    }

    fn remove<'a>(&'a self, _: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { Err(StoreError::ReadOnly { store: self.name() }) })
    }

    /// Packs stay: they were not stored as blocks.
    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn usage(&self) -> StoreUsage {
        let packs = &*self.held.borrow();
        let entries = packs.iter().map(|held| held.blocks.len() as u64).sum();
        let bytes = packs.iter().map(|held| held.pack.bytes().len() as u64).sum();
        StoreUsage { entries, bytes, ..StoreUsage::default() }
    }
}
