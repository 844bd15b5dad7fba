//! Byte sources: anything of known length that answers "these bytes, from there". A read is a boxed future because in
//! a browser or over HTTP it has to wait; one allocation a read is nothing beside the read itself.

use std::pin::Pin;

use crate::error::{Error, Result};

/// Tells a file from others, and from itself after a change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// Canonical.
    pub path: String,
    pub size: u64,
    /// When it was last modified, nanoseconds since the Unix epoch.
    pub mtime_ns: u64,
}

pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Bytes 0..`len`, readable in any order, that do not change while they are read.
pub trait ByteSource {
    /// What messages call it: a path, an address.
    fn name(&self) -> &str;

    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on, or fails: [`Error::Format`] where they lie beyond the end.
    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a>;

    /// What the bytes can be known again by without reading them, as it is now, if there is anything.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// The SHA-256 of the bytes as 64 hex digits, where whoever brought them has computed it.
    fn sha256(&self) -> Option<String> {
        None
    }
}

/// Refuses a range that does not lie inside a source of `len` bytes.
pub fn check_range(name: &str, len: u64, offset: u64, bytes: usize) -> Result<()> {
    match offset.checked_add(bytes as u64) {
        Some(end) if end <= len => Ok(()),
        _ => Err(Error::Format {
            file: name.to_owned(),
            field: format!("bytes {offset} to {offset} + {bytes}"),
            problem: format!("the file has only {len} bytes"),
            fix: "download the file again",
        }),
    }
}

/// Bytes in memory, under a name.
pub struct MemorySource {
    name: String,
    bytes: Vec<u8>,
}

impl MemorySource {
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

impl ByteSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            check_range(&self.name, self.len(), offset, out.len())?;
            let start = offset as usize;
            out.copy_from_slice(&self.bytes[start..start + out.len()]);
            Ok(())
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use file::FileSource;

#[cfg(not(target_arch = "wasm32"))]
mod file {
    use std::{
        fs::File,
        io,
        path::{Path, PathBuf},
        time::UNIX_EPOCH,
    };

    use super::{ByteSource, Identity, ReadFuture, check_range};
    use crate::error::{Error, Result};

    /// A file, read by position: no cursor is shared, nothing is mapped.
    pub struct FileSource {
        file: File,
        path: PathBuf,
        name: String,
        len: u64,
    }

    impl FileSource {
        pub fn open(path: impl AsRef<Path>) -> Result<Self> {
            let path = path.as_ref();
            let open = || {
                let file = File::open(path)?;
                let len = file.metadata()?.len();
                Ok((file, len))
            };
            let (file, len) = open().map_err(|source| Error::io(path, source))?;
            Ok(Self { file, path: path.to_owned(), name: path.display().to_string(), len })
        }
    }

    impl ByteSource for FileSource {
        fn name(&self) -> &str {
            &self.name
        }

        fn len(&self) -> u64 {
            self.len
        }

        fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a> {
            Box::pin(async move {
                check_range(&self.name, self.len, offset, out.len())?;
                read_exact_at(&self.file, out, offset).map_err(|source| Error::io(&self.path, source))
            })
        }

        /// Of the file that is open, even where another has its path by now. None once its length has changed.
        fn identity(&self) -> Option<Identity> {
            let metadata = self.file.metadata().ok().filter(|metadata| metadata.len() == self.len)?;
            let mtime = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(Identity {
                path: self.path.canonicalize().ok()?.to_str()?.to_owned(),
                size: self.len,
                mtime_ns: mtime.as_nanos().try_into().ok()?,
            })
        }
    }

    #[cfg(unix)]
    fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, out, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    out = &mut out[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
