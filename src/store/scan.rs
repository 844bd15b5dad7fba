//! The names and times of a cache directory: what is ours in it, and what its files say of themselves.
//!
//! `blocks/a/b/<64 hex>.safetensors`, with `a` and `b` the first two digits: 256 folders, so a walk opens few of them and
//! a million entries still lie in folders of 4,000. `manifests/a/b/<64 hex>.manifest` are the manifests of groups of blocks. `tmp/*.tmp` are files being written, `pins/*.pin` what is pinned.
//! `tenants/<16 hex>` is such a directory again, for one salt. Anything else is not ours and is neither counted nor
//! touched: the directory is the user's to choose.
//!
//! A file needs no index beside it: its access time is its last use, which every process sets and reads, and its
//! modification time is when it expires. Both are written explicitly, so mount options do not matter.

use std::fs::{self, DirBuilder, File, FileTimes, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::Key;
use super::file::{hex, unhex};
use super::lru::Entry;
use super::manifest::is_manifest;

/// The year 2100: the modification time of what does not expire.
pub(crate) const NEVER_MS: u64 = 4_102_444_800_000;

/// What lies in a directory: blocks, and their manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blocks,
    Manifests,
}

impl Kind {
    pub(crate) fn of(key: &Key) -> Self {
        if is_manifest(key) { Self::Manifests } else { Self::Blocks }
    }

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Manifests => "manifests",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Blocks => ".safetensors",
            Self::Manifests => ".manifest",
        }
    }
}

/// What a file takes on a disk, which gives out 4 KiB at a time.
pub(crate) fn cost(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(4096)
}

/// Where the value of `key` lies, below the root.
pub(crate) fn name(key: &Key) -> String {
    let (digits, kind) = (hex(key), Kind::of(key));
    format!("{}/{}/{}/{digits}{}", kind.folder(), &digits[..1], &digits[1..2], kind.suffix())
}

pub(crate) fn path(root: &Path, key: &Key) -> PathBuf {
    root.join(name(key))
}

/// Whose [`name`] this is, if anyone's.
#[cfg(feature = "remote")]
pub(crate) fn key_of(text: &str) -> Option<Key> {
    let key = unhex(text.rsplit('/').next()?.split('.').next()?)?;
    (name(&key) == text).then_some(key)
}

pub(crate) fn temporary(root: &Path) -> PathBuf {
    root.join("tmp")
}

/// Named by a hash, so that a salt is neither told nor a path.
pub(crate) fn tenant(root: PathBuf, salt: &str) -> PathBuf {
    match salt {
        "" => root,
        salt => root.join("tenants").join(&hex(&Sha256::digest(salt).into())[..16]),
    }
}

/// The root itself, if it has entries' folders, and all tenants below it.
pub(crate) fn tenants(root: &Path) -> io::Result<Vec<PathBuf>> {
    let ours = |name: &str| name.len() == 16 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let folders = list(&root.join("tenants"))?;
    let folders = folders.iter().filter(|folder| folder.file_name().to_str().is_some_and(ours));
    let mut found: Vec<PathBuf> = folders.map(|folder| folder.path()).collect();
    found.sort();
    found.insert(0, root.to_owned());
    found.retain(|folder| [Kind::Blocks, Kind::Manifests].iter().any(|kind| folder.join(kind.folder()).is_dir()));
    Ok(found)
}

/// A regular file's place in the order, or `None` for anything else (which is not ours).
pub(crate) fn entry(metadata: &Metadata) -> Option<Entry> {
    let since = |time: io::Result<SystemTime>| time.ok()?.duration_since(UNIX_EPOCH).ok();
    let used = since(metadata.accessed()).map_or(0, |since| since.as_nanos() as u64);
    let expires_ms = since(metadata.modified()).map_or(0, |since| since.as_millis() as u64);
    let expires_ms = Some(expires_ms).filter(|at| *at < NEVER_MS);
    metadata.is_file().then(|| Entry { bytes: cost(metadata.len()), used, expires_ms })
}

/// `None` where there is no such file.
pub(crate) fn look(path: &Path) -> io::Result<Option<Entry>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(entry(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn stamp(file: &File, used_ns: u64, expires_ms: u64) -> io::Result<()> {
    let expires = UNIX_EPOCH + Duration::from_millis(expires_ms.min(NEVER_MS));
    file.set_times(FileTimes::new().set_accessed(UNIX_EPOCH + Duration::from_nanos(used_ns)).set_modified(expires))
}

pub(crate) fn stamp_use(file: &File, used_ns: u64) -> io::Result<()> {
    file.set_times(FileTimes::new().set_accessed(UNIX_EPOCH + Duration::from_nanos(used_ns)))
}

/// Every entry of a kind that is there now. A folder or file that vanishes meanwhile was another process's to remove.
pub(crate) fn entries(root: &Path, kind: Kind) -> io::Result<Vec<(Key, Entry)>> {
    let mut found = Vec::new();
    let all = root.join(kind.folder());
    if !all.try_exists()? {
        return Ok(found);
    }
    for folder in 0..256 {
        let folder = all.join(format!("{:x}", folder / 16)).join(format!("{:x}", folder % 16));
        for file in list(&folder)? {
            let Some(key) = file.file_name().to_str().and_then(|n| n.strip_suffix(kind.suffix())).and_then(unhex)
            else {
                continue;
            };
            let known = file.metadata().ok().and_then(|metadata| entry(&metadata));
            found.extend(known.filter(|_| path(root, &key) == file.path()).map(|entry| (key, entry)));
        }
    }
    Ok(found)
}

/// Removes files that nobody goes on writing: those in use were created less than `stale_ms` ago.
pub(crate) fn sweep_temporary(root: &Path, now_ms: u64, stale_ms: u64) -> io::Result<()> {
    for file in list(&temporary(root))? {
        let ours = file.file_name().to_str().is_some_and(|name| name.ends_with(".tmp"));
        let Some(entry) = file.metadata().ok().as_ref().and_then(entry).filter(|_| ours) else { continue };
        if (entry.used / 1_000_000).saturating_add(stale_ms) <= now_ms {
            remove(&file.path())?;
        }
    }
    Ok(())
}

/// False if it was not there.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Folders only their owner enters: the blocks hold what was said.
pub(crate) fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

pub(crate) fn list(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(Result::ok).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
