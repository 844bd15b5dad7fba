//! Why a store operation failed. What a server or a file says is escaped when it is shown, since it may end up on a
//! terminal.

use std::fmt::{self, Write};

#[cfg(not(target_arch = "wasm32"))]
use crate::error::Error;
use crate::error::{Visible, reason};

/// Why a store operation failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory that the system refused to open, read or write.
    Io {
        /// What was to be read or written.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A value that exceeds the whole budget, or the limit on one value.
    TooLarge {
        /// Bytes of the value, overhead included.
        bytes: u64,
        /// Bytes that one value may take.
        budget: u64,
    },

    /// A pin that cannot be made, or whose file is damaged.
    Pin {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A pin that would exceed the share of the budget that pins may take.
    PinsFull {
        /// Bytes of all pins, had this one been added.
        asked: u64,
        /// Bytes that pins may take.
        allowed: u64,
    },

    /// A chain that is pinned, so that it cannot be removed.
    Pinned {
        /// The names of the pins that hold any of its blocks.
        pins: Vec<String>,
    },

    /// A secret that cannot be read or made.
    Secret {
        /// The file of the secret.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },

    /// The breaker is open.
    Paused {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
    },

    /// A store that is read-only.
    ReadOnly {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
    },

    /// A store behind a network or a browser interface that failed or cannot be reached.
    Backend {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// What happened, in the store's words where it has any.
        problem: String,
    },

    /// No answer within the deadline.
    Late {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// How long the caller waited.
        ms: u64,
    },

    /// A store that denies access. A retry does not help.
    Refused {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// What it refuses, and what to do.
        problem: String,
    },

    /// A store whose values were kept under other secrets than the one given.
    OtherSecret {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
    },

    /// Values are put faster than the store can write them.
    QueueFull {
        /// The label of the store, as [`Store::name`] gives it.
        store: &'static str,
        /// Bytes in the queue.
        bytes: u64,
    },

    /// A URL that names no store, or a store that denies access.
    Url {
        /// The address: scheme, host, port and database.
        url: String,
        /// What is wrong with it, and what to give.
        problem: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Visible { out: f, lines: false };
        match self {
            Self::Io { path, source } => write!(f, "{}: {}", path.display(), reason(source)),
            Self::TooLarge { bytes, budget } => {
                write!(f, "a value takes {bytes} bytes, at most {budget} are allowed; give the cache more room")
            }
            Self::Pin { name, problem } => write!(f, "the pin {name:?}: {problem}"),
            Self::PinsFull { asked, allowed } => write!(
                f,
                "{asked} bytes would be pinned, at most {allowed} can be; unpin something or give the cache more room"
            ),
            Self::Pinned { pins } => {
                write!(f, "nothing was removed: the chain is pinned as {}; unpin that first", pins.join(", "))
            }
            Self::Secret { path, problem } => write!(f, "the secret in {}: {problem}", path.display()),
            Self::Paused { store } => write!(f, "the {store} store is not used for a while, after repeated failures"),
            Self::ReadOnly { store } => write!(f, "the {store} store is read-only; write to another one"),
            Self::Backend { store, problem } | Self::Refused { store, problem } => {
                write!(f, "the {store} store: {problem}")
            }
            Self::Late { store, ms } => write!(f, "the {store} store did not answer within {ms} ms"),
            Self::OtherSecret { store } => write!(
                f,
                "the {store} store holds what was kept under another secret, and nothing under this one; if that is not \
                 meant, check that the secret is the one that the others have"
            ),
            Self::QueueFull { store, bytes } => {
                write!(f, "{bytes} bytes wait to be written to the {store} store already; this value was dropped")
            }
            Self::Url { url, problem } => write!(f, "{url}: {problem}"),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl StoreError {
    /// The same as the crate's error, of the store at `place`.
    pub(crate) fn at(self, place: impl AsRef<std::path::Path>) -> Error {
        match self {
            Self::Io { path, source } => Error::io(path, source),
            Self::Url { url, problem } => Error::Store { store: url, problem },
            other => Error::Store { store: place.as_ref().display().to_string(), problem: other.to_string() },
        }
    }
}
