//! A directory that belongs to its user alone, and the files in it. Whoever else could read them could read the
//! conversations; whoever could write them could change answers.
//!
//! The root is the directory that a person named. It is refused, with the reason, unless it belongs to the user and
//! nobody else can write to it. Root is no exception: another user's directory is refused for root too. If others may
//! only read the root, that permission is taken from them. The path to the root may contain links. The root itself may
//! be a link that the user made; it is resolved once, and its target must meet the same conditions. A folder below the
//! root that is a link, belongs to another user or is writable by others is skipped: nothing is found there, and a
//! write fails with the reason. Folders are created with mode 0700 and files with 0600, whatever the umask. A file is
//! opened without following links and without blocking on a pipe, and is used only if the handle is a regular file of
//! the user's.
//!
//! Why paths suffice and no handles of folders are kept: nobody else can put anything into a folder that only the user
//! can write to. So a folder that passed the checks remains good as long as the root is the same, which every call
//! checks. Whoever can rename the root, because its parent is open to them, can only put another directory in its place
//! that belongs to this user and is closed to others. Between the check and the opening they may put one of their own
//! there, but that gains nothing: files that are read must belong to the user, files that are written are readable by
//! no one else, and files that are removed have names that only the store gives.
//!
//! On systems without owners and modes, only links and non-files are detected.
//!
//! Cost: one system call a use, and one more for each folder the first time.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Why a directory is not used, phrased to follow its name.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Refused {
    pub(crate) path: PathBuf,
    problem: String,
}

impl Refused {
    fn error(path: &Path, problem: impl Into<String>) -> io::Error {
        io::Error::other(Self { path: path.to_owned(), problem: problem.into() })
    }

    /// The refusal inside an error, if it is one.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// A root, and what is known of the folders below it.
pub(crate) struct Private {
    root: PathBuf,
    /// The folders below the root that lead to the part in use.
    below: PathBuf,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// The root without links.
    real: Option<PathBuf>,
    /// The identity of the root that these folders belong to.
    id: Option<(u64, u64)>,
    /// Folders that passed the checks.
    folders: HashSet<PathBuf>,
}

impl Private {
    /// Touches nothing. `below` names folders within the root, or none.
    pub(crate) fn new(root: &Path, below: impl Into<PathBuf>) -> Self {
        // With a slash at its end, a link could not be recognised.
        Self { root: root.components().collect(), below: below.into(), known: RefCell::default() }
    }

    /// A folder, if it exists and everything on the way to it passes the checks. Fails if the root is refused.
    pub(crate) fn folder(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let known = &mut *self.known.borrow_mut();
        let Some(mut path) = self.real(known)? else { return Ok(None) };
        for part in &self.below.join(name) {
            path.push(part);
            if known.folders.contains(&path) {
                continue;
            }
            if look(&path)?.is_none_or(|found| flaw(&found).is_some()) {
                return Ok(None);
            }
            known.folders.insert(path.clone());
        }
        Ok(Some(path))
    }

    /// A folder, created with all that is missing on the way to it. Fails if any of it is refused.
    pub(crate) fn make(&self, name: &str) -> io::Result<PathBuf> {
        let known = &mut *self.known.borrow_mut();
        let mut path = match self.real(known)? {
            Some(path) => path,
            None => {
                self.root.parent().map_or(Ok(()), |parent| builder().recursive(true).create(parent))?;
                make(&self.root)?;
                self.real(known)?.ok_or(io::ErrorKind::NotFound)?
            }
        };
        for part in &self.below.join(name) {
            path.push(part);
            let found = match look(&path)? {
                Some(found) => found,
                None => make(&path).and_then(|()| fs::symlink_metadata(&path))?,
            };
            if let Some(problem) = flaw(&found) {
                return Err(Refused::error(&path, problem));
            }
            known.folders.insert(path.clone());
        }
        Ok(path)
    }

