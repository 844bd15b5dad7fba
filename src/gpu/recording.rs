//! GPU work as data. A recording knows what it will cost before anything runs; tests count and inspect it without a GPU.

use std::sync::Arc;

use super::{Buffer, Kernel, Slice};

/// Bytes a dispatch moves, each byte of its operands counted once per read that reaches memory by design.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    pub read: u64,
    pub written: u64,
}

#[derive(Debug, Clone)]
pub struct Dispatch {
    pub kernel: Arc<Kernel>,
    pub bindings: Vec<Slice>,
    pub groups: [u32; 3],
    pub cost: Cost,
}

#[derive(Debug, Clone)]
pub enum Command {
    Dispatch(Dispatch),
    Copy { from: Slice, to: Slice },
}

/// A list of commands that run in order in one submit.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    pub commands: Vec<Command>,
}

impl Recording {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn dispatch(&mut self, kernel: &Arc<Kernel>, bindings: Vec<Slice>, groups: [u32; 3], cost: Cost) {
        debug_assert_eq!(kernel.bindings.len(), bindings.len(), "{}", kernel.label());
        self.commands.push(Command::Dispatch(Dispatch { kernel: kernel.clone(), bindings, groups, cost }));
    }

    /// Copies `from` to `to`; sizes must be equal and the buffers different.
    pub fn copy(&mut self, from: Slice, to: Slice) {
        debug_assert!(from.size == to.size && from.buffer.id != to.buffer.id);
        self.commands.push(Command::Copy { from, to });
    }

    pub fn dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.commands.iter().filter_map(|command| match command {
            Command::Dispatch(dispatch) => Some(dispatch),
            Command::Copy { .. } => None,
        })
    }

    pub fn cost(&self) -> Cost {
        self.dispatches().fold(Cost::default(), |sum, d| Cost {
            read: sum.read + d.cost.read,
            written: sum.written + d.cost.written,
        })
    }

    /// The buffers named by any command.
    pub fn buffers(&self) -> impl Iterator<Item = Buffer> {
        self.commands.iter().flat_map(|command| match command {
            Command::Dispatch(d) => d.bindings.iter().map(|slice| slice.buffer).collect::<Vec<_>>(),
            Command::Copy { from, to } => vec![from.buffer, to.buffer],
        })
    }
}
