//! The models on this machine: in the Hugging Face cache, whose layout is that of Python's huggingface_hub, so that each finds what
//! the other fetched; and in a plain folder of headstart's for files that came another way.
//!
//! `models--OWNER--NAME/` holds `blobs/ETAG` (the bytes), `refs/REVISION` (a commit) and `snapshots/COMMIT/FILE` (links to
//! blobs). Reading is a handful of `stat` calls; nothing here touches the network.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::error::{Error, Result};
use crate::weights::gguf_paths;
use crate::weights::hub::{Name, safe_path};

/// The files of a Hugging Face checkpoint besides its weights, the first of them required.
pub(crate) const CHECKPOINT: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
];
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn base() -> Result<impl BaseStrategy> {
    etcetera::choose_base_strategy()
        .map_err(|e| Error::Request { field: "HOME", problem: format!("no home folder is known ({e}); set HOME") })
}

/// `HF_HOME`, or its default place.
pub(crate) fn home() -> Result<PathBuf> {
    match variable("HF_HOME") {
        Some(home) => Ok(home),
        None => Ok(base()?.cache_dir().join("huggingface")),
    }
}

/// The hub cache of this machine.
pub(crate) fn root() -> Result<PathBuf> {
    match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(root) => Ok(root),
        None => Ok(home()?.join("hub")),
    }
}

/// Our own folder of models: GGUF files and checkpoint folders, by any name.
pub fn models() -> Result<PathBuf> {
    Ok(base()?.data_dir().join("headstart").join("models"))
}

/// The folder of one repository in a hub cache.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    pub(crate) folder: String,
}

impl Repo {
    pub(crate) fn new(root: &Path, repo: &str) -> Self {
        Self { root: root.into(), folder: format!("models--{}", repo.replace('/', "--")) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(etag)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    pub(crate) fn reference(&self, revision: &str) -> PathBuf {
        self.path().join("refs").join(revision)
    }

    /// The lock that huggingface_hub takes while it writes the same blob.
    pub(crate) fn lock(&self, etag: &str) -> PathBuf {
        self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"))
    }

    /// The snapshot a revision (branch, tag or commit) points to, where it is on the disk.
    pub(crate) fn find(&self, revision: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.reference(revision)).unwrap_or_else(|_| revision.to_owned());
        let commit = commit.trim();
        (safe_path(commit) && !commit.contains('/')).then(|| self.snapshot(commit)).filter(|path| path.is_dir())
    }

    /// Every revision with a reference.
    pub(crate) fn revisions(&self) -> Vec<String> {
        let refs = self.path().join("refs");
        let mut found = vec![];
        let mut folders = vec![refs.clone()];
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.extend(path.strip_prefix(&refs).ok().and_then(Path::to_str).map(String::from)),
                }
            }
        }
        found.sort();
        found
    }
}

/// What `name` means within a snapshot: a GGUF file with all its shards, or the snapshot itself where it holds a whole checkpoint.
pub(crate) fn within(snapshot: &Path, name: &Name) -> Option<PathBuf> {
    match &name.file {
        Some(file) if file.ends_with(".gguf") => Some(snapshot.join(file)).filter(|path| is_whole(path)),
        Some(_) => {
            let is_meant = |path: &PathBuf| {
                path.strip_prefix(snapshot).ok().and_then(Path::to_str).is_some_and(|path| name.is_of(path))
            };
            match ggufs(snapshot).into_iter().filter(is_meant).collect::<Vec<_>>().as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            }
        }
        None if is_checkpoint(snapshot) => Some(snapshot.into()),
        None => match ggufs(snapshot).as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
    }
}

/// True where a folder holds a configuration and every safetensors file it needs.
pub(crate) fn is_checkpoint(folder: &Path) -> bool {
    folder.join(CHECKPOINT[0]).is_file()
        && (folder.join(WEIGHTS).is_file()
            || fs::read(folder.join(INDEX))
                .ok()
                .and_then(|index| shards(&index))
                .is_some_and(|shards| shards.iter().all(|shard| folder.join(shard).is_file())))
}

