//! What a person may call a model on the hub, and which names are safe to make paths and addresses of.
//!
//! `owner/repo`, `owner/repo:FILE.gguf`, `owner/repo/FILE.gguf`, `owner/repo:Q8_0`, each with `@revision` behind the repository or
//! at the end. Every name, also one that a server or an index file sent, passes [`safe_path`] before it touches the disk. Asks no
//! network: whoever asks the hub what a repository holds has [`Name::choose`] of it.

use super::shards::gguf_files;
use crate::error::{Error, Result};

const CONFIG: &str = "config.json";
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

/// A repository on the hub, one file of it or its Hugging Face checkpoint, at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `owner/name`
    pub repo: String,
    /// A GGUF file by its path, or by a part of its name that tells it from the others, as its format does; `None` is the
    /// checkpoint of `config.json` and safetensors, or the only GGUF file there is.
    pub file: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: String,
}

/// What a name means in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A file, and with the first of several shards the others.
    Gguf(&'a str),
    /// The checkpoint of `config.json` and safetensors.
    Checkpoint,
}

impl Name {
    /// Reads a name as typed.
    ///
    /// # Errors
    /// `Error::Request` where it is none, or holds what no repository, file or revision may hold.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| Error::Request { field: "model", problem: format!("`{text}` {problem}") };
        let (rest, revision, tail) = match text.split_once('@') {
            None => (text, "main", None),
            Some((rest, revision)) => match revision.split_once(':') {
                None => (rest, revision, None),
                Some((revision, file)) => (rest, revision, Some(file)),
            },
        };
        let (path, file) = match rest.split_once(':') {
            None => (rest, tail),
            Some((path, file)) if tail.is_none() => (path, Some(file)),
            Some(_) => return Err(bad("names two files")),
        };
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(name), below) = (parts.next(), parts.next(), parts.next()) else {
            let problem = "is neither a file, nor a model kept here, nor a name such as owner/repository, nor one of \
                           `headstart models ls --available`";
            return Err(bad(problem));
        };
        let file = match (file, below) {
            (file, None) => file,
            (None, below) => below,
            (Some(_), Some(_)) => return Err(bad("names two files")),
        };
        let is_part = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !(safe_path(owner) && safe_path(name) && plain(owner) && plain(name)) {
            return Err(bad("is not a name such as owner/repository"));
        }
        if !safe_path(revision) {
            return Err(bad("has a revision that no branch, tag or commit can have"));
        }
        if let Some(file) = file
            && !(safe_path(file) && (file.ends_with(".gguf") || below.is_none() && is_part(file)))
        {
            return Err(bad("names a file that is neither a plain path ending in .gguf nor a format such as Q8_0"));
        }
        Ok(Self { repo: format!("{owner}/{name}"), file: file.map(Into::into), revision: revision.into() })
    }

    /// Whether a GGUF file is the one that is named: by its path, or by a part of it that stands between other signs than letters,
    /// digits and underscores, in either case.
    pub(crate) fn is_of(&self, path: &str) -> bool {
        let Some(file) = &self.file else { return false };
        if file.ends_with(".gguf") {
            return file == path;
        }
        let (path, part) = (path.to_ascii_lowercase(), file.to_ascii_lowercase());
        let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
        path.match_indices(&part).any(|(at, _)| {
            let (before, behind) = (&path[..at], &path[at + part.len()..]);
            !before.ends_with(|c: char| c.is_ascii_alphanumeric()) && !behind.starts_with(is_inside)
        })
    }

    /// Which of a repository's files are meant, by the paths of all.
    ///
    /// # Errors
    /// [`Error::Request`] where there is none, or more than one; it says which there are.
    pub fn choose<'a>(&self, files: &'a [String]) -> Result<Wanted<'a>> {
        let repo = &self.repo;
        let has = |file: &str| files.iter().any(|have| have == file);
        let ggufs: Vec<&str> = files.iter().map(String::as_str).filter(|file| is_model(file)).collect();
        let offered = match ggufs.len() {
            0 => "it has no GGUF file".to_owned(),
            _ => format!("its GGUF files are {}", ggufs.join(", ")),
        };
        let problem = |problem: String| Error::Request { field: "model", problem };
        let whole = |file: &'a str| match gguf_files(file).iter().find(|shard| !has(shard)) {
            None => Ok(Wanted::Gguf(file)),
            Some(absent) => Err(problem(format!("{repo} has no file {absent}; {offered}"))),
        };
        let Some(named) = &self.file else {
            if has(CONFIG) && WEIGHTS.iter().any(|weights| has(weights)) {
                return Ok(Wanted::Checkpoint);
            }
            return match ggufs.as_slice() {
                [only] => whole(only),
                [] => Err(problem(format!("{repo} holds neither config.json with safetensors nor a GGUF file"))),
                _ => Err(problem(format!("{repo} holds several models; name one as {repo}:FILE, {offered}"))),
            };
        };
        if let Some(file) = files.iter().find(|file| *file == named) {
            return whole(file);
        }
        let meant: Vec<&str> = ggufs.iter().copied().filter(|file| self.is_of(file)).collect();
        match meant.as_slice() {
            [only] => whole(only),
            [] => Err(problem(format!("{repo} has no file {named}; {offered}"))),
            _ => Err(problem(format!("{named} may be any of {} in {repo}; name one by its file", meant.join(", ")))),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

/// Whether a file is what a model goes by: of shards the first, and no part that sees for a model that writes.
fn is_model(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    file.ends_with(".gguf")
        && !name.starts_with("mmproj")
        && gguf_files(file).first().is_some_and(|first| first == file)
}

/// True where `path` is relative, stays below the folder it is joined to, and means the same on every system.
pub fn safe_path(path: &str) -> bool {
    path.len() <= 512
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && !part.ends_with(['.', ' '])
                && !part.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c))
        })
}
