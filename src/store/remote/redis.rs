//! Redis and Valkey: a value is one string with an expiry, written as a whole. The server's policy decides the eviction
//! order.
//!
//! Commands are encoded by the `redis` crate. The connection and the reading of replies (see [`frames`]) are ours,
//! because that crate's connection has neither a deadline for a whole call nor a limit for a reply. Any number of
//! blocks are requested in one pipelined round trip: their lengths, which also shows that they are not too long, or
//! their first bytes up to the longest allowed value. A connection that broke while idle is opened again within the
//! same call, since every command may be repeated.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use redis::{
    ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, SetExpiry, SetOptions, Value, from_redis_value, pipe,
};
use rustls::ClientConfig;

use super::frames::{self, Shape};
use super::stream::{self, Stream};
use super::{Place, RemoteConfig};
use crate::store::file::{hex, unhex};
use crate::store::{Bytes, Store, StoreAnswer, StoreError, StoreKey, StoreUsage};

const NAME: &str = "redis";
/// The variable with the password, if the URL has none.
const PASSWORD: &str = "HEADSTART_KV_PASSWORD";
const PREFIX: &str = "headstart:kv:";
/// Bytes allowed for each reply, besides its value.
const MAX_LINE: u64 = 4 << 10;
/// Most characters shown of an error.
const MAX_TEXT: usize = 500;
/// Names requested in one step of a scan, and most bytes read of them.
const SCANNED: u32 = 1000;
const MAX_NAMES: u64 = 4 << 20;

pub(crate) struct Redis {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    /// The commands that open a connection: authentication, and the choice of the database.
    greeting: Pipeline,
    prefix: String,
    config: RemoteConfig,
    deadline: Duration,
    connection: RefCell<Option<Stream>>,
    usage: RefCell<StoreUsage>,
}

