//! Secrets in files.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::Path;

use super::file::{hex, unhex};
use super::{StoreError, StoreKey, private};

/// Allowed lengths, in bytes, of a secret that somebody else made.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=4096;

/// Reads the key in a file, or creates the file: 32 random bytes as hexadecimal digits, readable by this user alone. The
/// digits may be of either case.
///
/// # Errors
/// [`StoreError::Secret`] if the file holds something else, belongs to another user, is open to others, or cannot be
/// created.
pub fn key_file(path: &Path) -> Result<StoreKey, StoreError> {
    let read = || {
        let Some((file, found)) = private::open(path)? else {
            let problem = "it is not a file of this user's; name another file";
            return path.symlink_metadata().and(Err(io::Error::other(problem)));
        };
        if is_shared(&found) {
            let problem = "others may read or write it; if nobody has, give it mode 600, or name another file";
            return Err(io::Error::other(problem));
        }
        let mut text = String::new();
        file.take(80).read_to_string(&mut text)?;
        let problem = "it does not hold 64 hexadecimal digits, as a key that headstart made does; name another file";
        unhex(&text.trim_end().to_ascii_lowercase()).ok_or_else(|| io::Error::other(problem))
    };
    let key = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).and_then(|()| read()),
        key => key,
    };
    key.map_err(|error| fault(path, error.to_string()))
}

/// Reads the secret in a file or a pipe, without the line end.
///
/// # Errors
/// [`StoreError::Secret`] if it cannot be read, others can write to it, or it has fewer than 16 or more than 4,096
/// bytes.
pub fn secret_file(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut secret = Vec::new();
    let read = open_secret(path).and_then(|file| file.take(*LENGTHS.end() as u64 + 3).read_to_end(&mut secret));
    read.map_err(|error| fault(path, error.to_string()))?;
    let is_whole = secret.len() <= LENGTHS.end() + 2;
    secret.truncate(secret.trim_ascii_end().len());
    match is_whole && LENGTHS.contains(&secret.len()) {
        true => Ok(secret),
        false => Err(fault(path, "a secret has 16 to 4,096 bytes; make one with: openssl rand -hex 32".into())),
    }
}

#[cfg(unix)]
fn open_secret(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    use rustix::fs::OFlags;

    // Opening does not block on a pipe without a writer, which then reads as empty; reading waits for a writer that
    // exists.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    let found = file.metadata()?;
    match found.is_file() && found.mode() & 0o022 != 0 {
        true => Err(io::Error::other("others may write to it; take that from them (chmod go-w), or name another file")),
        false => Ok(file),
    }
}

#[cfg(not(unix))]
fn open_secret(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// If two processes create it at the same time, one succeeds and both read its key.
fn make(path: &Path) -> io::Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private::builder().recursive(true).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(hex(&key).as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_shared(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(found) & 0o077 != 0
}

#[cfg(not(unix))]
fn is_shared(_: &Metadata) -> bool {
    false
}

fn fault(path: &Path, problem: String) -> StoreError {
    StoreError::Secret { path: path.to_owned(), problem }
}
