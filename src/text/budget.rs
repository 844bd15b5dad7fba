//! What one text may cost on its way to tokens: time, and the bytes that it becomes.
//!
//! A tokenizer's steps are outside data: a pattern may backtrack for years, and a replacement that doubles a text a few
//! dozen times over fills any memory. What a step makes is counted before it is made, and time is looked at between
//! pieces. Both bounds are far above what the steps of a sound file cost, and grow with the text.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use web_time::Instant;

/// What is wrong with a step, as a sentence about it.
pub(super) type Outcome<T> = Result<T, String>;

/// Bytes that any text may become, and how many times its own length.
const FLOOR: usize = 4 << 20;
const GROWTH: usize = 8;
/// How long any text may take, and what each of its bytes adds.
const PATIENCE: Duration = Duration::from_secs(4);
const PER_BYTE: Duration = Duration::from_micros(2);
/// What is done between two looks at the clock: a piece counts as many as it has bytes, and some more.
const STRIDE: usize = 1 << 12;
const PIECE: usize = 64;

pub(super) struct Budget {
    ends: Instant,
    most: usize,
    left: AtomicUsize,
    done: AtomicUsize,
    failed: OnceLock<String>,
}

impl Budget {
    /// For a text of `bytes`.
    pub(crate) fn of(bytes: usize) -> Self {
        let most = FLOOR.max(bytes.saturating_mul(GROWTH));
        let patience = PATIENCE + PER_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        Self {
            ends: Instant::now() + patience,
            most,
            left: AtomicUsize::new(most),
            done: AtomicUsize::new(0),
            failed: OnceLock::new(),
        }
    }

    /// Counts work on a piece of `bytes`. `Err` where the time is over.
    pub(crate) fn work(&self, bytes: usize) -> Outcome<()> {
        if self.done.fetch_add(PIECE + bytes, Ordering::Relaxed) + PIECE + bytes < STRIDE {
            return Ok(());
        }
        self.done.store(0, Ordering::Relaxed);
        self.time()
    }

    /// `Err` where the time is over.
    pub(crate) fn time(&self) -> Outcome<()> {
        match Instant::now() < self.ends {
            true => Ok(()),
            false => Err("it does not come to an end".into()),
        }
    }

    /// Whether a step may make `bytes` of one piece.
    pub(crate) fn fits(&self, bytes: usize) -> Outcome<()> {
        match bytes <= self.most {
            true => Ok(()),
            false => Err(format!("it makes more than {} bytes of the text", self.most)),
        }
    }

    /// Counts the `bytes` that a piece has become.
    pub(crate) fn keep(&self, bytes: usize) -> Outcome<()> {
        let left = self.left.load(Ordering::Relaxed).checked_sub(bytes);
        match left {
            Some(left) => {
                self.left.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => Err(format!("it makes more than {} bytes of the text", self.most)),
        }
    }

    /// Remembers a failure where the caller of a step drops it; the first one counts.
    pub(crate) fn note<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        if let Err(problem) = &outcome {
            self.failed.get_or_init(|| problem.clone());
        }
        outcome
    }

    /// `Err` where a step has failed.
    pub(crate) fn outcome(&self) -> Outcome<()> {
        self.failed.get().cloned().map_or(Ok(()), Err)
    }
}
