//! Stores on other machines, opened by URL. Native only.
//!
//! | URL                                            | store                        | behind `?`                                |
//! |------------------------------------------------|------------------------------|-------------------------------------------|
//! | `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`   | Redis, Valkey (`valkey://`)  | `prefix` of all names, `password_file`    |
//! | `rediss://…`, `valkeys://…`                    | the same through TLS         | `prefix`, `ca`, `password_file`           |
//! | `s3://[KEY[:SECRET]@]BUCKET[/PREFIX]`          | a bucket that speaks S3      | `endpoint`, `region`, `ca`, `secret_file` |
//! | `https://HOST[:PORT][/PATH]`, `http://…`       | a web server, only read from | `ca`                                      |
//!
//! `ca` names a PEM file of certificates to trust instead of the public ones. Credentials need not be part of the URL:
//!
//! | store | the secret in the URL | in a file                                | in the environment                              |
//! |-------|-----------------------|------------------------------------------|-------------------------------------------------|
//! | Redis | `:PASSWORD@`          | `password_file=PATH`                     | `HEADSTART_KV_PASSWORD`                         |
//! | S3    | `KEY:SECRET@`         | `KEY@`, `secret_file=PATH`               | `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` |
//!
//! The URL takes precedence over the environment. A secret both in the URL and in a file is refused. A file holds
//! nothing but the secret; a line end is ignored.
//!
//! Redis forgets a value after [`RemoteConfig::ttl`], or after the time to live that it was put with. A bucket and a web
//! server forget nothing by themselves.
//!
//! Remote stores are trusted less than a disk: the bytes of a reply and the time of a call are bounded, and only intact
//! blocks are sent, so that a local fault does not spread. The clients are plain and blocking. Each runs on a thread of
//! a [`Background`], which enforces the deadline and stops using a failing store for a while.

mod frames;
mod objects;
mod redis;
mod sealed;
mod stream;

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::time::Duration;

use pollster::block_on;
use url::{ParseError, Url};

pub use self::sealed::Guard;
use self::{
    objects::Objects,
    redis::Redis,
    sealed::{MARKS, Sealed},
};
use super::{Background, BackgroundConfig, BreakerConfig, Store, StoreError};

/// The schemes of the stores that there are.
const KINDS: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "s3", "https", "http"];

/// Bounds of a store on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// The longest that a caller waits for an answer.
    pub deadline: Duration,
    /// The longest that one value may take to be written.
    pub write_deadline: Duration,
    /// Time to live of values that are put without one, in a Redis. It is 7 days by default.
    pub ttl: Duration,
    /// Most bytes of a value or a reply. Longer values are neither sent nor read.
    pub max_value: u64,
    /// Most bytes in the queue of values to be sent.
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

/// Opens the store at `url`; `guard` says whom it is shared with. A store that does not answer is not an error: it
/// costs misses until it does, and [`Store::problem`] tells the reason. So it does if others have kept values there, and
/// under other secrets than this one.
///
/// # Errors
/// [`StoreError::Url`] where waiting does not help: the URL names no store, or the store denies access. The error shows
/// only the URL's scheme, host, port and database, since a secret may be anywhere else in it.
pub fn connect(url: &str, guard: &Guard, config: &RemoteConfig) -> Result<Box<dyn Store>, StoreError> {
    let place = Place::parse(url)?;
    let store = match place.url.scheme() {
        "redis" | "rediss" | "valkey" | "valkeys" => {
            let client = |deadline| Ok(Sealed::new(Redis::new(&place, *config, deadline)?, guard, config.ttl));
            Background::new(client(config.deadline)?, client(config.write_deadline)?, config.background(true))
        }
        scheme @ ("s3" | "http" | "https") => {
            let client = |deadline| Ok(Sealed::new(Objects::new(&place, config, deadline)?, guard, config.ttl));
            let background = config.background(scheme == "s3");
            Background::new(client(config.deadline)?, client(config.write_deadline)?, background)
        }
        scheme => {
            let problem = format!("{scheme}: is not a kind of store; use {}://", KINDS.join("://, "));
            return Err(place.fault(problem));
        }
    };
    // The first request, which has to be made anyway to know whether access is denied, looks for the marks.
    let marks = if matches!(guard, Guard::Trust) { &MARKS[..1] } else { &MARKS };
    match block_on(store.get_many(marks, 1)).as_deref() {
        Err(StoreError::Refused { problem, .. }) => return Err(place.fault(problem.clone())),
        Ok([Some(_), None]) => store.note(&StoreError::OtherSecret { store: store.name() }),
        _ => {}
    }
    Ok(Box::new(store))
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

/// The address of a store.
struct Place {
    url: Url,
    /// The part of the URL that may be shown.
    shown: String,
}

impl Place {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let hidden = |problem: String| StoreError::Url { url: "the URL of the store".into(), problem };
        let url = match Url::parse(text) {
            Err(ParseError::RelativeUrlWithoutBase) => return Err(hidden(meant(text))),
            Err(error) => return Err(hidden(format!("{error}; write redis://HOST:PORT"))),
            Ok(url) if !url.has_host() && !KINDS.contains(&url.scheme()) => return Err(hidden(meant(text))),
            Ok(url) => url,
        };
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
        host.ok_or_else(|| match self.url.scheme() {
            "s3" => self.fault("it names no bucket; write s3://BUCKET/PREFIX".into()),
            scheme => self.fault(format!("it names no host; write {scheme}://HOST:PORT")),
        })
    }

    /// The secret in the URL, or in the file that the option `name` names. Errors show neither.
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

    /// The values of the options behind `?`, in the order of `names`. Other options are refused.
    fn options<const N: usize>(&self, names: [&str; N]) -> Result<[Option<String>; N], StoreError> {
        let mut values = [const { None }; N];
        for (name, value) in self.url.query_pairs() {
            let at = names.iter().position(|known| *known == name);
            let at = at.ok_or_else(|| {
                self.fault(format!("an option behind ? is not known; there are {}", names.join(", ")))
            })?;
            values[at] = Some(value.into_owned());
        }
        Ok(values)
    }
}

/// What to write instead of an address that has no scheme, or that is a path. Of the text it shows a host, a port and a
/// database alone.
fn meant(text: &str) -> String {
    const NONE: &str = "it is the address of no store; write redis://HOST:PORT, s3://BUCKET/PREFIX or https://HOST/PATH \
                        (a directory is for --cache-dir)";
    let (credentials, place) = text.trim().rsplit_once('@').map_or(("", text.trim()), |(_, place)| ("…@", place));
    let (address, database) = place.split_once('/').unwrap_or((place, "0"));
    let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
        let number = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let letters = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
        let is_name = !host.is_empty() && host.bytes().all(letters);
        (is_name || number.is_some_and(|number| number.parse::<Ipv6Addr>().is_ok())) && port.parse::<u16>().is_ok()
    });
    match is_address && database.parse::<u32>().is_ok() {
        true => format!("it has no scheme; write redis://{credentials}{place}"),
        false => NONE.into(),
    }
}

/// The content of a file, without the line end.
fn secret(path: &str) -> io::Result<Vec<u8>> {
    const MOST: usize = 4096;
    let mut secret = Vec::new();
    File::open(path)?.take(MOST as u64 + 2).read_to_end(&mut secret)?;
    let line = secret.strip_suffix(b"\n").unwrap_or(&secret);
    let length = line.strip_suffix(b"\r").unwrap_or(line).len();
    secret.truncate(length);
    match length {
        1..=MOST => Ok(secret),
        _ => Err(io::Error::other("it is empty or has more than 4,096 bytes")),
    }
}
