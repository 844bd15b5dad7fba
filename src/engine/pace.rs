//! How many prompt tokens a step takes: as many as the adapter computes in a short time, so that a request to stop does
//! not wait longer. It is pure: it sees counts and milliseconds.

use super::choice::Rate;

/// Target time for the prompt tokens of a step, in milliseconds.
const MOMENT: f64 = 250.0;
/// Fewer tokens are never worth a step, however slow the adapter is. Chunks are multiples of this, since kernels
/// compute whole tiles.
pub const TILE: usize = 16;

#[derive(Debug, Clone)]
pub struct Pace {
    most: usize,
    /// Tokens a millisecond; `None` if every chunk is the largest.
    rate: Option<Rate>,
}

impl Pace {
    /// Always `most` tokens.
    pub fn fixed(most: usize) -> Self {
        Self { most, rate: None }
    }

    /// At most `most` tokens, by the measured speed; a single tile before the first measurement.
    pub fn measured(most: usize) -> Self {
        Self { most, rate: Some(Rate::default()) }
    }

    /// The largest number of tokens.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Tokens of the next step.
    pub fn chunk(&self) -> usize {
        let Some(rate) = &self.rate else { return self.most };
        let tokens = rate.ms(1.0).map_or(TILE, |ms| (MOMENT / ms) as usize / TILE * TILE);
        tokens.max(TILE).min(self.most)
    }

    /// Adds a measurement: a step of only `tokens` prompt tokens took so long. Less than a tile is ignored.
    pub fn measure(&mut self, tokens: usize, ms: f64) {
        if let Some(rate) = self.rate.as_mut().filter(|_| tokens >= TILE.min(self.most)) {
            rate.measure(tokens as f64, ms);
        }
    }
}
