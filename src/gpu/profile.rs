//! Times a recording command by command, with the device's timestamps or else the host's clock.

use std::time::Duration;

use web_time::Instant;

use super::{Buffer, Command, Cost, Dispatch, Gpu, Recording, readback::Staging};
use crate::error::Result;

/// One command and its time.
#[derive(Debug, Clone)]
pub struct Sample {
    /// A dispatch's kernel with its definitions, or `copy`.
    pub label: String,
    /// Its cost by formula.
    pub cost: Cost,
    /// Its duration.
    pub time: Duration,
}

/// One run of a recording.
#[derive(Debug, Clone)]
pub struct Timed {
    /// The commands in order. With a `stretch` they are dispatches only; without, every command is included, and its
    /// time contains the wait for the device.
    pub samples: Vec<Sample>,
    /// The span by the device's timestamps.
    pub stretch: Option<Stretch>,
}

/// The time from the first timestamp of a run to the last.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Its duration.
    pub whole: Duration,
    /// The part outside dispatches: copies, and gaps between dispatches.
    pub gaps: Duration,
}

/// Two timestamps for each dispatch of a recording.
pub(super) struct Queries {
    sets: Vec<(wgpu::QuerySet, u32)>,
}

/// Dispatches in a query set.
const OF_A_SET: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Bytes of the buffers used to measure the copy rate: more than caches hold.
const COPIED: u64 = 128 << 20;
const COPIES: u64 = 4;
const ROUNDS: usize = 4;

impl Queries {
    fn new(device: &wgpu::Device, dispatches: usize) -> Self {
        let set = |first: usize| {
            let count = 2 * (dispatches - first).min(OF_A_SET) as u32;
            let ty = wgpu::QueryType::Timestamp;
            (device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("profile"), ty, count }), count)
        };
        Self { sets: (0..dispatches).step_by(OF_A_SET).map(set).collect() }
    }

    /// The timestamps that the pass of a dispatch writes.
    pub(super) fn of(&self, dispatch: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = 2 * (dispatch % OF_A_SET) as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[dispatch / OF_A_SET].0,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }
}

impl Gpu {
    /// Runs and times `recording` once; its kernels must have been compiled. With timestamps it is one submit with one
    /// pass a dispatch. Without, every command is submitted and awaited on its own, which costs a round trip each.
    pub async fn profile(&mut self, recording: &Recording) -> Result<Timed> {
        self.poll_until(None)?;
        if self.caps().timestamps { self.by_device(recording).await } else { self.by_host(recording) }
    }

    async fn by_device(&mut self, recording: &Recording) -> Result<Timed> {
        let times = self.timestamps(recording).await?;
        let (mut gaps, mut end) = (0, 0);
        let mut samples = Vec::with_capacity(times.len());
        for (dispatch, [from, to]) in recording.dispatches().zip(times) {
            samples.push(Sample {
                label: dispatch.kernel.label(),
                cost: dispatch.cost,
                time: Duration::from_nanos(to.saturating_sub(from)),
            });
            gaps += from.saturating_sub(end);
            end = end.max(to);
        }
        let stretch = Stretch { whole: Duration::from_nanos(end), gaps: Duration::from_nanos(gaps) };
        Ok(Timed { samples, stretch: Some(stretch) })
    }

    fn by_host(&mut self, recording: &Recording) -> Result<Timed> {
        let mut samples = Vec::with_capacity(recording.commands.len());
        for command in &recording.commands {
            let start = Instant::now();
            let encoder = self.encode(std::slice::from_ref(command), None)?;
            self.queue.submit([encoder.finish()]);
            self.poll_until(None)?;
            let (label, cost) = match command {
                Command::Dispatch(dispatch) => (dispatch.kernel.label(), dispatch.cost),
                Command::Copy { from, to } => ("copy".into(), Cost { read: from.size, written: to.size, flops: 0 }),
            };
            samples.push(Sample { label, cost, time: start.elapsed() });
        }
        Ok(Timed { samples, stretch: None })
    }

    /// Bytes a second, counting reads and writes, at which the device copies one large buffer to another: the best of a
    /// few rounds. `None` without timestamps. `mark` is a repeatable dispatch that separates the rounds, so that its
    /// timestamps show when they end.
    ///
    /// # Errors
    /// [`Error::GpuMemory`](crate::error::Error::GpuMemory) if there is no memory for the buffers.
    pub(crate) async fn copy_rate(&mut self, mark: &Dispatch) -> Result<Option<f64>> {
        if !self.caps().timestamps {
            return Ok(None);
        }
        let from = self.copied().await?;
        let rate = match self.copied().await {
            Ok(to) => {
                let rate = self.rate_between(from, to, mark).await;
                self.free(to);
                rate
            }
            Err(error) => Err(error),
        };
        self.free(from);
        rate
    }

    async fn copied(&mut self) -> Result<Buffer> {
        self.alloc("a buffer to measure copies with", COPIED.min(self.caps().max_buffer), "free GPU memory").await
    }

    async fn rate_between(&mut self, from: Buffer, to: Buffer, mark: &Dispatch) -> Result<Option<f64>> {
        let mut recording = Recording { commands: vec![Command::Dispatch(mark.clone())] };
        for _ in 0..ROUNDS {
            (0..COPIES).for_each(|_| recording.copy(from.whole(), to.whole()));
            recording.commands.push(Command::Dispatch(mark.clone()));
        }
        let times = self.timestamps(&recording).await?;
        let rounds = times.windows(2).map(|marks| marks[1][0].saturating_sub(marks[0][1]));
        let bytes = 2 * COPIES * from.size;
        Ok(rounds.filter(|&nanoseconds| nanoseconds > 0).min().map(|least| bytes as f64 / (least as f64 * 1e-9)))
    }

    /// Runs `recording` in one submit. Returns when each dispatch began and ended, in nanoseconds since the first
    /// began.
    async fn timestamps(&mut self, recording: &Recording) -> Result<Vec<[u64; 2]>> {
        let count = recording.dispatches().count();
        let queries = Queries::new(&self.device, count);
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.create("timestamps", 16 * count.max(1) as u64, usage, "free GPU memory").await?;
        let mut encoder = self.encode(&recording.commands, Some(&queries))?;
        for (at, (set, count)) in (0..).zip(&queries.sets) {
            encoder.resolve_query_set(set, 0..*count, &resolved, at * 16 * OF_A_SET as u64);
        }
        let reading = self.send_for(encoder, resolved.slice(..), &Staging::default()).await?;
        let words = self.finish_reading(reading).await?;
        let ticks: Vec<u64> = words.chunks_exact(2).map(|tick| u64::from(tick[0]) | u64::from(tick[1]) << 32).collect();
        let (first, period) = (ticks[0], f64::from(self.queue.get_timestamp_period()));
        let since = |tick: u64| (tick.saturating_sub(first) as f64 * period).round() as u64;
        Ok(ticks.chunks_exact(2).take(count).map(|pair| [since(pair[0]), since(pair[1])]).collect())
    }
}
