//! The prefix cache's flags, and the tiers that they stand for.
//!
//! What a command computes it keeps in memory and in one directory, whose default is the platform's; `--no-cache` leaves
//! both alone. KV is named by the digest of the weights, which is computed while the model goes to the GPU and remembered in
//! the directory, so that it costs a first run little and later ones nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use etcetera::BaseStrategy;

use crate::engine::{Engine, explain};
use crate::error::{Error, Result};
use crate::kv::{Fields, Namespace, Report};
use crate::store::{
    self, Background, BackgroundConfig, Chains, FilesystemConfig, FilesystemStore, Guard, MemoryStore, Pack, PackError,
    PackKey, PackLimits, PackStore, RemoteConfig, Seal, Store, StoreError, Tiers, TiersConfig, system_clock,
};
use crate::weights::digest::Remembered;
use crate::weights::{ByteSource, Checkpoint, FileSource};

use super::session::{EngineArgs, Model, Session};
use super::term;

/// Holds the secret of a store, so that no list of processes shows it.
const SECRET: &str = "HEADSTART_KV_SECRET";
/// Names the file that holds it.
const SECRET_FILE: &str = "HEADSTART_KV_SECRET_FILE";

/// The directory that prefixes are kept in.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Where computed prefixes are kept, a directory that no other user owns or writes to [default: headstart/kv in the
    /// platform's cache directory]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// The secret that tells what this user stored there from what others may have put there; made where there is none
    /// [default: headstart/kv.key in the platform's data directory]
    #[arg(long, value_name = "FILE", env = "HEADSTART_KV_KEY")]
    kv_key: Option<PathBuf>,
}

/// A salt's part of the directory.
#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    /// Bytes that the directory may take, such as 512MB or 4GiB
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    cache_budget: u64,

    /// Share prefixes only with runs of the same salt
    #[arg(long, value_name = "TEXT")]
    cache_salt: Option<String>,
}

/// The directory and what comes before it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prefix cache")]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    pub(crate) dir: DirArgs,

    /// Bytes of memory for prefixes that the GPU has no room for
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    cache_memory: u64,

    /// Forget what was stored, or last used on the GPU, so long ago, such as 12h or 30days [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cache_ttl: Option<Duration>,

    /// Compute what has not been loaded after so long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    cache_deadline: Duration,

    /// Share prefixes with other machines through this store, such as redis://HOST:PORT; the variable, HEADSTART_KV_PASSWORD
    /// or `?password_file=FILE` keeps a password from being seen in the list of processes
    #[arg(long, value_name = "URL", env = "HEADSTART_KV_STORE", hide_env_values = true)]
    kv_store: Option<String>,

    /// The file with the secret of all who share that store, or HEADSTART_KV_SECRET holds it: 16 bytes or more, such as
    /// `openssl rand -hex 32` makes; whoever does not have it can neither read a text there nor change an answer
    #[arg(long, value_name = "FILE", env = SECRET_FILE)]
    kv_secret_file: Option<PathBuf>,

    /// Hide the KV there too; without, whoever can read the store and has the model can compute the text from it
    #[arg(
        long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", conflicts_with = "kv_store_trust"
    )]
    kv_encrypt: bool,

    /// Share that store without a secret: whoever can reach it may read the texts of all and choose what is answered. Nothing is
    /// kept in the directory meanwhile
    #[arg(long, conflicts_with = "kv_secret_file")]
    pub(crate) kv_store_trust: bool,
}

/// Whose packs are taken.
#[derive(Debug, Default, Args)]
pub(crate) struct TrustArgs {
    /// Take only packs that were signed with this key, of 64 hexadecimal digits, as `prefix export --sign` shows it (repeatable)
    #[arg(long, value_name = "KEY", value_parser = pack_key)]
    trust: Vec<PackKey>,
}

/// How a request uses the prefix cache.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prefix cache")]
pub(crate) struct ReuseArgs {
    #[command(flatten)]
    pub(crate) cache: CacheArgs,

    /// Reuse nothing and keep nothing, neither in memory nor in a directory
    #[arg(long, conflicts_with_all = ["cache_dir", "cache_ttl", "prefix_pack", "exact"])]
    pub(crate) no_cache: bool,

    /// Reuse only what is bit-identical to a cold run: no token that was computed while answering
    #[arg(long)]
    pub(crate) exact: bool,

    /// Reuse what `prefix export` wrote (repeatable)
    #[arg(long, value_name = "FILE")]
    prefix_pack: Vec<PathBuf>,

    #[command(flatten)]
    trust: TrustArgs,
}

fn size(text: &str) -> Result<u64, &'static str> {
    let read = text.parse::<ByteSize>();
    read.map(|size| size.as_u64()).map_err(|_| "use a number and a unit, such as 512MB or 4GiB")
}

