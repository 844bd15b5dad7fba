//! Work on bytes beside the engine: on a thread of its own natively, in its turn in a browser, whose workers share no
//! memory.

#[cfg(not(target_arch = "wasm32"))]
use std::{
    cell::OnceCell,
    sync::mpsc::{Sender, channel},
    thread,
};

#[cfg(not(target_arch = "wasm32"))]
use super::reply::Reply;

#[cfg(not(target_arch = "wasm32"))]
type Job = Box<dyn FnOnce() + Send>;

/// A thread that begins with the first work it is given, and ends with its owner.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Default)]
pub(super) struct Worker(OnceCell<Sender<Job>>);

#[cfg(not(target_arch = "wasm32"))]
impl Worker {
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let reply = Reply::default();
        let theirs = reply.clone();
        let jobs = self.0.get_or_init(|| {
            let (jobs, todo) = channel::<Job>();
            thread::spawn(move || todo.into_iter().for_each(|job| job()));
            jobs
        });
        // What nobody waits for any more is not begun.
        let job = move || _ = theirs.is_wanted().then(|| theirs.give(work()));
        jobs.send(Box::new(job)).expect("the thread lives as long as its sender");
        reply.wait().await
    }
}

#[cfg(target_arch = "wasm32")]
#[derive(Default)]
pub(super) struct Worker;

#[cfg(target_arch = "wasm32")]
impl Worker {
    pub(crate) async fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }
}
