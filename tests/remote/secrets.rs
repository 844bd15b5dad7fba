//! A secret that is not the one of the others is noticed, at no cost: the marks that writers leave, and what becomes of
//! a store whose marks are missing, damaged or forged.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart::store::{Bytes, Guard, StoreKey};
use pollster::block_on as wait;

use super::objects::{bucket, web};
use super::redis::{block, write};
use super::sealed::{MARK, all, open, secret};
use crate::store::key;
use crate::support::object_server::{BUCKET, ObjectServer, SECRET};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;

fn ours() -> Guard {
    secret("a secret of many", true)
}

fn another() -> Guard {
    secret("another of 16 ..", true)
}

/// What is said as soon as the store is open.
fn told(url: &str, guard: &Guard) -> Option<String> {
    open(url, guard).problem()
}

fn keep(url: &str, guard: &Guard) -> (StoreKey, Bytes) {
    let (key, bytes) = block(1);
    write(&*open(url, guard), &key, &bytes);
    (key, bytes)
}

fn assert_noticed(problem: Option<String>) {
    let problem = problem.expect("another secret is noticed");
    assert!(problem.contains("kept under another secret, and nothing under this one"), "{problem}");
    assert!(problem.contains("check that the secret"), "{problem}");
}

#[test]
fn another_secret_is_noticed_when_the_store_is_opened() {
    let (redis, server) = (Redis::start(&[]), ObjectServer::start(Some(SECRET)));
    for url in [redis.url(), bucket(&server, "kv")] {
        assert_eq!(told(&url, &another()), None, "nobody has kept anything");
        let (key, bytes) = keep(&url, &ours());
        assert_eq!((told(&url, &ours()), told(&url, &Guard::Trust)), (None, None));
        assert_noticed(told(&url, &another()));
        assert_noticed(told(&url, &another()));
        let store = open(&url, &another());
        assert_eq!((wait(store.get(&key)).unwrap(), store.usage().failures), (None, 0));
        write(&*store, &key, &bytes);
        assert_eq!(wait(store.get(&key)).unwrap(), Some(bytes), "the store works as any other");
        assert_eq!((store.usage().written, store.usage().dropped), (1, 0), "marks are not counted");
        assert_eq!(told(&url, &another()), None, "this secret is in use now, too");
        wait(store.clear()).unwrap();
        assert_eq!(told(&url, &ours()), None, "clearing removes marks");
        write(&*store, &key, &block(1).1);
        assert_noticed(told(&url, &ours()));
        wait(store.clear()).unwrap();
    }
    assert_eq!((redis.size(), server.state().objects.len()), (0, 0));
}

#[test]
fn another_secret_is_noticed_at_a_web_server_which_gets_no_mark() {
    let (made, served) = (ObjectServer::start(Some(SECRET)), ObjectServer::start(None));
    let (key, bytes) = keep(&bucket(&made, "kv"), &ours());
    let objects: BTreeMap<String, Vec<u8>> = made.state().objects.clone();
    served.state().objects.clone_from(&objects);
    let url = web(&served, &format!("{BUCKET}/kv"));
    assert_noticed(told(&url, &another()));
    let store = open(&url, &ours());
    assert_eq!((store.problem(), wait(store.get(&key)).unwrap()), (None, Some(bytes)));
    assert_eq!(served.state().objects, objects);
}

#[test]
fn noticing_costs_no_round_trip_and_marking_two_in_the_background() {
    let redis = Redis::start(&[]);
    let proxy = Proxy::to(redis.port);
    let store = open(&format!("redis://127.0.0.1:{}", proxy.port), &ours());
    assert_eq!(proxy.turns(), 1, "the request that every store is opened with");
    for (n, turns) in [(1, 3), (2, 1), (3, 1)] {
        let (key, bytes) = block(n);
        write(&*store, &key, &bytes);
        assert_eq!(proxy.turns(), turns, "block {n}");
    }
    wait(store.get(&key(1))).unwrap().unwrap();
    assert_eq!(proxy.turns(), 1);
}

#[test]
fn marks_live_as_long_as_values_do() {
    for (ttl, seconds) in [(None, 7 * 86_400), (Some(Duration::from_secs(3_600)), 3_600)] {
        let redis = Redis::start(&[]);
        let (key, bytes) = block(1);
        let store = open(&redis.url(), &ours());
        wait(store.put(&key, &bytes, ttl)).unwrap();
        wait(store.flush()).unwrap();
        let names = redis.names();
        assert_eq!(names.len(), 3);
        for name in names {
            let left = String::from_utf8(redis.ask(&[b"TTL", &name])).unwrap();
            let left: i64 = left.trim_start_matches(':').parse().unwrap();
            assert!((seconds - 600..=seconds).contains(&left), "{left}");
        }
    }
    // The second block comes when the marks of the first have expired, so they are left again.
    let redis = Redis::start(&[]);
    let store = open(&redis.url(), &ours());
    for (n, ttl) in [(1, Duration::from_millis(2)), (2, Duration::from_secs(3_600))] {
        while redis.size() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (key, bytes) = block(n);
        wait(store.put(&key, &bytes, Some(ttl))).unwrap();
        wait(store.flush()).unwrap();
    }
    assert_eq!(redis.size(), 3, "a block and two marks");
}

#[test]
fn damaged_missing_and_forged_marks_cost_no_hit() {
    let redis = Redis::start(&[]);
    let (key, bytes) = keep(&redis.url(), &ours());
    let marks: Vec<Vec<u8>> =
        all(&redis).into_iter().filter(|(_, value)| value == MARK).map(|(name, _)| name).collect();
    let public = |name: &Vec<u8>| name.ends_with(b"206f6620616e7920736563726574");
    assert_eq!((marks.len(), marks.iter().filter(|name| public(name)).count()), (2, 1));
    let found = |what: &str| {
        let store = open(&redis.url(), &ours());
        assert_eq!(wait(store.get(&key)).unwrap().as_ref(), Some(&bytes), "{what}");
        assert_eq!(store.usage().failures, 0, "{what}");
        store.problem()
    };
    for value in [&b"x"[..], &[0; 100], &vec![b'x'; 1 << 20]] {
        marks.iter().for_each(|name| drop(redis.ask(&[b"SET", name, value])));
        assert_eq!(found("another value"), None);
    }
    for words in [&[&b"SET"[..], b""], &[b"LPUSH", b"x"]] {
        for name in &marks {
            redis.ask(&[b"DEL", name]);
            redis.ask(&[words[0], name, words[1]]);
        }
        assert_eq!(found("no value"), None);
    }
    marks.iter().for_each(|name| drop(redis.ask(&[b"DEL", name])));
    assert_eq!(found("no marks"), None);
    // The note is wrong here, and that is all.
    marks.iter().filter(|name| public(name)).for_each(|name| drop(redis.ask(&[b"SET", name, b"forged"])));
    assert_noticed(found("a forged mark"));

    let server = ObjectServer::start(Some(SECRET));
    let url = bucket(&server, "kv");
    let (key, bytes) = keep(&url, &ours());
    server.state().objects.values_mut().filter(|value| *value == MARK).for_each(Vec::clear);
    let store = open(&url, &ours());
    assert_eq!((store.problem(), wait(store.get(&key)).unwrap()), (None, Some(bytes)));
    assert_eq!(store.usage().failures, 0);
}