fn pack_key(text: &str) -> Result<PackKey, &'static str> {
    PackKey::parse(text).ok_or("use the 64 hexadecimal digits that `prefix export --sign` shows")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "use a number and a unit, such as 90s, 12h or 30days")
}

impl PlaceArgs {
    /// # Errors
    /// [`Error::Request`] where neither the flag nor the platform names one.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.cache_dir {
            return Ok(dir.clone());
        }
        let base = etcetera::choose_base_strategy().map_err(|error| Error::Request {
            field: "cache-dir",
            problem: format!("no cache directory is known ({error}); set HOME, or give --cache-dir"),
        })?;
        Ok(base.cache_dir().join("headstart").join("kv"))
    }

    /// What vouches for this user's part of what lies there.
    ///
    /// # Errors
    /// [`Error::Request`] where it cannot be had.
    pub(crate) fn seal(&self) -> Result<Seal> {
        let refused = |problem: String| Error::Request { field: "kv-key", problem };
        let path = match &self.kv_key {
            Some(path) => path.clone(),
            None => {
                let base = etcetera::choose_base_strategy();
                let base = base.map_err(|error| refused(format!("no place is known for it ({error}); name a file")))?;
                base.data_dir().join("headstart").join("kv.key")
            }
        };
        let key = store::key_file(&path).map_err(|problem| refused(problem.to_string()))?;
        Ok(Seal::new(&key))
    }

    /// The parts of all salts that stored something, the empty one's first.
    pub(crate) fn parts(&self) -> Result<Vec<PathBuf>> {
        let root = self.path()?;
        FilesystemStore::tenants(&root).map_err(|problem| stopped(&root, problem))
    }

    /// What is known of model files since they were last hashed; nothing without a key.
    pub(crate) fn remembered(&self) -> Result<Remembered> {
        let known = self.path().and_then(|path| Ok(Remembered::new(path).sealed(self.seal()?)));
        Ok(known.unwrap_or_default())
    }

    /// Begins to compute the digest of the weights at `model`.
    pub(crate) fn digest(&self, model: &Path) -> Result<Digest> {
        Ok(Digest::start(model.to_owned(), self.remembered()?))
    }
}

impl DirArgs {
    /// The salt of the flag, or else of the conversation.
    pub(crate) fn salt(&self, conversation: Option<&str>) -> String {
        self.cache_salt.as_deref().or(conversation).unwrap_or_default().to_owned()
    }

    /// The part of the directory that belongs to a salt.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory is not its user's alone.
    pub(crate) fn disk(&self, salt: &str) -> Result<FilesystemStore> {
        let disk = FilesystemStore::for_salt(self.place.path()?, salt, self.config(), system_clock());
        disk.check().map_err(|problem| stopped(disk.root(), problem))?;
        Ok(disk)
    }

    /// A part that [`PlaceArgs::parts`] found.
    pub(crate) fn part(&self, path: PathBuf) -> FilesystemStore {
        FilesystemStore::new(path, self.config(), system_clock())
    }

    fn config(&self) -> FilesystemConfig {
        FilesystemConfig { budget: self.cache_budget, ..FilesystemConfig::default() }
    }
}

impl CacheArgs {
    /// Memory, the packs if any, the directory, and the store of all machines if any.
    pub(crate) fn tiers(&self, salt: &str, packs: Option<PackStore>) -> Result<Tiers> {
        let mut behind: Vec<Box<dyn Store>> = Vec::new();
        behind.extend(packs.map(|packs| Box::new(packs) as Box<dyn Store>));
        match self.kept(salt) {
            Ok(disk) => behind.push(disk),
            // A directory that somebody named is there to be used.
            Err(problem) if self.dir.place.cache_dir.is_some() && self.dir.place.seal().is_ok() => return Err(problem),
            Err(problem) => term::note(&format!(
                "note: nothing is kept for later runs: {problem} (--cache-dir names another directory, --no-cache keeps nothing \
                 and says nothing)"
            )),
        }
        self.idle().iter().for_each(|flag| {
            term::note(&format!("note: {flag} has no effect: it is for a --kv-store, and none is given"));
        });
        if let Some(url) = &self.kv_store {
            let known = RemoteConfig::default();
            let config = RemoteConfig { ttl: self.cache_ttl.unwrap_or(known.ttl), ..known };
            let store = store::connect(url, &self.guard()?, &config);
            behind.push(store.map_err(|problem| stopped(Path::new("--kv-store"), problem))?);
            log::info!("prefixes in a store that is shared, waited for {:?}", self.cache_deadline);
        }
        log::info!("prefixes in memory, at most {}", term::bytes(self.cache_memory));
        let config = TiersConfig { ttl: self.cache_ttl };
        Ok(Tiers::new(MemoryStore::new(self.cache_memory, system_clock()), behind, config))
    }