impl Redis {
    /// Opens no connection yet.
    pub(crate) fn new(place: &Place, config: RemoteConfig, deadline: Duration) -> Result<Self, StoreError> {
        let (url, host) = (&place.url, place.host()?.to_owned());
        let [prefix, ca, file] = place.options(["prefix", "ca", "password_file"])?;
        let prefix = prefix.unwrap_or_else(|| PREFIX.to_owned());
        if !prefix.bytes().all(|c| c.is_ascii_alphanumeric() || b":._-".contains(&c)) {
            return Err(place.fault("prefix= takes letters, digits and :._- only".into()));
        }
        let through_tls = matches!(url.scheme(), "rediss" | "valkeys");
        if ca.is_some() && !through_tls {
            return Err(place.fault(format!("ca= is for TLS; write {}s://", url.scheme())));
        }
        let tls = through_tls.then(|| stream::tls(ca.as_deref())).transpose();
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let mut greeting = pipe();
        let own = url.password().map(decoded);
        let password = place.secret(own.as_deref(), "password_file", file.as_deref())?;
        let known = || std::env::var_os(PASSWORD).filter(|password| !password.is_empty());
        let password = password.or_else(|| known().map(OsString::into_encoded_bytes));
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded);
        match (user, password) {
            (user, Some(password)) => _ = greeting.cmd("AUTH").arg(user).arg(password),
            (None, None) => {}
            (Some(_), None) => {
                let problem = format!(
                    "a user without a password; write USER:PASSWORD@, or :PASSWORD@, name a file in password_file=, or set \
                     {PASSWORD}"
                );
                return Err(place.fault(problem));
            }
        }
        match url.path().trim_matches('/') {
            "" => {}
            database if database.parse::<u32>().is_ok() => {
                greeting.cmd("SELECT").arg(database);
            }
            _ => return Err(place.fault("its path is not a database; write a number, /0 for the first".into())),
        }
        Ok(Self {
            host,
            port: url.port().unwrap_or(6379),
            tls: tls.map_err(|problem| place.fault(problem))?,
            greeting,
            prefix,
            config,
            deadline,
            connection: RefCell::default(),
            usage: RefCell::default(),
        })
    }

    fn name_of(&self, key: &StoreKey) -> String {
        format!("{}{}", self.prefix, hex(key))
    }

    /// Sends `commands` together and returns their replies, with values of at most `max_bytes` bytes. A value that is not
    /// ours is `None`.
    fn ask<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        shape: Shape,
        max_bytes: u64,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let until = Instant::now() + self.deadline;
        let kept = self.connection.borrow_mut().take();
        let (reused, opened) = (kept.is_some(), kept.map_or_else(|| self.open(until), Ok));
        let mut connection = opened?;
        let mut replies = exchange(&mut connection, commands, shape, max_bytes, until);
        if reused && replies.as_ref().is_err_and(RedisError::is_connection_dropped) {
            connection = self.open(until)?;
            replies = exchange(&mut connection, commands, shape, max_bytes, until);
        }
        // After any failure the connection is dropped, so that no reply is left in a connection that is kept.
        let replies = replies.map_err(|error| self.fault(&error))?;
        *self.connection.borrow_mut() = Some(connection);
        let read = |reply| match reply {
            Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(None),
            reply => accepted(reply).map(Some),
        };
        replies.into_iter().map(read).collect()
    }

    fn ask_one<T: FromRedisValue>(&self, command: &Pipeline, shape: Shape, max_bytes: u64) -> Result<T, StoreError> {
        self.ask(command, shape, max_bytes)?.pop().flatten().ok_or_else(unexpected)
    }

    fn open(&self, until: Instant) -> Result<Stream, StoreError> {
        let opened = Stream::open(&self.host, self.port, self.tls.as_ref(), until);
        let mut stream = opened.map_err(|error| match stream::tls_problem(&error) {
            Some(problem) => StoreError::Refused { store: NAME, problem },
            None => self.fault(&error.into()),
        })?;
        let replies =
            exchange(&mut stream, &self.greeting, Shape::Single, 0, until).map_err(|error| self.fault(&error))?;
        replies.into_iter().try_for_each(accepted::<()>)?;
        Ok(stream)
    }

    fn fault(&self, error: &RedisError) -> StoreError {
        if error.is_timeout() {
            return StoreError::Late { store: NAME, ms: self.deadline.as_millis() as u64 };
        }
        let problem = if error.is_connection_refusal() {
            "nothing listens there; start the server".into()
        } else if error.is_connection_dropped() {
            "it closed the connection; if it wants TLS, write rediss://".into()
        } else if error.kind() == ErrorKind::Parse {
            "it does not speak the protocol; is it a Redis?".into()
        } else {
            error.to_string()
        };
        StoreError::Backend { store: NAME, problem: format!("{}:{}: {problem}", self.host, self.port) }
    }

    fn lengths(&self, keys: &[StoreKey]) -> Result<Vec<bool>, StoreError> {
        let mut commands = pipe();
        for key in keys {
            commands.strlen(self.name_of(key));
        }
        let fits = |length: Option<u64>| length.is_some_and(|length| (1..=self.config.max_value).contains(&length));
        Ok(self.ask(&commands, Shape::Single, 0)?.into_iter().map(fits).collect())
    }

    /// At least the first `most` bytes of each, or all if there are fewer.
    fn values(&self, keys: &[StoreKey], most: usize) -> Result<Vec<Option<Bytes>>, StoreError> {
        let max = self.config.max_value;
        let mut commands = pipe();
        for key in keys {
            // One byte more than the longest value shows whether there is more.
            commands.cmd("GETRANGE").arg(self.name_of(key)).arg(0).arg(max.min(most as u64));
        }
        let fits = |bytes: &Vec<u8>| !bytes.is_empty() && bytes.len() as u64 <= max;
        let read = |value: Option<Vec<u8>>| Some(value.filter(fits)?.into_boxed_slice().into());
        Ok(self.ask(&commands, Shape::Single, max + 1)?.into_iter().map(read).collect())
    }

    fn set(&self, key: &StoreKey, bytes: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        if bytes.len() as u64 > self.config.max_value {
            return Err(StoreError::TooLarge { bytes: bytes.len() as u64, budget: self.config.max_value });
        }
        let ttl = ttl.unwrap_or(self.config.ttl).as_millis().max(1) as u64;
        let options = SetOptions::default().with_expiration(SetExpiry::PX(ttl));
        self.ask_one::<()>(pipe().set_options(self.name_of(key), bytes, options), Shape::Single, 0)
    }

    fn delete(&self, names: &[String]) -> Result<u64, StoreError> {
        self.ask_one(pipe().unlink(names), Shape::Single, 0)
    }

    fn delete_all(&self) -> Result<(), StoreError> {
        let (mut cursor, pattern) = (0, format!("{}*", self.prefix));
        let ours = |name: &String| name.strip_prefix(&self.prefix).and_then(unhex).is_some();
        loop {
            let mut scan = pipe();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCANNED);
            let (next, names): (u64, Vec<Vec<u8>>) = self.ask_one(&scan, Shape::Listing, MAX_NAMES)?;
            let names: Vec<String> = names.into_iter().flat_map(String::from_utf8).filter(ours).collect();
            if !names.is_empty() {
                self.delete(&names)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn counted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|_| self.usage.borrow_mut().failures += 1)
    }
}

