//! Everything that knows wgpu. Nothing here knows about language models.
//!
//! GPU work is data ([`recording::Recording`]). Only `submit` replays it, and only [`readback`] and `upload` map buffers.
//! Pipelines and bind groups are created once and kept, so a steady step creates none.

#[doc(hidden)]
mod buffer;
mod caps;
mod compile;
pub(crate) mod context;
mod features;
#[doc(hidden)]
mod kernel;
pub mod profile;
pub mod readback;
#[doc(hidden)]
mod recording;
pub mod shader;
mod signal;
mod sites;
pub(crate) mod submit;
pub(crate) mod upload;

pub use buffer::{Buffer, Slice};
pub use caps::{AdapterKind, Caps, Fragments, Numerics, Preset, PromptProducts};
pub use compile::Compilation;
pub use context::{AdapterInfo, Gpu, Instance};
pub use kernel::{Access, Kernel};
pub use recording::{Command, Cost, Dispatch, Recording};
