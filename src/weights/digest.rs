//! The SHA-256 of a checkpoint's weights: what KV is named by, so that equal digests mean equal weights.
//!
//! One part: the digest of its bytes, as `sha256sum` prints it. Several:
//! `H("headstart/weights/1" ‖ for each part: len ‖ its digest's 64 digits ‖ for each tensor: len(name) ‖ name ‖ part)`,
//! numbers u64-LE, parts in the order of their shards' names (GGUF: of `split.no`), tensors in that of theirs. Which shard a tensor is taken
//! from belongs to it, because an index may choose between two of one name. No path goes in.
//!
//! Cost: every byte is read and hashed once, in pieces of 4 MiB. Natively [`Remembered`] spares that after the first time.

use sha2::{Digest, Sha256};

use super::{checkpoint::Checkpoint, source::ByteSource};
use crate::error::Result;

#[cfg(not(target_arch = "wasm32"))]
pub use remembered::Remembered;

const PIECE: u64 = 4 << 20;

impl Checkpoint {
    /// The digest of the weights as 64 hex digits. `progress` gets the bytes done and those in all.
    ///
    /// # Errors
    /// Whatever the sources of the parts fail with.
    pub async fn digest(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<String> {
        let mut progress = Progress::new(self, progress);
        let mut digests = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            digests.push(hash(&**part, &mut progress).await?);
        }
        Ok(combine(self, &digests))
    }
}

struct Progress<'a> {
    report: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    fn new(checkpoint: &Checkpoint, report: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self { report, done: 0, total: checkpoint.parts.iter().map(|part| part.len()).sum() }
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        (self.report)(self.done, self.total);
    }
}

/// 64 hex digits.
async fn hash(source: &dyn ByteSource, progress: &mut Progress<'_>) -> Result<String> {
    if let Some(digest) = source.sha256() {
        progress.advance(source.len());
        return Ok(digest);
    }
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE.min(source.len()) as usize];
    let mut offset = 0;
    while offset < source.len() {
        let bytes = PIECE.min(source.len() - offset);
        let piece = &mut piece[..bytes as usize];
        source.read(offset, piece).await?;
        hash.update(&*piece);
        offset += bytes;
        progress.advance(bytes);
    }
    Ok(hex(hash))
}

fn combine(checkpoint: &Checkpoint, digests: &[String]) -> String {
    if let [digest] = digests {
        return digest.clone();
    }
    let mut hash = Sha256::new_with_prefix(b"headstart/weights/1");
    for (part, digest) in checkpoint.parts.iter().zip(digests) {
        hash.update(part.len().to_le_bytes());
        hash.update(digest);
    }
    for (name, tensor) in &checkpoint.tensors {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((tensor.part as u64).to_le_bytes());
    }
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(not(target_arch = "wasm32"))]
mod remembered {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::time::{SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Serialize};

    use super::{Progress, combine, hash};
    use crate::error::Result;
    use crate::store::{Note, Seal};
    use crate::weights::{
        checkpoint::Checkpoint,
        source::{ByteSource, FileSource, Identity},
    };

    const FILE: &str = "weights.json";
    const PURPOSE: &[u8] = b"headstart-weights/1";
    const MAX_ENTRIES: usize = 256;
    /// 256 paths of 4,096 characters, each escaped, fit with what else an entry has.
    const MAX_BYTES: u64 = 8 << 20;
    /// How old a file must be to be remembered.
    const SETTLED_NS: u64 = 2_000_000_000;

    /// Digests of files, kept in the file `weights.json` of a cache directory by their identity: canonical path, size,
    /// times, inode and bytes from all over the file. A file in which any of these changed is hashed again.
    ///
    /// A file modified less than 2 seconds before it is hashed is not remembered. Clocks of file systems tick as coarsely
    /// as that (FAT), so it could be written once more and keep its mtime. Where the system has no inodes, who changes a
    /// file in place between the sampled bytes and sets its mtime back by hand is not found out.
    ///
    /// The directory is believed, and written to, only where it is its user's alone, as a [`crate::FilesystemStore`] does.
    /// The list is replaced by renaming, so readers find a whole one; of two writers at once the later wins, and what the
    /// other knew is hashed again. A list that is damaged, that somebody without the key wrote, or that cannot be written, costs
    /// time only. The default remembers nothing.
    #[derive(Default)]
    pub struct Remembered {
        list: Option<Note>,
        seal: Option<Seal>,
    }