    /// Whether what `name` names, or anything on the way to it, belongs to another user.
    pub(crate) fn is_anothers(&self, name: &str) -> bool {
        let mut path = match self.real(&mut self.known.borrow_mut()) {
            Ok(Some(root)) => root,
            Ok(None) => return false,
            Err(error) => return Refused::of(&error).is_some(),
        };
        self.below.join(name).iter().any(|part| {
            path.push(part);
            look(&path).is_ok_and(|found| found.is_some_and(|found| owned(&found).is_some()))
        })
    }

    /// The root without links, if it is there.
    fn real(&self, known: &mut Known) -> io::Result<Option<PathBuf>> {
        let resolved = known.real.take().map_or_else(|| resolve(&self.root), |real| Ok(Some(real)))?;
        let Some(real) = resolved else { return Ok(None) };
        let Some(found) = look(&real)? else { return Ok(None) };
        if !found.is_dir() && !found.is_symlink() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if let Some(problem) = flaw(&found) {
            return Err(Refused::error(&real, problem));
        }
        close(&real, &found)?;
        let id = id(&found);
        if known.id != id {
            *known = Known { id, ..Known::default() };
        }
        known.real = Some(real.clone());
        Ok(Some(real))
    }
}

/// The named directory, or the target of the user's own link of that name.
fn resolve(root: &Path) -> io::Result<Option<PathBuf>> {
    let Some(found) = look(root)? else { return Ok(None) };
    if !found.is_symlink() {
        return Ok(Some(root.to_owned()));
    }
    if let Some(problem) = owned(&found) {
        return Err(Refused::error(root, format!("it is a link, and {problem}")));
    }
    match root.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refused::error(root, "it is a link to nothing; make the directory that it leads to"))
        }
        real => real.map(Some),
    }
}

