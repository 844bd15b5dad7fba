//! How many prompt tokens a step takes: as many as the adapter computes in a moment, so that who stops waits no longer.
//! Pure: it sees counts and milliseconds.

use super::choice::Rate;

/// A step's prompt tokens are to take no longer, in milliseconds.
const MOMENT: f64 = 250.0;
/// Fewer tokens than this are never worth a step of their own, however slow the adapter; chunks are multiples of it, as
/// kernels compute whole tiles.
pub const TILE: usize = 16;

#[derive(Debug, Clone)]
pub struct Pace {
    most: usize,
    /// Tokens a millisecond; `None` where every chunk is the largest.
    rate: Option<Rate>,
}

impl Pace {
    /// Always `most` tokens.
    pub fn fixed(most: usize) -> Self {
        Self { most, rate: None }
    }

    /// At most `most` tokens, by the speed measured; a single tile until something was.
    pub fn measured(most: usize) -> Self {
        Self { most, rate: Some(Rate::default()) }
    }

    /// The most tokens that there ever are.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Tokens of the next step.
    pub fn chunk(&self) -> usize {
        let Some(rate) = &self.rate else { return self.most };
        let tokens = rate.ms(1.0).map_or(TILE, |ms| (MOMENT / ms) as usize / TILE * TILE);
        tokens.max(TILE).min(self.most)
    }

    /// A step of `tokens` prompt tokens and nothing else took so long. Less than a tile measures nothing.
    pub fn measure(&mut self, tokens: usize, ms: f64) {
        if let Some(rate) = self.rate.as_mut().filter(|_| tokens >= TILE.min(self.most)) {
            rate.measure(tokens as f64, ms);
        }
    }
}