    /// The salt's part of the directory.
    fn kept(&self, salt: &str) -> Result<Box<dyn Store>> {
        let seal = self.dir.place.seal()?;
        let (reader, writer) = (self.dir.disk(salt)?.sealed(seal.clone()), self.dir.disk(salt)?.sealed(seal));
        log::info!("prefixes in {}, at most {}", self.dir.place.path()?.display(), term::bytes(self.dir.cache_budget));
        let known = BackgroundConfig::default();
        // What everybody may have put into a store, and what is computed behind it, is not vouched for here.
        let writes = known.writes.filter(|_| !self.kv_store_trust);
        Ok(Box::new(Background::new(reader, writer, BackgroundConfig { writes, ..known })))
    }

    /// Flags that are given and do nothing without a store. A variable may be set for other runs.
    fn idle(&self) -> Vec<&'static str> {
        let named = |path: &PathBuf| std::env::var_os(SECRET_FILE).is_none_or(|variable| variable != **path);
        let given = [
            ("--kv-store-trust", self.kv_store_trust),
            ("--kv-secret-file", self.kv_secret_file.as_ref().is_some_and(named)),
            ("--kv-encrypt", !self.kv_encrypt),
        ];
        let idle = given.iter().filter(|(_, given)| *given && self.kv_store.is_none());
        idle.map(|(flag, _)| *flag).collect()
    }

    /// An error unless something that is computed can outlive this run.
    pub(crate) fn lasts(&self) -> Result<()> {
        if self.kv_store.is_some() { Ok(()) } else { self.dir.place.seal().and_then(|_| self.dir.disk("")).map(drop) }
    }

    /// Whom the store of all machines is shared with.
    fn guard(&self) -> Result<Guard> {
        let refused = |problem: String| Error::Request { field: "kv-store", problem };
        if self.kv_store_trust {
            return Ok(Guard::Trust);
        }
        let secret = match (&self.kv_secret_file, std::env::var_os(SECRET)) {
            (Some(path), _) => store::secret_file(path).map_err(|problem| refused(problem.to_string()))?,
            (None, Some(secret)) => {
                let secret = secret.as_encoded_bytes().trim_ascii_end().to_vec();
                if secret.len() < 16 {
                    let problem = format!("{SECRET} has fewer than 16 bytes; make one with: openssl rand -hex 32");
                    return Err(refused(problem));
                }
                secret
            }
            (None, None) => {
                let problem = format!(
                    "without a secret, whoever can write to the store chooses what is answered; set {SECRET} or give \
                     --kv-secret-file FILE (openssl rand -hex 32 makes one), the same for all who share it, or give \
                     --kv-store-trust to go without"
                );
                return Err(refused(problem));
            }
        };
        Ok(Guard::Secret { secret, encrypt: self.kv_encrypt })
    }

    /// A session with these tiers and `packs`, under a salt.
    pub(crate) fn start(
        &self,
        model: Model,
        args: &EngineArgs,
        salt: &str,
        packs: Vec<(&Path, Pack)>,
    ) -> Result<Session> {
        let digest = self.dir.place.digest(&model.path)?;
        let mut session = Session::start(model, args, self.cache_ttl)?;
        let store = (!packs.is_empty()).then(PackStore::default);
        let engine = session.answers.engine_mut();
        engine.attach(self.tiers(salt, store.clone())?, &digest.finish()?, self.cache_deadline);
        if let Ok(path) = self.dir.place.path() {
            engine.remember_rates(path);
        }
        let (identity, store) = (session.engine().identity()?, store.unwrap_or_default());
        for (path, pack) in packs {
            identity.hold(pack, salt, &store).map_err(|problem| refused(path, problem))?;
        }
        Ok(session)
    }
}

impl ReuseArgs {
    pub(crate) fn salt(&self, conversation: Option<&str>) -> String {
        self.cache.dir.salt(conversation)
    }

    /// Completes the account of a prompt by what lies in its salt's part of the directory, unless none is wanted. One that cannot
    /// be read explains nothing.
    pub(crate) fn recall(&self, engine: &Engine, salt: &str, prompt: &[u32], account: &mut Report) {
        if !self.no_cache {
            let _ = self.cache.dir.disk(salt).and_then(|disk| recall(&disk, &engine.namespace(salt), prompt, account));
        }
    }

    /// A session with the tiers of the prefix cache, unless none are wanted.
    pub(crate) fn start(&self, model: Model, args: &EngineArgs, salt: &str) -> Result<Session> {
        self.start_with(&self.prefix_pack, model, args, salt)
    }