/// Of whatever is there, itself.
fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Makes folders that are their user's alone.
pub(super) fn builder() -> DirBuilder {
    #[allow(unused_mut)]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Creates one folder. If somebody else created it first, that is fine.
fn make(folder: &Path) -> io::Result<()> {
    match builder().create(folder) {
        #[cfg(unix)]
        Ok(()) => fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

#[cfg(unix)]
mod system {
    use std::fs::{File, Metadata, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::path::Path;

    use rustix::fs::OFlags;

    use super::Refused;

    /// A description of the owner, if it is not the user.
    pub(super) fn owned(found: &Metadata) -> Option<String> {
        let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
        (owner != user).then(|| {
            format!(
                "it belongs to user {owner}, and this runs as user {user}; not even root uses what is another's, so name \
                 a directory of your own"
            )
        })
    }

    /// Why a directory is not used.
    pub(super) fn flaw(found: &Metadata) -> Option<String> {
        let problem = match found.mode() {
            _ if found.is_symlink() => "it is a link; put a directory in its place",
            _ if !found.is_dir() => "it is not a directory; move it away",
            _ if owned(found).is_some() => return owned(found),
            mode if mode & 0o022 != 0 => {
                "other users can write to it, so they could read and change what is kept there; take that from them \
                 (chmod 700), or name another directory, such as one within it"
            }
            mode if mode & 0o500 != 0o500 => "its user may not read it; allow that (chmod 700)",
            _ => return None,
        };
        Some(problem.to_owned())
    }

    pub(in crate::store) fn is_own_file(found: &Metadata) -> bool {
        found.is_file() && found.mode() & 0o400 != 0 && owned(found).is_none()
    }

    /// Takes the permission to read a directory from others.
    pub(super) fn close(folder: &Path, found: &Metadata) -> io::Result<()> {
        if found.mode() & 0o077 == 0 {
            return Ok(());
        }
        let close = || -> io::Result<bool> {
            let folder = flags(OpenOptions::new().read(true), OFlags::DIRECTORY).open(folder)?;
            let mode = folder.metadata()?.mode() & 0o7700;
            folder.set_permissions(Permissions::from_mode(mode))?;
            Ok(folder.metadata()?.mode() & 0o077 == 0)
        };
        match close() {
            Ok(true) => Ok(()),
            _ => Err(Refused::error(
                folder,
                "other users can read what is kept there, and that cannot be taken from them; name another directory",
            )),
        }
    }

    pub(super) fn id(found: &Metadata) -> Option<(u64, u64)> {
        Some((found.dev(), found.ino()))
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        flags(OpenOptions::new().read(true), OFlags::NONBLOCK).open(path)
    }

    fn flags(options: &mut OpenOptions, more: OFlags) -> &mut OpenOptions {
        options.custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC | more).bits() as i32)
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    pub(super) fn owned(_: &Metadata) -> Option<String> {
        None
    }

    pub(super) fn flaw(found: &Metadata) -> Option<String> {
        (!found.is_dir()).then(|| "it is not a directory; move it away".to_owned())
    }

    pub(in crate::store) fn is_own_file(found: &Metadata) -> bool {
        found.is_file()
    }

    pub(super) fn close(_: &Path, _: &Metadata) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn id(_: &Metadata) -> Option<(u64, u64)> {
        None
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }
}

pub(super) use system::is_own_file;
use system::{close, flaw, id, owned};

/// A regular file of the user's, opened for reading, with its metadata; `None` if there is anything else, or nothing.
pub(super) fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    match system::open(path) {
        Ok(file) => {
            let found = file.metadata()?;
            Ok(is_own_file(&found).then_some((file, found)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // It is a link or a socket, or it cannot be read.
        Err(error) => match look(path)? {
            Some(found) if is_own_file(&found) => Err(error),
            _ => Ok(None),
        },
    }
}

/// A new file in a folder, for one writer only across processes and containers. Its name is `begin`, sixteen digits
/// that cannot be guessed, and `.tmp`.
pub(super) fn create(folder: &Path, begin: &str) -> io::Result<(File, PathBuf)> {
    let path = folder.join(format!("{begin}{:016x}.tmp", RandomState::new().hash_one(begin)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok((file, path))
}

/// Moves a file to `target`. A directory there that is not empty is not ours and stays.
pub(super) fn commit(temporary: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(temporary, target) {
        Err(_) if look(target)?.is_some_and(|found| found.is_dir()) => match fs::remove_dir(target) {
            Ok(()) => fs::rename(temporary, target),
            Err(_) => {
                Err(Refused::error(target, "a directory with something in it is in the file's place; move it away"))
            }
        },
        done => done,
    }
}

/// A small file beside the blocks that is read and replaced as a whole. It reads as empty if it is damaged, absent or
/// too large.
pub(crate) struct Note {
    place: Private,
    name: &'static str,
    most: u64,
}

/// A temporary file of a note that was not touched for so long belongs to a process that died.
const STALE: Duration = Duration::from_secs(600);

impl Note {
    /// Touches nothing. A note of more than `most` bytes is not read.
    pub(crate) fn new(dir: &Path, name: &'static str, most: u64) -> Self {
        Self { place: Private::new(dir, ""), name, most }
    }

    pub(crate) fn read(&self) -> Vec<u8> {
        let read = || {
            let path = self.place.folder("").ok()??.join(self.name);
            let (file, _) = open(&path).ok()??;
            let mut bytes = Vec::new();
            file.take(self.most + 1).read_to_end(&mut bytes).ok()?;
            Some(bytes).filter(|bytes| bytes.len() as u64 <= self.most)
        };
        read().unwrap_or_default()
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = self.place.make("")?;
        self.sweep(&folder);
        let (mut file, temporary) = create(&folder, &format!("{}.", self.name))?;
        let written = file.write_all(bytes);
        drop(file);
        let done = written.and_then(|()| commit(&temporary, &folder.join(self.name)));
        done.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Removes the leftovers of dead writers, as far as possible.
    fn sweep(&self, folder: &Path) {
        let number = |name: &str| -> Option<bool> {
            let number = name.strip_prefix(self.name)?.strip_prefix('.')?.strip_suffix(".tmp")?;
            Some(!number.is_empty() && number.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')))
        };
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let ours = file.file_name().to_str().and_then(number) == Some(true);
            let Some(found) = file.metadata().ok().filter(|found| ours && is_own_file(found)) else { continue };
            let age = found.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
            if age.is_some_and(|age| age >= STALE) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}
