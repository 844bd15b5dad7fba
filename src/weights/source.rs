//! Byte sources: anything of known length that can be read at an offset. A read is a boxed future, because it has to
//! wait in a browser or over HTTP. One allocation a read is negligible beside the read itself.

use std::pin::Pin;

use crate::error::{Error, Result};

/// Distinguishes a file from others, and from itself after a change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The canonical path.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// The time of the last modification, in nanoseconds since the Unix epoch.
    pub(crate) mtime_ns: u64,
    /// Device, inode and ctime in nanoseconds since the Unix epoch, if the system has them.
    #[serde(default)]
    pub(crate) inode: Option<(u64, u64, i64)>,
    /// The SHA-256 of sampled bytes. A file that replaces another differs in these, whatever else is equal.
    #[serde(default)]
    pub sample: String,
}

/// The future of [`ByteSource::read`]. It is not `Send`, so that a browser's futures fit.
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Bytes 0..`len` that can be read in any order and do not change meanwhile.
pub trait ByteSource {
    /// Its name in messages: a path or a URL.
    fn name(&self) -> &str;

    /// In bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on. Fails with [`Error::Format`] if they lie beyond the end.
    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a>;

    /// The current identity of the bytes, by which they can be recognised without reading them all, if there is one.
    #[doc(hidden)]
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// The SHA-256 of the bytes as 64 hex digits, if the provider has computed it.
    fn sha256(&self) -> Option<String> {
        None
    }
}

/// Refuses a range that does not lie inside a source of `len` bytes.
pub(crate) fn check_range(name: &str, len: u64, offset: u64, bytes: usize) -> Result<()> {
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
    /// `name` is used in messages.
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
    #[cfg(unix)]
    use std::os::unix::fs::OpenOptionsExt;
    use std::{
        fs::{File, Metadata},
        io,
        path::{Path, PathBuf},
        time::UNIX_EPOCH,
    };

    use sha2::{Digest, Sha256};

    use super::{ByteSource, Identity, ReadFuture, check_range};
    use crate::error::{Error, Result};

    /// A file, read at offsets. It shares no cursor and maps no memory.
    pub struct FileSource {
        file: File,
        path: PathBuf,
        name: String,
        len: u64,
    }

    impl FileSource {
        /// Opens a file for reading. Its length is determined once.
        ///
        /// # Errors
        /// [`Error::Io`], also for a directory, a pipe and anything else without a length.
        pub fn open(path: impl AsRef<Path>) -> Result<Self> {
            let path = path.as_ref();
            let open = || {
                let mut options = File::options();
                // Do not block on a pipe.
                #[cfg(unix)]
                OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
                let file = options.read(true).open(path)?;
                let found = file.metadata()?;
                match found.is_file() {
                    true => Ok((file, found.len())),
                    false => Err(io::Error::other("this is no file")),
                }
            };
            let (file, len) = open().map_err(|source| Error::io(path, source))?;
            Ok(Self { file, path: path.to_owned(), name: path.display().to_string(), len })
        }
    }

    /// Bytes sampled at either end and at each of [`PLACES`] places in between.
    const SAMPLED_ENDS: u64 = 64 << 10;
    const SAMPLED: u64 = 4 << 10;
    const PLACES: u64 = 32;

    impl FileSource {
        fn sample(&self) -> io::Result<String> {
            let mut hash = Sha256::new();
            let mut bytes = vec![0; SAMPLED_ENDS as usize];
            let mut take = |from: u64, count: u64| {
                let bytes = &mut bytes[..count.min(self.len - from) as usize];
                read_exact_at(&self.file, bytes, from).map(|()| hash.update(bytes))
            };
            take(0, SAMPLED_ENDS)?;
            for place in 1..=PLACES {
                take(self.len / (PLACES + 1) * place, SAMPLED)?;
            }
            take(self.len.saturating_sub(SAMPLED_ENDS), SAMPLED_ENDS)?;
            Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
        }
    }

    #[cfg(unix)]
    fn inode(metadata: &Metadata) -> Option<(u64, u64, i64)> {
        use std::os::unix::fs::MetadataExt;
        let changed = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
        Some((metadata.dev(), metadata.ino(), changed))
    }

    #[cfg(not(unix))]
    fn inode(_: &Metadata) -> Option<(u64, u64, i64)> {
        None
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

        /// Identifies the open file, even if another file has its path by now. `None` once its length has changed.
        fn identity(&self) -> Option<Identity> {
            let metadata = self.file.metadata().ok().filter(|metadata| metadata.len() == self.len)?;
            let mtime = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(Identity {
                path: self.path.canonicalize().ok()?.to_str()?.to_owned(),
                size: self.len,
                mtime_ns: mtime.as_nanos().try_into().ok()?,
                inode: inode(&metadata),
                sample: self.sample().ok()?,
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
