//! Values as HTTP objects: in a bucket that speaks S3, or, read-only, on any web server.
//!
//! Names are those of a cache directory, so a directory that is served by a web server or copied into a bucket is such
//! a store. HTTP fetches one object a request; several are fetched in parallel, over up to [`AT_ONCE`] connections.
//! Nothing expires by itself; a bucket's lifecycle rules can do that.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions::ListObjectsV2};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::Url;

use super::{Place, RemoteConfig, stream};
use crate::store::scan::{self, Kind};
use crate::store::{Bytes, Store, StoreAnswer, StoreError, StoreKey, StoreUsage};

/// Connections at a time.
const AT_ONCE: usize = 16;
/// How long a signature is valid.
const SIGNED: Duration = Duration::from_secs(300);
/// Most bytes read of an error, and of a listing of a thousand names.
const MAX_ERROR: u64 = 4 << 10;
const MAX_LISTING: u64 = 4 << 20;
const REGION: &str = "us-east-1";

pub(crate) struct Objects {
    client: Client,
    usage: RefCell<StoreUsage>,
}

struct Client {
    agent: Agent,
    place: Where,
    max_value: u64,
    deadline: Duration,
}

enum Where {
    /// Ends with a slash.
    Server(Url),
    /// The prefix is empty or ends with a slash.
    Bucket { bucket: Bucket, credentials: Option<Credentials>, prefix: String },
}

#[derive(Clone, Copy)]
enum Verb {
    Head,
    Get,
    Put,
    Delete,
}

impl Objects {
    /// Opens no connection yet.
    pub(crate) fn new(place: &Place, config: &RemoteConfig, deadline: Duration) -> Result<Self, StoreError> {
        let (at, ca) = if place.url.scheme() == "s3" { bucket(place)? } else { server(place)? };
        let roots = match &ca {
            None => RootCerts::WebPki,
            Some(file) => {
                let found = stream::certificates(file).map_err(|problem| place.fault(problem))?;
                found.iter().map(|der| Certificate::from_der(der).to_owned()).collect::<Vec<_>>().into()
            }
        };
        let agent = Agent::config_builder()
            .timeout_global(Some(deadline))
            .http_status_as_error(false)
            // A bucket in another region would redirect to a host for which the signature is not valid.
            .max_redirects(if matches!(at, Where::Server(_)) { 5 } else { 0 })
            .max_redirects_will_error(false)
            .max_idle_connections(AT_ONCE)
            .max_idle_connections_per_host(AT_ONCE)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        let client = Client { agent, place: at, max_value: config.max_value, deadline };
        Ok(Self { client, usage: RefCell::default() })
    }

    fn counted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|_| self.usage.borrow_mut().failures += 1)
    }
}

fn server(place: &Place) -> Result<(Where, Option<String>), StoreError> {
    let [ca] = place.options(["ca"])?;
    place.host()?;
    if !place.url.username().is_empty() || place.url.password().is_some() {
        return Err(place.fault("a web server is read without a password; leave it out".into()));
    }
    let mut base = place.url.clone();
    base.set_query(None);
    base.set_fragment(None);
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", place.url.path()));
    }
    Ok((Where::Server(base), ca))
}

fn bucket(place: &Place) -> Result<(Where, Option<String>), StoreError> {
    let [endpoint, region, ca, file] = place.options(["endpoint", "region", "ca", "secret_file"])?;
    let region = region.unwrap_or_else(|| REGION.to_owned());
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let endpoint = Url::parse(&endpoint)
        .map_err(|error| place.fault(format!("endpoint=: {error}; write endpoint=https://HOST")))?;
    let name = place.host()?.to_owned();
    let bucket = Bucket::new(endpoint, UrlStyle::Path, name, region)
        .map_err(|error| place.fault(format!("endpoint=: {error}; write endpoint=https://HOST")))?;
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| place.fault("KEY:SECRET@ is not UTF-8".into()))
    };
    let own = place.url.password().map(decoded).transpose()?;
    let secret = place.secret(own.as_deref().map(str::as_bytes), "secret_file", file.as_deref())?;
    let credentials = match (place.url.username(), secret) {
        ("", None) => Credentials::from_env(),
        (key, Some(secret)) if !key.is_empty() => {
            let secret = String::from_utf8(secret).map_err(|_| place.fault("secret_file=: it is not UTF-8".into()))?;
            Some(Credentials::new(decoded(key)?, secret))
        }
        _ => {
            let problem = "write KEY:SECRET@, or KEY@ and a file in secret_file=, or leave both to the environment";
            return Err(place.fault(problem.into()));
        }
    };
    let path = decoded(place.url.path().trim_matches('/'))?;
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(place.fault("a prefix has no . or .. in it".into()));
    }
    let prefix = if path.is_empty() { path } else { path + "/" };
    Ok((Where::Bucket { bucket, credentials, prefix }, ca))
}

