//! A fake bucket on loopback that checks signatures by its own implementation of S3's rules, and lists a few names per page.
//! Without a secret it is a read-only web server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use sha2::{Digest, Sha256};

pub const BUCKET: &str = "models";
pub const KEY: &str = "AKIAEXAMPLE";
/// Contains characters that must be escaped in a URL.
pub const SECRET: &str = "wJalr/XUtn+FEMI";
const PAGE: usize = 7;

#[derive(Default)]
pub struct State {
    /// By path, without the leading slash.
    pub objects: BTreeMap<String, Vec<u8>>,
    pub secret: Option<&'static str>,
    /// If set, the status of every answer.
    pub failing: Option<u16>,
    /// Whether requests are never answered.
    pub hangs: bool,
    /// Answers have no length and end with the connection.
    pub lengthless: bool,
    /// Answers wait until this many requests are in flight.
    pub at_least: usize,
    pub asked: usize,
    /// Number of connections that were opened.
    pub connections: usize,
    under_way: usize,
}

pub struct ObjectServer {
    pub port: u16,
    shared: Arc<(Mutex<State>, Condvar)>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    host: String,
    /// Number of bytes requested, from the first.
    most: usize,
    body: Vec<u8>,
}

impl ObjectServer {
    pub fn start(secret: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new((Mutex::new(State { secret, ..State::default() }), Condvar::new()));
        let theirs = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                theirs.0.lock().unwrap().connections += 1;
                let shared = theirs.clone();
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { port, shared }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }
}

fn serve(stream: TcpStream, (state, changed): &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read(&mut reader)? {
        let mut state = state.lock().unwrap();
        state.asked += 1;
        state.under_way += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| state.hangs || state.under_way < state.at_least).unwrap();
        state.at_least = 0;
        changed.notify_all();
        let (status, body) = answer(&mut state, &request);
        let lengthless = state.lengthless && request.method == "GET";
        state.under_way -= 1;
        drop(state);
        let length = if lengthless { "connection: close".into() } else { format!("content-length: {}", body.len()) };
        let mut stream = &stream;
        write!(stream, "HTTP/1.1 {status} Status\r\n{length}\r\n\r\n")?;
        if request.method != "HEAD" {
            stream.write_all(&body)?;
        }
        if lengthless {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let (mut host, mut length, mut most) = (String::new(), 0, usize::MAX);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "host" => host = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().unwrap(),
            "range" => most = value.trim().strip_prefix("bytes=0-").unwrap().parse::<usize>().unwrap() + 1,
            "transfer-encoding" => panic!("a bucket requires the length"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, host, most, body }))
}

fn answer(state: &mut State, request: &Request) -> (u16, Vec<u8>) {
    let error = |status: u16, code: &str| (status, format!("<Error><Code>{code}</Code></Error>").into_bytes());
    if let Some(status) = state.failing {
        return error(status, "Failing");
    }
    let path = request.path.trim_start_matches('/').to_owned();
    if let Some(secret) = state.secret {
        if !path.starts_with(&format!("{BUCKET}/")) {
            return error(404, "NoSuchBucket");
        }
        if signature(request, secret).as_ref() != parameter(&request.query, "X-Amz-Signature").as_ref() {
            return error(403, "SignatureDoesNotMatch");
        }
    }
    match request.method.as_str() {
        "GET" if parameter(&request.query, "list-type").is_some() => (200, listing(state, &request.query).into_bytes()),
        "GET" | "HEAD" => match state.objects.get(&path) {
            Some(bytes) if bytes.is_empty() && request.most < usize::MAX => error(416, "InvalidRange"),
            Some(bytes) if request.most < bytes.len() => (206, bytes[..request.most].to_vec()),
            Some(bytes) => (200, bytes.clone()),
            None => error(404, "NoSuchKey"),
        },
        "PUT" if state.secret.is_some() => {
            state.objects.insert(path, request.body.clone());
            (200, Vec::new())
        }
        "DELETE" if state.secret.is_some() => {
            state.objects.remove(&path);
            (204, Vec::new())
        }
        _ => error(405, "MethodNotAllowed"),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.into())
}

fn listing(state: &State, query: &str) -> String {
    let plain = |name: &str| parameter(query, name).map(|value| value.replace("%2F", "/"));
    let (prefix, after) = (plain("prefix").unwrap_or_default(), plain("continuation-token").unwrap_or_default());
    let names = state.objects.keys().filter_map(|path| path.strip_prefix(&format!("{BUCKET}/")));
    let names: Vec<&str> = names.filter(|name| name.starts_with(&prefix) && **name > *after).collect();
    let page = &names[..names.len().min(PAGE)];
    let contents: String =
        page.iter().map(|name| format!("<Contents><Key>{name}</Key><Size>1</Size></Contents>")).collect();
    let next = match names.len() > PAGE {
        true => format!("<NextContinuationToken>{}</NextContinuationToken>", page[PAGE - 1]),
        false => String::new(),
    };
    let (space, more) = ("http://s3.amazonaws.com/doc/2006-03-01/", names.len() > PAGE);
    format!("<ListBucketResult xmlns=\"{space}\"><IsTruncated>{more}</IsTruncated>{contents}{next}</ListBucketResult>")
}

/// The signature that a presigned request must have by AWS Signature Version 4.
fn signature(request: &Request, secret: &str) -> Option<String> {
    let mut pairs: Vec<&str> = request.query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    pairs.sort();
    let (query, path, host) = (pairs.join("&"), &request.path, &request.host);
    let canonical = format!("{}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", request.method);
    let credential = parameter(&request.query, "X-Amz-Credential")?.replace("%2F", "/");
    let scope = credential.strip_prefix(&format!("{KEY}/"))?;
    let date = parameter(&request.query, "X-Amz-Date")?;
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let seed = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(seed, |key, part| hmac(&key, part.as_bytes()));
    Some(hex(&hmac(&key, text.as_bytes())))
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| -> Vec<u8> { (0..64).map(|i| key.get(i).unwrap_or(&0) ^ byte).collect() };
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(text).finalize();
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
