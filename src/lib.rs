//! headstart: an LLM inference engine whose forward pass is WGSL compute shaders run through wgpu.

pub mod error;

pub mod gpu;
pub mod kv;
pub mod quant;
pub mod sample;
pub mod text;

pub mod kernels;
pub mod weights;

pub mod model;

pub mod engine;

#[cfg(feature = "cli")]
pub mod cli;
