//! The KV cache's bookkeeping: which page holds which tokens, who holds the page, what can be reused and what is evicted.
//!
//! Nothing here touches a device, a file or a clock. The engine owns the buffers, runs the page copies it is given and passes
//! the time in. A page is a `u32`; its KV occupies slots `page · PAGE .. (page + 1) · PAGE` of every layer.
//!
//! A request's life: `admit` finds the longest known prefix and shares its pages (it copies the last one if the hit ends inside
//! it); `append` gives slots for the tokens to compute; `publish` indexes what was written so that others find it; `release`
//! gives the pages back. Pages that nobody holds stay indexed until they are needed.
//!
//! Invariants, verified by `Cache::check`: a page is free, held, or cached. Its reference count is the number of tables and
//! pins that hold it. One table alone writes a page, and only after the page's indexed tokens, so a shared slot never changes.
//! Every indexed page is reachable from its namespace.

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

/// Index of a page in the KV buffers.
pub type PageId = u32;

pub use cache::{Admission, AdmitOptions, Cache, CacheConfig, CacheStats, Entry, Left, PinId, Pinned, PinsFull};
pub use divergence::{Change, Divergence, Owner, Rendered, Span, compare};
pub use explain::{Choice, Miss, Reason, Report, Sources, Tier};
pub(crate) use format::BLOCK;
pub use format::KvFormat;
pub use key::{Fields, Key, Namespace, PAGE};
pub use kind::DivergenceKind;
pub(crate) use kind::{MOVES_TEXT, PUT_BEHIND, PUT_LAST, SORT_KEYS, is_static, label, values_differ};
pub use table::{BlockTable, OutOfPages, PageCopy, Producer};
pub use window::is_unseen;
