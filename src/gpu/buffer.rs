//! Handles to GPU memory. A handle is an id and a size, so recordings can be built and inspected without a device.

/// A GPU buffer owned by a [`Gpu`](super::Gpu).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buffer {
    pub id: u32,
    /// Bytes, a multiple of 4.
    pub size: u64,
}

impl Buffer {
    pub fn whole(self) -> Slice {
        Slice { buffer: self, offset: 0, size: self.size }
    }

    /// `size` bytes from `offset`.
    pub fn slice(self, offset: u64, size: u64) -> Slice {
        debug_assert!(offset + size <= self.size);
        Slice { buffer: self, offset, size }
    }
}

/// A range of a buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl From<Buffer> for Slice {
    fn from(buffer: Buffer) -> Self {
        buffer.whole()
    }
}
