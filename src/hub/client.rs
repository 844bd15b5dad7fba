//! The hub's HTTP interface: its address, the token, redirects, retries, and errors in sentences.
//!
//! The token goes to the hub's own origin and nowhere else: redirects are followed here, one by one, and an answer that
//! points to another scheme, host or port is asked without it. Nothing is retried that would fail the same way again.

use std::fs;
use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body};

use super::cache;
use crate::error::{Error, Result};
use crate::weights::hub::{Name, safe_path};

const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const REDIRECTS: usize = 8;
/// A repository's listing is some hundred bytes a file.
const LISTING_LIMIT: u64 = 32 << 20;

pub(crate) struct Client {
    agent: Agent,
    /// Scheme, host and port, perhaps with a path; no slash at its end.
    endpoint: String,
    token: Option<String>,
}

/// A repository at one commit.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// One file as the hub announces it.
pub(crate) struct Meta {
    /// The blob's name in the cache; for files kept in large-file storage the SHA-256 of their bytes.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

impl Meta {
    /// The SHA-256 the bytes must have, where the hub knows it.
    pub(crate) fn sha256(&self) -> Option<&str> {
        Some(self.etag.as_str()).filter(|etag| etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// What may be worth another try.
pub(crate) enum Failure {
    Passing(Error),
    Final(Error),
}

impl Client {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`; touches no network.
    pub(crate) fn from_env() -> Result<Self> {
        let set =
            |name| std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if origin(&endpoint).is_none() {
            let problem = format!("`{endpoint}` is not an address such as https://example.org");
            return Err(Error::Request { field: "HF_ENDPOINT", problem });
        }
        if set("HF_HUB_OFFLINE").is_some_and(|value| ["1", "true", "yes", "on"].contains(&&*value.to_lowercase())) {
            let problem = "HF_HUB_OFFLINE is set, so nothing is downloaded".into();
            return Err(Error::Download {
                url: endpoint,
                problem,
                fix: "unset it, or name a file on this machine".into(),
            });
        }
        let kept = || {
            let path = set("HF_TOKEN_PATH").map(Into::into).or_else(|| Some(cache::home().ok()?.join("token")))?;
            Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let token = set("HF_TOKEN").or_else(kept);
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::Request {
                field: "HF_TOKEN",
                problem: "holds a character no token has; copy it again".into(),
            });
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("headstart/", env!("CARGO_PKG_VERSION")))
            // Sizes and ranges count the bytes of the file, not of a compressed form.
            .accept_encoding("identity")
            .timeout_resolve(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, token })
    }

    /// The commit a revision stands for, and its files.
    pub(crate) fn listing(&self, name: &Name) -> Result<Listing> {
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, name.repo, escape(&name.revision, false));
        let text = self.retry(|| {
            let response = self.send(&url, false, None, name)?;
            let mut text = String::new();
            let mut body = response.into_body().into_with_config().limit(LISTING_LIMIT).reader();
            match body.read_to_string(&mut text) {
                Ok(_) => Ok(text),
                Err(e) => Err(Failure::Passing(download(&url, e.to_string(), "try again"))),
            }
        })?;
        let odd =
            |problem: &str| download(&url, problem.into(), "check HF_ENDPOINT: this does not answer like the hub");
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| odd(&format!("no JSON ({e})")))?;
        let commit = value.get("sha").and_then(|sha| sha.as_str()).filter(|sha| is_hex(sha, 40..=64));
        let commit = commit.ok_or_else(|| odd("the answer names no commit"))?.to_owned();
        let files = value.get("siblings").and_then(|files| files.as_array()).ok_or_else(|| odd("no list of files"))?;
        let files = files.iter().filter_map(|file| file.get("rfilename")?.as_str());
        // A name that is no plain path below the repository is never asked for and never written.
        Ok(Listing { commit, files: files.filter(|file| safe_path(file)).map(String::from).collect() })
    }

    /// Size and digest of one file.
    pub(crate) fn meta(&self, name: &Name, commit: &str, file: &str) -> Result<Meta> {
        let url = self.resolve(name, commit, file);
        let response = self.retry(|| self.send(&url, true, None, name))?;
        let text = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok());
        let etag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let size = text("x-linked-size").or_else(|| text("content-length")).and_then(|size| size.parse().ok());
        match size {
            Some(size) if is_hex(&etag, 16..=64) => Ok(Meta { etag, size }),
            _ => Err(download(&url, "the answer lacks a size or a digest".into(), "check HF_ENDPOINT")),
        }
    }

    /// Opens a file's bytes from `offset` on. One try: the caller keeps what it got and asks for the rest.
    pub(crate) fn open(&self, name: &Name, commit: &str, file: &str, offset: u64) -> Result<Response<Body>, Failure> {
        self.send(&self.resolve(name, commit, file), false, Some(offset), name)
    }

    pub(crate) fn resolve(&self, name: &Name, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{}/{}", self.endpoint, name.repo, escape(commit, false), escape(file, true))
    }

    /// Runs `attempt` until it succeeds, fails for good, or has had its tries.
    fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        for count in 0.. {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Passing(_)) if count + 1 < TRIES => pause(count),
                Err(Failure::Passing(error) | Failure::Final(error)) => return Err(error),
            }
        }
        unreachable!("the loop leaves by its last try")
    }

    /// One request, through its redirects. With `head`, a redirect to another origin is the answer: it carries the
    /// file's size and digest, which the storage behind it does not know.
    fn send(&self, url: &str, head: bool, offset: Option<u64>, name: &Name) -> Result<Response<Body>, Failure> {
        let home = origin(&self.endpoint);
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let own = origin(&at) == home;
            let mut request = if head { self.agent.head(&at) } else { self.agent.get(&at) };
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(offset) = offset.filter(|offset| *offset > 0) {
                request = request.header(header::RANGE, format!("bytes={offset}-"));
            }
            // What stands behind a `?` may be a key.
            log::debug!("{} {}", if head { "HEAD" } else { "GET" }, at.split('?').next().unwrap_or_default());
            let response = request.call().map_err(|e| unreachable_host(url, &e))?;
            if !response.status().is_redirection() {
                return status(url, response, name);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let fault = |problem: &str| Failure::Final(download(url, problem.into(), "check HF_ENDPOINT"));
            let next =
                location.and_then(|location| join(&at, location)).ok_or_else(|| fault("a redirect to nowhere"))?;
            if at.starts_with("https:") && !next.starts_with("https:") {
                return Err(fault("a redirect from https to plain http, which is not followed"));
            }
            if head && origin(&next) != home {
                return Ok(response);
            }
            at = next;
        }
        Err(Failure::Final(download(url, "too many redirects".into(), "check HF_ENDPOINT")))
    }
}

/// Waits before try `count + 2`: twice as long each time.
pub(crate) fn pause(count: u32) {
    std::thread::sleep(FIRST_PAUSE * 2u32.pow(count.min(6)));
}

/// Tries of a transfer that gains no bytes.
pub(crate) const fn tries() -> u32 {
    TRIES
}

pub(crate) fn download(url: &str, problem: String, fix: &str) -> Error {
    Error::Download { url: url.into(), problem, fix: fix.into() }
}

fn unreachable_host(url: &str, error: &ureq::Error) -> Failure {
    let fix = "check the network, or HF_ENDPOINT if you use a mirror";
    let fault = |problem: String| download(url, problem, fix);
    match error {
        ureq::Error::HostNotFound => Failure::Final(fault("the host is not known to the network".into())),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Failure::Final(fault("nothing answers at that address".into()))
        }
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Http(_) | ureq::Error::Rustls(_) => {
            Failure::Final(fault(error.to_string()))
        }
        other => Failure::Passing(fault(other.to_string())),
    }
}

/// The response if it is good, or the error that its status means.
fn status(url: &str, response: Response<Body>, name: &Name) -> Result<Response<Body>, Failure> {
    let code = response.status().as_u16();
    let repo = &name.repo;
    let (problem, fix) = match code {
        200 | 206 | 416 => return Ok(response),
        401 => (
            format!("the hub knows no public model {repo}: it does not exist, or it is private or gated"),
            "check the name; for a private or gated model set HF_TOKEN to a token that may read it",
        ),
        403 => (
            format!("access to {repo} is gated"),
            "accept its terms on its page with your account, then set HF_TOKEN to a token of that account",
        ),
        404 => (format!("{repo} has no such file or revision, or does not exist"), "check the name"),
        429 => ("the hub asks for fewer requests".into(), "wait a few minutes, or set HF_TOKEN"),
        500.. => (format!("the server answered {code}"), "try again later"),
        _ => (format!("the server answered {code}"), "check the name and HF_ENDPOINT"),
    };
    let error = download(url, problem, fix);
    Err(if code == 429 || code >= 500 { Failure::Passing(error) } else { Failure::Final(error) })
}

/// Scheme, host and port of an http address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme.into(), uri.host()?.to_ascii_lowercase(), port))
}

/// Where a redirect leads: whole addresses, `//host/path` and `/path`.
fn join(at: &str, location: &str) -> Option<String> {
    let (scheme, rest) = at.split_once("://")?;
    let joined = match location {
        same_scheme if same_scheme.starts_with("//") => format!("{scheme}:{same_scheme}"),
        path if path.starts_with('/') => format!("{scheme}://{}{path}", rest.split('/').next()?),
        whole => whole.to_owned(),
    };
    origin(&joined).map(|_| joined)
}

/// Percent-encodes what a path segment may not hold; `/` too unless it separates segments.
fn escape(text: &str, path: bool) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || (path && b == b'/');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn is_hex(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}
