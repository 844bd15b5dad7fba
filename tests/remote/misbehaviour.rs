//! Servers that misbehave in forty ways. Each costs a miss and a message, no more time than the deadline, and little memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart::store::{Guard, RemoteConfig, StoreError, connect};
use pollster::block_on as wait;

use super::redis::block;
use crate::store::faults::{again, child};
use crate::store::key;

/// What a server sends to every client.
struct Told {
    first: Vec<u8>,
    /// Sent repeatedly after `first`.
    then: Vec<u8>,
    /// The pause between two repetitions.
    pause: Duration,
}

fn once(text: &[u8]) -> Told {
    Told { first: text.to_vec(), then: Vec::new(), pause: Duration::ZERO }
}

fn forever(first: &[u8], then: &[u8]) -> Told {
    // Repeated into larger pieces, to be sent quickly.
    Told { first: first.to_vec(), then: then.repeat(1 + 8192 / then.len()), pause: Duration::ZERO }
}

fn drips(first: &[u8]) -> Told {
    Told { first: first.to_vec(), then: b"x".to_vec(), pause: Duration::from_millis(1) }
}

fn status(line: &str) -> Told {
    once(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
}

/// Starts a server and returns its address.
fn serve(told: Told) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let told = Arc::new(told);
    let answer = |mut client: TcpStream, told: &Told| {
        let _ = client.read(&mut [0; 4096]);
        let _ = client.write_all(&told.first);
        while !told.then.is_empty() && client.write_all(&told.then).is_ok() {
            std::thread::sleep(told.pause);
        }
        let _ = client.read(&mut [0; 4096]);
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let told = told.clone();
            std::thread::spawn(move || answer(client, &told));
        }
    });
    at
}

