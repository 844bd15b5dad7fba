//! A fake hub on loopback: the listing, `resolve` with its large-file headers, a redirect to storage on another port, ranges,
//! tokens, and real-world faults. It records the requests and counts the body bytes that it sent.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub const REPO: &str = "acme/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The server's behaviour, which a test can change while it runs.
#[derive(Default)]
pub struct State {
    /// The only repository.
    pub repo: String,
    /// Name, bytes, and whether the file is in large-file storage.
    pub files: BTreeMap<String, (Vec<u8>, bool)>,
    /// Names that the listing has in addition to the files'.
    pub listed: Vec<String>,
    /// For each entry, storage closes one connection after this many bytes of the file.
    pub cuts: Vec<usize>,
    /// Storage answers every request with the whole file.
    pub ignores_ranges: bool,
    /// Storage flips one bit of the file.
    pub corrupts: bool,
    /// Storage sends one byte too many.
    pub overlong: bool,
    /// Statuses that the hub answers first.
    pub refusals: Vec<u16>,
    /// The required token: the hub answers 401 without one and 403 to any other.
    pub token: Option<String>,
    /// Pause before each piece of a body.
    pub delay: Duration,
    pub requests: Vec<Request>,
    /// Bytes of files sent by the hub and by storage.
    pub sent: u64,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub storage: bool,
    pub method: String,
    pub path: String,
    pub token: Option<String>,
    pub offset: usize,
}

pub struct HubServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    pub fn start(files: &[(&str, &[u8], bool)]) -> Self {
        let files = files.iter().map(|(name, bytes, large)| ((*name).into(), (bytes.to_vec(), *large))).collect();
        let state = Arc::new(Mutex::new(State { repo: REPO.into(), files, ..State::default() }));
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let storage = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", hub.local_addr().unwrap());
        let behind = format!("http://{}", storage.local_addr().unwrap());
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let (state, behind) = (state.clone(), behind.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, behind) = (state.clone(), behind.clone());
                    // A client may disconnect in the middle.
                    thread::spawn(move || drop(serve(stream, is_storage, &behind, &state)));
                }
            });
        }
        Self { endpoint, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The etag under which the cache keeps a file.
pub fn etag(bytes: &[u8], large: bool) -> String {
    sha256(bytes)[..if large { 64 } else { 40 }].to_owned()
}

fn serve(stream: TcpStream, storage: bool, behind: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(String::from);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut request = Request { storage, method, path, token: None, offset: 0 };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (key, value) = header.split_once(':').unwrap_or_default();
        match key.to_ascii_lowercase().as_str() {
            "authorization" => request.token = value.trim().strip_prefix("Bearer ").map(String::from),
            "range" => {
                request.offset = value.trim().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
            }
            _ => {}
        }
    }
    let mut locked = state.lock().unwrap();
    locked.requests.push(request.clone());
    match storage {
        true => {
            let file = locked.files.values().find(|(bytes, _)| request.path == format!("/blob/{}", sha256(bytes)));
            let Some((mut bytes, _)) = file.cloned() else { return answer(&stream, 404, &[], b"") };
            let cut = if locked.cuts.is_empty() { usize::MAX } else { locked.cuts.remove(0) };
            let offset = if locked.ignores_ranges { 0 } else { request.offset };
            if locked.corrupts {
                bytes[0] ^= 1;
            }
            bytes.extend(vec![0; usize::from(locked.overlong)]);
            let delay = locked.delay;
            drop(locked);
            body(&stream, &bytes, offset, cut, delay, state)
        }
        false => hub(&stream, &request, behind, locked, state),
    }
}

fn hub(
    stream: &TcpStream,
    request: &Request,
    behind: &str,
    mut state: MutexGuard<'_, State>,
    shared: &Mutex<State>,
) -> std::io::Result<()> {
    if !state.refusals.is_empty() {
        return answer(stream, state.refusals.remove(0), &[], b"");
    }
    match (&state.token, &request.token) {
        (Some(_), None) => return answer(stream, 401, &[], b""),
        (Some(right), Some(given)) if right != given => return answer(stream, 403, &[], b""),
        _ => {}
    }
    let repo = &state.repo;
    if request.path == format!("/api/models/{repo}/revision/main") {
        let names = state.files.keys().chain(&state.listed).map(|name| format!(r#"{{"rfilename":"{name}"}}"#));
        let names = names.collect::<Vec<_>>().join(",");
        let text = format!(r#"{{"id":"{repo}","sha":"{COMMIT}","siblings":[{names}]}}"#);
        return answer(stream, 200, &[], text.as_bytes());
    }
    let file = request.path.strip_prefix(&format!("/{repo}/resolve/{COMMIT}/"));
    let Some((bytes, large)) = file.and_then(|file| state.files.get(file)).cloned() else {
        return answer(stream, 404, &[], b"");
    };
    if large {
        let headers = [
            ("x-linked-etag", format!("\"{}\"", etag(&bytes, true))),
            ("x-linked-size", bytes.len().to_string()),
            ("x-repo-commit", COMMIT.to_owned()),
            ("location", format!("{behind}/blob/{}", sha256(&bytes))),
        ];
        return answer(stream, 302, &headers, b"");
    }
    drop(state);
    if request.method == "HEAD" {
        let length = bytes.len();
        let etag = etag(&bytes, false);
        let mut stream = stream;
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"{etag}\"\r\ncontent-length: {length}\r\n\r\n"
        );
    }
    body(stream, &bytes, request.offset, usize::MAX, Duration::ZERO, shared)
}

fn answer(mut stream: &TcpStream, status: u16, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (key, value) in headers {
        head += &format!("{key}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)
}

fn body(
    mut stream: &TcpStream,
    bytes: &[u8],
    offset: usize,
    cut: usize,
    delay: Duration,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let (total, rest) = (bytes.len(), &bytes[offset..]);
    let status = match offset {
        0 => "200 OK\r\n".to_owned(),
        _ => format!("206 Partial Content\r\ncontent-range: bytes {offset}-{}/{total}\r\n", total - 1),
    };
    write!(stream, "HTTP/1.1 {status}connection: close\r\ncontent-length: {}\r\n\r\n", rest.len())?;
    for piece in rest[..rest.len().min(cut.saturating_sub(offset))].chunks(64 << 10) {
        thread::sleep(delay);
        stream.write_all(piece)?;
        state.lock().unwrap().sent += piece.len() as u64;
    }
    Ok(())
}