/// The files a sharded checkpoint's index names; `None` where it is no index, or names a path outside its folder.
pub(crate) fn shards(index: &[u8]) -> Option<BTreeSet<String>> {
    let index: serde_json::Value = serde_json::from_slice(index).ok()?;
    let files: Option<BTreeSet<_>> =
        index.get("weight_map")?.as_object()?.values().map(|file| file.as_str().map(String::from)).collect();
    files.filter(|files| !files.is_empty() && files.iter().all(|file| safe_path(file)))
}

/// A model on this machine.
#[derive(Debug, serde::Serialize)]
pub struct Found {
    /// What to give to `--model`.
    pub name: String,
    pub bytes: u64,
    pub path: PathBuf,
    /// `models` or `hub`
    pub source: &'static str,
}

/// Every model of our folder and of the hub cache that this program could open.
pub fn list() -> Result<Vec<Found>> {
    let mut found = vec![];
    for path in entries(&models()?) {
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && is_model(&path)
        {
            found.push(Found { name: name.into(), bytes: size(&path), path: path.clone(), source: "models" });
        }
    }
    let root = root()?;
    for folder in entries(&root) {
        let Some(folder) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(repo) = folder.strip_prefix("models--").map(|repo| repo.replacen("--", "/", 1)) else { continue };
        let place = Repo { root: root.clone(), folder: folder.into() };
        for revision in place.revisions() {
            let Some(snapshot) = place.find(&revision) else { continue };
            let mut add = |file: Option<String>, path: PathBuf| {
                let name = Name { repo: repo.clone(), file, revision: revision.clone() }.to_string();
                found.push(Found { name, bytes: size(&path), path, source: "hub" });
            };
            if is_checkpoint(&snapshot) {
                add(None, snapshot.clone());
            }
            for path in ggufs(&snapshot) {
                let file = path.strip_prefix(&snapshot).ok().and_then(Path::to_str).map(String::from);
                add(file, path);
            }
        }
    }
    Ok(found)
}

/// The model of our own folder that `name` means: by file name, by stem, or by the start of exactly one stem.
pub(crate) fn in_models(name: &str) -> Result<Option<PathBuf>> {
    if !safe_path(name) || name.contains('/') {
        return Ok(None);
    }
    let folder = models()?;
    let exact = [folder.join(name), folder.join(format!("{name}.gguf"))];
    if let Some(path) = exact.into_iter().find(|path| is_gguf(path) || is_checkpoint(path)) {
        return Ok(Some(path));
    }
    let begins = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        stem.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '-']))
    };
    let found: Vec<_> = entries(&folder).into_iter().filter(|path| begins(path) && is_model(path)).collect();
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let names: Vec<_> = several.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let problem = format!("`{name}` may be any of {}; give the whole name", names.join(", "));
            Err(Error::Request { field: "model", problem })
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf") && path.is_file()
}

/// Whether `path` is what its model goes by: a checkpoint's folder, a GGUF file, of shards the first.
fn is_model(path: &Path) -> bool {
    is_checkpoint(path) || is_gguf(path) && gguf_paths(path).first().is_some_and(|first| first == path)
}

/// Whether a GGUF file is there, and with a shard the others of its model.
fn is_whole(path: &Path) -> bool {
    gguf_paths(path).iter().all(|path| path.is_file())
}

/// The GGUF models below a folder that are whole.
fn ggufs(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| is_model(path) && is_whole(path)).collect()
}

/// The files below a folder, by path, links to files among them; of a file, itself.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let (mut files, mut left) = (vec![], vec![path.to_path_buf()]);
    while let Some(path) = left.pop() {
        match path.is_dir() {
            true => left.extend(entries(&path).into_iter().filter(|path| !path.is_dir() || !path.is_symlink())),
            false => files.extend(Some(path).filter(|path| path.is_file() || path.is_symlink())),
        }
    }
    files.sort();
    files
}

/// The bytes of a model in all its files.
fn size(model: &Path) -> u64 {
    gguf_paths(model).iter().map(|path| bytes(path)).sum()
}

/// The bytes of a file, or of all files below a folder.
pub(crate) fn bytes(path: &Path) -> u64 {
    files(path).iter().filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum()
}

/// What lies in a folder, by name; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
