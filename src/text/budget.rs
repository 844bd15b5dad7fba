//! Limits the time and memory that one text may cost on its way to tokens.
//!
//! A tokenizer's steps come from outside: a pattern may backtrack for years, and a replacement that doubles a text a few dozen
//! times fills any memory. The output of a step is counted before it is made, and the clock is read between pieces. Both limits
//! grow with the text, and are far above what the steps of a sound file cost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use web_time::Instant;

/// `Err` is a sentence about the step that failed.
pub(super) type Outcome<T> = Result<T, String>;

/// Any text may grow to `FLOOR` bytes, and to `GROWTH` times its own length.
const FLOOR: usize = 4 << 20;
const GROWTH: usize = 8;
/// Any text may take `PATIENCE`, and `PER_BYTE` more for each byte.
const PATIENCE: Duration = Duration::from_secs(4);
const PER_BYTE: Duration = Duration::from_micros(2);
/// Work between two reads of the clock: each piece counts as its bytes plus `PIECE`.
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
    /// The budget of a text of `bytes` bytes.
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

    /// Counts work on a piece of `bytes` bytes. `Err` if the time is up.
    pub(crate) fn work(&self, bytes: usize) -> Outcome<()> {
        if self.done.fetch_add(PIECE + bytes, Ordering::Relaxed) + PIECE + bytes < STRIDE {
            return Ok(());
        }
        self.done.store(0, Ordering::Relaxed);
        self.time()
    }

    /// `Err` if the time is up.
    pub(crate) fn time(&self) -> Outcome<()> {
        match Instant::now() < self.ends {
            true => Ok(()),
            false => Err("it does not come to an end".into()),
        }
    }

    /// `Err` if a step may not make `bytes` bytes from one piece.
    pub(crate) fn fits(&self, bytes: usize) -> Outcome<()> {
        match bytes <= self.most {
            true => Ok(()),
            false => Err(format!("it makes more than {} bytes of the text", self.most)),
        }
    }

    /// Counts the `bytes` that a piece has become. `Err` if the text has grown beyond its limit.
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

    /// Remembers the first failure of a step, for callers that drop it.
    pub(crate) fn note<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        if let Err(problem) = &outcome {
            self.failed.get_or_init(|| problem.clone());
        }
        outcome
    }

    /// `Err` with the first failure that was noted.
    pub(crate) fn outcome(&self) -> Outcome<()> {
        self.failed.get().cloned().map_or(Ok(()), Err)
    }
}
