//! Reads bytes back from the GPU, in the same way natively and on the web.

use std::{cell::RefCell, rc::Rc};

use super::{Gpu, Recording, Slice, signal::Signal};
use crate::error::{Error, Result};

/// Staging memory, reused for every readback: a reading must finish before the next one starts.
#[derive(Default, Clone)]
pub struct Staging(Rc<RefCell<Option<wgpu::Buffer>>>);

/// A readback in progress. Dropping it releases the staging memory.
pub(crate) struct Reading {
    target: wgpu::Buffer,
    /// Whether the buffer is mapped or about to be.
    holds: bool,
    size: u64,
    index: wgpu::SubmissionIndex,
    mapped: Signal<std::result::Result<(), wgpu::BufferAsyncError>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.holds {
            self.target.unmap();
        }
    }
}

impl Gpu {
    /// Runs `recording` and reads `source` back, in one submit.
    pub async fn submit_and_read(
        &mut self,
        recording: &Recording,
        source: Slice,
        staging: &Staging,
    ) -> Result<Vec<u32>> {
        let reading = self.start_reading(recording, source, staging).await?;
        self.finish_reading(reading).await
    }

    /// Runs `recording` and starts to read `source` back, in one submit. Does not wait for the GPU.
    pub(crate) async fn start_reading(
        &mut self,
        recording: &Recording,
        source: Slice,
        staging: &Staging,
    ) -> Result<Reading> {
        let encoder = self.encode(&recording.commands, None)?;
        let raw = self.buffers[&source.buffer.id].clone();
        self.send_for(encoder, raw.slice(source.offset..source.offset + source.size), staging).await
    }

    /// Submits the encoder's commands and starts to read `source` back, in one submit.
    pub(super) async fn send_for(
        &mut self,
        mut encoder: wgpu::CommandEncoder,
        source: wgpu::BufferSlice<'_>,
        staging: &Staging,
    ) -> Result<Reading> {
        let size = source.size();
        let target = self.staging(staging, size).await?;
        encoder.copy_buffer_to_buffer(source.buffer(), source.offset(), &target, 0, size);
        let index = self.queue.submit([encoder.finish()]);
        self.tally.submits += 1;
        self.tally.bytes_read_back += size;
        self.check()?;
        let mapped = Signal::new();
        target.map_async(wgpu::MapMode::Read, 0..size, mapped.sender());
        Ok(Reading { target, holds: true, size, index, mapped })
    }

    /// Whether the bytes have arrived. Does not wait.
    pub(crate) fn has_come(&self, reading: &Reading) -> Result<bool> {
        let polled = self.device.poll(wgpu::PollType::Poll);
        self.check()?;
        polled.map_err(|e| Error::Gpu { problem: e.to_string() })?;
        Ok(reading.mapped.is_there())
    }

    /// Waits for the bytes, and for nothing that was submitted later.
    pub(crate) async fn finish_reading(&mut self, mut reading: Reading) -> Result<Vec<u32>> {
        self.poll_until(Some(reading.index.clone()))?;
        if let Err(error) = reading.mapped.wait().await {
            reading.holds = false;
            self.check_late().await?;
            // Whatever else fails is reported. A lost device is sometimes reported too late.
            return Err(Error::DeviceLost { problem: format!("readback failed: {error}") });
        }
        let view =
            reading.target.get_mapped_range(0..reading.size).map_err(|e| Error::Gpu { problem: e.to_string() })?;
        let words = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        drop(reading);
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
