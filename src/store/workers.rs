//! Runs work on bytes beside the engine: natively on threads, in a browser inline, since its workers share no memory.

#[cfg(not(target_arch = "wasm32"))]
use std::{
    cell::OnceCell,
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread,
};

#[cfg(not(target_arch = "wasm32"))]
use super::reply::{Reply, locked};

#[cfg(not(target_arch = "wasm32"))]
type Job = Box<dyn FnOnce() + Send>;

/// More threads would not verify faster, since memory bandwidth is the limit.
#[cfg(not(target_arch = "wasm32"))]
const MOST_THREADS: usize = 8;

/// A pool with one thread a processor. The threads start with the first job and end with their owner.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Default)]
pub(super) struct Workers(OnceCell<Sender<Job>>);

#[cfg(not(target_arch = "wasm32"))]
impl Workers {
    /// Queues a job, first in first out. It starts at once if a thread is free.
    pub(crate) fn run<T, W>(&self, work: W) -> impl Future<Output = T> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let reply = Reply::default();
        let theirs = reply.clone();
        // A job whose result nobody waits for is skipped.
        let job = move || _ = theirs.is_wanted().then(|| theirs.give(work()));
        self.0.get_or_init(start).send(Box::new(job)).expect("the threads live as long as their sender");
        async move { reply.wait().await }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn start() -> Sender<Job> {
    let (jobs, todo) = channel::<Job>();
    let todo = Arc::new(Mutex::new(todo));
    for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS) {
        let todo = todo.clone();
        let next = move || locked(&todo).recv().ok();
        thread::spawn(move || std::iter::from_fn(next).for_each(|job| job()));
    }
    jobs
}

#[cfg(target_arch = "wasm32")]
#[derive(Default)]
pub(super) struct Workers;

#[cfg(target_arch = "wasm32")]
impl Workers {
    pub(crate) fn run<T, W: FnOnce() -> T>(&self, work: W) -> impl Future<Output = T> + use<T, W> {
        async move { work() }
    }
}
