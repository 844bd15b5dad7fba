//! Whether stored KV is worth loading, by the rates measured so far. Pure.

use serde::{Deserialize, Serialize};

/// Units a millisecond, later measurements weighing more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    units: f64,
    ms: f64,
}

/// What a measurement still weighs when the next one comes.
const KEPT: f64 = 0.7;

impl Rate {
    /// Takes in that so many units took so many milliseconds.
    pub fn measure(&mut self, units: f64, ms: f64) {
        self.units = self.units * KEPT + units;
        self.ms = self.ms * KEPT + ms;
    }

    /// Whether it says anything.
    pub(crate) fn is_measured(&self) -> bool {
        [self.units, self.ms].iter().all(|value| value.is_finite() && *value > 0.0)
    }

    /// How long `units` are expected to take; none before the first measurement.
    pub fn ms(&self, units: f64) -> Option<f64> {
        (self.units > 0.0).then(|| self.ms / self.units * units)
    }

    /// Forgets some slowness, so that what was slow once is tried again one day.
    pub fn relent(&mut self) {
        self.ms *= 0.95;
    }
}

/// A block that a tier has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stored {
    /// Index of the tier.
    pub tier: usize,
    /// What it spares computing.
    pub tokens: usize,
    /// What is loaded for that, in tokens.
    pub size: usize,
}

/// How many of the leading `blocks` to load, each of so many bytes: as many as save most time. A rate that is unknown counts as worth
/// trying. O(blocks).
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
