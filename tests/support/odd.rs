//! The tiny random models of `tests/golden/`: directories of `save_pretrained`, with the logits of every position.

use std::path::PathBuf;

use serde::Deserialize;

use super::golden::{self, Reference};
use super::npy;

pub const NAMES: [&str; 14] = [
    "tiny-odd-f16",
    "tiny-wide-bf16",
    "tiny-wide-f32",
    "tiny-qwen2-bf16",
    "tiny-qwen3-f16",
    "tiny-smollm3-f16",
    "tiny-gemma2-f16",
    "tiny-gemma3-f16",
    "tiny-olmo2-f16",
    "tiny-granite-f16",
    "tiny-mistral-f16",
    "tiny-phi3-f16",
    "tiny-lfm2-f16",
    "tiny-qwen3-moe-f16",
];

/// Models with the kernels of [`NAMES`], but with other sizes and tensor names.
pub const MORE: [&str; 7] = [
    "tiny-yarn-f16",
    "tiny-phi4-f16",
    "tiny-granite4-f16",
    "tiny-granite4-nope-f16",
    "tiny-ministral-f16",
    "tiny-gemma3-whole-f16",
    "tiny-qwen3-some-f16",
];

/// Models included for their GGUF files; larger ones of their families cover everything else.
const SMALL: [&str; 3] = ["tiny-llama-f16", "tiny-qwen2-f16", "tiny-smollm3-small-f16"];

pub fn all() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(MORE).chain(SMALL)
}

/// Those that also exist as a GGUF file, `NAME.gguf`.
pub const GGUFS: [&str; 15] = [
    "tiny-qwen3-f16",
    "tiny-gemma2-f16",
    "tiny-gemma3-f16",
    "tiny-olmo2-f16",
    "tiny-granite-f16",
    "tiny-phi3-f16",
    "tiny-lfm2-f16",
    "tiny-qwen3-moe-f16",
    "tiny-yarn-f16",
    "tiny-phi4-f16",
    "tiny-granite4-f16",
    "tiny-granite4-nope-f16",
    "tiny-llama-f16",
    "tiny-qwen2-f16",
    "tiny-smollm3-small-f16",
];

#[derive(Deserialize)]
struct Record {
    half_cache_max_delta: f32,
    #[serde(flatten)]
    reference: Reference,
}

pub struct Tiny {
    pub folder: PathBuf,
    pub reference: Reference,
    pub vocabulary: usize,
    /// `[positions, vocabulary]`.
    pub logits: Vec<f32>,
    /// Three times the effect of rounding K and V to f16 on the reference itself (0.002 to 0.005). The engine rounds at the
    /// same places, and another order of f32 sums has far less effect.
    pub tolerance: f32,
}

impl Tiny {
    pub fn read(name: &str) -> Self {
        let folder = golden::folder(name);
        let record: Record = golden::json(&folder.join("reference.json"));
        let (shape, logits) = npy::read(&folder.join("logits.npy"));
        let tolerance = 3.0 * record.half_cache_max_delta;
        assert!(tolerance < golden::TOLERANCE, "{name}: {tolerance}");
        Self { folder, reference: record.reference, vocabulary: shape[1], logits, tolerance }
    }

    /// The same model with contexts shorter than the original one, for its short list.
    pub fn short(self) -> Self {
        let (shape, logits) = npy::read(&self.folder.join("short.npy"));
        Self { reference: golden::json(&self.folder.join("short.json")), vocabulary: shape[1], logits, ..self }
    }

    pub fn row(&self, position: usize) -> &[f32] {
        &self.logits[position * self.vocabulary..][..self.vocabulary]
    }
}
