//! Removing a model: its files, and of the hub cache the blobs that no other snapshot links to.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::{self, Repo};
use crate::error::{Error, Result};
use crate::weights::gguf_paths;

/// What a removal did.
#[derive(Debug, serde::Serialize)]
pub struct Removed {
    /// Where the model was.
    pub path: PathBuf,
    /// Bytes that are free again. Blobs that another revision links to stay, and are not counted.
    pub bytes: u64,
}

/// Removes the model that `name` means on this machine; nothing is asked of the network.
///
/// # Errors
/// `Error::Request` where no such model is kept here, or `name` is a file that a person keeps elsewhere; `Error::Io`.
pub fn remove(name: &str) -> Result<Removed> {
    let refused = |problem: String| Error::Request { field: "model", problem };
    let path = super::find(name)?
        .ok_or_else(|| refused(format!("`{name}` is not on this machine; `headstart models ls` shows what is")))?;
    // Any path that exists is found, be it a model of a person's own or a folder of models.
    if !cache::list()?.iter().any(|found| found.path == path) {
        return Err(refused(format!("{} is not a model of headstart's; delete it yourself", path.display())));
    }
    let root = cache::root()?;
    let bytes = match path.strip_prefix(&root).ok().and_then(|inside| inside.iter().next()?.to_str()) {
        Some(folder) => unlink(&Repo { folder: folder.into(), root: root.clone() }, &path)?,
        None => delete(&path)?,
    };
    Ok(Removed { path, bytes })
}

/// Deletes a model of our own folder: the file with its shards, the checkpoint's folder, or the link to either.
fn delete(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in gguf_paths(path) {
        let data = fs::symlink_metadata(&path).map_err(|e| Error::io(&path, e))?;
        bytes += if data.is_symlink() { 0 } else { cache::bytes(&path) };
        let deleted = if data.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        deleted.map_err(|e| Error::io(&path, e))?;
    }
    Ok(bytes)
}

/// Deletes a model of the hub cache: the links of its snapshot, then the blobs and references that nothing needs any more.
fn unlink(repo: &Repo, model: &Path) -> Result<u64> {
    let snapshots = repo.path().join("snapshots");
    let delete = |path: &Path| fs::remove_file(path).map_err(|e| Error::io(path, e));
    let mut bytes = 0;
    for file in gguf_paths(model).iter().flat_map(|path| cache::files(path)) {
        let size = cache::bytes(&file);
        let blob = if file.is_symlink() { fs::canonicalize(&file).ok() } else { None };
        delete(&file)?;
        if let Some(blob) = blob {
            let links = cache::files(&snapshots);
            let is_needed = links.iter().any(|link| fs::canonicalize(link).is_ok_and(|path| path == blob));
            // A link may lead anywhere: what lies outside the cache is not the cache's to delete.
            let is_ours = fs::canonicalize(repo.path()).is_ok_and(|repo| blob.starts_with(repo));
            if is_needed || !is_ours {
                continue;
            }
            delete(&blob)?;
        }
        bytes += size;
    }
    for revision in repo.revisions() {
        if repo.find(&revision).is_some_and(|snapshot| cache::files(&snapshot).is_empty()) {
            delete(&repo.reference(&revision))?;
        }
    }
    if cache::files(&snapshots).is_empty() {
        fs::remove_dir_all(repo.path()).map_err(|e| Error::io(repo.path(), e))?;
    }
    Ok(bytes)
}
