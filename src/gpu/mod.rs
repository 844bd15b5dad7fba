//! Everything that knows wgpu and nothing about language models.
//!
//! Work for the GPU is data ([`recording::Recording`]); `submit` is the one place that replays it, [`readback`] the one
//! place that maps a buffer. Pipelines and bind groups are made once and kept, so a steady step makes none.

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

pub use buffer::{Buffer, Slice};
pub use caps::{AdapterKind, Caps, Fragments, Numerics, Preset};
pub use context::{AdapterInfo, Gpu};
pub use kernel::{Access, Kernel};
pub use recording::{Command, Cost, Dispatch, Recording};
