//! From what a person calls a model to a path: a file or folder as it stands, a model kept here, the Hugging Face cache,
//! and only then the hub itself.
//!
//! A name that is found costs a few `stat` calls and no request. [`pull`] always asks the hub what is current, and moves
//! bytes only for what is missing.

mod cache;
mod client;
mod download;
mod library;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use cache::{Found, list};
pub(crate) use library::{CONTEXT, Checked, DEFAULT, Listed, available};

use cache::{CHECKPOINT, INDEX, Repo, WEIGHTS};
use client::{Client, Listing};
use download::Transfer;

use crate::error::{Error, Result};
use crate::weights::gguf_files;
use crate::weights::hub::{Name, Wanted};

/// The path of `model` (the default model where `None`): a GGUF file or a checkpoint folder. Downloads it where it is
/// nowhere on this machine; `quiet` says nothing on the way.
///
/// # Errors
/// `Error::Request` for a name that cannot be one, `Error::Download` where the hub does not serve it, `Error::Io`.
pub(crate) fn resolve(model: Option<&str>, quiet: bool) -> Result<PathBuf> {
    let model = model.unwrap_or(DEFAULT);
    if Path::new(model).exists() {
        return Ok(model.into());
    }
    let listed = library::find(model);
    if let Some(path) = cache::in_models(listed.as_ref().map_or(model, |listed| &listed.file))? {
        return Ok(path);
    }
    // What looks like a file of the person's own is not sought on the hub.
    let path_like = ["./", "../", "/", "~"].iter().any(|start| model.starts_with(start));
    if path_like || (model.ends_with(".gguf") && !model.contains(':')) {
        return Err(Error::io(model, std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory")));
    }
    let name = parse(model)?;
    let repo = Repo::new(&cache::root()?, &name.repo);
    match repo.find(&name.revision).and_then(|snapshot| cache::within(&snapshot, &name)) {
        Some(path) => Ok(path),
        None => pull(model, quiet),
    }
}

/// Brings `model` from the hub into the cache, whole and current, and returns its path there.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn pull(model: &str, quiet: bool) -> Result<PathBuf> {
    let name = parse(model)?;
    let client = Client::from_env()?;
    let listing = client.listing(&name)?;
    let repo = Repo::new(&cache::root()?, &name.repo);
    let transfer = Transfer { client: &client, repo: &repo, name: &name, commit: &listing.commit, quiet };
    let path = match name.choose(&listing.files)? {
        Wanted::Gguf(file) => {
            for shard in gguf_files(file) {
                transfer.fetch(&shard)?;
            }
            repo.snapshot(&listing.commit).join(file)
        }
        Wanted::Checkpoint => {
            let has = |file: &&str| listing.files.iter().any(|have| have == file);
            let weights = if has(&WEIGHTS) { WEIGHTS } else { INDEX };
            for file in CHECKPOINT.into_iter().chain([weights]).filter(has) {
                transfer.fetch(file)?;
            }
            if weights == INDEX {
                shards(&transfer, &listing)?;
            }
            repo.snapshot(&listing.commit)
        }
    };
    if name.revision != listing.commit {
        download::replace(&repo.reference(&name.revision), &listing.commit)?;
    }
    Ok(path)
}

/// A name of the library, or one as the hub has them.
fn parse(text: &str) -> Result<Name> {
    match library::find(text) {
        Some(listed) => Ok(Name { repo: listed.repo, file: Some(listed.file), revision: "main".into() }),
        None => Name::parse(text),
    }
}

/// The weight files a sharded checkpoint's index names.
fn shards(transfer: &Transfer<'_>, listing: &Listing) -> Result<()> {
    let path = transfer.repo.snapshot(transfer.commit).join(INDEX);
    let index = fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let bad = |problem: String| Error::Format {
        file: format!("{}:{INDEX}", transfer.name.repo),
        field: "weight_map".into(),
        problem,
        fix: "the repository is not a whole checkpoint; try another",
    };
    let files = cache::shards(&index).ok_or_else(|| bad("is missing, or names paths outside the checkpoint".into()))?;
    for file in &files {
        if !listing.files.contains(file) {
            return Err(bad(format!("names {file}, which the repository does not have")));
        }
        transfer.fetch(file)?;
    }
    Ok(())
}
