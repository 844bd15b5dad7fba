//! What must not change a single bit on one adapter: how a prompt is cut, what runs beside it, how the cache came by its size.

use headstart::engine::EngineOptions;

use crate::support::engine::{generate, greedy, load, score_bits};
use crate::support::odd::{NAMES, Tiny};
use crate::support::{golden, model_path};

/// A prompt of `length` tokens that no page and no chunk divides, the same on every machine.
fn prompt(length: usize, vocabulary: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 17 + seed * 101 + 3) % vocabulary) as u32).collect()
}
