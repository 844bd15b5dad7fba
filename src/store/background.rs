//! A store with threads of its own, so that decoding never waits for a disk or a network.
//!
//! Two threads each have their own access to the same store: one reads, one writes, so no read waits for a write. A
//! value that is put is queued within a budget of bytes, and reads see it at once; a value that does not fit is dropped
//! and counted. No caller waits longer than the deadline, whatever the store does. While the store hangs in a call past
//! its deadline, further calls fail at once. After some failures in a row the store is not used for a while; reads and
//! writes each have their own [`Breaker`]. Values put meanwhile are dropped.
//!
//! Cost: two threads, and no copy of a value. A store that hangs for ever blocks its thread for ever.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use pollster::block_on;

use super::reply::{Reply, locked};
use super::{
    BoxFuture, Breaker, BreakerConfig, Bytes, Call, Deadline, Record, Store, StoreAnswer, StoreError, StoreKey,
    StoreUsage,
};

/// Bounds on the queue and on waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundConfig {
    /// Bytes that may wait to be written.
    pub queue_bytes: u64,
    /// The breaker of reads, and of all else that is not a write.
    pub reads: BreakerConfig,
    /// The breaker of writes; `None` makes the store read-only.
    pub writes: Option<BreakerConfig>,
    /// The longest that flushing, clearing and dropping wait.
    pub patience: Duration,
}

impl Default for BackgroundConfig {
    /// Suits a disk, which may have to spin up first.
    fn default() -> Self {
        let reads = BreakerConfig { deadline_ms: 5_000, ..BreakerConfig::default() };
        Self { queue_bytes: 256 << 20, reads, writes: Some(reads), patience: Duration::from_secs(30) }
    }
}

/// A store with two threads. No caller waits longer than a deadline.
pub struct Background {
    name: &'static str,
    config: BackgroundConfig,
    reads: Lane,
    writes: Lane,
    shared: Arc<Shared>,
}

/// A thread that runs one job after the other on its access to the store.
struct Lane {
    /// The index of its counters.
    index: usize,
    jobs: Sender<Job>,
    breaker: Arc<Mutex<Breaker>>,
    /// When the current job began.
    busy: Arc<Mutex<Option<Instant>>>,
}

const READS: usize = 0;
const WRITES: usize = 1;
const QUEUE: usize = 2;

type Job = Box<dyn FnOnce(&dyn Store) + Send>;

struct Shared {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Values that are queued or being written.
    values: HashMap<StoreKey, Arc<Value>>,
    bytes: u64,
    /// Unfinished jobs of the writing thread, and how many of them update manifests.
    jobs: usize,
    records: usize,
    flushing: Vec<Waker>,
    /// The counters of each access after its last job, and those of the queue.
    usage: [StoreUsage; 3],
    problem: Option<String>,
}

struct Value {
    bytes: Bytes,
    ttl: Option<Duration>,
    /// Whether it must not replace a value that is present.
    new: bool,
}

