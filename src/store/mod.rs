//! Where KV blobs live beyond the GPU. This module knows bytes and keys; it knows no engine and no device.
//!
//! A [`Blob`] is one block of KV as a file. A [`Store`] keeps such files by key. [`Tiers`] puts memory before slower
//! stores, verifies what they return and counts. No store is trusted: it may lose, mix up or alter what it was given.
//! That costs a miss at worst, because only bytes that [`Blob::decode`] accepts are used. A [`Pack`] holds the blocks
//! of a whole prefix as one file, to be given to others.
//!
//! A store takes `&self` and returns a local boxed future, as byte sources do, so one trait covers memory, files, a
//! browser's private file system and a network. The clock is injected and gives milliseconds since the Unix epoch.

#[doc(hidden)]
mod ahead;
#[cfg(not(target_arch = "wasm32"))]
mod background;
#[doc(hidden)]
mod blob;
mod breaker;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
mod chains;
#[doc(hidden)]
mod deadline;
mod digest;
mod error;
#[doc(hidden)]
mod file;
#[cfg(not(target_arch = "wasm32"))]
mod filesystem;
mod lru;
#[doc(hidden)]
mod manifest;
mod memory;
mod pack;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
mod pins;
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
mod private;
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
mod remote;
#[cfg(not(target_arch = "wasm32"))]
mod reply;
#[cfg(not(target_arch = "wasm32"))]
mod scan;
#[doc(hidden)]
mod seal;
#[cfg(not(target_arch = "wasm32"))]
mod secret;
mod tiers;
#[cfg(not(target_arch = "wasm32"))]
mod tree;
mod workers;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use bytes::Bytes;

pub use ahead::{Ahead, Unpack};
#[cfg(not(target_arch = "wasm32"))]
pub use background::{Background, BackgroundConfig};
pub use blob::{BLOCK, Blob, Description, Expected, Family, Producer, Reject, Wanted};
pub use breaker::{Breaker, BreakerConfig, BreakerState, Call};
#[cfg(not(target_arch = "wasm32"))]
pub use chains::{Chain, Chains, Removed};
pub use deadline::Deadline;
pub use error::StoreError;
pub use file::{Element, MAX_HEADER, Row};
#[cfg(not(target_arch = "wasm32"))]
pub use filesystem::{FilesystemConfig, FilesystemStore};
pub use manifest::{GROUP, Manifest, Noted, Record, Written};
pub use memory::MemoryStore;
pub use pack::{
    BlockKeys, Pack, PackDifference, PackError, PackExpected, PackHeader, PackKey, PackLimits, PackSigner, PackStore,
};
#[cfg(not(target_arch = "wasm32"))]
pub use pins::{Listing, MAX_PINNED, Pinned};
pub(crate) use private::Note;
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
pub use remote::{Guard, RemoteConfig, connect};
#[cfg(not(target_arch = "wasm32"))]
pub use seal::Seal;
pub use seal::{FORGED, Slot};
#[cfg(not(target_arch = "wasm32"))]
pub use secret::{key_file, secret_file};
pub use tiers::{Loaded, Missing, Places, TierStats, Tiers, TiersConfig};
pub use workers::Digester;

/// A full SHA-256 that names a block and everything before it. [`Manifest::key`] makes that of a manifest.
pub type StoreKey = [u8; 32];

/// A boxed future that need not be `Send`, so that a browser's futures fit.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the calls of a [`Store`] return.
pub type StoreAnswer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The wall clock, natively and in a browser.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let now = web_time::SystemTime::now().duration_since(web_time::SystemTime::UNIX_EPOCH);
        now.map_or(0, |since| since.as_millis() as u64)
    })
}

/// Bytes by key: blocks, and the manifests of groups of blocks. An absent, expired or evicted value is `None`. An error
/// means that the store failed, and every caller treats it as a miss.
pub trait Store {
    /// A label for statistics: `memory`, `disk`.
    fn name(&self) -> &'static str;

    /// The whole value of `key`, or [`FORGED`] where it was written without the store's key.
    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>>;

    /// Several values in one round trip. The caller bounds how many. Each has at least its first `most` bytes, or all
    /// if there are fewer; a store that can read a part of a value reads no more.
    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        let _ = most;
        Box::pin(async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(self.get(key).await?);
            }
            Ok(values)
        })
    }

    /// Replaces the value atomically: a reader sees the whole old value or the whole new one. Without `ttl` it stays
    /// until its room is needed. Stores in memory share `bytes`, so it must not be a slice of a larger buffer. A slow
    /// store queues the value and returns at once; [`Store::get`] sees queued values.
    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()>;

    /// As [`Store::put`], unless there is a value already. That one is marked as used.
    fn put_new<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            let keys = std::slice::from_ref(key);
            match self.contains(keys).await?.first() {
                Some(true) => self.touch(keys).await,
                _ => self.put(key, bytes, ttl).await?,
            }
            Ok(())
        })
    }

    /// Records in the [`Manifest`] of the group behind `root` which blocks were written, and which of them are present
    /// now.
    fn record<'a>(&'a self, root: &'a StoreKey, record: &'a Record) -> StoreAnswer<'a, ()> {
        Box::pin(manifest::record(self, root, record))
    }

    /// Waits until queued values are written, or dropped and counted.
    fn flush(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Which of `keys` are present, in one round trip. It does not count as a use, so it saves nothing from eviction.
    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>>;

    /// Whether another user's file lies where the value of `key` would be. It is not used, so the value counts as absent.
    fn is_anothers<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        let _ = key;
        Box::pin(async { Ok(false) })
    }

    /// False if there was no value.
    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool>;

    /// Removes everything that this store wrote, and nothing else.
    fn clear(&self) -> StoreAnswer<'_, ()>;

    /// Marks a chain of blocks, given from the root on, as used. The root is marked last, so that eviction takes a
    /// chain from its leaf. It is a hint and cannot fail; a store that keeps its own order does nothing.
    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        let _ = keys;
        Box::pin(async {})
    }

    /// What it holds and has done so far; zeros for a store that does not count.
    fn usage(&self) -> StoreUsage {
        StoreUsage::default()
    }

    /// The last failure, as a sentence for people.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// What a store holds, as far as it knows, and what it has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreUsage {
    /// Values in the store.
    pub entries: u64,
    /// As counted against the budget.
    pub bytes: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Entries whose time to live had passed.
    pub expired: u64,
    /// Values that were written.
    pub written: u64,
    /// Bytes of the written values.
    pub written_bytes: u64,
    /// Values that were queued and never written.
    pub dropped: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Writes that were not attempted because earlier ones failed.
    pub refused: u64,
}
