//! The prefix cache as a user sees it: one process after another, packs passed on, and the contents of the directory.
//!
//! Small models answer quickly, and their tokens are bytes, so the number of reused tokens is known exactly.

mod engine;
#[cfg(unix)]
mod owners;
mod packs;
mod runs;
mod stored;
#[cfg(unix)]
mod team;
mod trust;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{headstart, json_of, str_of};
use crate::support::tiny_chat;

pub const RULES: &str = "Answer in full sentences. Name the chapter. Never guess.";
pub const WHALE: &str = "Who tells of the whale?";
pub const SHIP: &str = "Describe the ship, please.";

/// Tokens of a block.
pub const BLOCK: usize = 16;

/// A model and a cache directory.
pub struct Home {
    pub model: TempDir,
    folder: TempDir,
}

impl Home {
    pub fn new(model: &str) -> Self {
        Self { model: tiny_chat::folder(model), folder: tempfile::tempdir().unwrap() }
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("kv")
    }

    /// A path beside the cache directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A conversation as a file.
    pub fn file(&self, name: &str, messages: &[(&str, &str)]) -> PathBuf {
        let list: Value = messages.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect();
        let path = self.path(name);
        std::fs::write(&path, list.to_string()).unwrap();
        path
    }

    /// `headstart ARGUMENTS --cache-dir DIR`, without measured rates: whatever is stored is loaded, even if a busy machine
    /// loaded slowly before.
    pub fn run(&self, arguments: &[&str]) -> Command {
        let _ = std::fs::remove_file(self.dir().join("rates.json"));
        let mut command = headstart(arguments);
        command.arg("--cache-dir").arg(self.dir()).env("HEADSTART_KV_KEY", self.path("kv.key"));
        command.env("HEADSTART_KV_SECRET", "of all who share a store");
        command
    }

    /// `headstart ARGUMENTS --model MODEL --cache-dir DIR`
    pub fn with_model(&self, arguments: &[&str]) -> Command {
        let mut command = self.run(arguments);
        command.arg("--model").arg(self.model.path());
        command
    }

    pub fn generate(&self, question: &str) -> Command {
        self.with_model(&["generate", "--system", RULES, "-n", "8", "--json", "-p", question])
    }

    /// The answer without any reuse.
    pub fn cold(&self, question: &str) -> Value {
        let arguments = ["generate", "--system", RULES, "-n", "8", "--json", "--no-cache", "-p", question];
        json_of(headstart(&arguments).arg("--model").arg(self.model.path()))
    }

    pub fn ls(&self) -> Value {
        json_of(&mut self.run(&["prefix", "ls", "--json"]))
    }
}

pub fn asked(question: &str) -> [(&str, &str); 2] {
    [("system", RULES), ("user", question)]
}

/// Number of leading tokens that two prompts share.
pub fn shared(a: &[(&str, &str)], b: &[(&str, &str)]) -> usize {
    let (a, b) = (tiny_chat::prompt(a), tiny_chat::prompt(b));
    a.iter().zip(&b).take_while(|(a, b)| a == b).count()
}

/// Number of tokens of a prompt.
pub fn length(messages: &[(&str, &str)]) -> usize {
    tiny_chat::prompt(messages).len()
}

/// Checks the number of reused tokens, in all and by source; sources that are not listed must have 0.
#[track_caller]
pub fn reused(answer: &Value, expected: &[(&str, usize)]) {
    let total: usize = expected.iter().map(|source| source.1).sum();
    let details = &answer["usage"]["prompt_tokens_details"];
    assert_eq!(details["cached_tokens"], json!(total), "{}", answer["cache"]);
    for source in ["gpu", "memory", "disk", "remote", "pack"] {
        let tokens = expected.iter().find(|expected| expected.0 == source).map_or(0, |expected| expected.1);
        assert_eq!(answer["cache"]["sources"][source], json!(tokens), "{source}: {}", answer["cache"]);
    }
}

#[track_caller]
pub fn same(warm: &Value, cold: &Value) {
    assert_eq!((&warm["token_ids"], &warm["text"]), (&cold["token_ids"], &cold["text"]));
}

/// The counters of a tier.
pub fn tier<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let tiers = answer["cache"]["tiers"].as_array().unwrap();
    tiers.iter().find(|tier| tier["tier"] == name).unwrap_or_else(|| panic!("no tier {name}: {tiers:?}"))
}

/// All files below a folder whose names end with `suffix`.
pub fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let found = paths.flat_map(|path| match path.is_dir() {
        true => files(&path, suffix),
        false => vec![path].into_iter().filter(|path| str_of(path).ends_with(suffix)).collect(),
    });
    found.collect()
}
