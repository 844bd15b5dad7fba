//! Decides whether stored KV is worth loading, by the rates measured so far. It is a pure function.

use serde::{Deserialize, Serialize};

/// Units a millisecond. Later measurements have more weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    units: f64,
    ms: f64,
}

/// The weight that earlier measurements keep when a new one arrives.
const KEPT: f64 = 0.7;

impl Rate {
    /// Adds a measurement: `units` took `ms` milliseconds.
    pub fn measure(&mut self, units: f64, ms: f64) {
        self.units = self.units * KEPT + units;
        self.ms = self.ms * KEPT + ms;
    }

    /// Whether anything was measured.
    pub(crate) fn is_measured(&self) -> bool {
        [self.units, self.ms].iter().all(|value| value.is_finite() && *value > 0.0)
    }

    /// The expected milliseconds for `units`; `None` before the first measurement.
    pub fn ms(&self, units: f64) -> Option<f64> {
        (self.units > 0.0).then(|| self.ms / self.units * units)
    }

    /// Raises the rate a little, so that a tier that was slow once is tried again eventually.
    pub fn relent(&mut self) {
        self.ms *= 0.95;
    }
}

/// A block that a tier has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stored {
    /// Index of the tier.
    pub tier: usize,
    /// The tokens that it saves from computing.
    pub tokens: usize,
    /// The tokens that are loaded for that.
    pub size: usize,
}

/// How many of the leading `blocks`, each with its bytes, to load: the number that saves most time. A tier with an
/// unknown rate is worth trying. O(blocks).
pub fn worthwhile(blocks: &[(Stored, f64)], prefill: &Rate, tiers: &[Rate]) -> usize {
    let (mut saved, mut most, mut count) = (0.0, 0.0, 0);
    for (index, (block, bytes)) in blocks.iter().enumerate() {
        let computing = prefill.ms(block.tokens as f64);
        let loading = tiers[block.tier].ms(*bytes);
        let gain = computing.zip(loading).map_or(0.0, |(computing, loading)| computing - loading);
        saved += gain;
        if saved >= most {
            (most, count) = (saved, index + 1);
        }
    }
    count
}
