//! headstart: an LLM inference engine whose forward pass is WGSL compute shaders run through wgpu.

pub mod error;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod quant;
pub mod weights;
pub mod text;
pub mod sample;

#[cfg(feature = "cli")]
pub mod cli;
pub mod kv;
