//! Compiles on free processors. Several kernels in parallel take no longer than one.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use super::{Compiler, Kernel, Pipeline, Result, pop, refused};

/// More threads do not help: the slowest compilation decides.
const MOST_THREADS: usize = 8;

pub(super) struct Pending {
    compiled: mpsc::Receiver<(Arc<Kernel>, Result<Pipeline>)>,
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
}

struct Work {
    compiler: Compiler,
    todo: Vec<Arc<Kernel>>,
    next: AtomicUsize,
}

impl Pending {
    pub(super) fn start(compiler: Compiler, todo: Vec<Arc<Kernel>>) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(todo.len());
        let work = Arc::new(Work { compiler, todo, next: AtomicUsize::new(0) });
        let (sender, compiled) = mpsc::channel();
        let spawn = |_| {
            let (work, sender) = (Arc::clone(&work), sender.clone());
            thread::spawn(move || {
                while let Some(kernel) = work.todo.get(work.next.fetch_add(1, Ordering::Relaxed)) {
                    let pipeline = work.compiler.pipeline(kernel);
                    // If nobody receives any more, there is nothing left to do.
                    let _ = sender.send((Arc::clone(kernel), pipeline));
                }
            })
        };
        Self { compiled, threads: (0..threads).map(spawn).collect(), work }
    }

    /// Waits for the next kernel that is compiled or refused. `None` if that was done with all.
    pub(super) async fn next(&mut self) -> Option<(Arc<Kernel>, Result<Pipeline>)> {
        self.compiled.recv().ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.work.next.store(self.work.todo.len(), Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(problem) = thread.join()
                && !thread::panicking()
            {
                panic::resume_unwind(problem);
            }
        }
    }
}

impl Compiler {
    fn pipeline(&self, kernel: &Kernel) -> Result<Pipeline> {
        let source = self.source(kernel)?;
        let scopes = self.scopes();
        let parts = self.parts(kernel, source);
        let raw = self.device.create_compute_pipeline(&parts.descriptor());
        match pollster::block_on(pop(scopes)) {
            Some(error) => Err(refused(kernel, error.to_string())),
            None => Ok(Pipeline { raw, layout: parts.layout }),
        }
    }
}
