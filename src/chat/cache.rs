//! Where a session keeps KV beyond the GPU: memory, packs, one directory, and a store that machines share.
//!
//! The directory names KV by the digest of the weights. A thread computes that digest while the model goes to the GPU. The
//! directory remembers it, so that it costs a first run little and later ones nothing.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use etcetera::{BaseStrategy, choose_base_strategy};

use crate::engine::{Engine, Progress, Stage};
use crate::error::{Error, Result};
use crate::store::{
    Background, BackgroundConfig, Deadline, FilesystemConfig, FilesystemStore, MemoryStore, Pack, PackKey, PackLimits,
    PackStore, Seal, Store, Tiers, TiersConfig, key_file, system_clock,
};
#[cfg(feature = "remote")]
use crate::store::{Guard, RemoteConfig, connect};
use crate::weights::{ByteSource, Checkpoint, FileSource, digest::Remembered};

/// Names the file with the key, for the program as for the crate.
const KEY: &str = "HEADSTART_KV_KEY";
/// The time between two looks at whether the digest is there.
const TICK: Duration = Duration::from_millis(10);

/// Where KV is kept beyond the GPU, and how much of it. The defaults are those of the `headstart` program.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// A directory that no other user owns or writes to; by default `headstart/kv` in the platform's cache directory. If
    /// the default cannot be used, nothing is kept and [`Chat::notes`](crate::Chat::notes) tells why; a directory that is
    /// named here and cannot be used is an error.
    pub dir: Option<PathBuf>,
    /// The file with the key that this user's KV is signed with. It is made if it does not exist. By default it is the file
    /// that the variable `HEADSTART_KV_KEY` names, or else `headstart/kv.key` in the platform's data directory.
    pub key: Option<PathBuf>,
    /// Bytes that the directory may take.
    pub budget: u64,
    /// Bytes of memory for prefixes that the GPU has no room for.
    pub memory: u64,
    /// Age at which KV is forgotten, from when it was stored, or last used on the GPU. By default it never is, except by
    /// a shared Redis, after 7 days. A bucket forgets nothing by itself.
    pub ttl: Option<Duration>,
    /// The longest that a request waits for KV to be loaded. The rest is computed.
    pub deadline: Duration,
    /// Prefixes are shared only with requests of the same salt.
    pub salt: String,
    /// Prefix packs to reuse, as `headstart prefix export` and [`Pack::bytes`] write them. Opening fails with
    /// [`Error::Pack`] for one that is damaged, or of another model or salt.
    pub packs: Vec<PathBuf>,
    /// The keys of those whose packs are taken. If empty, signatures are not checked.
    pub trust: Vec<PackKey>,
    /// A store that other machines share. Needs the feature `remote`.
    #[cfg(feature = "remote")]
    pub shared: Option<SharedStore>,
}

/// A store that machines share, by its address. Needs the feature `remote`.
#[cfg(feature = "remote")]
#[derive(Clone)]
pub struct SharedStore {
    /// Such as `redis://HOST:PORT`, `rediss://…`, `s3://BUCKET/PREFIX?endpoint=https://HOST` or `https://HOST/PATH`;
    /// [`connect_store`](crate::connect_store) takes the same.
    pub url: String,
    /// Whom it is shared with. With [`Guard::Trust`], nothing is kept in the directory meanwhile.
    pub guard: Guard,
}

/// Shows neither the address nor the guard, since both may hold a secret.
#[cfg(feature = "remote")]
impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").finish_non_exhaustive()
    }
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
            packs: Vec::new(),
            trust: Vec::new(),
            #[cfg(feature = "remote")]
            shared: None,
        }
    }
}

impl CacheOptions {
    /// The directory: the one that is named, or else the platform's.
    ///
    /// # Errors
    /// [`Error::Request`] if none is named and the platform has none.
    pub fn directory(&self) -> Result<PathBuf> {
        self.dir.clone().map_or_else(
            || {
                let base = choose_base_strategy().map_err(|error| Error::Request {
                    field: "cache-dir",
                    problem: format!("no cache directory is known ({error}); set HOME, or name one"),
                })?;
                Ok(base.cache_dir().join("headstart").join("kv"))
            },
            Ok,
        )
    }

    /// The seal that tells this user's files in the directory from those that others may have put there.
    ///
    /// # Errors
    /// [`Error::Request`] if its key can neither be read nor made.
    pub(crate) fn seal(&self) -> Result<Seal> {
        let refused = |problem: String| Error::Request { field: "kv-key", problem };
        let named = || std::env::var_os(KEY).filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = match self.key.clone().or_else(named) {
            Some(path) => path,
            None => {
                let base = choose_base_strategy();
                let base = base.map_err(|error| refused(format!("no place is known for it ({error}); name a file")))?;
                base.data_dir().join("headstart").join("kv.key")
            }
        };
        let key = key_file(&path).map_err(|problem| refused(problem.to_string()))?;
        Ok(Seal::new(&key))
    }

    /// The salt's part of the directory.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory is not its user's alone.
    pub(crate) fn disk(&self) -> Result<FilesystemStore> {
        let config = FilesystemConfig { budget: self.budget, ..FilesystemConfig::default() };
        let disk = FilesystemStore::for_salt(self.directory()?, &self.salt, config, system_clock());
        disk.check().map_err(|problem| problem.at(disk.root()))?;
        Ok(disk)
    }

