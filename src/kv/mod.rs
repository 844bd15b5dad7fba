//! The KV cache's bookkeeping, pure: which page holds which tokens, who uses it, what can be reused, what goes first.
//!
//! Nothing here touches a device, a file or a clock: the engine owns the buffers, runs the copies it is told to run
//! and injects the time. A page is a `u32`; its KV lies at slots `page · PAGE .. (page + 1) · PAGE` of every layer.
//!
//! A request's life: `admit` finds the longest known prefix and shares its pages (the last one by a copy if the hit
//! ends inside it), `append` gives slots for the tokens to compute, `publish` names what was written so that others
//! find it, `release` lets go; pages that nobody holds stay indexed until they are needed.
//!
//! Invariants, verified by `Cache::check`: a page is free, held, or cached; a reference count is the number of tables
//! and pins that hold the page; a page is written by one table, only behind its indexed tokens, so a shared slot never
//! changes; every indexed page is reachable from its namespace.

mod cache;
#[doc(hidden)]
mod check;
mod checkpoint;
#[doc(hidden)]
mod continuation;
mod divergence;
mod evict;
mod explain;
mod format;
mod index;
mod key;
mod kind;
mod policy;
mod pool;
#[doc(hidden)]
mod table;
mod window;

/// A page's place in the KV buffers.
pub type PageId = u32;

pub use cache::{Admission, AdmitOptions, Cache, Config, Entry, Left, PinId, Pinned, PinsFull, Stats};
pub use divergence::{Change, Divergence, Owner, Rendered, Span, compare};
pub use explain::{Choice, Miss, Reason, Report, Sources, Tier};
pub(crate) use format::BLOCK;
pub use format::KvFormat;
pub use key::{Fields, Key, Namespace, PAGE};
pub use kind::DivergenceKind;
pub(crate) use kind::{is_static, values_differ};
pub use table::{BlockTable, OutOfPages, PageCopy, Producer};
pub use window::is_unseen;
