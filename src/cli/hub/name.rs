//! What a person may call a model on the hub, and which names are safe to make paths and addresses of.
//!
//! `owner/repo`, `owner/repo:FILE.gguf`, `owner/repo/FILE.gguf`, each with `@revision` behind the repository or at the end;
//! or a name of the [library].
//! Every name, also one that a server or an index file sent, passes [`safe_path`] before it touches the disk.

use super::library;
use crate::error::{Error, Result};

/// A repository on the hub, one file of it or its Hugging Face checkpoint, at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// `owner/name`
    pub(crate) repo: String,
    /// A GGUF file; `None` is the checkpoint of `config.json` and safetensors, or the only GGUF file there is.
    pub(crate) file: Option<String>,
    pub(crate) revision: String,
}

impl Name {
    /// Reads a name as typed.
    ///
    /// # Errors
    /// `Error::Request` where it is none, or holds what no repository, file or revision may hold.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| Error::Request { field: "model", problem: format!("`{text}` {problem}") };
        if let Some(listed) = library::find(text) {
            return Ok(Self { repo: listed.repo, file: Some(listed.file), revision: "main".into() });
        }
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
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !(safe_path(owner) && safe_path(name) && plain(owner) && plain(name)) {
            return Err(bad("is not a name such as owner/repository"));
        }
        if !safe_path(revision) {
            return Err(bad("has a revision that no branch, tag or commit can have"));
        }
        if let Some(file) = file
            && !(safe_path(file) && file.ends_with(".gguf"))
        {
            return Err(bad("names a file that is not a plain path ending in .gguf"));
        }
        Ok(Self { repo: format!("{owner}/{name}"), file: file.map(Into::into), revision: revision.into() })
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

/// True where `path` is relative, stays below the folder it is joined to, and means the same on every system.
pub(crate) fn safe_path(path: &str) -> bool {
    path.len() <= 512
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && !part.ends_with(['.', ' '])
                && !part.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c))
        })
}