    /// The digests of model files that the directory remembers; none without a key.
    pub(crate) fn remembered(&self) -> Remembered {
        let known = self.directory().and_then(|dir| Ok(Remembered::new(dir).sealed(self.seal()?)));
        known.unwrap_or_default()
    }

    /// Begins to compute the digest of the weights at `model`.
    pub(crate) fn digest(&self, model: &Path) -> Digest {
        let (model, remembered) = (model.to_owned(), self.remembered());
        let (report, progress) = channel();
        let thread = std::thread::spawn(move || {
            pollster::block_on(async {
                let checkpoint = Checkpoint::open(&model).await?;
                remembered.digest(&checkpoint, &mut |done, total| _ = report.send((done, total))).await
            })
        });
        Digest { thread, progress }
    }

    /// Memory, then the packs if there are any, the directory, and the shared store if there is one. The second value tells
    /// why the directory is not among them.
    ///
    /// # Errors
    /// [`Error::Io`] for a directory that was named and cannot be used, [`Error::Store`] for a shared store that cannot.
    pub(crate) fn tiers(&self, packs: Option<PackStore>) -> Result<(Tiers, Option<Error>)> {
        let mut behind: Vec<Box<dyn Store>> = Vec::new();
        behind.extend(packs.map(|packs| Box::new(packs) as Box<dyn Store>));
        let unkept = match self.kept() {
            Ok(disk) => {
                behind.push(disk);
                None
            }
            Err(problem) if self.dir.is_some() && self.seal().is_ok() => return Err(problem),
            Err(problem) => Some(problem),
        };
        #[cfg(feature = "remote")]
        if let Some(SharedStore { url, guard }) = &self.shared {
            let known = RemoteConfig::default();
            let config = RemoteConfig { ttl: self.ttl.unwrap_or(known.ttl), ..known };
            behind.push(connect(url, guard, &config).map_err(|problem| problem.at("the shared store"))?);
        }
        let memory = MemoryStore::new(self.memory, system_clock());
        Ok((Tiers::new(memory, behind, TiersConfig { ttl: self.ttl }), unkept))
    }

    fn kept(&self) -> Result<Box<dyn Store>> {
        let seal = self.seal()?;
        let (reader, writer) = (self.disk()?.sealed(seal.clone()), self.disk()?.sealed(seal));
        let known = BackgroundConfig::default();
        // This user's key must not vouch for KV that anybody may have written, nor for what was computed from it.
        let writes = known.writes.filter(|_| !self.is_shared_with_all());
        Ok(Box::new(Background::new(reader, writer, BackgroundConfig { writes, ..known })))
    }

    #[cfg(feature = "remote")]
    pub(crate) fn is_shared_with_all(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| matches!(shared.guard, Guard::Trust))
    }

    #[cfg(not(feature = "remote"))]
    fn is_shared_with_all(&self) -> bool {
        false
    }

    /// The packs, read and checked as far as they can be without a model.
    ///
    /// # Errors
    /// As [`CacheOptions::read_pack`].
    pub(super) async fn read_packs(&self) -> Result<Vec<(&Path, Pack)>> {
        let mut packs = Vec::with_capacity(self.packs.len());
        for path in &self.packs {
            packs.push((path.as_path(), self.read_pack(path).await?));
        }
        Ok(packs)
    }

    /// A pack of whatever model, by somebody who is trusted.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Pack`] for one that is damaged, or that none of the trusted keys signed.
    pub(crate) async fn read_pack(&self, path: &Path) -> Result<Pack> {
        let file = FileSource::open(path)?;
        let read = async |offset: u64, out: &mut [u8]| file.read(offset, out).await;
        let pack = Pack::load(file.len(), &PackLimits::default(), read).await;
        let trusted = pack.and_then(|pack| match self.trust.is_empty() {
            true => Ok(pack),
            false => pack.header().check_signature(&self.trust).map(|()| pack),
        });
        trusted.map_err(|problem| problem.of(path.display()))
    }

    /// Puts the tiers behind an engine whose weights have this digest, and holds the packs. Returns why the directory is not
    /// used, if it is not.
    ///
    /// # Errors
    /// As [`CacheOptions::tiers`], and [`Error::Pack`] for a pack of another model or salt.
    pub(super) fn attach(&self, engine: &mut Engine, digest: &str, packs: Vec<(&Path, Pack)>) -> Result<Option<Error>> {
        let held = (!packs.is_empty()).then(PackStore::default);
        let (tiers, unkept) = self.tiers(held.clone())?;
        engine.attach(tiers, digest, self.deadline);
        if unkept.is_none() {
            engine.remember_rates(self.directory()?);
        }
        let (identity, held) = (engine.identity()?, held.unwrap_or_default());
        for (path, pack) in packs {
            identity.hold(pack, &self.salt, &held).map_err(|problem| problem.of(path.display()))?;
        }
        Ok(unkept)
    }
}

/// The digest of a model's weights, computed on a thread of its own.
pub(crate) struct Digest {
    thread: JoinHandle<Result<String>>,
    /// Bytes done, and those in all.
    progress: Receiver<(u64, u64)>,
}

impl Digest {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`Checkpoint::digest`].
    pub(crate) async fn finish(self, progress: &mut dyn FnMut(Progress)) -> Result<String> {
        while !self.thread.is_finished() {
            if let Some((done, total)) = self.progress.try_iter().last() {
                progress(Progress { stage: Stage::Digest, done, total });
            }
            Deadline::after(TICK).bound(std::future::pending::<()>()).await;
        }
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
