//! Redis as a store: what is kept, what is refused and what it costs, with a real server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart::store::{Blob, Bytes, Guard, RemoteConfig, Row, Store, StoreError, StoreKey, connect};
use pollster::block_on as wait;

use crate::cache::Home;
use crate::store::{blob, key};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;

/// Deadlines that even a busy machine keeps.
pub fn patient() -> RemoteConfig {
    let long = Duration::from_secs(60);
    RemoteConfig { deadline: long, write_deadline: long, ..RemoteConfig::default() }
}

fn open(url: &str) -> Box<dyn Store> {
    connect(url, &Guard::Trust, &patient()).unwrap()
}

pub fn block(n: u8) -> (StoreKey, Bytes) {
    let block = Blob { key: key(n), ..blob(16, false) };
    (block.key, block.encode().into())
}

/// Puts a value, and waits until it is written or given up.
pub fn write(store: &dyn Store, key: &StoreKey, bytes: &Bytes) {
    wait(store.put(key, bytes, None)).unwrap();
    wait(store.flush()).unwrap();
}

/// The name of a block in the server.
pub fn name(key: &StoreKey) -> String {
    key.iter().fold("headstart:kv:".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

pub fn refusal(url: &str) -> String {
    match connect(url, &Guard::Trust, &patient()) {
        Err(error @ StoreError::Url { .. }) => error.to_string(),
        Err(other) => panic!("{url}: {other}"),
        Ok(_) => panic!("{url} was opened"),
    }
}

#[test]
fn values_are_found_by_others_until_they_expire() {
    let redis = Redis::start(&[]);
    let (first, second) = (open(&redis.url()), open(&redis.url()));
    let (id, bytes) = block(1);
    wait(first.put(&id, &bytes, Some(Duration::from_secs(3_600)))).unwrap();
    assert_eq!(wait(first.get(&id)).unwrap().as_ref(), Some(&bytes), "queued values are visible");
    wait(first.flush()).unwrap();
    assert_eq!((first.usage().written, first.usage().written_bytes), (1, bytes.len() as u64));
    drop(first);
    assert_eq!(wait(second.contains(&[key(2), id])).unwrap(), [false, true]);
    assert_eq!(wait(second.get_many(&[key(2), id], usize::MAX)).unwrap(), [None, Some(bytes.clone())]);
    let start = wait(second.get_many(&[key(2), id], 100)).unwrap();
    assert!(
        start[0].is_none() && start[1].as_ref().is_some_and(|start| (100..102).contains(&start.len())),
        "one more byte is read, to detect longer values"
    );
    assert!(bytes.starts_with(start[1].as_ref().unwrap()));

    let left = || redis.text(&["TTL", &name(&id)]).trim_start_matches(':').parse::<i64>().unwrap();
    assert!((3_000..=3_600).contains(&left()), "{}", left());
    write(&*second, &id, &bytes);
    assert!((6 * 86_400..=7 * 86_400).contains(&left()), "{}", left());

    assert!(wait(second.remove(&id)).unwrap() && !wait(second.remove(&id)).unwrap());
    assert_eq!((redis.size(), second.problem()), (0, None));
}

#[test]
fn any_number_of_blocks_is_one_round_trip() {
    let redis = Redis::start(&[]);
    let proxy = Proxy::to(redis.port);
    let store = open(&format!("valkey://127.0.0.1:{}", proxy.port));
    let keys: Vec<StoreKey> = (0..100).map(key).collect();
    for n in 0..60 {
        let (key, bytes) = block(n);
        wait(store.put(&key, &bytes, None)).unwrap();
    }
    wait(store.flush()).unwrap();
    proxy.turns();
    let there = wait(store.contains(&keys)).unwrap();
    assert!(there.iter().enumerate().all(|(n, is)| *is == (n < 60)));
    assert_eq!(proxy.turns(), 1);
    let values = wait(store.get_many(&keys[40..80], usize::MAX)).unwrap();
    assert_eq!((proxy.turns(), values.iter().flatten().count()), (1, 20));
    wait(store.get(&keys[0])).unwrap().unwrap();
    assert_eq!(proxy.turns(), 1);
}

#[test]
fn clearing_removes_our_values_alone() {
    let redis = Redis::start(&[]);
    let (ours, other) = (open(&redis.url()), open(&format!("{}/0?prefix=other:", redis.url())));
    let elsewhere = open(&format!("{}/3", redis.url()));
    let (key, bytes) = block(1);
    for store in [&ours, &other, &elsewhere] {
        write(&**store, &key, &bytes);
    }
    for n in 0..200 {
        let (key, bytes) = block(n);
        wait(ours.put(&key, &bytes, None)).unwrap();
    }
    wait(ours.flush()).unwrap();
    for theirs in ["headstart:kv:", "headstart:kv:notes", "session:1"] {
        redis.text(&["SET", theirs, "x"]);
    }
    assert_eq!(redis.size(), 204);
    wait(ours.clear()).unwrap();
    assert_eq!(redis.size(), 4);
    assert!(wait(ours.get(&key)).unwrap().is_none());
    assert!(wait(other.get(&key)).unwrap().is_some() && wait(elsewhere.get(&key)).unwrap().is_some());
}

#[test]
fn a_wrong_password_gives_a_clear_message_that_never_shows_it() {
    let redis = Redis::start(&["--requirepass", "s3/cret", "--user", "ann", "on", ">pa:ss", "~headstart:*", "+@all"]);
    let url = |who: &str| format!("redis://{who}127.0.0.1:{}/0", redis.port);
    let (key, bytes) = block(1);
    for who in [":s3%2Fcret@", "default:s3%2Fcret@", "ann:pa%3Ass@"] {
        let store = open(&url(who));
        write(&*store, &key, &bytes);
        assert_eq!(wait(store.get(&key)).unwrap(), Some(bytes.clone()), "{who}");
    }
    let wrong = refusal(&url(":hunter2@"));
    assert!(wrong.contains("WRONGPASS") && wrong.contains("USER:PASSWORD@"), "{wrong}");
    assert!(!wrong.contains("hunter2"), "{wrong}");
    let none = refusal(&url(""));
    assert!(none.contains("NOAUTH") && none.contains("USER:PASSWORD@"), "{none}");

    let open_to_all = Redis::start(&[]);
    let needless = refusal(&format!("redis://:needless@127.0.0.1:{}", open_to_all.port));
    assert!(needless.contains("take USER:PASSWORD@ out") && !needless.contains("needless"), "{needless}");
}

#[test]
fn a_password_may_be_in_a_file_or_in_the_environment() {
    let redis = Redis::start(&["--requirepass", "s3/cret ", "--user", "ann", "on", ">pa:ss", "~headstart:*", "+@all"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = |who: &str, file: &str| format!("redis://{who}127.0.0.1:{}/0?password_file={file}", redis.port);
    let (key, bytes) = block(1);
    let (default, ann) = (file("default", b"s3/cret \n"), file("ann", b"pa:ss\r\n"));
    for (who, password) in [("", &default), ("default@", &default), ("ann@", &ann)] {
        let store = open(&url(who, password));
        write(&*store, &key, &bytes);
        assert_eq!(wait(store.get(&key)).unwrap(), Some(bytes.clone()), "{who}");
    }
    let wrong = refusal(&url("", &file("wrong", b"hunter2")));
    assert!(wrong.contains("WRONGPASS") && wrong.contains("password_file=") && !wrong.contains("hunter2"), "{wrong}");
    for (who, file, about) in [
        ("", "/no/such/hunter2".to_owned(), "password_file=: No such file"),
        ("ann@", file("empty", b"\n"), "password_file=: it is empty"),
        ("ann@", file("long", &[b'x'; 5_000]), "or has more than 4,096"),
        ("ann:hunter2@", ann.clone(), "there is a secret in the URL and password_file="),
    ] {
        let problem = refusal(&url(who, &file));
        assert!(problem.contains(about) && !problem.contains("hunter2") && !problem.contains("xxx"), "{problem}");
    }
    assert!(refusal(&format!("redis://ann@127.0.0.1:{}", redis.port)).contains("HEADSTART_KV_PASSWORD"));

    // The URL's password takes precedence over the environment's.
    let home = Home::new("tiny-odd-f16");
    for (who, password, is_open) in [
        ("", Some("s3/cret "), true),
        ("ann@", Some("pa:ss"), true),
        ("ann:pa:ss@", Some("hunter2"), true),
        ("ann:hunter2@", Some("pa:ss"), false),
        ("", Some("hunter2"), false),
        ("", Some(""), false),
        ("", None, false),
    ] {
        let mut command = home.with_model(&["generate", "-p", "a", "-n", "1", "--kv-store-trust"]);
        command.args(["--kv-store", &format!("redis://{who}127.0.0.1:{}", redis.port)]);
        command.env_remove("HEADSTART_KV_PASSWORD");
        let done = command.envs(password.map(|password| ("HEADSTART_KV_PASSWORD", password))).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.success(), is_open, "{who} {password:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("prefix cache: "), "{said}");
    }
}

#[test]
fn only_failed_authentication_is_refused_and_other_errors_cost_misses() {
    let table = [
        ("NOAUTH Authentication required.", Some("before the host")),
        ("WRONGPASS invalid username-password pair", Some("before the host")),
        ("NOPERM this user has no permissions", Some("allow this user")),
        ("ERR AUTH <password> called without any password configured", Some("out of the URL")),
        ("ERR max number of clients reached", None),
        ("ERR DB index is out of range", None),
        ("ERR unknown command 'GETRANGE'", None),
        ("LOADING Redis is loading the dataset in memory", None),
        ("READONLY You can't write against a read only replica.", None),
        ("OOM command not allowed when used memory > 'maxmemory'.", None),
        ("MISCONF Redis is configured to save RDB snapshots", None),
        ("MOVED 3999 127.0.0.1:6381", None),
        ("CROSSSLOT Keys in request don't hash to the same slot", None),
        ("WEIRD", None),
    ];
    for (text, refused) in table {
        let url = liar(format!("-{text}\r\n").as_bytes(), false);
        let code = text.split(' ').next().unwrap();
        if let Some(fix) = refused {
            let problem = refusal(&url);
            assert!(problem.contains(code) && problem.contains(fix), "{text}: {problem}");
            continue;
        }
        let store = open(&url);
        assert!(store.problem().is_some_and(|problem| problem.contains(text)), "{text}: {:?}", store.problem());
    }
    let redis = Redis::start(&[]);
    let far = open(&format!("{}/99", redis.url()));
    assert!(far.problem().unwrap().contains("choose a database"), "{:?}", far.problem());
}

#[test]
fn tls_with_a_private_certificate_authority() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, secret) = (path("ca.pem"), path("key.pem"));
    fs::write(&ca, made.cert.pem()).unwrap();
    fs::write(&secret, made.signing_key.serialize_pem()).unwrap();
    let tls = ["--port", "0", "--tls-port", "PORT", "--tls-auth-clients", "no", "--tls-ca-cert-file", &ca];
    let redis = Redis::start(&[&tls[..], &["--tls-cert-file", &ca, "--tls-key-file", &secret]].concat());
    let (key, bytes) = block(1);
    for scheme in ["rediss", "valkeys"] {
        for host in ["127.0.0.1", "localhost"] {
            let store = open(&format!("{scheme}://{host}:{}?ca={ca}", redis.port));
            write(&*store, &key, &bytes);
            assert_eq!(wait(store.get(&key)).unwrap().as_ref(), Some(&bytes), "{scheme}://{host}");
        }
    }
    let unknown = refusal(&format!("rediss://127.0.0.1:{}", redis.port));
    assert!(unknown.contains("certificate") && unknown.contains("?ca=FILE"), "{unknown}");
    let plain = open(&format!("redis://127.0.0.1:{}", redis.port));
    assert!(plain.problem().is_some(), "plain text is not answered");
    let not_tls = refusal(&format!("rediss://{}?ca={ca}", &liar(b"-ERR what?\r\n", false)[8..]));
    assert!(not_tls.contains("does not speak TLS"), "{not_tls}");
}

#[test]
fn a_server_without_tls_is_recognised() {
    let redis = Redis::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closing = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    // A Redis does not answer a TLS handshake, so part of the deadline passes.
    let deadline = Duration::from_secs(4);
    for (port, deadline) in [(redis.port, deadline), (closing, patient().deadline)] {
        let config = RemoteConfig { deadline, ..patient() };
        let store = connect(&format!("rediss://127.0.0.1:{port}"), &Guard::Trust, &config).unwrap();
        let problem = store.problem().unwrap();
        assert!(problem.contains("did not finish a TLS handshake; if it does not speak TLS, write the"), "{problem}");
    }
}

#[test]
fn only_valid_blocks_under_their_own_name_are_sent() {
    let redis = Redis::start(&[]);
    let store = open(&redis.url());
    let (key_of_1, bytes) = block(1);
    let mut damaged = bytes.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    write(&*store, &key_of_1, &damaged.into());
    assert!(store.problem().unwrap().contains("damaged before it was sent: digest"));
    write(&*store, &key(2), &bytes);
    assert!(store.problem().unwrap().contains("under the name of another"));
    assert_eq!((redis.size(), store.usage().dropped, store.usage().written), (0, 2, 0));
}

#[test]
fn oversized_values_and_other_types_are_misses() {
    let redis = Redis::start(&[]);
    let store = connect(&redis.url(), &Guard::Trust, &RemoteConfig { max_value: 1 << 20, ..patient() }).unwrap();
    let (whole, bytes) = block(3);
    write(&*store, &whole, &bytes);
    let end = |bytes: usize| (bytes - 1).to_string();
    redis.text(&["SETRANGE", &name(&key(0)), &end((1 << 20) + 1), "x"]);
    redis.text(&["SETRANGE", &name(&key(1)), &end(1 << 20), "x"]);
    redis.text(&["LPUSH", &name(&key(2)), "x"]);
    redis.text(&["SET", &name(&key(4)), ""]);
    let keys: Vec<StoreKey> = (0..6).map(key).collect();
    assert_eq!(wait(store.contains(&keys)).unwrap(), [false, true, false, true, false, false]);
    for (key, bytes) in [(&keys[0], None), (&keys[1], Some(1 << 20)), (&keys[2], None), (&keys[4], None)] {
        assert_eq!(wait(store.get(key)).unwrap().map(|value| value.len()), bytes);
    }
    let rows = vec![Row { k: 1 << 16, v: 2 }];
    let long = Blob { key: key(5), rows, kv: vec![0; 16 * ((1 << 16) + 2)], ..blob(16, false) };
    write(&*store, &key(5), &long.encode().into());
    assert!(store.problem().unwrap().contains("at most 1048576"), "{:?}", store.problem());
    assert!(wait(store.get(&whole)).unwrap().is_some(), "and it still works");
}

/// A server that answers every connection with these bytes, repeatedly if `forever`.
fn liar(answer: &[u8], forever: bool) -> String {
    let answer: Arc<[u8]> = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let _ = client.read(&mut [0; 4096]);
                while client.write_all(&answer).is_ok() && forever {}
                let _ = client.read(&mut [0; 4096]);
            });
        }
    });
    url
}

