//! Models: what a checkpoint's configuration means, and the tensors it calls for.

pub mod config;
pub mod names;

pub use config::{Architecture, Config, Rope, RopeRows, SamplingDefaults, Scaling};
pub use names::{LayerRole, Role};