impl Background {
    /// `reader` and `writer` access the same store.
    pub fn new<S: Store + Send + 'static>(reader: S, writer: S, config: BackgroundConfig) -> Self {
        Self {
            name: reader.name(),
            config,
            reads: Lane::start(reader, READS, config.reads),
            writes: Lane::start(writer, WRITES, config.writes.unwrap_or(config.reads)),
            shared: Arc::new(Shared { began: Instant::now(), state: Mutex::default() }),
        }
    }

    /// Runs `work` on the reading thread, within the deadline.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (shared, breaker) = (&self.shared, &self.reads.breaker);
        let call = locked(breaker).start(shared.now_ms()).ok_or(StoreError::Paused { store: self.name })?;
        let attempt =
            Attempt { shared: shared.clone(), breaker: breaker.clone(), call: Arc::new(Mutex::new(Some(call))) };
        let deadline = Duration::from_millis(self.config.reads.deadline_ms);
        let theirs = attempt.clone();
        let answer = match self.reads.hangs(deadline) {
            true => Err(self.late(deadline)),
            // The thread reports the outcome itself, in case the caller has gone: the caller may have stopped waiting
            // for other reasons.
            false => {
                let report = move |store: &dyn Store| {
                    let answer = work(store);
                    theirs.finish(answer.is_ok());
                    answer
                };
                self.ask(&self.reads, deadline, report).await
            }
        };
        attempt.finish(answer.is_ok());
        answer.inspect_err(|error| shared.fail(error))
    }

    /// Makes a problem that no call failed with the last one.
    #[cfg(feature = "remote")]
    pub(super) fn note(&self, problem: &StoreError) {
        self.shared.fail(problem);
    }

    fn late(&self, deadline: Duration) -> StoreError {
        StoreError::Late { store: self.name, ms: deadline.as_millis() as u64 }
    }

    async fn ask<T: Send + 'static>(
        &self,
        lane: &Lane,
        deadline: Duration,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reply = Reply::default();
        let (theirs, shared, index) = (reply.clone(), self.shared.clone(), lane.index);
        lane.send(move |store: &dyn Store| {
            if theirs.is_wanted() {
                let answer = work(store);
                shared.state().usage[index] = store.usage();
                theirs.give(answer);
            }
        });
        Deadline::after(deadline).bound(reply.wait()).await.unwrap_or_else(|| Err(self.late(deadline)))
    }

    fn writable(&self) -> Result<(), StoreError> {
        self.config.writes.map(drop).ok_or(StoreError::ReadOnly { store: self.name })
    }

    fn queue(&self, key: StoreKey, value: Value) -> Result<(), StoreError> {
        self.writable()?;
        let mut state = self.shared.state();
        let before = state.values.get(&key);
        if before.is_some() && value.new {
            return Ok(());
        }
        let bytes = state.bytes - before.map_or(0, |before| before.bytes.len() as u64) + value.bytes.len() as u64;
        if bytes > self.config.queue_bytes {
            return Err(StoreError::QueueFull { store: self.name, bytes: state.bytes });
        }
        state.bytes = bytes;
        state.values.insert(key, Arc::new(value));
        drop(state);
        let (shared, breaker) = (self.shared.clone(), self.writes.breaker.clone());
        self.later(move |store| shared.write(store, key, &breaker));
        Ok(())
    }

    /// Queues a job for the writing thread.
    fn later(&self, work: impl FnOnce(&dyn Store) + Send + 'static) {
        self.shared.state().jobs += 1;
        let shared = self.shared.clone();
        self.writes.send(move |store: &dyn Store| {
            work(store);
            let mut state = shared.state();
            state.usage[WRITES] = store.usage();
            state.jobs -= 1;
            if state.jobs == 0 {
                state.flushing.drain(..).for_each(Waker::wake);
            }
        });
    }

    async fn written(&self) {
        poll_fn(|context| {
            let mut state = self.shared.state();
            if state.jobs == 0 {
                return Poll::Ready(());
            }
            state.flushing.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Lane {
    fn start(store: impl Store + Send + 'static, index: usize, breaker: BreakerConfig) -> Self {
        let (jobs, todo) = channel::<Job>();
        let busy: Arc<Mutex<Option<Instant>>> = Arc::default();
        let mark = busy.clone();
        thread::spawn(move || {
            for job in todo {
                *locked(&mark) = Some(Instant::now());
                job(&store);
                *locked(&mark) = None;
            }
        });
        Self { index, jobs, breaker: Arc::new(Mutex::new(Breaker::new(breaker))), busy }
    }

    /// Whether the current job has taken longer than that.
    fn hangs(&self, longest: Duration) -> bool {
        locked(&self.busy).is_some_and(|began| began.elapsed() > longest)
    }

    /// If the thread has died, nothing happens, and callers run into the deadline.
    fn send(&self, job: impl FnOnce(&dyn Store) + Send + 'static) {
        let _ = self.jobs.send(Box::new(job));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn fail(&self, error: &StoreError) {
        self.state().note(error);
    }

    /// Runs `write`, unless the breaker is open.
    fn attempt(
        &self,
        store: &dyn Store,
        breaker: &Mutex<Breaker>,
        write: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let call = locked(breaker).start(self.now_ms()).ok_or(StoreError::Paused { store: store.name() })?;
        let written = write();
        let ok = matches!(written, Ok(()) | Err(StoreError::TooLarge { .. }));
        locked(breaker).finish(call, self.now_ms(), ok);
        written
    }

    /// Writes the value queued for `key`, if there still is one.
    fn write(&self, store: &dyn Store, key: StoreKey, breaker: &Mutex<Breaker>) {
        let Some(value) = self.state().values.get(&key).cloned() else { return };
        let Value { bytes, ttl, new } = &*value;
        let written = self.attempt(store, breaker, || match new {
            true => block_on(store.put_new(&key, bytes, *ttl)),
            false => block_on(store.put(&key, bytes, *ttl)),
        });
        let state = &mut *self.state();
        if let Err(error) = written {
            state.usage[QUEUE].dropped += 1;
            state.note(&error);
        }
        // It may have been replaced meanwhile.
        if state.values.get(&key).is_some_and(|queued| Arc::ptr_eq(queued, &value)) {
            state.forget(&key);
        }
    }
}

impl State {
    /// The failure that caused a pause says more than the pause.
    fn note(&mut self, error: &StoreError) {
        if self.problem.is_none() || !matches!(error, StoreError::Paused { .. }) {
            self.problem = Some(error.to_string());
        }
    }

    /// Whether values or records are still unwritten.
    fn is_waiting(&self) -> bool {
        !self.values.is_empty() || self.records > 0
    }

    fn forget(&mut self, key: &StoreKey) {
        self.bytes -= self.values.remove(key).map_or(0, |value| value.bytes.len() as u64);
    }

    fn give_up(&mut self) {
        self.usage[QUEUE].dropped += self.values.len() as u64;
        self.values.clear();
        self.bytes = 0;
    }
}

/// Waits for the queue to be written, within `patience`. The threads end on their own afterwards.
impl Drop for Background {
    fn drop(&mut self) {
        let waits = self.shared.state().is_waiting();
        if waits {
            let _ = block_on(self.flush());
        }
    }
}

/// A call in progress. The breaker is told the outcome once, by whoever knows it first: the thread or its caller.
#[derive(Clone)]
struct Attempt {
    shared: Arc<Shared>,
    breaker: Arc<Mutex<Breaker>>,
    call: Arc<Mutex<Option<Call>>>,
}

impl Attempt {
    fn finish(&self, ok: bool) {
        if let Some(call) = locked(&self.call).take() {
            locked(&self.breaker).finish(call, self.shared.now_ms(), ok);
        }
    }
}

impl Store for Background {
    fn name(&self) -> &'static str {
        self.name
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.get_many(std::slice::from_ref(key), usize::MAX).await?.pop().flatten()) })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let start = |bytes: &Bytes| bytes.slice(..bytes.len().min(most));
            let queued = |key| Some(start(&self.shared.state().values.get(key)?.bytes));
            let mut values: Vec<Option<Bytes>> = keys.iter().map(queued).collect();
            let open: Vec<usize> = (0..keys.len()).filter(|&i| values[i].is_none()).collect();
            if !open.is_empty() {
                let keys: Vec<StoreKey> = open.iter().map(|&i| keys[i]).collect();
                let found = self.read(move |store| block_on(store.get_many(&keys, most))).await?;
                open.into_iter().zip(found).for_each(|(i, value)| values[i] = value);
            }
            Ok(values)
        })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move { self.queue(*key, Value { bytes: bytes.clone(), ttl, new: false }) })
    }

    fn put_new<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move { self.queue(*key, Value { bytes: bytes.clone(), ttl, new: true }) })
    }

    /// Runs on the writing thread, after the values that were put before.
    fn record<'a>(&'a self, root: &'a StoreKey, record: &'a Record) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            self.writable()?;
            let (shared, breaker) = (self.shared.clone(), self.writes.breaker.clone());
            let (root, record) = (*root, record.clone());
            shared.state().records += 1;
            self.later(move |store| {
                let recorded = shared.attempt(store, &breaker, || block_on(store.record(&root, &record)));
                let _ = recorded.inspect_err(|error| shared.fail(error));
                shared.state().records -= 1;
            });
            Ok(())
        })
    }

    fn flush(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            let written = Deadline::after(self.config.patience).bound(self.written()).await;
            written.ok_or_else(|| self.late(self.config.patience)).inspect_err(|error| {
                self.shared.fail(error);
                self.shared.state().give_up();
            })
        })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move {
            let queued = |key| self.shared.state().values.contains_key(key);
            let mut present: Vec<bool> = keys.iter().map(queued).collect();
            let open: Vec<usize> = (0..keys.len()).filter(|&i| !present[i]).collect();
            if !open.is_empty() {
                let keys: Vec<StoreKey> = open.iter().map(|&i| keys[i]).collect();
                let found = self.read(move |store| block_on(store.contains(&keys))).await?;
                open.into_iter().zip(found).for_each(|(i, is)| present[i] = is);
            }
            Ok(present)
        })
    }

    fn is_anothers<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        let key = *key;
        Box::pin(self.read(move |store| block_on(store.is_anothers(&key))))
    }

    /// A write of the same key that is in progress may bring the value back.
    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move {
            self.writable()?;
            self.shared.state().forget(key);
            let key = *key;
            self.read(move |store| block_on(store.remove(&key))).await
        })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            if self.writable().is_err() {
                return Ok(());
            }
            self.shared.state().give_up();
            // After the write that is in progress.
            let cleared = self.ask(&self.writes, self.config.patience, |store| block_on(store.clear())).await;
            cleared.inspect_err(|error| self.shared.fail(error))
        })
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        let keys = keys.to_vec();
        Box::pin(async move { self.later(move |store| block_on(store.touch(&keys))) })
    }

    fn usage(&self) -> StoreUsage {
        let [a, b, queue] = self.shared.state().usage;
        StoreUsage {
            entries: a.entries.max(b.entries),
            bytes: a.bytes.max(b.bytes),
            evicted: a.evicted + b.evicted,
            expired: a.expired + b.expired,
            written: a.written + b.written,
            written_bytes: a.written_bytes + b.written_bytes,
            dropped: a.dropped + b.dropped + queue.dropped,
            failures: a.failures + b.failures,
            refused: a.refused + b.refused,
        }
    }

    fn problem(&self) -> Option<String> {
        self.shared.state().problem.clone()
    }
}