fn unexpected() -> StoreError {
    StoreError::Backend { store: NAME, problem: "it answers what was not asked; is it a Redis?".into() }
}

/// The reply; errors become [`StoreError`]s.
fn accepted<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    let Value::ServerError(error) = reply else { return from_redis_value(reply).map_err(|_| unexpected()) };
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    let text: String = text.trim_end().chars().take(MAX_TEXT).collect();
    let refused = match error.code() {
        "NOAUTH" | "WRONGPASS" => {
            Some("set HEADSTART_KV_PASSWORD, name a file in password_file=, or write USER:PASSWORD@ before the host")
        }
        "NOPERM" => Some("allow this user STRLEN, GETRANGE, SET, UNLINK and SCAN on the prefix"),
        _ if text.contains("AUTH") => {
            Some("take USER:PASSWORD@ out of the URL, or from where the password comes, or set one on the server")
        }
        _ => None,
    };
    if let Some(fix) = refused {
        return Err(StoreError::Refused { store: NAME, problem: format!("{text}; {fix}") });
    }
    // Everything else costs misses until somebody fixes it.
    let fix = match error.code() {
        "LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN" => "it passes",
        "OOM" => "give the server more maxmemory, or an eviction policy such as allkeys-lru",
        "READONLY" => "name the primary, not a replica",
        "MOVED" | "ASK" | "CROSSSLOT" => "clusters are not supported; name a single server",
        _ if text.contains("DB index") => "choose a database that the server has",
        _ => "see the server's log",
    };
    Err(StoreError::Backend { store: NAME, problem: format!("{text}; {fix}") })
}

/// Sends all commands, then reads a reply for each, with values of at most `max_bytes` bytes in all.
fn exchange(
    stream: &mut Stream,
    commands: &Pipeline,
    shape: Shape,
    max_bytes: u64,
    until: Instant,
) -> RedisResult<Vec<Value>> {
    stream.allow(until);
    stream.write_all(&commands.get_packed_pipeline())?;
    stream.flush()?;
    let most = max_bytes + MAX_LINE * commands.len() as u64;
    let mut source = BufReader::with_capacity(64 << 10, stream).take(most);
    let replies = (0..commands.len()).map(|_| frames::read(&mut source, shape)).collect();
    match replies {
        Err(_) if source.limit() == 0 => Err(io::Error::other("it answers more than was asked for").into()),
        replies => replies,
    }
}

impl Store for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.counted(self.values(std::slice::from_ref(key), usize::MAX))?.pop().flatten()) })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move { self.counted(self.values(keys, most)) })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move { self.counted(self.set(key, bytes, ttl)) })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move { self.counted(self.lengths(keys)) })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { self.counted(self.delete(&[self.name_of(key)]).map(|removed| removed > 0)) })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move { self.counted(self.delete_all()) })
    }

    fn usage(&self) -> StoreUsage {
        *self.usage.borrow()
    }
}
