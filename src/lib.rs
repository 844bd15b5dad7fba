//! headstart: an LLM inference engine whose forward pass is WGSL compute shaders run through wgpu.

pub mod error;

#[cfg(feature = "cli")]
pub mod cli;
