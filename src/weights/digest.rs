//! The SHA-256 of a checkpoint's weights. It is part of the name of KV: equal digests mean equal weights.
//!
//! For one part it is the digest of its bytes, as `sha256sum` prints it. For several it is `H("headstart/weights/1" ‖
//! for each part: len ‖ its digest's 64 digits ‖ for each tensor: len(name) ‖ name ‖ part)`, with numbers as u64-LE,
//! parts ordered by their shards' names (GGUF: by `split.no`), and tensors by name. The shard of each tensor is
//! included, because an index may choose between two tensors of one name. Paths are not included.
//!
//! Cost: every byte is read and hashed once, in pieces of 4 MiB. Natively, [`Remembered`] avoids that after the first
//! time.

use sha2::{Digest, Sha256};

use super::{checkpoint::Checkpoint, source::ByteSource};
use crate::error::Result;

#[cfg(not(target_arch = "wasm32"))]
pub use remembered::Remembered;

const PIECE: u64 = 4 << 20;

impl Checkpoint {
    /// The digest of the weights as 64 hex digits. `progress` gets the bytes done and the total.
    ///
    /// # Errors
    /// Any error of the parts' sources.
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
    /// Enough for 256 entries with paths of 4,096 escaped characters.
    const MAX_BYTES: u64 = 8 << 20;
    /// The least age of a file that is remembered.
    const SETTLED_NS: u64 = 2_000_000_000;

    /// Digests of files, kept in `weights.json` in a cache directory by the files' identity: canonical path, size,
    /// times, inode and sampled bytes. If any of these changed, the file is hashed again.
    ///
    /// A file that was modified less than 2 seconds before it is hashed is not remembered. Some file systems (FAT) have
    /// clocks as coarse as that, so the file could be written again and keep its mtime. On systems without inodes, a
    /// change in place between the sampled bytes goes undetected if somebody also resets the mtime.
    ///
    /// The directory is used only if it belongs to the user alone, as with [`crate::FilesystemStore`]. The list is
    /// replaced by renaming, so readers always find a whole one. Of two simultaneous writers the later wins, and the
    /// other's files are hashed again. A list that is damaged, was written without the key or cannot be written only
    /// costs time. The default remembers nothing.
    #[derive(Default)]
    pub struct Remembered {
        list: Option<Note>,
        seal: Option<Seal>,
    }

    #[derive(Default, Serialize, Deserialize)]
    struct List {
        /// The oldest first.
        entries: Vec<Entry>,
        /// HMAC-SHA-256 of the entries, under the list's key.
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
        /// Touches nothing yet. The directory is created when there is something to remember.
        pub fn new(dir: impl AsRef<Path>) -> Self {
            Self { list: Some(Note::new(dir.as_ref(), FILE, MAX_BYTES)), seal: None }
        }

        /// Accepts only a list that was written with this key.
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
                // If the identity is the same before and after, nobody wrote the file meanwhile.
                if let Some(identity) = settled.filter(|before| part.identity().as_ref() == Some(before)) {
                    fresh.push(Entry { identity, sha256 });
                }
            }
            if !fresh.is_empty() {
                // The list is read again, since another process may have added to it meanwhile.
                let list = self.read().with(fresh);
                let _ = self.write(list);
            }
            Ok(combine(checkpoint, &digests))
        }

        /// The files whose digests are remembered, with these digests. Files that have changed since are left out.
        pub fn files(&self) -> Vec<(PathBuf, String)> {
            let unchanged = |entry: &Entry| {
                let source = FileSource::open(&entry.identity.path).ok();
                source.and_then(|source| source.identity()).as_ref() == Some(&entry.identity)
            };
            let entries = self.read().entries.into_iter().filter(unchanged);
            entries.map(|entry| (entry.identity.path.into(), entry.sha256)).collect()
        }

        /// What is remembered; nothing if the file is absent, damaged or too large.
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

        /// Replaces the entries of the same paths by `fresh`. If there are too many entries, the oldest are dropped.
        fn with(mut self, fresh: Vec<Entry>) -> Self {
            self.entries.retain(|old| fresh.iter().all(|new| new.identity.path != old.identity.path));
            self.entries.extend(fresh);
            let extra = self.entries.len().saturating_sub(MAX_ENTRIES);
            self.entries.drain(..extra);
            self
        }
    }

    /// Also false if the clock is behind the file's time.
    fn is_settled(mtime_ns: u64) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        now.checked_sub(mtime_ns).is_some_and(|age| age >= SETTLED_NS)
    }
}
