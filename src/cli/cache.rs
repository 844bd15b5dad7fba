//! The flags of the prefix cache. They become the [`CacheOptions`] of a session.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use crate::chat::{CacheOptions, SharedStore};
use crate::engine::{Engine, explain};
use crate::error::{Error, Result};
use crate::kv::{Fields, Namespace, Report};
use crate::store::{self, Chains, FilesystemConfig, FilesystemStore, Guard, PackKey, system_clock};

use super::term;

/// The variable with the secret of a shared store. A list of processes does not show variables.
const SECRET: &str = "HEADSTART_KV_SECRET";
/// The variable with the path of a file that holds the secret.
const SECRET_FILE: &str = "HEADSTART_KV_SECRET_FILE";

/// The directory that prefixes are kept in.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Keep computed prefixes in this directory, which no other user may own or write to [default: headstart/kv in the
    /// platform's cache directory]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// The file with the key that signs what this user stores there, so that files of others are not used. It is made if it
    /// does not exist [default: headstart/kv.key in the platform's data directory]
    #[arg(long, value_name = "FILE", env = "HEADSTART_KV_KEY")]
    kv_key: Option<PathBuf>,
}

/// The directory, and the salt whose part of it is used.
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

/// All tiers behind the GPU.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prefix cache")]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    pub(crate) dir: DirArgs,

    /// Bytes of memory for prefixes that the GPU has no room for
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    cache_memory: u64,

    /// Forget KV of this age, such as 12h or 30days, counted from when it was stored, or last used on the GPU. A bucket forgets nothing by itself
    /// [default: never, and 7days in a Redis]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cache_ttl: Option<Duration>,

    /// Wait at most this long for KV to be loaded, and compute the rest
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    cache_deadline: Duration,

    /// Share prefixes with other machines through this store, such as redis://HOST:PORT. The list of processes shows a password
    /// in the URL; the variable, HEADSTART_KV_PASSWORD or `?password_file=FILE` hides it
    #[arg(long, value_name = "URL", env = "HEADSTART_KV_STORE", hide_env_values = true)]
    kv_store: Option<String>,

    /// The file with the secret that all who share that store have. HEADSTART_KV_SECRET may hold it instead. It has 16 bytes or
    /// more; `openssl rand -hex 32` makes one. Without it, nobody can read a text there or change an answer
    #[arg(long, value_name = "FILE", env = SECRET_FILE)]
    kv_secret_file: Option<PathBuf>,

    /// Encrypt the KV there too. If it is not encrypted, whoever can read the store and has the model can compute the text
    #[arg(
        long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", conflicts_with = "kv_store_trust"
    )]
    kv_encrypt: bool,

    /// Share that store without a secret. Whoever can reach it can then read all texts and choose what is answered. Nothing is
    /// kept in the directory meanwhile
    #[arg(long, conflicts_with = "kv_secret_file")]
    kv_store_trust: bool,
}

/// The makers whose packs are accepted.
#[derive(Debug, Default, Args)]
pub(crate) struct TrustArgs {
    /// Accept only packs that were signed with this key: the 64 hexadecimal digits that `prefix export --sign` shows (repeatable)
    #[arg(long, value_name = "KEY", value_parser = pack_key)]
    pub(crate) trust: Vec<PackKey>,
}

/// The prefix cache of `generate` and `chat`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prefix cache")]
pub(crate) struct ReuseArgs {
    #[command(flatten)]
    cache: CacheArgs,

    /// Reuse nothing and keep nothing, neither in memory nor in a directory
    #[arg(long, conflicts_with_all = [
        "cache_dir", "cache_budget", "cache_salt", "cache_memory", "cache_ttl", "cache_deadline", "kv_encrypt", "kv_store_trust",
        "prefix_pack", "trust", "exact",
    ])]
    pub(crate) no_cache: bool,

    /// Reuse only what is bit-identical to a cold run: no token that was computed while answering
    #[arg(long)]
    pub(crate) exact: bool,

    /// Reuse this pack, as `prefix export` writes it (repeatable)
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
    /// Options with this directory, for the empty salt.
    pub(crate) fn options(&self) -> CacheOptions {
        CacheOptions { dir: self.cache_dir.clone(), key: self.kv_key.clone(), ..CacheOptions::default() }
    }

    /// The parts of all salts that stored something, the empty one's first.
    pub(crate) fn parts(&self) -> Result<Vec<FilesystemStore>> {
        parts(&self.options())
    }
}

impl DirArgs {
    /// The salt of the flag, or else of the conversation.
    pub(crate) fn salt(&self, conversation: Option<&str>) -> String {
        self.cache_salt.as_deref().or(conversation).unwrap_or_default().to_owned()
    }

