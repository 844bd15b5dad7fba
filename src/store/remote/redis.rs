//! Redis and Valkey: a value is one string with an expiry, written whole; which values go first is the server's policy.
//!
//! The client is ours because it needs little of the protocol (RESP2) and two things that client libraries do not have: a
//! deadline for a whole call, and lengths that are checked before anything is allocated. Blocks of any number are asked for
//! in one round trip, pipelined: their lengths (which also says that they are not too long), or their first bytes up to
//! the longest value there may be. A connection that broke while nobody used it is opened again within the same call,
//! since every command may be repeated.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use rustls::ClientConfig;

use super::stream::{self, Stream};
use super::{Place, RemoteConfig};
use crate::store::file::{hex, unhex};
use crate::store::{Answer, Key, Store, StoreError, Usage};

const NAME: &str = "redis";
const PREFIX: &str = "headstart:kv:";
/// A longer line is not one that we asked for.
const MAX_LINE: u64 = 4 << 10;
/// Names looked at in one step of a scan.
const SCANNED: &str = "1000";

pub struct Redis {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    /// What opens a connection: who we are, and which database.
    greeting: Vec<Vec<Vec<u8>>>,
    prefix: String,
    config: RemoteConfig,
    deadline: Duration,
    connection: RefCell<Option<BufReader<Stream>>>,
    usage: RefCell<Usage>,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Text(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Reply>),
}

