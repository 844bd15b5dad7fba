//! A table of every tier that KV can come from.
//!
//! A [`Place`] is where a test keeps KV in one tier; [`Places`] are those of one test. Attaching a place makes the engine
//! forget how fast the tier was, so that everything stored is loaded, independent of any clock.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use headstart::engine::Engine;
use headstart::kv::Sources;
use headstart::store::{
    BoxFuture, Bytes, FilesystemConfig, FilesystemStore, Guard, MemoryStore, RemoteConfig, Seal, Store, StoreAnswer,
    StoreKey, StoreUsage, TierStats, Tiers, TiersConfig, connect, system_clock,
};
use pollster::block_on;
use tempfile::TempDir;

use super::redis::Redis;

pub struct Tier {
    pub name: &'static str,
    /// Who can find what was stored there.
    pub reach: Reach,
    /// The expected sources of a prompt, given the number of tokens from this tier and of computed tokens.
    pub sources: fn(usize, usize) -> Sources,
    store: fn(&Place) -> Option<Box<dyn Store>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The engine that computed it.
    Engine,
    /// Every engine of the process, one after another.
    Process,
    /// Every process.
    All,
}

pub const TIERS: &[Tier] = &[
    Tier {
        name: "gpu",
        reach: Reach::Engine,
        sources: |gpu, computed| Sources { gpu, computed, ..Sources::default() },
        store: |_| None,
    },
    Tier {
        name: "memory",
        reach: Reach::Process,
        sources: |memory, computed| Sources { memory, computed, ..Sources::default() },
        store: |place| Some(Box::new(Shared(place.memory.clone()))),
    },
    Tier {
        name: "disk",
        reach: Reach::All,
        sources: |disk, computed| Sources { disk, computed, ..Sources::default() },
        store: |place| {
            let disk = FilesystemStore::new(&place.path, FilesystemConfig::default(), system_clock());
            Some(Box::new(disk.sealed(Seal::new(b"a secret"))))
        },
    },
    Tier {
        name: "redis",
        reach: Reach::All,
        sources: |remote, computed| Sources { remote, computed, ..Sources::default() },
        store: |place| {
            // Trusted, so that values which a test writes directly are found under their plain names.
            let guard = Guard::Trust;
            let config = RemoteConfig { deadline: PATIENCE, write_deadline: PATIENCE, ..RemoteConfig::default() };
            Some(connect(&fs::read_to_string(place.path.join(URL)).unwrap(), &guard, &config).unwrap())
        },
    },
];

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(600);
/// The file in a place's folder that gives its server's URL to other processes.
const URL: &str = "url";

impl Tier {
    pub fn named(name: &str) -> &'static Tier {
        TIERS.iter().find(|tier| tier.name == name).expect(name)
    }

    /// The tiers that reach at least this far.
    pub fn reaching(reach: Reach) -> impl Iterator<Item = &'static Tier> {
        TIERS.iter().filter(move |tier| tier.reach >= reach)
    }

    pub fn is_gpu(&self) -> bool {
        self.reach == Reach::Engine
    }
}

/// The places of one test, and the server that some of them share, which ends with the last of them.
#[derive(Default)]
pub struct Places {
    redis: OnceCell<Rc<Redis>>,
}

impl Places {
    /// A new place, in a folder named after the tier.
    pub fn new_in(&self, tier: &'static Tier) -> Place {
        let folder = tempfile::Builder::new().prefix(&format!("{}-", tier.name)).tempdir().unwrap();
        let mut place = Place::of(tier, folder.path().to_owned());
        if tier.name == "redis" {
            let server = self.redis.get_or_init(|| Rc::new(Redis::start(&[])));
            fs::write(place.path.join(URL), format!("{}?prefix={}", server.url(), place.name())).unwrap();
            place.server = Some(server.clone());
        }
        place.folder = Some(folder);
        place
    }
}

pub struct Place {
    pub tier: &'static Tier,
    pub path: PathBuf,
    memory: Rc<MemoryStore>,
    server: Option<Rc<Redis>>,
    folder: Option<TempDir>,
}

impl Place {
    /// The place that another process made.
    pub fn at(path: &Path) -> Self {
        let mut place = Self::of(&TIERS[0], path.to_owned());
        place.tier = Tier::named(place.name().split('-').next().unwrap());
        place
    }

    fn of(tier: &'static Tier, path: PathBuf) -> Self {
        Self { tier, path, memory: Rc::new(MemoryStore::new(1 << 30, system_clock())), server: None, folder: None }
    }

    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    /// Writes bytes directly, bypassing every store, which might refuse them.
    pub fn put(&self, key: &StoreKey, bytes: &[u8]) {
        let Some(redis) = &self.server else {
            return block_on(self.open().stores().last().unwrap().put(key, &Bytes::copy_from_slice(bytes), None))
                .unwrap();
        };
        let name = format!("{}{}", self.name(), headstart::kv::Key(*key));
        assert_eq!(redis.ask(&[b"SET", name.as_bytes(), bytes]), b"+OK");
    }

    /// The store, opened again; none for the engine's own tier.
    pub fn store(&self) -> Option<Box<dyn Store>> {
        (self.tier.store)(self)
    }

    /// The tiers as a new process has them, without any memory.
    pub fn open(&self) -> Tiers {
        let behind = self.store().into_iter().collect();
        Tiers::new(MemoryStore::new(0, system_clock()), behind, TiersConfig::default())
    }

    /// Attaches the place to an engine; the engine's pages stay.
    pub fn attach(&self, engine: &mut Engine, digest: &str) {
        engine.attach(self.open(), digest, PATIENCE);
    }

    /// Attaches it as after a restart, without pages.
    pub fn restart(&self, engine: &mut Engine, digest: &str) {
        self.attach(engine, digest);
        engine.clear_cache();
    }

    /// The place's counters since it was attached.
    pub fn stats(&self, engine: &Engine) -> TierStats {
        engine.tiers().expect("a place was attached").stats()[1].1.clone()
    }
}

/// A memory store that outlives the engine.
struct Shared(Rc<MemoryStore>);

impl Store for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        self.0.get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        self.0.get_many(keys, most)
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        self.0.put(key, bytes, ttl)
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        self.0.contains(keys)
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        self.0.remove(key)
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        self.0.clear()
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        self.0.touch(keys)
    }

    fn usage(&self) -> StoreUsage {
        self.0.usage()
    }
}
