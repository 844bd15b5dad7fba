//! The names and times in a cache directory: which files are ours, and what their metadata say.
//!
//! Blocks are `blocks/a/b/<64 hex>.safetensors`, with `a` and `b` the first two digits. These are 256 folders: a walk
//! opens few, and a million entries still mean only 4,000 a folder. `manifests/a/b/<64 hex>.manifest` are the manifests
//! of groups of blocks, `tmp/*.tmp` files being written, and `pins/*.pin` pins. `tenants/<16 hex>` is such a directory
//! again, for one salt. Anything else is not ours and is neither counted nor touched, since the user chooses the
//! directory.
//!
//! Files need no index: a file's access time is its last use, which every process sets and reads, and its modification
//! time is its expiry, in whole milliseconds. Both are set explicitly, so mount options do not matter. A copied file
//! has the time of copying. On file systems with finer clocks that is not a whole millisecond, and such a file does not
//! expire.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::StoreKey;
use super::file::{hex, unhex};
use super::lru::Entry;
use super::manifest::is_manifest;
use super::private::{Private, is_own_file};

/// The year 2100: the modification time of files that do not expire.
pub(crate) const NEVER_MS: u64 = 4_102_444_800_000;

/// The kinds of entries in a directory: blocks, and manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blocks,
    Manifests,
}

impl Kind {
    pub(crate) fn of(key: &StoreKey) -> Self {
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

/// Bytes that a file takes on a disk with blocks of 4 KiB.
pub(crate) fn cost(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(4096)
}

/// Where the value of `key` lies, below the root.
pub(crate) fn name(key: &StoreKey) -> String {
    let (digits, kind) = (hex(key), Kind::of(key));
    format!("{}/{}/{}/{digits}{}", kind.folder(), &digits[..1], &digits[1..2], kind.suffix())
}

pub(crate) fn path(root: &Path, key: &StoreKey) -> PathBuf {
    root.join(name(key))
}

/// The key whose [`name`] this is, if any.
#[cfg(feature = "remote")]
pub(crate) fn key_of(text: &str) -> Option<StoreKey> {
    let key = unhex(text.rsplit('/').next()?.split('.').next()?)?;
    (name(&key) == text).then_some(key)
}

/// The folder of files being written, below the root.
pub(crate) const TEMPORARY: &str = "tmp";

/// The folder of a salt's part, below the root. A hash names it, so that the salt is not revealed and cannot act as a
/// path.
pub(crate) fn tenant(salt: &str) -> PathBuf {
    match salt {
        "" => PathBuf::new(),
        salt => Path::new("tenants").join(&hex(&Sha256::digest(salt).into())[..16]),
    }
}

/// The root itself, if it has folders of entries, and all tenants below it.
pub(crate) fn tenants(root: &Path) -> io::Result<Vec<PathBuf>> {
    let place = Private::new(root, "");
    let ours = |name: &String| name.len() == 16 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let names = list(place.folder("tenants")?)?.into_iter().filter_map(|folder| folder.file_name().into_string().ok());
    let mut parts: Vec<String> = names.filter(ours).map(|name| format!("tenants/{name}")).collect();
    parts.sort();
    parts.insert(0, String::new());
    let mut found = Vec::new();
    for part in parts {
        for kind in [Kind::Blocks, Kind::Manifests] {
            if place.folder(format!("{part}/{}", kind.folder()).trim_start_matches('/'))?.is_some() {
                found.push(if part.is_empty() { root.to_owned() } else { root.join(part) });
                break;
            }
        }
    }
    Ok(found)
}

/// A regular file's place in the eviction order; `None` for anything else, and for another user's file.
pub(crate) fn entry(metadata: &Metadata) -> Option<Entry> {
    is_own_file(metadata).then(|| stamped(metadata))
}

/// What the metadata of one of our files say.
pub(crate) fn stamped(metadata: &Metadata) -> Entry {
    let since = |time: io::Result<SystemTime>| time.ok()?.duration_since(UNIX_EPOCH).ok();
    let used = since(metadata.accessed()).map_or(0, |since| since.as_nanos() as u64);
    let expires = since(metadata.modified()).unwrap_or_default();
    let is_copy = !expires.subsec_nanos().is_multiple_of(1_000_000);
    let expires_ms = Some(expires.as_millis() as u64).filter(|at| !is_copy && *at < NEVER_MS);
    Entry { bytes: cost(metadata.len()), used, expires_ms }
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

/// Every present entry of a kind. A folder or file that vanishes meanwhile was removed by another process.
pub(crate) fn entries(place: &Private, kind: Kind) -> io::Result<Vec<(StoreKey, Entry)>> {
    let mut found = Vec::new();
    let mut folders = vec![kind.folder().to_owned()];
    for _ in 0..2 {
        let there = folders.into_iter().filter_map(|folder| match place.folder(&folder) {
            Ok(there) => there.map(|_| Ok(folder)),
            Err(error) => Some(Err(error)),
        });
        let there: Vec<String> = there.collect::<io::Result<_>>()?;
        folders = there.iter().flat_map(|folder| (0..16).map(move |digit| format!("{folder}/{digit:x}"))).collect();
    }
    for folder in folders {
        for file in list(place.folder(&folder)?)? {
            let Some(key) = file.file_name().to_str().and_then(|n| n.strip_suffix(kind.suffix())).and_then(unhex)
            else {
                continue;
            };
            let is_at_home = || name(&key).rsplit_once('/').is_some_and(|(home, _)| home == folder);
            let known = file.metadata().ok().and_then(|metadata| entry(&metadata));
            found.extend(known.filter(|_| is_at_home()).map(|entry| (key, entry)));
        }
    }
    Ok(found)
}

/// Removes temporary files of ours that nobody is writing any more: files in use were created less than `stale_ms` ago.
pub(crate) fn sweep_temporary(place: &Private, now_ms: u64, stale_ms: u64) -> io::Result<()> {
    for file in list(place.folder(TEMPORARY)?)? {
        let ours = file.file_name().to_str().is_some_and(is_temporary);
        let Some(entry) = file.metadata().ok().as_ref().and_then(entry).filter(|_| ours) else { continue };
        if (entry.used / 1_000_000).saturating_add(stale_ms) <= now_ms {
            remove(&file.path())?;
        }
    }
    Ok(())
}

/// The process, something unique, and `.tmp`.
fn is_temporary(name: &str) -> bool {
    let parts = name.strip_suffix(".tmp").and_then(|name| name.split_once('-'));
    let is = |text: &str, digit: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(digit);
    parts.is_some_and(|(process, own)| is(process, u8::is_ascii_digit) && is(own, u8::is_ascii_hexdigit))
}

/// False if no file was there.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The entries of a folder, if it exists.
pub(crate) fn list(folder: Option<PathBuf>) -> io::Result<Vec<fs::DirEntry>> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(Result::ok).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
