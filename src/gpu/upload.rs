//! Uploads in large pieces: bytes are copied once, into mapped memory, and from there the GPU takes them.

use super::{Gpu, Slice, signal::Signal};
use crate::error::{Error, Result};

/// Mapped buffers that are kept for later uploads. While more are under way, further ones are made.
const KEPT: usize = 3;

/// Buffers of earlier uploads, each with the signal that the GPU has read it and that it is mapped again.
#[derive(Default)]
pub(crate) struct Uploads(Vec<(wgpu::Buffer, Signal<Mapped>)>);

type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;

impl Gpu {
    /// Writes `parts`, back to back, into `targets`, in order and of the same size together. It is one submit, with a copy
    /// for each target.
    pub(crate) fn upload(&mut self, uploads: &mut Uploads, parts: &[&[u32]], targets: &[Slice]) -> Result<()> {
        let bytes = targets.iter().map(|target| target.size).sum();
        let buffer = self.mapped(uploads, bytes)?;
        let view = buffer.get_mapped_range_mut(0..bytes);
        self.check()?;
        let mut view = view.map_err(|e| Error::Gpu { problem: e.to_string() })?;
        let mut rest = view.slice(..);
        for part in parts {
            let (mut own, behind) = rest.split_at(4 * part.len());
            own.copy_from_slice(bytemuck::cast_slice(part));
            rest = behind;
        }
        drop(view);
        buffer.unmap();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for target in targets {
            encoder.copy_buffer_to_buffer(&buffer, at, &self.buffers[&target.buffer.id], target.offset, target.size);
            at += target.size;
        }
        self.queue.submit([encoder.finish()]);
        self.tally.submits += 1;
        self.tally.bytes_uploaded += bytes;
        if uploads.0.len() < KEPT {
            let signal = Signal::new();
            buffer.map_async(wgpu::MapMode::Write, .., signal.sender());
            uploads.0.push((buffer, signal));
        } else {
            // Otherwise a browser frees it only when it collects garbage.
            buffer.destroy();
        }
        self.check()
    }

    /// A mapped buffer of at least `bytes` bytes.
    fn mapped(&self, uploads: &mut Uploads, bytes: u64) -> Result<wgpu::Buffer> {
        let polled = self.device.poll(wgpu::PollType::Poll);
        self.check()?;
        polled.map_err(|e| Error::Gpu { problem: e.to_string() })?;
        while let Some(at) = uploads.0.iter().position(|(_, signal)| signal.is_there()) {
            let (buffer, signal) = uploads.0.swap_remove(at);
            if signal.take().is_some_and(|mapped| mapped.is_ok()) && buffer.size() >= bytes {
                return Ok(buffer);
            }
            buffer.destroy();
        }
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: Some("upload"), size: bytes, usage, mapped_at_creation: true };
        let buffer = self.device.create_buffer(&descriptor);
        self.check().map(|()| buffer)
    }
}
