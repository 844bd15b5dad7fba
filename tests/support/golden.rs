//! The committed references of `tests/golden/`, and the comparison that every model goes through.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::npy;

/// The largest allowed difference of a logit from the reference. Rounding K and V to f16 alone moves the last logits of SmolLM2
/// by up to 0.024, and those of any position by up to 0.028 (`make/smollm2.py` prints it). The rest is a margin for the order
/// of sums, not for another approximation.
pub const TOLERANCE: f32 = 0.05;

/// If the reference's two best logits are closer than this, either token may win.
const TIE: f32 = 0.05;

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One prompt and transformers' results for it.
#[derive(Deserialize)]
pub struct Reference {
    pub ids: Vec<u32>,
    pub greedy32: Vec<u32>,
    /// The gap between the two best logits at each greedy step.
    pub greedy_top2_gap: Vec<f32>,
    pub argmax_every_position: Vec<u32>,
    #[serde(default)]
    pub top2_gap_every_position: Vec<f32>,
    /// The file with the full logits of the last position, beside the JSON.
    pub logits_file: Option<PathBuf>,
    /// The best logits of the last position, if the full ones are not kept.
    #[serde(default)]
    pub last_top: Vec<(u32, f32)>,
}

/// `golden.json`: the prompts as text, on the GGUF's weights.
#[derive(Deserialize)]
pub struct Golden {
    /// The messages whose rendering is the prompt `chat`.
    pub chat_messages: serde_json::Value,
    pub prompts: BTreeMap<String, Prompt>,
}

#[derive(Deserialize)]
pub struct Prompt {
    pub text: String,
    pub greedy_text: String,
    #[serde(flatten)]
    pub reference: Reference,
}

impl Golden {
    pub fn read() -> Self {
        let mut golden: Self = json(&folder("golden.json"));
        let mut positions: BTreeMap<String, Vec<f32>> = json(&folder("positions.json"));
        for (name, prompt) in &mut golden.prompts {
            prompt.reference.top2_gap_every_position = positions.remove(name).unwrap();
        }
        golden
    }
}

/// The larger of two differences, or NaN if either is NaN, which `f32::max` would drop.
pub fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || a >= b { a } else { b }
}

/// Known logits of one position: the whole row or the best.
pub enum Known<'a> {
    Row(&'a [f32]),
    Top(&'a [(u32, f32)]),
}

impl Known<'_> {
    pub fn max_delta(&self, logits: &[f32]) -> f32 {
        let worst = |deltas: &mut dyn Iterator<Item = f32>| deltas.fold(0.0, worse);
        match self {
            Self::Row(row) => {
                assert_eq!(row.len(), logits.len(), "vocabulary");
                worst(&mut row.iter().zip(logits).map(|(a, b)| (a - b).abs()))
            }
            Self::Top(top) => worst(&mut top.iter().map(|(id, a)| (a - logits[*id as usize]).abs())),
        }
    }
}

/// The problems with an engine's answers, collected so that one run reports all.
#[derive(Default)]
pub struct Report {
    pub problems: Vec<String>,
}

impl Report {
    pub fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Whether `delta` is within `tolerance`; NaN is not.
    pub fn delta(&mut self, what: &str, delta: f32, tolerance: f32) {
        println!("{what}: max |Δ logit| {delta:.5} (allowed {tolerance:.5})");
        self.check(delta <= tolerance, || format!("{what}: max |Δ logit| {delta} > {tolerance}"));
    }

    /// Checks the best token of every position, except where the reference has a tie.
    pub fn argmax(&mut self, what: &str, reference: &Reference, found: &[u32]) {
        self.check(found.len() == reference.ids.len(), || format!("{what}: {} positions scored", found.len()));
        let expected = reference.argmax_every_position.iter().zip(&reference.top2_gap_every_position);
        for (at, ((expected, gap), found)) in expected.zip(found).enumerate() {
            self.check(expected == found || *gap < TIE, || {
                format!("{what}: position {at}: best token {found}, reference {expected} (gap {gap})")
            });
        }
    }

    /// Checks the greedy tokens up to a tie at which they may differ.
    pub fn greedy(&mut self, what: &str, reference: &Reference, found: &[u32]) {
        self.check(found.len() == reference.greedy32.len(), || format!("{what}: {} greedy tokens", found.len()));
        let parted = reference.greedy32.iter().zip(found).position(|(a, b)| a != b);
        let Some(at) = parted else { return println!("{what}: greedy tokens equal") };
        let (gap, expected) = (reference.greedy_top2_gap[at], reference.greedy32[at]);
        println!("{what}: greedy tokens differ from {at} on, where the reference's gap is {gap}");
        self.check(gap < TIE, || format!("{what}: greedy step {at}: {}, reference {expected} (gap {gap})", found[at]));
    }

    pub fn finish(self) {
        assert!(self.problems.is_empty(), "{} problems:\n{}", self.problems.len(), self.problems.join("\n"));
    }
}

/// The index of the largest logit; of equal ones the first.
pub fn argmax(logits: &[f32]) -> u32 {
    let best = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).fold(0, best) as u32
}

/// Full logits of a prompt's last position, if they are kept.
pub fn last_logits(folder: &Path, reference: &Reference) -> Option<Vec<f32>> {
    Some(npy::read(&folder.join(reference.logits_file.as_ref()?)).1)
}
