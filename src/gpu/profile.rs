//! Where the time goes: a recording replayed one command at a time, each waited for.

use std::time::Duration;

use web_time::Instant;

use super::{Command, Gpu, Recording};
use crate::error::Result;

/// Time of one command, the wait for the device included.
#[derive(Debug, Clone)]
pub struct Sample {
    pub label: String,
    pub time: Duration,
}

impl Gpu {
    /// Replays `recording` command by command. Slower than [`Gpu::submit`] by one round trip a command.
    pub(crate) fn profile(&mut self, recording: &Recording) -> Result<Vec<Sample>> {
        self.poll_until(None)?;
        let mut samples = Vec::with_capacity(recording.commands.len());
        for command in &recording.commands {
            let start = Instant::now();
            let encoder = self.encode(std::slice::from_ref(command))?;
            self.queue.submit([encoder.finish()]);
            self.poll_until(None)?;
            let label = match command {
                Command::Dispatch(dispatch) => dispatch.kernel.label(),
                Command::Copy { .. } => "copy".into(),
            };
            samples.push(Sample { label, time: start.elapsed() });
        }
        Ok(samples)
    }
}
