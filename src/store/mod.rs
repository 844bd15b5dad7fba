//! Where KV blobs live beyond the GPU. Knows bytes and keys, neither engine nor device.
//!
//! A [`Blob`] is one block of KV as a file; a [`Store`] keeps such files by key; [`Tiers`] puts memory before slower
//! stores, verifies what comes back and counts. A store is trusted with nothing: it may lose, mix up or alter what it
//! was given, and costs a miss at worst, because only [`Blob::decode`] lets bytes through. A [`Pack`] is the blocks of a
//! whole prefix as one file, to be given to others.
//!
//! A store takes `&self` and answers with a local boxed future, as byte sources do, so one trait covers memory, files,
//! a browser's private file system and a network. Time is injected: milliseconds since the Unix epoch.

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
pub use file::{Element, MAX_HEADER, Row};
#[cfg(not(target_arch = "wasm32"))]
pub use filesystem::{FilesystemConfig, FilesystemStore};
pub use manifest::{GROUP, Manifest, Noted, Record, Written};
pub use memory::MemoryStore;
pub use pack::{BlockKeys, Pack, PackError, PackExpected, PackHeader, PackKey, PackLimits, PackSigner, PackStore};
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

/// A full SHA-256: the name of a block and of everything before it; that of a manifest is [`Manifest::key`].
pub type Key = [u8; 32];

/// Local: nobody demands `Send` of it, so a browser's futures fit.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the calls of a [`Store`] return.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The wall clock, natively and in a browser.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let now = web_time::SystemTime::now().duration_since(web_time::SystemTime::UNIX_EPOCH);
        now.map_or(0, |since| since.as_millis() as u64)
    })
}

/// Bytes by key: blocks, and the manifests of groups of them. What is absent, expired or evicted is `None`; an error is a store that did not do its work, and
/// everyone treats it as a miss.
pub trait Store {
    /// A label for statistics: `memory`, `disk`.
    fn name(&self) -> &'static str;

    /// The value of `key`, whole; [`FORGED`] where what lies there was written by nobody who has the key of the store.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Bytes>>;

    /// Several at once: one round trip, where the store is far. The caller bounds how many. Of each at least the first `most` bytes,
    /// where it has as many: a store that can read a part reads no more.
    fn get_many<'a>(&'a self, keys: &'a [Key], most: usize) -> Answer<'a, Vec<Option<Bytes>>> {
        let _ = most;
        Box::pin(async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(self.get(key).await?);
            }
            Ok(values)
        })
    }

    /// Replaces what was there, at once: a reader sees the old value or the new one, whole. Without `ttl` it stays until
    /// its room is needed. Whoever keeps the value in memory shares it, so it is no part of something larger. A store that takes
    /// long queues it and answers at once; [`Store::get`] sees what is queued.
    fn put<'a>(&'a self, key: &'a Key, bytes: &'a Bytes, ttl: Option<Duration>) -> Answer<'a, ()>;

    /// As [`Store::put`], unless there is a value already, which is marked as used then.
    fn put_new<'a>(&'a self, key: &'a Key, bytes: &'a Bytes, ttl: Option<Duration>) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = std::slice::from_ref(key);
            match self.contains(keys).await?.first() {
                Some(true) => self.touch(keys).await,
                _ => self.put(key, bytes, ttl).await?,
            }
            Ok(())
        })
    }

    /// Notes in the [`Manifest`] of the group behind `root` what was written, and which of it is there now.
    fn record<'a>(&'a self, root: &'a Key, record: &'a Record) -> Answer<'a, ()> {
        Box::pin(manifest::record(self, root, record))
    }

    /// Waits until what was put is written, or given up and counted.
    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Which of `keys` would be found now, asked in one round trip. No use: it saves nothing from eviction.
    fn contains<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<bool>>;

    /// False if there was none.
    fn remove<'a>(&'a self, key: &'a Key) -> Answer<'a, bool>;

    /// Removes everything that this store put there, and nothing else.
    fn clear(&self) -> Answer<'_, ()>;

    /// Marks a chain of blocks, given from the root on, as used: the root last, so that a chain goes from its leaf. A
    /// hint, so it cannot fail; a store that orders by itself does nothing.
    fn touch<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, ()> {
        let _ = keys;
        Box::pin(async {})
    }

    /// What it holds and did so far; zeros of a store that does not count.
    fn usage(&self) -> StoreUsage {
        StoreUsage::default()
    }

    /// The last thing that went wrong, for people.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// What a store holds, as far as it knows, and what it did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreUsage {
    /// Values that it holds.
    pub entries: u64,
    /// As counted against the budget.
    pub bytes: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Entries whose time to live had passed.
    pub expired: u64,
    /// Values put, counted once they are there.
    pub written: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Values that were taken to be written later, and were not.
    pub dropped: u64,
    /// Operations that went wrong.
    pub failures: u64,
    /// Writes that were not tried, because those before went wrong.
    pub refused: u64,
}

/// Why a store did not do what it was asked.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory that the system refused to open, read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was to be read or written.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A value that the whole budget, or the bound on one value, is too small for.
    #[error("a value takes {bytes} bytes, at most {budget} are allowed; give the cache more room")]
    TooLarge {
        /// Bytes of the value, with what the store adds.
        bytes: u64,
        /// Bytes that one value may take.
        budget: u64,
    },

    /// A pin that cannot be made, or is not what it should be.
    #[error("the pin {name:?}: {problem}")]
    Pin {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A pin that would leave too little of the budget to everything else.
    #[error("{asked} bytes would be pinned, at most {allowed} can be; unpin something or give the cache more room")]
    PinsFull {
        /// Bytes of all pins, had this one been added.
        asked: u64,
        /// Bytes that pins may take.
        allowed: u64,
    },

    /// A chain that a pin keeps.
    #[error("nothing was removed: the chain is pinned as {}; unpin that first", pins.join(", "))]
    Pinned {
        /// The names of the pins that hold any of its blocks.
        pins: Vec<String>,
    },

    /// A secret that cannot be had.
    #[error("the secret in {}: {problem}", path.display())]
    Secret {
        /// The file that holds it, or was to.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },

    /// The breaker is open.
    #[error("the {store} store is left alone for a while, after repeated failures")]
    Paused {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
    },

    /// A store that nothing is ever written to.
    #[error("the {store} store is only read from; write to another one")]
    ReadOnly {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
    },

    /// A store behind a network or a browser interface that cannot be reached, or failed.
    #[error("the {store} store: {problem}")]
    Backend {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// What happened, in the store's words where it has any.
        problem: String,
    },

    /// No answer within the deadline.
    #[error("the {store} store did not answer within {ms} ms")]
    Late {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// How long it was waited for.
        ms: u64,
    },

    /// A store that does not let us in: asking again does not help.
    #[error("the {store} store: {problem}")]
    Refused {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// What it refuses, and what to do.
        problem: String,
    },

    /// More is put than the store can write.
    #[error("{bytes} bytes wait to be written to the {store} store already; this value was dropped")]
    QueueFull {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// Bytes that wait.
        bytes: u64,
    },

    /// An address that no store is behind, or whose store refuses us.
    #[error("{url}: {problem}")]
    Url {
        /// The address: scheme, host, port and database.
        url: String,
        /// What is wrong with it, and what to give.
        problem: String,
    },
}
