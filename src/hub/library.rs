//! The library: models that a short name stands for, as `models.json` lists them for this program, the npm package and the
//! chat page alike.

use serde::{Deserialize, Serialize};

use crate::kv::KvFormat;

const LIBRARY: &str = include_str!("../../models.json");
/// The model used where none is named: small, and checked in every release.
pub const DEFAULT: &str = "smollm2-135m";
/// Tokens of context for which the memory use is shown.
pub const CONTEXT: u64 = 4096;

/// How far a listed model was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Checked {
    /// This file was run, and gives what transformers gives.
    #[serde(rename = "run")]
    Run,
    /// So was the base model of the same size and format, not this file.
    #[serde(rename = "base run")]
    Base,
    /// A tiny checkpoint of its architecture gives what transformers gives; the model itself was not run.
    #[serde(rename = "not run")]
    Architecture,
}

/// One GGUF file on the hub.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// What a person types.
    pub name: String,
    title: String,
    /// `owner/name`
    pub repo: String,
    pub file: String,
    /// Of the file; the hub tells it where the list does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    pub license: String,
    pub checked: Checked,
    /// `general.architecture` of the file.
    architecture: String,
    /// Tokens the model was made for.
    pub context: u64,
    layers: u64,
    kv_heads: u64,
    head_dim: u64,
    vocab: u64,
    hidden: u64,
}

impl Listed {
    /// Bytes of keys and values of one token, in all layers, as they are kept by default.
    fn kv_bytes(&self) -> u64 {
        8 * self.layers * self.kv_heads * KvFormat::default().words(self.head_dim as usize) as u64
    }

    /// Bytes on the device, weights and KV of `tokens` tokens, or of as many as the context holds.
    pub fn memory(&self, tokens: u64) -> Option<u64> {
        Some(self.bytes? + self.kv_bytes() * tokens.min(self.context))
    }
}

/// The library, smallest model first.
pub fn available() -> Vec<Listed> {
    // The text is part of the program, and a test reads it.
    serde_json::from_str(LIBRARY).unwrap_or_default()
}

/// The model that `name` stands for.
pub fn find(name: &str) -> Option<Listed> {
    available().into_iter().find(|listed| listed.name == name)
}
