//! A deadline and a circuit breaker without I/O: the caller supplies the time and does the waiting.
//!
//! Closed, it lets calls through, each with a deadline; an answer after the deadline is a failure. After a number of
//! failures in a row it opens and lets no call through until a pause is over. Then it is half open and lets one call
//! through as a probe. Success closes it; failure opens it again for twice as long, up to a limit. A probe whose
//! outcome is never reported (its future was dropped) stops blocking the next one once its deadline has passed.
//!
//! So a dead store costs at most `failures` deadlines, and then one deadline a pause.

/// When to stop calling a store, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it. At least 1.
    pub failures: u32,
    /// The longest that one call may take.
    pub deadline_ms: u64,
    /// The first pause; it doubles with every failed probe.
    pub pause_ms: u64,
    /// The longest pause.
    pub max_pause_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 3, deadline_ms: 250, pause_ms: 1_000, max_pause_ms: 60_000 }
    }
}

/// Whether calls go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All calls go through.
    Closed,
    /// No call goes through until the pause is over.
    Open,
    /// One probe may go through, or is in progress.
    HalfOpen,
}

/// A call that was let through. Its outcome is reported with [`Breaker::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The last millisecond at which an answer is accepted.
    pub deadline_ms: u64,
    epoch: u64,
}

impl Call {
    /// Milliseconds left, for the client's own timeout.
    pub fn left(&self, now_ms: u64) -> u64 {
        self.deadline_ms.saturating_sub(now_ms)
    }
}

/// Counts failures and decides whether a call may be made.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Counts state changes, so that the outcome of a call from an earlier state is ignored.
    epoch: u64,
    /// Failed probes in a row.
    relapses: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: u64 },
    Probing { deadline_ms: u64 },
}

impl Breaker {
    /// Closed.
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 }, epoch: 0, relapses: 0 }
    }

    /// Permission for a call now, or none.
    pub fn start(&mut self, now_ms: u64) -> Option<Call> {
        let deadline_ms = now_ms.saturating_add(self.config.deadline_ms);
        match self.state {
            State::Closed { .. } => {}
            State::Open { until_ms } if now_ms < until_ms => return None,
            State::Probing { deadline_ms } if now_ms <= deadline_ms => return None,
            State::Open { .. } | State::Probing { .. } => self.enter(State::Probing { deadline_ms }),
        }
        Some(Call { deadline_ms, epoch: self.epoch })
    }

    /// Reports the outcome of a call. False if the answer failed or came too late and must not be used.
    pub fn finish(&mut self, call: Call, now_ms: u64, ok: bool) -> bool {
        let ok = ok && now_ms <= call.deadline_ms;
        if call.epoch != self.epoch {
            return ok;
        }
        match (ok, self.state) {
            (true, State::Closed { .. }) => self.state = State::Closed { failures: 0 },
            (true, _) => {
                self.relapses = 0;
                self.enter(State::Closed { failures: 0 });
            }
            (false, State::Closed { failures }) if failures + 1 < self.config.failures => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (false, state) => {
                self.relapses = if matches!(state, State::Closed { .. }) { 0 } else { self.relapses.saturating_add(1) };
                let pause =
                    self.config.pause_ms.saturating_mul(1 << self.relapses.min(32)).min(self.config.max_pause_ms);
                self.enter(State::Open { until_ms: now_ms.saturating_add(pause) });
            }
        }
        ok
    }

    /// The state at that time.
    pub fn state(&self, now_ms: u64) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until_ms } if now_ms < until_ms => BreakerState::Open,
            State::Open { .. } | State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}