/// The expected message. A closed connection gives none, since it is a miss like any other.
enum Said {
    /// The store's problem contains these words.
    Problem(&'static str),
    /// Opening the store fails.
    Refused(&'static str),
    Late,
}
use Said::{Late, Problem, Refused};

const PROTOCOL: Said = Problem("is it a Redis?");
const MUCH: Said = Problem("more than was asked for");

fn redis() -> Vec<(&'static str, Told, Said)> {
    vec![
        ("no password given", once(b"-NOAUTH Authentication required.\r\n"), Refused("NOAUTH")),
        ("a wrong password", once(b"-WRONGPASS invalid username-password pair\r\n"), Refused("WRONGPASS")),
        ("no rights", once(b"-NOPERM no permissions to run this command\r\n"), Refused("NOPERM")),
        ("too many clients", once(b"-ERR max number of clients reached\r\n"), Problem("max number of clients")),
        ("it is starting", once(b"-LOADING Redis is loading the dataset in memory\r\n"), Problem("it passes")),
        ("it is a replica", once(b"-READONLY You can't write against a read only replica.\r\n"), Problem("primary")),
        ("it is full", once(b"-OOM command not allowed\r\n"), Problem("maxmemory")),
        ("its disk is full", once(b"-MISCONF snapshots\r\n"), Problem("MISCONF")),
        ("a script is running", once(b"-BUSY Redis is busy running a script\r\n"), Problem("BUSY")),
        ("its primary is away", once(b"-MASTERDOWN Link with MASTER is down\r\n"), Problem("MASTERDOWN")),
        ("it is a cluster", once(b"-MOVED 3999 127.0.0.1:6381\r\n"), Problem("clusters are not supported")),
        ("an error that nobody knows", once(b"-WEIRD\r\n"), Problem("WEIRD")),
        ("an endless error", forever(b"-ERR ", b"x"), PROTOCOL),
        ("a bulk string of a terabyte", forever(b"$999999999999\r\n", b"x"), MUCH),
        ("a bulk string of all there is", forever(b"$9223372036854775807\r\n", b"x"), MUCH),
        ("a length that is none", once(b"$x\r\n"), PROTOCOL),
        ("a negative length", once(b"$-5\r\n"), PROTOCOL),
        ("a list", forever(b"", b"*99999999\r\n"), PROTOCOL),
        ("lists in lists", forever(b"", b"*1\r\n"), PROTOCOL),
        ("maps in maps", forever(b"", b"%1\r\n"), PROTOCOL),
        ("a map of maps", forever(b"%1000000\r\n", b"%0\r\n:1\r\n"), PROTOCOL),
        ("attributes", forever(b"|1000000\r\n", b":1\r\n:1\r\n"), PROTOCOL),
        ("a set", forever(b"~1000000\r\n", b":1\r\n"), PROTOCOL),
        ("messages that nobody asked for", forever(b"", b">2\r\n:1\r\n:2\r\n"), PROTOCOL),
        ("a large number", forever(b"(", b"9"), PROTOCOL),
        ("another server", once(b"HTTP/1.1 400 Bad Request\r\n\r\n"), PROTOCOL),
        ("lines that end elsewhere", once(b"+OK\n"), PROTOCOL),
        ("a string that ends elsewhere", once(b"$2\r\nabcd"), PROTOCOL),
        ("a value, letter by letter", drips(b"$1000000\r\n"), Late),
        ("nothing", once(b""), Late),
    ]
}

fn http() -> Vec<(&'static str, Told, Said)> {
    let body = |first: &str| first.replace('\n', "\r\n").into_bytes();
    vec![
        ("nobody asked who we are", status("401 Unauthorized"), Refused("401")),
        ("we may not", status("403 Forbidden"), Refused("403")),
        ("it waited for us", status("408 Request Timeout"), Problem("408")),
        ("locked", status("423 Locked"), Problem("423")),
        ("too early", status("425 Too Early"), Problem("425")),
        ("too often", status("429 Too Many Requests"), Problem("asked too often")),
        ("it failed", status("500 Internal Server Error"), Problem("the server failed")),
        ("it is away", status("503 Service Unavailable"), Problem("503")),
        ("it is no web server", once(b"+OK\r\n"), Problem("")),
        ("an endless header", forever(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), Problem("")),
        ("an endless line", forever(b"HTTP/1.1 200 OK\r\nx: ", b"y"), Problem("")),
        ("a body that is cut", once(&body("HTTP/1.1 200 OK\ncontent-length: 1000\nconnection: close\n\nabc")), Late),
        ("a body, letter by letter", drips(&body("HTTP/1.1 200 OK\ncontent-length: 1000000\n\n")), Late),
        ("nothing at all", once(b""), Late),
    ]
}

fn misbehave(scheme: &str, what: &str, told: Told, said: &Said) {
    let deadline = Duration::from_secs(if matches!(said, Late) { 1 } else { 20 });
    let config = RemoteConfig { deadline, write_deadline: deadline, ..RemoteConfig::default() };
    let url = format!("{scheme}://{}", serve(told));
    let began = Instant::now();
    let opened = connect(&url, &Guard::Trust, &config);
    if let Refused(word) = said {
        let problem = opened.err().unwrap_or_else(|| panic!("{what}: it was opened")).to_string();
        assert!(problem.contains(word), "{what}: {problem}");
        return;
    }
    let store = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let got = wait(store.get(&key(1)));
    let problem = store.problem().unwrap_or_else(|| panic!("{what}: there is no message"));
    match said {
        Late => assert!(matches!(got, Err(StoreError::Late { ms: 1000, .. })), "{what}: {got:?}"),
        Problem(word) => {
            assert!(matches!(got, Err(StoreError::Backend { .. }) | Err(StoreError::Paused { .. })), "{what}: {got:?}");
            assert!(problem.contains(word), "{what}: {problem}");
        }
        Refused(_) => unreachable!("handled above"),
    }
    assert!(problem.len() < 1_000 && !problem.contains(char::is_control), "{what}: {problem}");
    let (key, bytes) = block(1);
    // A read-only store refuses the write.
    let _ = wait(store.put(&key, &bytes, None));
    // Two calls here, two of the breaker, and a margin for a busy machine.
    assert!(began.elapsed() < 4 * deadline + Duration::from_secs(20), "{what}: {:?}", began.elapsed());
}

#[cfg(target_os = "linux")]
#[test]
fn every_misbehaviour_costs_a_miss_and_little_memory() {
    let all = || {
        let redis = redis().into_iter().map(|row| ("redis", row));
        redis.chain(http().into_iter().map(|row| ("http", row)))
    };
    if child().is_some() {
        for (scheme, (what, told, said)) in all() {
            misbehave(scheme, what, told, &said);
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
        let kilobytes: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
        assert!(kilobytes < 150 << 10, "{kilobytes} kB at the most");
        println!("{kilobytes} kB");
        return;
    }
    assert!(all().count() >= 40);
    let folder = tempfile::tempdir().unwrap();
    let name = "remote::misbehaviour::every_misbehaviour_costs_a_miss_and_little_memory";
    let mut command = again(name, folder.path(), "exec \"$0\" --exact \"$1\" --nocapture");
    let done = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).output().unwrap();
    let told = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success(), "{told}");
}
