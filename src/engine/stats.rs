//! The cost of decoding, in figures that are the same on every GPU.

use crate::gpu::context::Tally;

/// Means over the decode steps so far, except for the last field. A decode step has only decode rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Counters {
    /// Dispatches of compute shaders.
    pub dispatches_per_token: f64,
    /// Submits to the device's queue.
    pub submits_per_token: f64,
    /// Bind groups created; 0 in a steady state.
    pub bind_groups_created_per_token: f64,
    /// Bytes read back to the host.
    pub readback_bytes_per_token: f64,
    /// Bytes of weights on the GPU.
    pub weight_bytes: u64,
    /// Bytes that dispatches read by their formulas: weights, KV and activations.
    pub bytes_read_per_token: f64,
    /// Steps that were launched before the tokens of the previous step were known.
    pub steps_ahead: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stats {
    weight_bytes: u64,
    tokens: u64,
    ahead: u64,
    sum: Tally,
}

impl Stats {
    pub(crate) fn new(weight_bytes: u64) -> Self {
        Self { weight_bytes, tokens: 0, ahead: 0, sum: Tally::default() }
    }

    /// Counts a decode step of `tokens` rows between two tallies.
    pub(crate) fn decoded(&mut self, tokens: usize, before: Tally, after: Tally) {
        self.tokens += tokens as u64;
        self.sum.dispatches += after.dispatches - before.dispatches;
        self.sum.submits += after.submits - before.submits;
        self.sum.bind_groups_created += after.bind_groups_created - before.bind_groups_created;
        self.sum.bytes_read_back += after.bytes_read_back - before.bytes_read_back;
        self.sum.bytes_read += after.bytes_read - before.bytes_read;
    }

    /// Counts a step that was launched before the previous one was awaited.
    pub(crate) fn ahead(&mut self) {
        self.ahead += 1;
    }

    pub(crate) fn counters(&self) -> Counters {
        let mean = |count: u64| if self.tokens == 0 { 0.0 } else { count as f64 / self.tokens as f64 };
        Counters {
            dispatches_per_token: mean(self.sum.dispatches),
            submits_per_token: mean(self.sum.submits),
            bind_groups_created_per_token: mean(self.sum.bind_groups_created),
            readback_bytes_per_token: mean(self.sum.bytes_read_back),
            weight_bytes: self.weight_bytes,
            bytes_read_per_token: mean(self.sum.bytes_read),
            steps_ahead: self.ahead,
        }
    }
}