impl Redis {
    /// Connects to nothing yet.
    pub fn new(place: &Place, config: RemoteConfig, deadline: Duration) -> Result<Self, StoreError> {
        let url = &place.url;
        let [prefix, ca] = place.options(["prefix", "ca"])?;
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
        let mut greeting = Vec::new();
        if let Some(password) = url.password() {
            let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded);
            greeting.push([b"AUTH".to_vec()].into_iter().chain(user).chain([decoded(password)]).collect());
        } else if !url.username().is_empty() {
            return Err(place.fault("a user without a password; write USER:PASSWORD@, or :PASSWORD@".into()));
        }
        match url.path().trim_matches('/') {
            "" => {}
            database if database.parse::<u32>().is_ok() => greeting.push(command(["SELECT", database])),
            other => return Err(place.fault(format!("/{other} is no database; write a number, /0 for the first"))),
        }
        Ok(Self {
            host: place.host()?.to_owned(),
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

    fn name_of(&self, key: &Key) -> String {
        format!("{}{}", self.prefix, hex(key))
    }

    /// The replies to `commands`, which go out together.
    fn call(&self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>, StoreError> {
        let until = Instant::now() + self.deadline;
        let kept = self.connection.borrow_mut().take();
        let (reused, opened) = (kept.is_some(), kept.map_or_else(|| self.open(until), Ok));
        let mut connection = opened?;
        let mut replies = exchange(&mut connection, commands, self.config.max_value, until);
        if reused && replies.as_ref().is_err_and(broken) {
            connection = self.open(until)?;
            replies = exchange(&mut connection, commands, self.config.max_value, until);
        }
        // Whatever goes wrong, nothing is left in a connection that is kept.
        let replies = replies.map_err(|error| self.fault(&error))?;
        *self.connection.borrow_mut() = Some(connection);
        Ok(replies)
    }

    fn open(&self, until: Instant) -> Result<BufReader<Stream>, StoreError> {
        let stream = Stream::open(&self.host, self.port, self.tls.as_ref(), until);
        let mut connection = BufReader::with_capacity(64 << 10, stream.map_err(|error| self.fault(&error))?);
        let replies = exchange(&mut connection, &self.greeting, MAX_LINE, until);
        for reply in replies.map_err(|error| self.fault(&error))? {
            accepted(reply)?;
        }
        Ok(connection)
    }

    fn fault(&self, error: &io::Error) -> StoreError {
        if let Some(problem) = stream::tls_problem(error) {
            return StoreError::Refused { store: NAME, problem };
        }
        let (host, port) = (&self.host, self.port);
        let problem = match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                return StoreError::Late { store: NAME, ms: self.deadline.as_millis() as u64 };
            }
            ErrorKind::ConnectionRefused => format!("{host}:{port}: nothing listens there; start the server"),
            ErrorKind::UnexpectedEof => {
                format!("{host}:{port}: it closed the connection; if it wants TLS, write rediss://")
            }
            _ => format!("{host}:{port}: {error}"),
        };
        StoreError::Backend { store: NAME, problem }
    }

    /// One reply for each of `keys`; what is there and not a value of ours is `None`.
    fn ask<T>(
        &self,
        commands: Vec<Vec<Vec<u8>>>,
        read: impl Fn(Reply) -> Option<T>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let replies = self.call(&commands)?.into_iter().map(|reply| match reply {
            Reply::Error(problem) if problem.starts_with("WRONGTYPE") => Ok(None),
            reply => accepted(reply).map(&read),
        });
        replies.collect()
    }

    fn lengths(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let commands = keys.iter().map(|key| command(["STRLEN", &self.name_of(key)])).collect();
        let fits = |reply| match reply {
            Reply::Number(length) if length > 0 && length as u64 <= self.config.max_value => Some(()),
            _ => None,
        };
        Ok(self.ask(commands, fits)?.into_iter().map(|found| found.is_some()).collect())
    }

    fn values(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        // The byte after the longest value tells that there is more.
        let last = self.config.max_value.to_string();
        let commands = keys.iter().map(|key| command(["GETRANGE", &self.name_of(key), "0", &last])).collect();
        let value = |reply| match reply {
            Reply::Bytes(bytes) if !bytes.is_empty() && bytes.len() as u64 <= self.config.max_value => Some(bytes),
            _ => None,
        };
        self.ask(commands, value)
    }

    fn set(&self, key: &Key, bytes: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        if bytes.len() as u64 > self.config.max_value {
            return Err(StoreError::TooLarge { bytes: bytes.len() as u64, budget: self.config.max_value });
        }
        super::verify(NAME, key, bytes)?;
        let ttl = ttl.unwrap_or(self.config.ttl).as_millis().max(1).to_string();
        let [set, name, px] = ["SET", &self.name_of(key), "PX"].map(|word| word.as_bytes().to_vec());
        for reply in self.call(&[vec![set, name, bytes.to_vec(), px, ttl.into_bytes()]])? {
            accepted(reply)?;
        }
        let usage = &mut *self.usage.borrow_mut();
        usage.written += 1;
        usage.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn delete(&self, names: &[String]) -> Result<i64, StoreError> {
        let words: Vec<Vec<u8>> = ["UNLINK"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .map(|word| word.as_bytes().to_vec())
            .collect();
        match self.call(&[words])?.pop().map(accepted).transpose()? {
            Some(Reply::Number(removed)) => Ok(removed),
            _ => Err(unexpected()),
        }
    }

    fn delete_all(&self) -> Result<(), StoreError> {
        let (mut cursor, pattern) = ("0".to_owned(), format!("{}*", self.prefix));
        loop {
            let scanned = self.call(&[command(["SCAN", &cursor, "MATCH", &pattern, "COUNT", SCANNED])])?.pop();
            let Some(Reply::List(parts)) = scanned.map(accepted).transpose()? else { return Err(unexpected()) };
            let Ok([Reply::Bytes(next), Reply::List(names)]) = <[Reply; 2]>::try_from(parts) else {
                return Err(unexpected());
            };
            let text = |reply| if let Reply::Bytes(bytes) = reply { String::from_utf8(bytes).ok() } else { None };
            let ours = |name: &String| name.strip_prefix(&self.prefix).and_then(unhex).is_some();
            let names: Vec<String> = names.into_iter().filter_map(text).filter(ours).collect();
            if !names.is_empty() {
                self.delete(&names)?;
            }
            cursor = String::from_utf8(next).map_err(|_| unexpected())?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    fn counted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|_| self.usage.borrow_mut().failures += 1)
    }
}

fn command<const N: usize>(words: [&str; N]) -> Vec<Vec<u8>> {
    words.map(|word| word.as_bytes().to_vec()).into()
}

fn unexpected() -> StoreError {
    StoreError::Backend { store: NAME, problem: "it answers what was not asked; is it a Redis?".into() }
}

/// The reply, unless it is an error.
fn accepted(reply: Reply) -> Result<Reply, StoreError> {
    let Reply::Error(text) = reply else { return Ok(reply) };
    let kind = text.split(' ').next().unwrap_or_default();
    let fix = match kind {
        // These pass.
        "LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN" | "MISCONF" => {
            return Err(StoreError::Backend { store: NAME, problem: text });
        }
        "NOAUTH" | "WRONGPASS" => "write USER:PASSWORD@ or :PASSWORD@ before the host",
        "NOPERM" => "allow this user STRLEN, GETRANGE, SET, UNLINK and SCAN on the prefix",
        "OOM" => "give the server more maxmemory, or an eviction policy such as allkeys-lru",
        "READONLY" => "name the primary, not a replica",
        "MOVED" | "ASK" | "CROSSSLOT" => "clusters are not supported; name a single server",
        _ if text.contains("AUTH") => "take USER:PASSWORD@ out of the URL, or set a password on the server",
        _ if text.contains("DB index") => "choose a database that the server has",
        _ => "see the server's log",
    };
    Err(StoreError::Refused { store: NAME, problem: format!("{text}; {fix}") })
}

/// The other side, or something between, let go of the connection.
fn broken(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset | ConnectionAborted)
}

/// Sends all, then reads a reply for each, all of them together at most so many bytes long.
fn exchange(
    connection: &mut BufReader<Stream>,
    commands: &[Vec<Vec<u8>>],
    max_bytes: u64,
    until: Instant,
) -> io::Result<Vec<Reply>> {
    let stream = connection.get_mut();
    stream.allow(until);
    let mut packed = Vec::with_capacity(commands.iter().flatten().map(|word| word.len() + 16).sum());
    for words in commands {
        write!(packed, "*{}\r\n", words.len())?;
        for word in words {
            write!(packed, "${}\r\n", word.len())?;
            packed.extend_from_slice(word);
            packed.extend_from_slice(b"\r\n");
        }
    }
    stream.write_all(&packed)?;
    stream.flush()?;
    // The values, and a line or two for each.
    let mut left = max_bytes + 1 + 64 * commands.len() as u64;
    (0..commands.len()).map(|_| read(connection, &mut left, 2)).collect()
}

/// One reply, of at most `left` bytes, with lists in lists down to `depth`.
fn read(connection: &mut impl BufRead, left: &mut u64, depth: usize) -> io::Result<Reply> {
    let wrong = |problem: &str| io::Error::new(ErrorKind::InvalidData, problem.to_owned());
    let mut line = Vec::new();
    connection.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or_else(|| wrong("a line without an end"))?;
    let (kind, text) = line.split_first().ok_or_else(|| wrong("an empty line"))?;
    let text = String::from_utf8_lossy(text).into_owned();
    let number = || text.parse::<i64>().map_err(|_| wrong("a number that is none"));
    let mut allow = |bytes: u64| {
        *left = left.checked_sub(bytes).ok_or_else(|| wrong("it answers more than was asked for"))?;
        Ok::<u64, io::Error>(bytes)
    };
    match kind {
        b'+' => Ok(Reply::Text(text)),
        b'-' => Ok(Reply::Error(text)),
        b':' => number().map(Reply::Number),
        b'$' | b'*' if number()? < 0 => Ok(Reply::Nothing),
        b'$' => {
            let length = allow(number()? as u64)?;
            let mut bytes = Vec::with_capacity(length as usize + 2);
            connection.take(length + 2).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != length + 2 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.truncate(length as usize);
            Ok(Reply::Bytes(bytes))
        }
        b'*' if depth > 0 => {
            let count = allow(number()? as u64)?;
            (0..count).map(|_| read(connection, left, depth - 1)).collect::<io::Result<_>>().map(Reply::List)
        }
        _ => Err(wrong("it does not speak the protocol; is it a Redis?")),
    }
}

impl Store for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move { Ok(self.counted(self.values(std::slice::from_ref(key)))?.pop().flatten()) })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move { self.counted(self.values(keys)) })
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: &'a [u8], ttl: Option<Duration>) -> Answer<'a, ()> {
        Box::pin(async move { self.counted(self.set(key, bytes, ttl)) })
    }

    fn contains<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<bool>> {
        Box::pin(async move { self.counted(self.lengths(keys)) })
    }

    fn remove<'a>(&'a self, key: &'a Key) -> Answer<'a, bool> {
        Box::pin(async move { self.counted(self.delete(&[self.name_of(key)]).map(|removed| removed > 0)) })
    }

    fn clear(&self) -> Answer<'_, ()> {
        Box::pin(async move { self.counted(self.delete_all()) })
    }

    fn usage(&self) -> Usage {
        *self.usage.borrow()
    }
}
