//! Where a prompt's KV came from and, for what had to be computed, why.
//!
//! `Report` accounts for every prompt token once. `divergence` tells whose text diverged from what is known.

use serde::Serialize;

/// Prompt tokens by where their KV came from; they add up to the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// From pages on the GPU.
    pub gpu: usize,
    /// From host memory.
    pub memory: usize,
    /// From a directory, or a browser's storage.
    pub disk: usize,
    /// From a store on another machine.
    pub remote: usize,
    /// From a prefix pack.
    pub pack: usize,
    /// Prefilled.
    pub computed: usize,
}

/// Why tokens were not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Never seen, or forgotten too long ago to remember.
    Cold,
    /// What is known goes on with other tokens.
    Diverged,
    /// The known prefix was shorter than is worth reusing.
    BelowMin,
    /// Known once; its room was needed for something else.
    Evicted,
    /// Known once; no store kept it.
    NotKept,
    /// Stored in files that belong to another user, which are not used.
    AnotherUsers,
    /// Known once; not used within its time to live.
    Expired,
    /// Known for another model, adapter or numeric setting: the field that differs.
    NamespaceChanged {
        /// The tag of the field: `weights`, `rope`, …
        field: &'static str,
    },
    /// Known under another salt.
    Salt,
    /// Stored, but the bytes were not what their digest says.
    Integrity,
    /// Stored, as far as is known, but loading would have taken longer than allowed.
    Deadline,
    /// Stored, but loading is slower than computing, by the rates measured so far.
    SlowerThanComputing,
    /// Written by decode kernels, which exact reuse leaves out.
    DecodeWritten,
    /// Known, but the model keeps a state beside keys and values, which is there only where a block, a prompt or an answer ended.
    NoState,
}

/// A run of prompt tokens that could have been reused and was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// Why they were computed.
    #[serde(flatten)]
    pub reason: Reason,
    /// Index of the first token.
    pub from: usize,
    /// How many there are, at least 1.
    pub tokens: usize,
}

/// The account of one request's prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// All of the prompt.
    pub prompt_tokens: usize,
    /// Where each of them came from.
    pub sources: Sources,
    /// In prompt order. Tokens that are computed because logits need them are in none.
    pub misses: Vec<Miss>,
    /// The first prompt token for which another continuation is known.
    pub first_divergent: Option<usize>,
    /// What was stored beyond the pages, and whether loading it was expected to pay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// What is known to follow there, as `Cache::known_continuation` gives it; empty unless somebody looked.
    #[serde(skip)]
    pub known: Vec<u32>,
}

/// Whether a run of stored tokens was loaded, by the time that loading and computing them was expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Where they are stored.
    pub tier: Tier,
    /// How many there are.
    pub tokens: usize,
    /// They were to be loaded; otherwise computing was expected to be faster.
    pub load: bool,
    /// From the rates measured so far; none before the first measurement.
    pub load_ms: Option<f64>,
    /// The same for computing them.
    pub prefill_ms: Option<f64>,
}

/// A tier below the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Host memory.
    Memory,
    /// A directory, or a browser's storage.
    Disk,
    /// A store on another machine.
    Remote,
    /// A prefix pack.
    Pack,
}

impl Report {
    /// Prompt tokens that came from somewhere.
    pub fn reused(&self) -> usize {
        self.prompt_tokens - self.sources.computed
    }

    /// Prompt tokens that were computed although nothing was missing: the answer begins with their logits. None where nothing was
    /// looked for.
    pub fn needed(&self) -> usize {
        let missed: usize = self.misses.iter().map(|miss| miss.tokens).sum();
        if missed + self.reused() == 0 { 0 } else { self.sources.computed - missed }
    }

    /// Accounts for the next `tokens` computed tokens as loaded from a tier instead. No more than are computed.
    #[doc(hidden)]
    pub fn load(&mut self, tier: Tier, tokens: usize) {
        let tokens = tokens.min(self.sources.computed);
        let begin = self.reused();
        self.take_misses(tokens);
        self.first_divergent = self.first_divergent.filter(|&at| at >= begin + tokens);
        self.sources.computed -= tokens;
        *match tier {
            Tier::Memory => &mut self.sources.memory,
            Tier::Disk => &mut self.sources.disk,
            Tier::Remote => &mut self.sources.remote,
            Tier::Pack => &mut self.sources.pack,
        } += tokens;
    }

    /// Gives the next `tokens` missed tokens a reason that a tier found. No more than the misses hold.
    #[doc(hidden)]
    pub fn blame(&mut self, reason: Reason, tokens: usize) {
        let (from, tokens) = self.take_misses(tokens);
        if tokens > 0 {
            self.misses.insert(0, Miss { reason, from, tokens });
        }
    }

    /// The first miss of which what is stored may tell more: the tokens were never seen, or others are known in their place
    /// and nobody said which.
    pub(crate) fn unexplained(&self) -> Option<usize> {
        self.misses.iter().position(|miss| match miss.reason {
            Reason::Cold => true,
            Reason::Diverged => self.known.is_empty(),
            _ => false,
        })
    }

    /// Gives what is not remembered before token `end` a reason that a tier remembers. In prompt order.
    pub(crate) fn remember(&mut self, end: usize, reason: Reason) {
        let Some(at) = self.misses.iter().position(|miss| miss.reason == Reason::Cold) else { return };
        let Miss { from, tokens, .. } = self.misses[at];
        let known = end.saturating_sub(from).min(tokens);
        let cold = Miss { reason: Reason::Cold, from: from + known, tokens: tokens - known };
        self.misses.splice(at..=at, [Miss { reason, from, tokens: known }, cold]);
        self.misses.retain(|miss| miss.tokens > 0);
        self.misses.dedup_by(|next, miss| {
            let same = next.reason == miss.reason;
            miss.tokens += if same { next.tokens } else { 0 };
            same
        });
    }

    /// Takes tokens from the front of the misses: where they began and how many there were.
    fn take_misses(&mut self, tokens: usize) -> (usize, usize) {
        let from = self.misses.first().map_or(0, |miss| miss.from);
        let mut left = tokens;
        for miss in &mut self.misses {
            let taken = left.min(miss.tokens);
            (miss.from, miss.tokens, left) = (miss.from + taken, miss.tokens - taken, left - taken);
        }
        self.misses.retain(|miss| miss.tokens > 0);
        (from, tokens - left)
    }
}
