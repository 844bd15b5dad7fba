//! Files that are replaced as a whole, or stay as they were. A link stays and leads to the new content, and the owner, the group
//! and the mode of what was there stay as far as the system allows.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

/// Who may read a file that takes no other one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its user alone.
    Owner,
    /// Whom the system's settings name.
    Usual,
}

/// A regular file of this path, links followed. `None` if nothing is there.
///
/// # Errors
/// [`Error::Io`] for anything else that is there, with `meant` as the reason.
pub(crate) fn regular(path: &Path, meant: &str) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Err(Error::io(path, io::Error::other(meant))),
        Err(_) => Ok(None),
    }
}

/// Replaces the file at `path`, which is no link, by these bytes. `former` is the file whose owner and mode it gets.
///
/// # Errors
/// [`Error::Io`]; the file stays as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8], former: Option<&Metadata>, readers: Readers) -> Result<()> {
    let fail = |error| Error::io(path, error);
    let mut file = temporary(path, readers)?;
    if let Some(former) = former {
        keep_owner(file.as_file(), former);
        file.as_file().set_permissions(former.permissions()).map_err(fail)?;
    }
    // An error of `NamedTempFile` itself would name the temporary file.
    file.as_file_mut().write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

/// A file in the same folder that is not there any more once it is dropped.
///
/// # Errors
/// [`Error::Io`] where none can be made.
pub(crate) fn temporary(path: &Path, readers: Readers) -> Result<NamedTempFile> {
    let folder = folder(path);
    if !folder.is_dir() {
        return Err(Error::io(folder, io::Error::new(io::ErrorKind::NotFound, "no such folder")));
    }
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only these systems have modes"))]
    let mut builder = Builder::new();
    #[cfg(unix)]
    if readers == Readers::Usual {
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = readers;
    // The error itself names the temporary file, which means nothing to a person.
    builder.tempfile_in(folder).map_err(|error| Error::io(path, error.kind().into()))
}

/// Gives the file the owner and group of another one. Only root may give files away; others keep what they may.
#[cfg(unix)]
fn keep_owner(file: &File, former: &Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = file.metadata().map(|own| (own.uid(), own.gid()));
    let (user, group) = (former.uid(), former.gid());
    if own.is_ok_and(|own| own != (user, group)) && fchown(file, Some(user), Some(group)).is_err() {
        let _ = fchown(file, None, Some(group));
    }
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &Metadata) {}

/// Where a link leads, also if nothing is there yet.
pub(crate) fn linked(path: &Path) -> PathBuf {
    // Most systems follow no more links than this.
    (0..40).fold(path.to_owned(), |path, _| match fs::read_link(&path) {
        Ok(target) => folder(&path).join(target),
        Err(_) => path,
    })
}

pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
