//! Runs work on bytes beside the engine: natively on threads. In a browser it runs inline, since workers share no
//! memory, except for digests: the browser computes them, several at a time, with instructions that WebAssembly lacks.

use std::rc::Rc;
#[cfg(target_arch = "wasm32")]
use std::task::{Context, Poll, Waker};
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
use pollster::block_on;

#[cfg(not(target_arch = "wasm32"))]
use super::reply::{Reply, locked};
use super::{BoxFuture, StoreKey, digest::sha256};

#[cfg(not(target_arch = "wasm32"))]
type Job = Box<dyn FnOnce() + Send>;

/// The SHA-256 of two pieces of bytes, one behind the other; `None` if the browser fails. It reads the bytes before it
/// returns.
pub type Digester = Rc<dyn Fn([&[u8]; 2]) -> BoxFuture<'static, Option<StoreKey>>>;

/// How a job computes SHA-256.
#[derive(Clone, Default)]
pub(super) struct Hash {
    #[cfg(target_arch = "wasm32")]
    digester: Option<Digester>,
}

impl Hash {
    /// The digest of two pieces, one behind the other.
    pub(crate) async fn of(&self, pieces: [&[u8]; 2]) -> StoreKey {
        #[cfg(target_arch = "wasm32")]
        if let Some(digester) = &self.digester
            && let Some(digest) = digester(pieces).await
        {
            return digest;
        }
        sha256(pieces)
    }
}

/// More threads would not verify faster, since memory bandwidth is the limit.
#[cfg(not(target_arch = "wasm32"))]
const MOST_THREADS: usize = 8;

/// A pool with one thread a processor. The threads start with the first job and end with their owner.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Default)]
pub(super) struct Workers(OnceCell<Sender<Job>>);

#[cfg(not(target_arch = "wasm32"))]
impl Workers {
    /// The threads compute digests themselves.
    pub(crate) fn new(_: Digester) -> Self {
        Self::default()
    }

    /// Queues a job, first in first out. It starts at once if a thread is free.
    pub(crate) fn run<T, W, F>(&self, work: W) -> impl Future<Output = T> + use<T, W, F>
    where
        T: Send + 'static,
        W: FnOnce(Hash) -> F + Send + 'static,
        F: Future<Output = T>,
    {
        let reply = Reply::default();
        let theirs = reply.clone();
        // A job whose result nobody waits for is skipped.
        let job = move || _ = theirs.is_wanted().then(|| theirs.give(block_on(work(Hash::default()))));
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
pub(super) struct Workers(Hash);

#[cfg(target_arch = "wasm32")]
impl Workers {
    pub(crate) fn new(digester: Digester) -> Self {
        Self(Hash { digester: Some(digester) })
    }

    /// Starts a job, which goes on while the browser computes its digests.
    pub(crate) fn run<T, W, F>(&self, work: W) -> impl Future<Output = T> + use<T, W, F>
    where
        W: FnOnce(Hash) -> F,
        F: Future<Output = T>,
    {
        let mut job = Box::pin(work(self.0.clone()));
        let begun = job.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        async move {
            match begun {
                Poll::Ready(done) => done,
                Poll::Pending => job.await,
            }
        }
    }
}
