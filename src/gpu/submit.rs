//! The only place that replays recordings.

use super::{Command, Dispatch, Gpu, Recording, profile::Queries, signal::Signal};
use crate::error::Result;

/// Marks the completion of a submit.
pub(crate) struct Fence {
    index: wgpu::SubmissionIndex,
    done: Signal<()>,
}

impl Gpu {
    /// Runs `recording` in one submit. Neighbouring dispatches share a compute pass.
    ///
    /// Every kernel must have been compiled ([`Gpu::compile`]). Bind groups are created at first use and kept.
    pub fn submit(&mut self, recording: &Recording) -> Result<()> {
        let encoder = self.encode(&recording.commands, None)?;
        self.queue.submit([encoder.finish()]);
        self.tally.submits += 1;
        self.check()
    }

    /// As [`Gpu::submit`], and returns a fence to wait for.
    pub(crate) fn submit_fenced(&mut self, recording: &Recording) -> Result<Fence> {
        let encoder = self.encode(&recording.commands, None)?;
        let index = self.queue.submit([encoder.finish()]);
        self.tally.submits += 1;
        let done = Signal::new();
        let sender = done.sender();
        self.queue.on_submitted_work_done(move || sender(()));
        self.check()?;
        Ok(Fence { index, done })
    }

    /// Waits until the GPU has done what was submitted up to `fence`.
    pub(crate) async fn reach(&mut self, fence: Fence) -> Result<()> {
        self.poll_until(Some(fence.index))?;
        fence.done.wait().await;
        self.check()
    }

    /// Creates the bind groups that `recording` needs, without running it.
    pub(crate) fn prepare(&mut self, recording: &Recording) {
        for dispatch in recording.dispatches() {
            self.bind(dispatch, |_, _| {});
        }
    }

    /// Encodes commands. Neighbouring dispatches share a compute pass; with `queries`, each has its own pass, which
    /// writes them.
    pub(super) fn encode(&mut self, commands: &[Command], queries: Option<&Queries>) -> Result<wgpu::CommandEncoder> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let (mut at, mut passes) = (0, 0);
        while at < commands.len() {
            if let Command::Copy { from, to } = &commands[at] {
                let (source, target) = (&self.buffers[&from.buffer.id], &self.buffers[&to.buffer.id]);
                encoder.copy_buffer_to_buffer(source, from.offset, target, to.offset, from.size);
                at += 1;
                continue;
            }
            let timestamp_writes = queries.map(|queries| queries.of(passes));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            passes += 1;
            while let Some(Command::Dispatch(dispatch)) = commands.get(at) {
                self.bind(dispatch, |pipeline, group| {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, group, &[]);
                });
                let [x, y, z] = dispatch.groups;
                pass.dispatch_workgroups(x, y, z);
                self.tally.dispatches += 1;
                self.tally.bytes_read += dispatch.cost.read;
                at += 1;
                if queries.is_some() {
                    break;
                }
            }
        }
        Ok(encoder)
    }

    /// Passes the pipeline and bind group of a dispatch to `set`. Creates a missing bind group.
    fn bind(&mut self, dispatch: &Dispatch, set: impl FnOnce(&wgpu::ComputePipeline, &wgpu::BindGroup)) {
        let Self { sites, device, buffers, tally, .. } = self;
        let (pipeline, group) = sites.bind(dispatch, |layout| {
            let entries: Vec<wgpu::BindGroupEntry> = (0..)
                .zip(&dispatch.bindings)
                .map(|(binding, slice)| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &buffers[&slice.buffer.id],
                        offset: slice.offset,
                        size: wgpu::BufferSize::new(slice.size),
                    }),
                })
                .collect();
            tally.bind_groups_created += 1;
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(dispatch.kernel.name),
                layout,
                entries: &entries,
            })
        });
        set(pipeline, group);
    }

    /// Encodes a recording and discards it unsubmitted, to measure what it costs the host.
    pub(crate) fn rehearse(&mut self, recording: &Recording) -> Result<()> {
        let tally = self.tally;
        drop(self.encode(&recording.commands, None)?.finish());
        self.tally = tally;
        self.check()
    }
}
