//! Where a prompt's KV came from and, for what had to be computed, why.
//!
//! `Report` accounts for every prompt token once.

use serde::Serialize;

/// Prompt tokens by where their KV came from; they add up to the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    pub gpu: usize,
    pub memory: usize,
    pub disk: usize,
    pub remote: usize,
    pub pack: usize,
    pub computed: usize,
}

/// Why tokens were not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Never seen, or forgotten too long ago to remember.
    Cold,
    /// What is known goes on with other tokens.
    Diverged,
    /// The known prefix was shorter than is worth reusing.
    BelowMin,
    /// Known once; its pages were needed for something else.
    Evicted,
    /// Known once; not used within its time to live.
    Expired,
    /// Known for another model, adapter or numeric setting: the field that differs.
    NamespaceChanged { field: &'static str },
    /// Known under another salt.
    Salt,
    /// Stored, but the bytes were not what their digest says.
    Integrity,
    /// Stored, but loading would have taken longer than allowed, or than computing.
    Deadline,
    /// Written by decode kernels, which exact reuse leaves out.
    DecodeWritten,
}

/// A run of prompt tokens that could have been reused and was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    pub reason: Reason,
    /// Index of the first token.
    pub from: usize,
    pub tokens: usize,
}

/// The account of one request's prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub prompt_tokens: usize,
    pub sources: Sources,
    /// In prompt order. Tokens that are computed because logits need them are in none.
    pub misses: Vec<Miss>,
    /// The first prompt token for which another continuation is known.
    pub first_divergent: Option<usize>,
}
