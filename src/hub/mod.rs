//! Finds the path of a model by its name: an existing path, a model in headstart's folder, one in the Hugging Face cache, or, last,
//! one that is downloaded from the hub.
//!
//! A name that is found costs a few `stat` calls and no request. [`pull`] always asks the hub what is current, and moves
//! bytes only for what is missing. All of it blocks.

mod cache;
mod client;
mod download;
mod library;
mod remove;

use std::fs;
use std::path::{Path, PathBuf};

pub use cache::{Found, list, models};
pub use library::{CONTEXT, Checked, DEFAULT, Listed, available, find as listed};
pub use remove::{Removed, remove};

use cache::{CHECKPOINT, INDEX, Repo, WEIGHTS};
use client::{Client, Listing};
use download::Transfer;

use crate::error::{Error, Result};
use crate::weights::gguf_files;
use crate::weights::hub::{Name, Wanted};

/// How a download goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Download<'a> {
    /// Another process downloads the same file. This one waits until that has ended.
    Waiting,
    /// A file under way.
    File {
        /// Its path in the repository.
        name: &'a str,
        /// Bytes that are there. If those that were kept turn out wrong, it starts again.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
}

/// The path of the model that `name` stands for, as `headstart --model` takes it: a path, the name of a file in headstart's
/// folder of models, a short name such as `qwen3-0.6b` (`headstart models ls --available` lists them), or a name of the hub
/// such as `owner/repository`, `owner/repository:Q8_0` or `owner/repository:FILE.gguf@revision`. A model that is nowhere on
/// this machine is downloaded into the Hugging Face cache, and `hear` is told how that goes. `HF_ENDPOINT`, `HF_TOKEN`,
/// `HF_HOME` and `HF_HUB_OFFLINE` mean what they mean to Hugging Face's own programs. The call blocks.
///
/// # Errors
/// [`Error::Request`] for a name that cannot be one, [`Error::Download`] if the hub does not serve it, [`Error::Io`].
pub fn find_model(name: &str, hear: &mut dyn FnMut(Download<'_>)) -> Result<PathBuf> {
    find(name)?.map_or_else(|| pull(name, hear), Ok)
}

/// The path of a model that is on this machine; nothing is asked of the network.
///
/// # Errors
/// As [`find_model`].
pub fn find(model: &str) -> Result<Option<PathBuf>> {
    if Path::new(model).exists() {
        return Ok(Some(model.into()));
    }
    let listed = library::find(model);
    if let Some(path) = cache::in_models(listed.as_ref().map_or(model, |listed| &listed.file))? {
        return Ok(Some(path));
    }
    // A name that looks like a path or a file is not sought on the hub.
    let path_like = ["./", "../", "/", "~"].iter().any(|start| model.starts_with(start));
    let file_like = FILES.iter().any(|end| model.to_ascii_lowercase().ends_with(end)) && !model.contains(':');
    if path_like || file_like {
        return Err(Error::io(
            model,
            std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "no such file or directory, nor a model in headstart's folder",
            ),
        ));
    }
    let name = parse(model)?;
    let repo = Repo::new(&cache::root()?, &name.repo);
    Ok(repo.find(&name.revision).and_then(|snapshot| cache::within(&snapshot, &name)))
}

/// Endings of files that hold models or parts of them.
const FILES: [&str; 7] = [".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth", ".onnx"];

/// Brings `model` from the hub into the cache, whole and current, and returns its path there.
///
/// # Errors
/// As [`find_model`].
pub fn pull(model: &str, hear: &mut dyn FnMut(Download<'_>)) -> Result<PathBuf> {
    let name = parse(model)?;
    let client = Client::from_env()?;
    let listing = client.listing(&name)?;
    let repo = Repo::new(&cache::root()?, &name.repo);
    let mut transfer = Transfer { client: &client, repo: &repo, name: &name, commit: &listing.commit, hear };
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
                shards(&mut transfer, &listing)?;
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
fn shards(transfer: &mut Transfer<'_>, listing: &Listing) -> Result<()> {
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
