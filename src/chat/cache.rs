//! Where a chat keeps KV: memory, and behind it one directory, which the `headstart` program has too.
//!
//! KV is named by the digest of the weights. It is computed while the model goes to the GPU, and remembered in the directory,
//! so that it costs a first run little and later ones nothing.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use etcetera::BaseStrategy;

use crate::engine::{Progress, Stage};
use crate::error::{Error, Result};
use crate::store::{
    Background, BackgroundConfig, Deadline, FilesystemConfig, FilesystemStore, MemoryStore, Seal, Store, StoreError,
    Tiers, TiersConfig, key_file, system_clock,
};
use crate::weights::{Checkpoint, digest::Remembered};

/// Names the file with the key, for the program as for the crate.
const KEY: &str = "HEADSTART_KV_KEY";
/// How often it is looked whether the digest is there.
const TICK: Duration = Duration::from_millis(10);

/// Where a chat keeps KV beyond the GPU, and how much of it. The defaults are those of the `headstart` program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// A directory that no other user owns or writes to; by default `headstart/kv` in the platform's cache directory.
    pub dir: Option<PathBuf>,
    /// The file with the key that this user's KV is signed with, made where there is none; by default what the variable
    /// `HEADSTART_KV_KEY` names, else `headstart/kv.key` in the platform's data directory.
    pub key: Option<PathBuf>,
    /// Bytes that the directory may take.
    pub budget: u64,
    /// Bytes of memory for prefixes that the GPU has no room for.
    pub memory: u64,
    /// What was stored, or last used on the GPU, so long ago is forgotten; by default nothing is.
    pub ttl: Option<Duration>,
    /// What has not been loaded after so long is computed.
    pub deadline: Duration,
    /// Prefixes are shared only with what has the same salt.
    pub salt: String,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            dir: None,
            key: None,
            budget: 4 << 30,
            memory: 1 << 30,
            ttl: None,
            deadline: Duration::from_secs(5),
            salt: String::new(),
        }
    }
}

/// The directory of a chat.
pub(super) struct Place {
    dir: PathBuf,
    /// Vouches for what this user stored there. Without it the directory is not used.
    seal: Option<Seal>,
    /// Why there is none.
    pub(super) note: Option<String>,
}

impl CacheOptions {
    /// # Errors
    /// [`Error::Request`] where no directory is named and the platform has none.
    pub(super) fn open(&self) -> Result<Place> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => {
                let base = etcetera::choose_base_strategy().map_err(|error| Error::Request {
                    field: "cache_dir",
                    problem: format!("no cache directory is known ({error}); set HOME, or name one"),
                })?;
                base.cache_dir().join("headstart").join("kv")
            }
        };
        let (seal, note) = match self.key().and_then(|path| key_file(&path).map_err(|problem| problem.to_string())) {
            Ok(key) => (Some(Seal::new(&key)), None),
            Err(problem) => (None, Some(format!("the directory of prefixes is not used: {problem}"))),
        };
        Ok(Place { dir, seal, note })
    }

    fn key(&self) -> Result<PathBuf, String> {
        let named = || std::env::var_os(KEY).filter(|path| !path.is_empty()).map(PathBuf::from);
        match self.key.clone().or_else(named) {
            Some(path) => Ok(path),
            None => {
                let base = etcetera::choose_base_strategy();
                let base = base.map_err(|error| format!("no place for its key is known ({error}); name a file"))?;
                Ok(base.data_dir().join("headstart").join("kv.key"))
            }
        }
    }
}

impl Place {
    /// The directory, unless it is not used for want of a key.
    pub(super) fn used(&self) -> Option<&Path> {
        self.seal.as_ref().map(|_| self.dir.as_path())
    }

    /// Memory and the directory.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory is not its user's alone.
    pub(super) fn tiers(&self, options: &CacheOptions) -> Result<Tiers> {
        let mut behind: Vec<Box<dyn Store>> = Vec::new();
        if let Some(seal) = &self.seal {
            let config = FilesystemConfig { budget: options.budget, ..FilesystemConfig::default() };
            let disk = || {
                let disk = FilesystemStore::for_salt(&self.dir, &options.salt, config, system_clock());
                disk.sealed(seal.clone())
            };
            let (reader, writer) = (disk(), disk());
            reader.check().map_err(|problem| refused(&self.dir, problem))?;
            behind.push(Box::new(Background::new(reader, writer, BackgroundConfig::default())));
        }
        let memory = MemoryStore::new(options.memory, system_clock());
        Ok(Tiers::new(memory, behind, TiersConfig { ttl: options.ttl }))
    }

    /// Begins to compute the digest of the weights at `model`.
    pub(super) fn digest(&self, model: &Path) -> Digest {
        let remembered = match &self.seal {
            Some(seal) => Remembered::new(&self.dir).sealed(seal.clone()),
            None => Remembered::default(),
        };
        let model = model.to_owned();
        let (report, progress) = channel();
        let thread = std::thread::spawn(move || {
            pollster::block_on(async {
                let checkpoint = Checkpoint::open(&model).await?;
                remembered.digest(&checkpoint, &mut |done, total| _ = report.send((done, total))).await
            })
        });
        Digest { thread, progress }
    }
}

fn refused(dir: &Path, problem: StoreError) -> Error {
    match problem {
        StoreError::Io { path, source } => Error::io(path, source),
        other => Error::Store { store: dir.display().to_string(), problem: other.to_string() },
    }
}

/// The digest of a model's weights, which a thread computes.
pub(super) struct Digest {
    thread: JoinHandle<Result<String>>,
    /// Bytes done, and those in all.
    progress: Receiver<(u64, u64)>,
}

impl Digest {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`Checkpoint::digest`].
    pub(super) async fn finish(self, progress: &mut dyn FnMut(Progress)) -> Result<String> {
        while !self.thread.is_finished() {
            if let Some((done, total)) = self.progress.try_iter().last() {
                progress(Progress { stage: Stage::Digest, done, total });
            }
            Deadline::after(TICK).bound(std::future::pending::<()>()).await;
        }
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
