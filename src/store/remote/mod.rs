//! Stores on other machines, opened by URL. Native only.
//!
//! | URL                                            | store                        | behind `?`                                |
//! |------------------------------------------------|------------------------------|-------------------------------------------|
//! | `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`   | Redis, Valkey (`valkey://`)  | `prefix` of all names, `password_file`    |
//! | `rediss://…`, `valkeys://…`                    | the same through TLS         | `prefix`, `ca`, `password_file`           |
//! | `s3://[KEY[:SECRET]@]BUCKET[/PREFIX]`          | a bucket that speaks S3      | `endpoint`, `region`, `ca`, `secret_file` |
//! | `https://HOST[:PORT][/PATH]`, `http://…`       | a web server, only read from | `ca`                                      |
//!
//! `ca` names a PEM file of the certificates to trust, instead of the public ones. What proves who we are need not stand in a
//! URL:
//!
//! | store | the secret in the URL | in a file                                | in the environment                              |
//! |-------|-----------------------|------------------------------------------|-------------------------------------------------|
//! | Redis | `:PASSWORD@`          | `password_file=PATH`                     | `HEADSTART_KV_PASSWORD`                         |
//! | S3    | `KEY:SECRET@`         | `KEY@`, `secret_file=PATH`               | `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` |
//!
//! The URL goes before the environment; a secret in both the URL and a file is refused. A file holds the secret alone; the end
//! of its line is no part of it.
//!
//! What is far is trusted less than a disk: a reply has at most so many bytes, a call so much time, and only whole blocks
//! are sent, so that a fault here is not everyone's. The clients are plain and blocking, each on a thread of a
//! [`Background`], which keeps the deadline and leaves a failing store alone.

mod frames;
mod objects;
mod redis;
mod sealed;
mod stream;

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use pollster::block_on;
use url::Url;

pub use self::sealed::Guard;
use self::{objects::Objects, redis::Redis, sealed::Sealed};
use super::{Background, BackgroundConfig, BreakerConfig, Key, Store, StoreError};

/// Bounds of a store on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// The longest that anything waits for an answer.
    pub deadline: Duration,
    /// The longest that one value may take to be written.
    pub write_deadline: Duration,
    /// For what is put without one.
    pub ttl: Duration,
    /// Longer values are neither sent nor read, and no reply is longer.
    pub max_value: u64,
    /// Bytes that may wait to be sent.
    pub queue_bytes: u64,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(500),
            write_deadline: Duration::from_secs(2),
            ttl: Duration::from_secs(7 * 86_400),
            max_value: 32 << 20,
            queue_bytes: 256 << 20,
        }
    }
}

/// The store at `url`, shared with whom `guard` says. One that does not answer is no error: it costs misses until it does, and [`Store::problem`] says
/// what is wrong.
///
/// # Errors
/// [`StoreError::Url`] where waiting will not help: not a URL of a store, or one that does not let us in. It shows the URL's scheme,
/// host, port and database and nothing else of it: a secret may stand anywhere.
pub fn connect(url: &str, guard: &Guard, config: &RemoteConfig) -> Result<Box<dyn Store>, StoreError> {
    let place = Place::parse(url)?;
    let store: Box<dyn Store> = match place.url.scheme() {
        "redis" | "rediss" | "valkey" | "valkeys" => {
            let client = |deadline| Ok(Sealed::new(Redis::new(&place, *config, deadline)?, guard));
            Box::new(Background::new(client(config.deadline)?, client(config.write_deadline)?, config.background(true)))
        }
        scheme @ ("s3" | "http" | "https") => {
            let client = |deadline| Ok(Sealed::new(Objects::new(&place, config, deadline)?, guard));
            let background = config.background(scheme == "s3");
            Box::new(Background::new(client(config.deadline)?, client(config.write_deadline)?, background))
        }
        scheme => {
            let problem = format!(
                "{scheme}: is no kind of store; use redis://, rediss://, valkey://, valkeys://, s3://, https:// or http://"
            );
            return Err(place.fault(problem));
        }
    };
    match block_on(store.get(&Key::default())) {
        Err(StoreError::Refused { problem, .. }) => Err(place.fault(problem)),
        _ => Ok(store),
    }
}

impl RemoteConfig {
    fn background(&self, writes: bool) -> BackgroundConfig {
        let breaker = |deadline: Duration| BreakerConfig {
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            ..BreakerConfig::default()
        };
        let (reads, writes) = (breaker(self.deadline), writes.then(|| breaker(self.write_deadline)));
        BackgroundConfig { queue_bytes: self.queue_bytes, reads, writes, patience: Duration::from_secs(5) }
    }
}

/// Where a store is.
struct Place {
    url: Url,
    /// What of the URL may be shown.
    shown: String,
}

impl Place {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let hidden = |problem: String| StoreError::Url { url: "the URL of the store".into(), problem };
        let url = Url::parse(text).map_err(|error| hidden(format!("{error}; write redis://HOST:PORT")))?;
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        let database = url.path().strip_prefix('/').and_then(|path| path.parse::<u32>().ok());
        let database = database.map_or_else(String::new, |database| format!("/{database}"));
        let shown = format!("{}://{}{port}{database}", url.scheme(), url.host_str().unwrap_or_default());
        Ok(Self { url, shown })
    }

    fn fault(&self, problem: String) -> StoreError {
        StoreError::Url { url: self.shown.clone(), problem }
    }

    fn host(&self) -> Result<&str, StoreError> {
        let host = self.url.host_str().filter(|host| !host.is_empty());
        host.ok_or_else(|| self.fault("it names no host; write redis://HOST:PORT".into()))
    }

    /// The secret that the URL holds, or the file that its option `name` names. Errors show neither.
    fn secret(&self, own: Option<&[u8]>, name: &str, file: Option<&str>) -> Result<Option<Vec<u8>>, StoreError> {
        match (own, file) {
            (Some(_), Some(_)) => {
                Err(self.fault(format!("there is a secret in the URL and {name}= names another; leave one out")))
            }
            (own, None) => Ok(own.map(<[u8]>::to_vec)),
            (None, Some(path)) => {
                let hint = "name a file that holds the secret alone";
                let read = secret(path).map_err(|error| self.fault(format!("{name}=: {error}; {hint}")))?;
                Ok(Some(read))
            }
        }
    }

    /// The values behind `?`, in the order of `names`. Every one has a name that is among them.
    fn options<const N: usize>(&self, names: [&str; N]) -> Result<[Option<String>; N], StoreError> {
        let mut values = [const { None }; N];
        for (name, value) in self.url.query_pairs() {
            let at = names.iter().position(|known| *known == name);
            let at = at.ok_or_else(|| {
                self.fault(format!("what stands behind ? is no option; there are {}", names.join(", ")))
            })?;
            values[at] = Some(value.into_owned());
        }
        Ok(values)
    }
}

/// What a file holds, less the end of its line.
fn secret(path: &str) -> io::Result<Vec<u8>> {
    const MOST: usize = 4096;
    let mut secret = Vec::new();
    File::open(path)?.take(MOST as u64 + 2).read_to_end(&mut secret)?;
    let line = secret.strip_suffix(b"\n").unwrap_or(&secret);
    let length = line.strip_suffix(b"\r").unwrap_or(line).len();
    secret.truncate(length);
    match length {
        1..=MOST => Ok(secret),
        _ => Err(io::Error::other("it has no byte, or more than 4,096")),
    }
}
