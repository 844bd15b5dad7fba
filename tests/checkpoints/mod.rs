//! Tiny checkpoints in memory, sound or damaged, and an allocation counter.

pub mod alloc;
mod digest;
pub mod gguf;
pub mod safetensors;
pub mod tiny;

use std::path::PathBuf;

/// The real model for tests: `HEADSTART_TEST_MODEL`, or the one that `make` puts into `models/`.
pub fn model_path() -> PathBuf {
    match std::env::var_os("HEADSTART_TEST_MODEL") {
        Some(path) => path.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf"),
    }
}
