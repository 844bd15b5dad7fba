//! One file from the hub into the cache: resumed, bounded, checked, and put in place by a rename.
//!
//! A blob grows as `blobs/ETAG.incomplete` under a lock that other processes, Python's among them, respect and that ends
//! with its holder. Its name holds the digest of what it will be, so a file that changed on the hub starts afresh. Only
//! bytes whose SHA-256 is known beforehand are continued; small files without one are fetched whole. A cut costs the
//! bytes that were under way, never those already on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::{Response, header};

use super::Download;
use super::cache::Repo;
use super::client::{Client, Failure, Meta, download, pause, tries};
use crate::error::{Error, Result};
use crate::weights::hub::Name;

pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) repo: &'a Repo,
    pub(crate) name: &'a Name,
    pub(crate) commit: &'a str,
    pub(crate) hear: &'a mut dyn FnMut(Download<'_>),
}

impl Transfer<'_> {
    /// Makes `file` present in the snapshot and returns its path. Without a body where the cache has it already.
    ///
    /// # Errors
    /// `Error::Download` with the address, `Error::Io` with the path.
    pub(crate) fn fetch(&mut self, file: &str) -> Result<PathBuf> {
        let meta = self.client.meta(self.name, self.commit, file)?;
        let blob = self.repo.blob(&meta.etag);
        if !holds(&blob, meta.size) {
            let _lock = self.lock(&meta.etag)?;
            // Whoever held the lock may have fetched it meanwhile.
            if !holds(&blob, meta.size) {
                self.receive(file, &meta, &blob)?;
            }
        }
        let path = self.repo.snapshot(self.commit).join(file);
        link(&blob, &path, file.split('/').count() + 1)?;
        Ok(path)
    }

    fn lock(&mut self, etag: &str) -> Result<File> {
        let path = self.repo.lock(etag);
        parent(&path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Error::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => (self.hear)(Download::Waiting),
            Err(TryLockError::Error(_)) => {}
        }
        file.lock().map_err(|e| Error::io(&path, e))?;
        Ok(file)
    }

    /// Fetches the bytes, going on where a former try stopped, until they are whole and right.
    fn receive(&mut self, file: &str, meta: &Meta, blob: &Path) -> Result<()> {
        let url = self.client.resolve(self.name, self.commit, file);
        parent(blob)?;
        let mut part = Part::open(blob.with_added_extension("incomplete"), meta)?;
        let mut failures = 0;
        loop {
            let begun = part.length;
            self.tell(file, &part, meta);
            match self.continue_from(file, meta, &mut part) {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => {
                    failures = if part.length > begun { 1 } else { failures + 1 };
                    if failures >= tries() {
                        return Err(error);
                    }
                    pause(failures - 1);
                    continue;
                }
            }
            if part.is_right(meta) {
                return part.into_place(blob);
            }
            // Bytes kept from an earlier try may be the wrong ones: once more, from nothing.
            part.restart()?;
            if begun == 0 {
                part.remove();
                let problem = format!("the bytes received are not the ones announced (SHA-256 {})", meta.etag);
                return Err(download(
                    &url,
                    problem,
                    "nothing was kept; try again, and if it stays so tell the model's owner",
                ));
            }
        }
    }

    /// One request for the rest of the file. `Ok` where `part` now has all its bytes.
    fn continue_from(&mut self, file: &str, meta: &Meta, part: &mut Part) -> Result<(), Failure> {
        if part.length == meta.size {
            return Ok(());
        }
        let url = self.client.resolve(self.name, self.commit, file);
        let response = self.client.open(self.name, self.commit, file, part.length)?;
        if part.length > 0 && range_start(&response) != Some(part.length) {
            part.restart().map_err(Failure::Final)?;
            self.tell(file, part, meta);
            if response.status() != 200 {
                return Err(Failure::Passing(download(
                    &url,
                    "the server does not continue downloads".into(),
                    "try again",
                )));
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        while part.length < meta.size {
            let cut = |problem: String| Failure::Passing(download(&url, problem, "run it again to go on from there"));
            let room = buffer.len().min(usize::try_from(meta.size - part.length).unwrap_or(usize::MAX));
            match body.read(&mut buffer[..room]) {
                Ok(0) => return Err(cut(format!("the connection ended after {} of {} bytes", part.length, meta.size))),
                Ok(count) => part.append(&buffer[..count], meta).map_err(Failure::Final)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(cut(format!("cut after {} of {} bytes ({e})", part.length, meta.size))),
            }
            self.tell(file, part, meta);
        }
        // A body longer than announced is not the file announced, whatever its first bytes are.
        match body.read(&mut buffer[..1]) {
            Ok(1..) => {
                part.remove();
                let problem = format!("the server sends more than the {} bytes it announced", meta.size);
                Err(Failure::Final(download(&url, problem, "nothing was kept; check HF_ENDPOINT")))
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self, name: &str, part: &Part, meta: &Meta) {
        (self.hear)(Download::File { name, done: part.length, total: meta.size });
    }
}

/// A blob under way: its bytes on the disk, their count and running digest.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
}

impl Part {
    /// Takes up what an earlier run left, where it can still become the file and be checked as a whole.
    fn open(path: PathBuf, meta: &Meta) -> Result<Self> {
        let at = |e| Error::io(&path, e);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(at)?;
        let (mut length, mut hash) = (file.metadata().map_err(at)?.len(), Sha256::new());
        if length > meta.size || meta.sha256().is_none() {
            file.set_len(0).map_err(at)?;
            length = 0;
        }
        let mut buffer = vec![0; 256 << 10];
        let mut left = length;
        while left > 0 {
            let count = file.read(&mut buffer).map_err(at)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            left -= count as u64;
        }
        Ok(Self { file, length: length - left, hash, path })
    }

    fn append(&mut self, bytes: &[u8], meta: &Meta) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                let problem = format!("the disk is full; {} more bytes are needed", meta.size - self.length);
                download(&self.path.display().to_string(), problem, "make room and run it again: it goes on from there")
            }
            _ => Error::io(&self.path, e),
        })?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::io(&self.path, e))?;
        (self.length, self.hash) = (0, Sha256::new());
        Ok(())
    }

    fn is_right(&self, meta: &Meta) -> bool {
        let digest = self.hash.clone().finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.length == meta.size && meta.sha256().is_none_or(|expected| expected == hex)
    }

    fn into_place(self, blob: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, e))?;
        drop(self.file);
        fs::rename(&self.path, blob).map_err(|e| Error::io(blob, e))
    }

    fn remove(&self) {
        // The file may be gone already, and the error that brought us here matters more.
        let _ = fs::remove_file(&self.path);
    }
}