impl Client {
    fn name(&self) -> &'static str {
        match self.place {
            Where::Server(_) => "http",
            Where::Bucket { .. } => "s3",
        }
    }

    fn url(&self, verb: Verb, name: &str) -> String {
        let url = match &self.place {
            Where::Server(base) => base.join(name).expect("a relative path of plain letters"),
            Where::Bucket { bucket, credentials, prefix } => {
                let (credentials, object) = (credentials.as_ref(), format!("{prefix}{name}"));
                match verb {
                    Verb::Head => bucket.head_object(credentials, &object).sign(SIGNED),
                    Verb::Get => bucket.get_object(credentials, &object).sign(SIGNED),
                    Verb::Put => bucket.put_object(credentials, &object).sign(SIGNED),
                    Verb::Delete => bucket.delete_object(credentials, &object).sign(SIGNED),
                }
            }
        };
        url.into()
    }

    /// The response if it is a success; `None` if there is no such object.
    fn ask(&self, verb: Verb, name: &str, body: &[u8]) -> Result<Option<Response<Body>>, StoreError> {
        let url = self.url(verb, name);
        self.answer(match verb {
            Verb::Head => self.agent.head(url).call(),
            Verb::Get => self.agent.get(url).call(),
            Verb::Put => self.agent.put(url).send(body),
            Verb::Delete => self.agent.delete(url).call(),
        })
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Option<Response<Body>>, StoreError> {
        let mut response = answer.map_err(|error| self.fault(&error))?;
        let store = self.name();
        let status = response.status();
        if status.is_success() {
            return Ok(Some(response));
        }
        let text = response.body_mut().with_config().limit(MAX_ERROR).read_to_string().unwrap_or_default();
        let code =
            text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code);
        let problem = |fix: &str| format!("{} {code}; {fix}", status.as_u16());
        let fix = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let fix = "check the key, the secret and the clock, and that the key may read, write and list";
                return Err(StoreError::Refused { store, problem: problem(fix) });
            }
            StatusCode::NOT_FOUND if code == "NoSuchBucket" => "make the bucket, or name another",
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            // The object is empty, so it has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(None),
            status if status.is_redirection() => "name the region or endpoint of the bucket itself",
            StatusCode::TOO_MANY_REQUESTS => "it is asked too often",
            status if status.is_client_error() => "the server does not accept this request",
            _ => "the server failed",
        };
        Err(StoreError::Backend { store, problem: problem(fix) })
    }

    fn fault(&self, error: &ureq::Error) -> StoreError {
        let store = self.name();
        match error {
            ureq::Error::Timeout(_) => StoreError::Late { store, ms: self.deadline.as_millis() as u64 },
            ureq::Error::Io(error) if stream::tls_problem(error).is_some() => {
                StoreError::Refused { store, problem: stream::tls_problem(error).unwrap_or_default() }
            }
            // Its text contains the address, and with it a signature.
            ureq::Error::BadUri(_) => StoreError::Backend { store, problem: "the address is not valid".into() },
            error => {
                let is_alien = match error {
                    ureq::Error::Protocol(_) => true,
                    ureq::Error::Io(error) => {
                        matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
                    }
                    _ => false,
                };
                // A Redis answers a line that is no HTTP, and closes the connection.
                let hint = if is_alien { "; if it is a Redis, write redis://HOST:PORT" } else { "" };
                StoreError::Backend { store, problem: format!("{error}{hint}") }
            }
        }
    }

    fn has(&self, key: &StoreKey) -> Result<bool, StoreError> {
        let found = self.ask(Verb::Head, &scan::name(key), &[])?;
        Ok(found.is_some_and(|response| length(&response).is_none_or(|length| length <= self.max_value)))
    }

    /// At least the first `most` bytes, or all if there are fewer. A server may send more than requested.
    fn value(&self, key: &StoreKey, most: usize) -> Result<Option<Bytes>, StoreError> {
        let mut request = self.agent.get(self.url(Verb::Get, &scan::name(key)));
        if (most as u64) < self.max_value {
            request = request.header("range", format!("bytes=0-{}", most - 1));
        }
        let Some(mut response) = self.answer(request.call())? else { return Ok(None) };
        if length(&response).is_some_and(|length| length > self.max_value) {
            return Ok(None);
        }
        match response.body_mut().with_config().limit(self.max_value).read_to_vec() {
            // The buffer grew while reading, so spare capacity is given back.
            Ok(bytes) => Ok(Some(bytes.into_boxed_slice().into())),
            Err(ureq::Error::BodyExceedsLimit(_)) => Ok(None),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Runs `work` for each, several at a time.
    fn each<I: Sync, T: Send>(
        &self,
        items: &[I],
        work: impl Fn(&I) -> Result<T, StoreError> + Sync,
    ) -> Result<Vec<T>, StoreError> {
        let run = |items: &[I]| items.iter().map(&work).collect::<Result<Vec<T>, StoreError>>();
        let share = items.len().div_ceil(AT_ONCE).max(1);
        thread::scope(|scope| {
            let parts: Vec<_> = items.chunks(share).map(|items| scope.spawn(move || run(items))).collect();
            let parts = parts.into_iter().map(|part| part.join().expect("it asks and does not panic"));
            parts.collect::<Result<Vec<Vec<T>>, StoreError>>().map(|parts| parts.into_iter().flatten().collect())
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        [Kind::Blocks, Kind::Manifests].into_iter().try_for_each(|kind| self.clear_all(kind))
    }

    fn clear_all(&self, kind: Kind) -> Result<(), StoreError> {
        let Where::Bucket { bucket, credentials, prefix } = &self.place else { return Ok(()) };
        let mut next = None;
        loop {
            let mut listing = ListObjectsV2::new(bucket, credentials.as_ref());
            listing.with_prefix(format!("{prefix}{}/", kind.folder()));
            if let Some(next) = next.take() {
                listing.with_continuation_token(next);
            }
            let Some(mut page) = self.answer(self.agent.get(listing.sign(SIGNED).as_str()).call())? else {
                return Ok(());
            };
            let text = page.body_mut().with_config().limit(MAX_LISTING).read_to_string();
            let text = text.map_err(|error| self.fault(&error))?;
            let unreadable =
                |error| StoreError::Backend { store: self.name(), problem: format!("its listing: {error}") };
            let page = ListObjectsV2::parse_response(&text).map_err(unreadable)?;
            let names = page.contents.iter().filter_map(|object| object.key.strip_prefix(prefix.as_str()));
            let ours: Vec<&str> = names.filter(|name| scan::key_of(name).is_some()).collect();
            self.each(&ours, |name| self.ask(Verb::Delete, name, &[]).map(drop))?;
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(());
            }
        }
    }
}

fn length(response: &Response<Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Store for Objects {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { self.counted(self.client.value(key, usize::MAX)) })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        let client = &self.client;
        Box::pin(async move { self.counted(client.each(keys, |key| client.value(key, most))) })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, _: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            let (length, budget) = (bytes.len() as u64, self.client.max_value);
            if length > budget {
                return Err(StoreError::TooLarge { bytes: length, budget });
            }
            self.counted(self.client.ask(Verb::Put, &scan::name(key), bytes)).map(drop)
        })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        let client = &self.client;
        Box::pin(async move { self.counted(client.each(keys, |key| client.has(key))) })
    }

    /// True whether or not there was one: a bucket does not tell.
    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move {
            match self.client.place {
                Where::Server(_) => Err(StoreError::ReadOnly { store: self.name() }),
                Where::Bucket { .. } => {
                    self.counted(self.client.ask(Verb::Delete, &scan::name(key), &[]).map(|_| true))
                }
            }
        })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move { self.counted(self.client.clear()) })
    }

    fn usage(&self) -> StoreUsage {
        *self.usage.borrow()
    }
}
