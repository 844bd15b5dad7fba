//! The one `map_async`: bytes from the GPU to the host, the same way natively and on the web.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
};

use super::{Gpu, Recording, Slice};
use crate::error::{Error, Result};

/// Staging memory for readbacks, reused from step to step.
#[derive(Default, Clone)]
pub struct Staging(Rc<RefCell<Option<wgpu::Buffer>>>);

#[derive(Default)]
struct Mapped {
    result: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

impl Gpu {
    /// Runs `recording` and brings `source` back, in the same submit. The only place where the engine waits for a GPU.
    pub async fn submit_and_read(
        &mut self,
        recording: &Recording,
        source: Slice,
        staging: &Staging,
    ) -> Result<Vec<u32>> {
        let mut encoder = self.encode(&recording.commands)?;
        let target = self.staging(staging, source.size).await?;
        encoder.copy_buffer_to_buffer(&self.buffers[&source.buffer.id], source.offset, &target, 0, source.size);
        self.queue.submit([encoder.finish()]);
        self.tally.submits += 1;
        self.tally.bytes_read_back += source.size;
        self.check()?;

        let state = Arc::new(Mutex::new(Mapped::default()));
        let signal = state.clone();
        target.map_async(wgpu::MapMode::Read, 0..source.size, move |result| {
            let mut state = signal.lock().unwrap_or_else(|e| e.into_inner());
            state.result = Some(result);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
        self.poll_wait()?;
        let mapped = poll_fn(|context| {
            let mut state = state.lock().unwrap_or_else(|e| e.into_inner());
            match state.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        if let Err(error) = mapped.await {
            self.check_late().await?;
            return Err(Error::Gpu { problem: format!("readback failed: {error}") });
        }
        let words = {
            let view = target.get_mapped_range(0..source.size).map_err(|e| Error::Gpu { problem: e.to_string() })?;
            bytemuck::pod_collect_to_vec(&view)
        };
        target.unmap();
        self.check()?;
        Ok(words)
    }

    async fn staging(&self, staging: &Staging, size: u64) -> Result<wgpu::Buffer> {
        let large_enough = staging.0.borrow().clone().filter(|buffer| buffer.size() >= size);
        if let Some(buffer) = large_enough {
            return Ok(buffer);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let buffer = self.create("readback", size.next_power_of_two(), usage, "free GPU memory").await?;
        *staging.0.borrow_mut() = Some(buffer.clone());
        Ok(buffer)
    }
}