/// The first byte a 206 answer holds.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE).filter(|_| response.status() == 206)?;
    range.to_str().ok()?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn holds(blob: &Path, size: u64) -> bool {
    blob.metadata().is_ok_and(|data| data.is_file() && data.len() == size)
}

pub(crate) fn parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}

/// Writes a small file whole or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    parent(path)?;
    let temporary = path.with_added_extension(format!("tmp{}", std::process::id()));
    fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path)).map_err(|e| Error::io(path, e))
}

/// Points a snapshot's file to its blob by a relative link, so that the cache may be moved; `up` folders lie between.
/// Where the system refuses links the bytes are linked hard or copied.
fn link(blob: &Path, path: &Path, up: usize) -> Result<()> {
    if fs::canonicalize(path).is_ok_and(|found| fs::canonicalize(blob).is_ok_and(|blob| blob == found)) {
        return Ok(());
    }
    parent(path)?;
    let temporary = path.with_added_extension(format!("tmp{}", std::process::id()));
    let target: PathBuf =
        std::iter::repeat_n("..", up).chain(["blobs"]).collect::<PathBuf>().join(blob.file_name().unwrap_or_default());
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(&target, &temporary);
    #[cfg(windows)]
    let made = std::os::windows::fs::symlink_file(&target, &temporary);
    made.or_else(|_| fs::hard_link(blob, &temporary))
        .or_else(|_| fs::copy(blob, &temporary).map(drop))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| Error::io(path, e))
}