    /// The same for another model, which the packs are not of.
    pub(crate) fn start_other(&self, model: Model, args: &EngineArgs, salt: &str) -> Result<Session> {
        if !self.prefix_pack.is_empty() {
            term::note("note: --prefix-pack is for the model that the chat began with, and is left out");
        }
        self.start_with(&[], model, args, salt)
    }

    fn start_with(&self, packs: &[PathBuf], model: Model, args: &EngineArgs, salt: &str) -> Result<Session> {
        if self.prefix_pack.is_empty() && !self.trust.trust.is_empty() {
            term::note("note: --trust has no effect: it is for a --prefix-pack, and none is given");
        }
        match self.no_cache {
            true => Session::start(model, args, None),
            false => {
                let read = |path: &'_ PathBuf| read_pack(path, &self.trust);
                let packs = packs.iter().map(|path| Ok((path.as_path(), read(path)?)));
                self.cache.start(model, args, salt, packs.collect::<Result<_>>()?)
            }
        }
    }
}

/// A part of the directory for looking at it: how large it may be matters to nobody.
pub(crate) fn part(path: PathBuf) -> FilesystemStore {
    FilesystemStore::new(path, FilesystemConfig::default(), system_clock())
}

fn namespace(fields: &BTreeMap<String, String>) -> Option<Namespace> {
    let fields = Fields::from_entries(fields.iter().map(|(tag, value)| (tag.as_str(), value.as_str())));
    fields.map(Namespace::new)
}

/// The chains of a part.
pub(crate) fn chains(part: &FilesystemStore) -> Result<Chains> {
    let root = |fields: &BTreeMap<String, String>| namespace(fields).map(|namespace| namespace.key().0);
    part.chains(&root).map_err(|problem| stopped(part.root(), problem))
}

/// Stored tokens that a prompt is held against.
const RECALLED: usize = 16 << 20;

/// Completes the account of a prompt by what lies in one part of the directory, of whatever model.
fn recall(part: &FilesystemStore, own: &Namespace, prompt: &[u32], account: &mut Report) -> Result<()> {
    if account.unexplained().is_none() {
        return Ok(());
    }
    let mut stored: Vec<(Namespace, Vec<u32>)> = Vec::new();
    let mut room = RECALLED;
    let listed = chains(part)?;
    for chain in listed.found.iter().filter(|chain| chain.complete) {
        let Some(left) = room.checked_sub(chain.tokens) else { break };
        room = left;
        stored.extend(namespace(&chain.namespace).map(|namespace| (namespace, listed.tokens(chain))));
    }
    explain::recall(account, own, prompt, stored.iter().map(|(namespace, tokens)| (namespace, tokens.as_slice())));
    Ok(())
}

/// A pack that agrees with itself, of whatever model, by somebody who is trusted.
pub(crate) fn read_pack(path: &Path, TrustArgs { trust }: &TrustArgs) -> Result<Pack> {
    let file = FileSource::open(path)?;
    let read = async |offset: u64, out: &mut [u8]| file.read(offset, out).await;
    let pack = pollster::block_on(Pack::load(file.len(), &PackLimits::default(), read));
    let trusted = pack.and_then(|pack| match trust.is_empty() {
        true => Ok(pack),
        false => pack.header().check_signature(trust).map(|()| pack),
    });
    trusted.map_err(|problem| refused(path, problem))
}

pub(crate) fn refused(path: &Path, problem: PackError) -> Error {
    Error::Pack { pack: path.display().to_string(), problem: problem.to_string() }
}

/// What a directory did not do.
pub(crate) fn stopped(root: &Path, problem: StoreError) -> Error {
    match problem {
        StoreError::Io { path, source } => Error::io(path, source),
        StoreError::Url { url, problem } => Error::Store { store: url, problem },
        other => Error::Store { store: root.display().to_string(), problem: other.to_string() },
    }
}

/// The digest of a model's weights, computed on a thread of its own.
pub(crate) struct Digest {
    thread: JoinHandle<Result<String>>,
    /// Bytes done, and those in all.
    progress: Receiver<(u64, u64)>,
}

impl Digest {
    fn start(model: PathBuf, remembered: Remembered) -> Self {
        let (report, progress) = channel();
        let thread = std::thread::spawn(move || {
            pollster::block_on(async {
                let checkpoint = Checkpoint::open(&model).await?;
                remembered.digest(&checkpoint, &mut |done, total| _ = report.send((done, total))).await
            })
        });
        Self { thread, progress }
    }

    /// Waits for it, with a bar.
    pub(crate) fn finish(self) -> Result<String> {
        let bar = term::bar("hashing", 0, "B");
        for (done, total) in self.progress {
            bar.set_length(total);
            bar.set_position(done);
        }
        bar.finish_and_clear();
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
