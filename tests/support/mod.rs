//! What tests share: where the model lies, the committed references, and how an engine is held against them.

pub mod convert;
pub mod engine;
pub mod golden;
pub mod llama;
pub mod npy;
pub mod odd;
#[cfg(unix)]
pub mod redis;
pub mod tiny_chat;

use std::path::PathBuf;

/// The GGUF that the references were made from: `HEADSTART_TEST_MODEL`, or where `make` puts it.
///
/// # Panics
/// When it is not there: a test that needs the model must not pass without it.
pub fn model_path() -> PathBuf {
    let default = || [env!("CARGO_MANIFEST_DIR"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf"].iter().collect();
    let path: PathBuf = std::env::var_os("HEADSTART_TEST_MODEL").map_or_else(default, PathBuf::from);
    assert!(path.is_file(), "{}: no model there; run `make model` or set HEADSTART_TEST_MODEL", path.display());
    path
}