    /// Options with this directory, for a salt.
    pub(crate) fn options(&self, salt: &str) -> CacheOptions {
        CacheOptions { budget: self.cache_budget, salt: salt.to_owned(), ..self.place.options() }
    }

    /// As [`PlaceArgs::parts`].
    pub(crate) fn parts(&self) -> Result<Vec<FilesystemStore>> {
        parts(&self.options(""))
    }
}

fn parts(options: &CacheOptions) -> Result<Vec<FilesystemStore>> {
    let root = options.directory()?;
    let config = FilesystemConfig { budget: options.budget, ..FilesystemConfig::default() };
    let parts = FilesystemStore::tenants(&root).map_err(|problem| problem.at(&root))?;
    Ok(parts.into_iter().map(|part| FilesystemStore::new(part, config, system_clock())).collect())
}

impl CacheArgs {
    /// Options with all tiers, for a salt.
    ///
    /// # Errors
    /// [`Error::Request`] for a store without the secret that it needs.
    pub(crate) fn options(&self, salt: &str) -> Result<CacheOptions> {
        self.idle().iter().for_each(|flag| {
            term::note(&format!("note: {flag} has no effect: it is for a --kv-store, and none is given"));
        });
        let shared = match &self.kv_store {
            Some(url) => Some(SharedStore { url: url.clone(), guard: self.guard()? }),
            None => None,
        };
        let (memory, ttl, deadline) = (self.cache_memory, self.cache_ttl, self.cache_deadline);
        Ok(CacheOptions { memory, ttl, deadline, shared, ..self.dir.options(salt) })
    }

    /// The given flags that have no effect without a store. A variable is not counted, since it may be set for other runs.
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

    /// Whom the shared store is shared with.
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
}

impl ReuseArgs {
    pub(crate) fn salt(&self, conversation: Option<&str>) -> String {
        self.cache.dir.salt(conversation)
    }

    /// Options for a salt; `None` with `--no-cache`.
    ///
    /// # Errors
    /// As [`CacheArgs::options`].
    pub(crate) fn options(&self, salt: &str) -> Result<Option<CacheOptions>> {
        let TrustArgs { trust } = &self.trust;
        if self.prefix_pack.is_empty() && !trust.is_empty() {
            term::note("note: --trust has no effect: it is for a --prefix-pack, and none is given");
        }
        if self.no_cache {
            return Ok(None);
        }
        let (packs, trust) = (self.prefix_pack.clone(), trust.clone());
        Ok(Some(CacheOptions { packs, trust, ..self.cache.options(salt)? }))
    }
}

/// Fails unless KV can outlive this run.
///
/// # Errors
/// Why the directory cannot be used, if there is no shared store.
pub(crate) fn lasts(options: &CacheOptions) -> Result<()> {
    if options.shared.is_some() { Ok(()) } else { options.seal().and_then(|_| options.disk()).map(drop) }
}

fn namespace(fields: &BTreeMap<String, String>) -> Option<Namespace> {
    let fields = Fields::from_entries(fields.iter().map(|(tag, value)| (tag.as_str(), value.as_str())));
    fields.map(Namespace::new)
}

/// The chains in one salt's part of the directory.
pub(crate) fn chains(part: &FilesystemStore) -> Result<Chains> {
    let root = |fields: &BTreeMap<String, String>| namespace(fields).map(|namespace| namespace.key().0);
    part.chains(&root).map_err(|problem| problem.at(part.root()))
}

/// Most stored tokens that a prompt is compared with.
const RECALLED: usize = 16 << 20;

/// Completes the report of a prompt with what its salt's part of the directory holds, of any model. Does nothing if the part
/// cannot be read.
pub(crate) fn recall(cache: Option<&CacheOptions>, engine: &Engine, prompt: &[u32], account: &mut Report) {
    let Some(cache) = cache.filter(|_| account.unexplained().is_some()) else { return };
    let Ok(listed) = cache.disk().and_then(|disk| chains(&disk)) else { return };
    let mut stored: Vec<(Namespace, Vec<u32>)> = Vec::new();
    let mut room = RECALLED;
    for chain in listed.found.iter().filter(|chain| chain.complete) {
        let Some(left) = room.checked_sub(chain.tokens) else { break };
        room = left;
        stored.extend(namespace(&chain.namespace).map(|namespace| (namespace, listed.tokens(chain))));
    }
    let stored = stored.iter().map(|(namespace, tokens)| (namespace, tokens.as_slice()));
    explain::recall(account, &engine.namespace(&cache.salt), prompt, stored);
}
