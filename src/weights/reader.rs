//! Reads a header of unknown length front to back through a [`ByteSource`].
//!
//! It holds one window of the file, which starts at 64 KiB and doubles with each refill up to 4 MiB. So a small header
//! costs one read, and a vocabulary of several megabytes a few. It never reads past the end of the file or past
//! [`MAX_HEADER`] bytes, and never allocates for a length beyond either.

use super::source::ByteSource;
use crate::error::{Error, Result};

/// Refuses a Git LFS pointer, which stands for a file that was not fetched.
///
/// # Errors
/// [`Error::Format`] for a Git LFS pointer, which is shorter than 1 KiB.
pub(crate) async fn refuse_pointer(source: &dyn ByteSource) -> Result<()> {
    if source.len() >= 1024 {
        return Ok(());
    }
    let mut bytes = vec![0; source.len() as usize];
    source.read(0, &mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    if value("version https://").is_none() || value("oid sha256:").is_none() {
        return Ok(());
    }
    let size = value("size ").map(|size| format!(" of {} bytes", size.trim())).unwrap_or_default();
    Err(Error::Format {
        file: source.name().to_owned(),
        field: "content".to_owned(),
        problem: format!("a Git LFS pointer to a file{size}, not the file itself"),
        fix: "run `git lfs pull` in its repository, or download the file itself",
    })
}

/// The most bytes a header may take. The largest known are under 64 MiB (vocabularies of 260,000 tokens).
const MAX_HEADER: u64 = 256 << 20;
const FIRST_WINDOW: u64 = 64 << 10;
const LARGEST_WINDOW: u64 = 4 << 20;

pub(crate) struct Reader<'a> {
    source: &'a dyn ByteSource,
    window: Vec<u8>,
    /// The index in `window` of the next byte to parse, and the offset of `window` in the file.
    cursor: usize,
    window_start: u64,
    next_window: u64,
    /// What is being read, for messages: a key or a tensor.
    pub(crate) field: String,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a dyn ByteSource) -> Self {
        let field = "header".to_owned();
        Self { source, window: Vec::new(), cursor: 0, window_start: 0, next_window: FIRST_WINDOW, field }
    }

    /// The offset of the next byte to parse.
    pub(crate) fn position(&self) -> u64 {
        self.window_start + self.cursor as u64
    }

    pub(crate) fn fail(&self, problem: impl Into<String>, fix: &'static str) -> Error {
        Error::Format { file: self.source.name().to_owned(), field: self.field.clone(), problem: problem.into(), fix }
    }

    pub(crate) async fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array().await?))
    }

    pub(crate) async fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array().await?))
    }

    pub(crate) async fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N as u64).await?);
        Ok(out)
    }

    /// A length, followed by as many bytes of UTF-8, at most `max`. Messages call the text `what`.
    pub(crate) async fn string(&mut self, max: u64, what: &str) -> Result<String> {
        let len = self.u64().await?;
        if len > max {
            return Err(self.fail(format!("{what} claims {len} bytes, more than {max}"), DAMAGED));
        }
        let bytes = self.bytes(len).await?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let problem = format!("{what} is not valid UTF-8 ({error})");
                Err(self.fail(problem, DAMAGED))
            }
        }
    }

    /// A count of items of at least `least` bytes each. It is refused if the rest of the file cannot hold them.
    pub(crate) async fn count(&mut self, least: u64, what: &str) -> Result<u64> {
        let count = self.u64().await?;
        let left = self.end() - self.position();
        match count.checked_mul(least) {
            Some(bytes) if bytes <= left => Ok(count),
            _ => Err(self.fail(format!("claims {count} {what}, but only {left} bytes of header can follow"), DAMAGED)),
        }
    }

    /// The next `len` bytes.
    pub(crate) async fn bytes(&mut self, len: u64) -> Result<&[u8]> {
        if ((self.window.len() - self.cursor) as u64) < len {
            self.refill(len).await?;
        }
        let start = self.cursor;
        self.cursor += len as usize;
        Ok(&self.window[start..self.cursor])
    }

    /// Drops the parsed bytes and reads on until the window holds `len` more.
    async fn refill(&mut self, len: u64) -> Result<()> {
        let (position, end) = (self.position(), self.end());
        if len > end - position {
            let problem = if end == MAX_HEADER && end < self.source.len() {
                format!("the header does not end within {MAX_HEADER} bytes")
            } else {
                format!("the file ends at byte {end}, but {len} bytes are needed from byte {position} on")
            };
            return Err(self.fail(problem, TRUNCATED));
        }
        self.window.drain(..self.cursor);
        (self.window_start, self.cursor) = (position, 0);
        let held = self.window.len();
        let size = len.max(self.next_window).min(end - position);
        self.next_window = (self.next_window * 2).min(LARGEST_WINDOW);
        self.window.resize(size as usize, 0);
        self.source.read(position + held as u64, &mut self.window[held..]).await
    }

    fn end(&self) -> u64 {
        self.source.len().min(MAX_HEADER)
    }
}

pub(crate) const DAMAGED: &str = "the file is damaged: download it again, or convert the model again";
pub(crate) const TRUNCATED: &str = "the file is cut short: download it again";
