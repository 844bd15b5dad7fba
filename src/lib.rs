//! headstart: an LLM inference engine whose forward pass is WGSL compute shaders run through wgpu.

pub mod error;
pub mod kv;