#[test]
fn a_server_that_lies_about_lengths_or_is_no_redis_is_detected() {
    let answers: [(&[u8], bool); 12] = [
        (b"$999999999999\r\n", true),
        (b"$9223372036854775807\r\n", true),
        (b"*99999999\r\n", true),
        (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", true),
        (b"%-5\r\n", true),
        (b"|9223372036854775807\r\n:1\r\n", true),
        (b"=-5\r\n", true),
        (b"x", true),
        (b":x\r\n", false),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        (b"\r\n", true),
        (b"+OK\n", true),
    ];
    // An endless answer is read up to the longest allowed value.
    let config = RemoteConfig { max_value: 1 << 20, ..patient() };
    for (answer, forever) in answers {
        let store = connect(&liar(answer, forever), &Guard::Trust, &config).unwrap();
        let got = wait(store.get(&key(1)));
        let what = String::from_utf8_lossy(answer);
        assert!(matches!(got, Ok(None) | Err(StoreError::Backend { .. })), "{what}: {got:?}");
        assert!(store.problem().is_some(), "{what}");
    }
}

/// An endless answer is waited for until the deadline and no longer, whether the server is silent, drips bytes, or is stopped.
/// Without the deadline these calls would not return.
#[test]
fn no_call_waits_past_the_deadline() {
    let redis = Redis::start(&[]);
    redis.signal("STOP");
    let drip = TcpListener::bind("127.0.0.1:0").unwrap();
    let dripping = format!("redis://{}", drip.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in drip.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = client.write_all(b"$1000000\r\n");
                while client.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    let deadline = Duration::from_millis(100);
    let config = RemoteConfig { deadline, write_deadline: deadline, ..RemoteConfig::default() };
    for url in [redis.url(), dripping, liar(b"", false)] {
        let began = Instant::now();
        let store = connect(&url, &Guard::Trust, &config).unwrap();
        for _ in 0..2 {
            assert!(matches!(wait(store.get(&key(1))), Err(StoreError::Late { ms: 100, .. })), "{url}");
        }
        let paused = (0..100).filter(|_| matches!(wait(store.get(&key(1))), Err(StoreError::Paused { .. }))).count();
        assert!(paused > 0, "{url}: the breaker is open");
        let (key, bytes) = block(1);
        wait(store.put(&key, &bytes, None)).unwrap();
        drop(store);
        // Three deadlines, one write, and a margin for a busy machine.
        assert!(began.elapsed() < 4 * deadline + Duration::from_secs(20), "{url}: {:?}", began.elapsed());
    }
    redis.signal("CONT");
}

#[test]
fn a_server_that_returns_is_used_again() {
    let mut redis = Redis::start(&[]);
    let store = open(&redis.url());
    let (key, bytes) = block(1);
    write(&*store, &key, &bytes);
    // A closed idle connection costs nothing, not even a miss.
    redis.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert_eq!(wait(store.get(&key)).unwrap().as_ref(), Some(&bytes));

    redis.kill();
    let problem = wait(store.get(&key)).unwrap_err().to_string();
    assert!(problem.contains("start the server"), "{problem}");
    redis.restart();
    assert_eq!(wait(store.get(&key)).unwrap(), None, "it is empty, which is not a failure");
    write(&*store, &key, &bytes);
    assert_eq!(wait(store.get(&key)).unwrap(), Some(bytes));
}

#[test]
fn a_full_server_drops_or_evicts_and_keeps_answering() {
    let full = Redis::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let store = open(&full.url());
    let (key_of_1, bytes) = block(1);
    write(&*store, &key_of_1, &bytes);
    let problem = store.problem().unwrap();
    assert!(problem.contains("OOM") && problem.contains("allkeys-lru"), "{problem}");
    assert_eq!((store.usage().dropped, wait(store.get(&key_of_1)).unwrap()), (1, None));

    let evicting = Redis::start(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"]);
    let store = open(&evicting.url());
    let rows = vec![headstart::store::Row { k: 4096, v: 4096 }];
    for n in 0..100 {
        let block = Blob { key: key(n), rows: rows.clone(), kv: vec![n; 16 * 8192], ..blob(16, false) };
        wait(store.put(&block.key, &block.encode().into(), None)).unwrap();
    }
    wait(store.flush()).unwrap();
    let keys: Vec<StoreKey> = (0..100).map(key).collect();
    let (written, there) = (store.usage().written, wait(store.contains(&keys)).unwrap());
    let left = there.iter().filter(|is| **is).count();
    assert!(written == 100 && (1..100).contains(&left), "{left} of {written} are left");
}
