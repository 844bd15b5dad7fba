//! Shared by tests: the model's path, the committed references, and helpers that compare an engine with them.

pub mod blob;
pub mod blocks;
pub mod convert;
pub mod engine;
pub mod golden;
pub mod llama;
pub mod npy;
#[cfg(unix)]
pub mod object_server;
pub mod odd;
pub mod process;
#[cfg(unix)]
pub mod proxy;
pub mod pty;
#[cfg(unix)]
pub mod redis;
pub mod tiers;
pub mod tiny_chat;
pub mod variant;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The GGUF that the references were made from: `HEADSTART_TEST_MODEL`, or the path where `make` puts it.
///
/// # Panics
/// If it does not exist: a test that needs the model must not pass without it.
pub fn model_path() -> PathBuf {
    let default = || [env!("CARGO_MANIFEST_DIR"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf"].iter().collect();
    let path: PathBuf = std::env::var_os("HEADSTART_TEST_MODEL").map_or_else(default, PathBuf::from);
    assert!(path.is_file(), "{}: no such model; run `make model` or set HEADSTART_TEST_MODEL", path.display());
    path
}

/// Number of cases for each fuzzer: `HEADSTART_FUZZ_CASES`, or 250.
pub fn fuzz_cases() -> u32 {
    std::env::var("HEADSTART_FUZZ_CASES").map_or(250, |cases| cases.parse().expect("HEADSTART_FUZZ_CASES is a number"))
}

/// All files below a folder and their lengths.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path(), entry.metadata().unwrap().len())),
        }
    }
    found
}

/// Gives a file to another user and group if this user may, else to another of its groups, if there is one.
#[cfg(unix)]
pub fn give_away(path: &Path) {
    use std::os::unix::fs::chown;
    if chown(path, Some(12_345), Some(12_345)).is_err() {
        let own = std::process::Command::new("id").arg("-G").output().unwrap().stdout;
        let groups = String::from_utf8(own).unwrap();
        let _ = groups.split_whitespace().next_back().map(|group| chown(path, None, Some(group.parse().unwrap())));
    }
}
