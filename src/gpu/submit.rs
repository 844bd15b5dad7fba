//! The one place that replays recordings.

use super::{Command, Gpu, Recording, Slice, signal::Signal};
use crate::error::Result;

/// The end of a submit.
pub(crate) struct Fence {
    index: wgpu::SubmissionIndex,
    done: Signal<()>,
}

impl Gpu {
    /// Runs `recording` in one submit: neighbouring dispatches share a compute pass.
    ///
    /// Every kernel must have been compiled ([`Gpu::compile`]); bind groups are made at first use and kept.
    pub fn submit(&mut self, recording: &Recording) -> Result<()> {
        let encoder = self.encode(&recording.commands)?;
        self.queue.submit([encoder.finish()]);
        self.tally.submits += 1;
        self.check()
    }

    /// As [`Gpu::submit`], and what to wait for until it is done.
    pub(crate) fn submit_fenced(&mut self, recording: &Recording) -> Result<Fence> {
        let encoder = self.encode(&recording.commands)?;
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

    /// Makes the bind groups that `recording` needs, without running it.
    pub(crate) fn prepare(&mut self, recording: &Recording) {
        self.bind(&recording.commands);
    }

    pub(super) fn encode(&mut self, commands: &[Command]) -> Result<wgpu::CommandEncoder> {
        let keys = self.bind(commands);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        while at < commands.len() {
            if let Command::Copy { from, to } = &commands[at] {
                let (source, target) = (&self.buffers[&from.buffer.id], &self.buffers[&to.buffer.id]);
                encoder.copy_buffer_to_buffer(source, from.offset, target, to.offset, from.size);
                at += 1;
                continue;
            }
            let mut pass = encoder.begin_compute_pass(&Default::default());
            while let Some(Command::Dispatch(dispatch)) = commands.get(at) {
                let key = keys[at].as_ref().expect("bind() made a key for every dispatch");
                pass.set_pipeline(&self.pipelines[&dispatch.kernel].raw);
                pass.set_bind_group(0, &self.bind_groups[key], &[]);
                let [x, y, z] = dispatch.groups;
                pass.dispatch_workgroups(x, y, z);
                self.tally.dispatches += 1;
                self.tally.bytes_read += dispatch.cost.read;
                at += 1;
            }
        }
        Ok(encoder)
    }

    /// Makes the bind groups that are missing; the key of each dispatch's group, by command index.
    fn bind(&mut self, commands: &[Command]) -> Vec<Option<(u32, Vec<Slice>)>> {
        let mut keys = Vec::with_capacity(commands.len());
        for command in commands {
            let Command::Dispatch(dispatch) = command else {
                keys.push(None);
                continue;
            };
            let pipeline = &self.pipelines[&dispatch.kernel];
            let key = (pipeline.id, dispatch.bindings.clone());
            if !self.bind_groups.contains_key(&key) {
                let entries: Vec<wgpu::BindGroupEntry> = (0..)
                    .zip(&dispatch.bindings)
                    .map(|(binding, slice)| wgpu::BindGroupEntry {
                        binding,
                        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer: &self.buffers[&slice.buffer.id],
                            offset: slice.offset,
                            size: wgpu::BufferSize::new(slice.size),
                        }),
                    })
                    .collect();
                let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(dispatch.kernel.name),
                    layout: &pipeline.layout,
                    entries: &entries,
                });
                self.tally.bind_groups_created += 1;
                self.bind_groups.insert(key.clone(), group);
            }
            keys.push(Some(key));
        }
        keys
    }
}
