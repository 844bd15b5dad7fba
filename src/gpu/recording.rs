//! GPU work as data. A recording's cost is known before anything runs, and tests inspect it without a GPU.

use std::sync::Arc;

use super::{Kernel, Slice};

/// The memory traffic and arithmetic of a dispatch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read. An operand counts once for every read that reaches memory by design.
    pub read: u64,
    /// Bytes.
    pub written: u64,
    /// Floating-point operations of its formula, 2 a multiply-add; 0 for kernels that only select or move data.
    pub flops: u64,
}

#[derive(Debug, Clone)]
pub struct Dispatch {
    pub kernel: Arc<Kernel>,
    pub(crate) bindings: Vec<Slice>,
    pub(crate) groups: [u32; 3],
    pub(crate) cost: Cost,
}

#[derive(Debug, Clone)]
pub enum Command {
    Dispatch(Dispatch),
    Copy { from: Slice, to: Slice },
}

/// A list of commands that run in order in one submit.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    pub(crate) commands: Vec<Command>,
}

impl Recording {
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn dispatch(&mut self, kernel: &Arc<Kernel>, bindings: Vec<Slice>, groups: [u32; 3], cost: Cost) {
        debug_assert_eq!(kernel.bindings.len(), bindings.len(), "{}", kernel.label());
        self.commands.push(Command::Dispatch(Dispatch { kernel: kernel.clone(), bindings, groups, cost }));
    }

    /// Copies `from` to `to`. The sizes must be equal and the buffers different.
    pub(crate) fn copy(&mut self, from: Slice, to: Slice) {
        debug_assert!(from.size == to.size && from.buffer.id != to.buffer.id);
        self.commands.push(Command::Copy { from, to });
    }

    pub fn dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.commands.iter().filter_map(|command| match command {
            Command::Dispatch(dispatch) => Some(dispatch),
            Command::Copy { .. } => None,
        })
    }
}