    #[derive(Default, Serialize, Deserialize)]
    struct List {
        /// The oldest first.
        entries: Vec<Entry>,
        /// HMAC-SHA-256 of the entries, under the key of whoever keeps the list.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    struct Entry {
        #[serde(flatten)]
        identity: Identity,
        sha256: String,
    }

    impl Remembered {
        /// Touches nothing yet: the directory is made when there is something to remember.
        pub fn new(dir: impl AsRef<Path>) -> Self {
            Self { list: Some(Note::new(dir.as_ref(), FILE, MAX_BYTES)), seal: None }
        }

        /// Believes no list but one that was written with this key.
        #[must_use]
        pub fn sealed(self, seal: Seal) -> Self {
            Self { seal: Some(seal), ..self }
        }

        /// [`Checkpoint::digest`], reading only the parts that are not remembered.
        pub async fn digest(&self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(u64, u64)) -> Result<String> {
            let known = self.read();
            let mut progress = Progress::new(checkpoint, progress);
            let mut digests = Vec::with_capacity(checkpoint.parts.len());
            let mut fresh = Vec::new();
            for part in &checkpoint.parts {
                let identity = part.identity();
                if let Some(digest) = identity.as_ref().and_then(|identity| known.find(identity)) {
                    progress.advance(part.len());
                    digests.push(digest);
                    continue;
                }
                let settled = identity.filter(|identity| is_settled(identity.mtime_ns));
                let sha256 = hash(&**part, &mut progress).await?;
                digests.push(sha256.clone());
                // The same before and after: nobody wrote it meanwhile.
                if let Some(identity) = settled.filter(|before| part.identity().as_ref() == Some(before)) {
                    fresh.push(Entry { identity, sha256 });
                }
            }
            if !fresh.is_empty() {
                // Read again: another process may have added to it while this one was hashing.
                let list = self.read().with(fresh);
                let _ = self.write(list);
            }
            Ok(combine(checkpoint, &digests))
        }

        /// The files whose digests are remembered, and those; no file that has changed since.
        pub fn files(&self) -> Vec<(PathBuf, String)> {
            let unchanged = |entry: &Entry| {
                let source = FileSource::open(&entry.identity.path).ok();
                source.and_then(|source| source.identity()).as_ref() == Some(&entry.identity)
            };
            let entries = self.read().entries.into_iter().filter(unchanged);
            entries.map(|entry| (entry.identity.path.into(), entry.sha256)).collect()
        }

        /// What is remembered; nothing where the file is absent, damaged or too large.
        fn read(&self) -> List {
            let Some(note) = &self.list else { return List::default() };
            let list: List = serde_json::from_slice(&note.read()).unwrap_or_default();
            if self.seal.is_none() || (list.mac.is_some() && list.mac == self.mac(&list)) {
                list
            } else {
                List::default()
            }
        }

        fn write(&self, list: List) -> io::Result<()> {
            let Some(note) = &self.list else { return Ok(()) };
            note.write(&serde_json::to_vec_pretty(&List { mac: self.mac(&list), ..list })?)
        }

        fn mac(&self, list: &List) -> Option<String> {
            let entries = serde_json::to_vec(&list.entries).ok()?;
            let mac = self.seal.as_ref()?.mac(&[PURPOSE, &entries].concat());
            Some(mac.iter().map(|byte| format!("{byte:02x}")).collect())
        }
    }

    impl List {
        fn find(&self, identity: &Identity) -> Option<String> {
            let entry = self.entries.iter().rfind(|entry| entry.identity == *identity)?;
            let is_digest = entry.sha256.len() == 64 && entry.sha256.bytes().all(|c| b"0123456789abcdef".contains(&c));
            is_digest.then(|| entry.sha256.clone())
        }

        /// `fresh` in place of what was known of the same paths; the oldest go where there are too many.
        fn with(mut self, fresh: Vec<Entry>) -> Self {
            self.entries.retain(|old| fresh.iter().all(|new| new.identity.path != old.identity.path));
            self.entries.extend(fresh);
            let extra = self.entries.len().saturating_sub(MAX_ENTRIES);
            self.entries.drain(..extra);
            self
        }
    }

    /// Not where the clock is behind the file's time either.
    fn is_settled(mtime_ns: u64) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        now.checked_sub(mtime_ns).is_some_and(|age| age >= SETTLED_NS)
    }
}
