//! KV that one engine computed is a hit in another, through a real Redis, bit for bit and in exactly the expected amount.
//! Whatever happens to the Redis, the answers are right and nobody waits longer than the deadline.

use std::fs;
use std::time::Duration;

use headstart::engine::{Engine, EngineOptions, Request};
use headstart::kv::{self, Reason, Sources};
use headstart::store::{Guard, MemoryStore, RemoteConfig, TierStats, Tiers, TiersConfig, connect, system_clock};
use pollster::block_on;

use super::redis::{name, patient};
use crate::store::faults::{again, child};
use crate::support::engine::{Answer, greedy, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;

/// A request deadline that even a busy machine keeps.
const LONG: Duration = Duration::from_secs(60);
/// A deadline short enough that a Redis that hangs delays nobody.
const SHORT: Duration = Duration::from_millis(100);

fn prompt(tiny: &Tiny, seed: usize) -> Vec<u32> {
    (0..70).map(|i| ((i * i * 29 + i * 13 + seed * 103 + 5) % tiny.vocabulary) as u32).collect()
}

fn with_logits(tokens: &[u32]) -> Request {
    Request { logits: true, ..greedy(tokens, 4) }
}

/// An engine with no tier beyond its GPU but the store.
fn engine(tiny: &Tiny, url: &str, config: &RemoteConfig, deadline: Duration) -> Engine {
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let store = connect(url, &Guard::Trust, config).unwrap();
    let memory = MemoryStore::new(0, system_clock());
    engine.attach(Tiers::new(memory, vec![store], TiersConfig::default()), "digest", deadline);
    engine
}

fn warm(engine: &mut Engine, tokens: &[u32]) {
    run(engine, &[greedy(tokens, 0)]);
    block_on(engine.persist()).unwrap();
}

/// Makes an engine compute and store `tokens`, then drops it.
fn prefill(tiny: &Tiny, redis: &Redis, tokens: &[u32]) {
    warm(&mut engine(tiny, &redis.url(), &patient(), LONG), tokens);
}

fn cold(tiny: &Tiny, tokens: &[u32]) -> Answer {
    run(&mut load(&tiny.folder, &EngineOptions::default()), &[with_logits(tokens)]).remove(0)
}

fn ask(engine: &mut Engine, tokens: &[u32]) -> Answer {
    run(engine, &[with_logits(tokens)]).remove(0)
}

fn same(what: &str, cold: &Answer, other: &Answer) {
    assert_eq!(cold.tokens, other.tokens, "{what}");
    assert!(!cold.logits.is_empty() && cold.logits == other.logits, "{what}: logits differ");
}

fn stats(engine: &Engine) -> TierStats {
    engine.tiers().unwrap().stats()[1].1.clone()
}

fn remote(tokens: usize) -> Sources {
    Sources { remote: tokens, computed: 70 - tokens, ..Sources::default() }
}

/// The names of a prompt's blocks in the server.
fn names(engine: &Engine, tokens: &[u32]) -> Vec<String> {
    kv::Key::chain(&engine.namespace(""), tokens).map(|key| name(&key.0)).collect()
}

#[test]
fn kv_of_one_engine_is_a_hit_in_another() {
    for model in NAMES {
        let tiny = Tiny::read(model);
        let long = prompt(&tiny, 1);
        let reference = cold(&tiny, &long);
        let redis = Redis::start(&[]);
        let mut first = engine(&tiny, &redis.url(), &patient(), LONG);
        for hit in [1, 15, 16, 17, 33, 48, 69, 70] {
            first.clear_cache();
            block_on(first.tiers().unwrap().stores().nth(1).unwrap().clear()).unwrap();
            warm(&mut first, &long[..hit]);
            let mut second = engine(&tiny, &redis.url(), &patient(), LONG);
            let answer = ask(&mut second, &long);
            let what = format!("{model}: a hit of {hit}");
            assert_eq!((answer.usage.cached_tokens, answer.cache.sources), (hit, remote(hit)), "{what}");
            same(&what, &reference, &answer);
            let stats = stats(&second);
            assert_eq!((stats.hits, stats.failures), (hit.div_ceil(16) as u64, 0), "{what}");
        }
    }
}

#[test]
fn kv_of_one_process_is_a_hit_in_another_after_it_has_ended() {
    let tiny = Tiny::read(NAMES[0]);
    let long = prompt(&tiny, 2);
    if let Some(folder) = child() {
        let url = fs::read_to_string(folder.join("url")).unwrap();
        warm(&mut engine(&tiny, &url, &patient(), LONG), &long[..52]);
        return;
    }
    let redis = Redis::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("url"), redis.url()).unwrap();
    let this = "remote::engine::kv_of_one_process_is_a_hit_in_another_after_it_has_ended";
    assert!(again(this, folder.path(), "exec \"$0\" --exact \"$1\"").status().unwrap().success());
    assert_eq!(redis.size(), 5, "three blocks, the beginning of a fourth, and their manifest");
    let answer = ask(&mut engine(&tiny, &redis.url(), &patient(), LONG), &long);
    assert_eq!((answer.usage.cached_tokens, answer.cache.sources), (52, remote(52)));
    same("after the other process", &cold(&tiny, &long), &answer);
}

#[test]
fn a_prompt_is_asked_for_in_one_round_trip_and_loaded_in_another() {
    let tiny = Tiny::read(NAMES[0]);
    let (redis, long) = (Redis::start(&[]), prompt(&tiny, 3));
    prefill(&tiny, &redis, &long);
    let proxy = Proxy::to(redis.port);
    let mut second = engine(&tiny, &format!("redis://127.0.0.1:{}", proxy.port), &patient(), LONG);
    proxy.turns();
    let answer = ask(&mut second, &long);
    assert_eq!((answer.cache.sources, proxy.turns()), (remote(70), 2));
}

#[test]
fn a_redis_that_dies_hangs_or_loses_data_costs_a_miss() {
    let tiny = Tiny::read(NAMES[0]);
    let long = prompt(&tiny, 4);
    let reference = cold(&tiny, &long);
    let hasty = RemoteConfig { deadline: SHORT, write_deadline: SHORT, ..RemoteConfig::default() };

    let mut redis = Redis::start(&[]);
    prefill(&tiny, &redis, &long[..64]);
    let mut second = engine(&tiny, &redis.url(), &patient(), LONG);
    redis.kill();
    let answer = ask(&mut second, &long);
    assert_eq!(answer.cache.sources, remote(0));
    same("dead", &reference, &answer);
    assert!(stats(&second).failures > 0);

    redis.restart();
    // Its writes are paused for a while, perhaps between two blocks. The prompt has five blocks, its answer ends in another,
    // and there is their manifest.
    while redis.size() < 7 {
        block_on(second.persist()).unwrap();
        second.clear_cache();
        let answer = ask(&mut second, &long);
        same("empty", &reference, &answer);
    }
    let mut third = engine(&tiny, &redis.url(), &patient(), LONG);
    assert_eq!(ask(&mut third, &long).cache.sources, remote(70), "filled again");

    // The server stops while it is asked which blocks it has. First the store's deadline ends the wait, then a shorter one of
    // the request.
    for (config, deadline) in [(&hasty, LONG), (&patient(), SHORT)] {
        let mut second = engine(&tiny, &redis.url(), config, deadline);
        redis.signal("STOP");
        let answer = ask(&mut second, &long);
        redis.signal("CONT");
        assert_eq!(answer.cache.sources, remote(0));
        let missed: Vec<_> = answer.cache.misses.iter().map(|miss| (miss.reason, miss.from, miss.tokens)).collect();
        assert_eq!(missed, [(Reason::Deadline, 0, 69)]);
        same("stopped", &reference, &answer);
        assert!(stats(&second).late > 0);
        drop(second);
    }
}

#[test]
fn the_deadline_of_a_request_bounds_one_answer_of_a_slow_store() {
    let tiny = Tiny::read(NAMES[0]);
    let (redis, long) = (Redis::start(&[]), prompt(&tiny, 5));
    prefill(&tiny, &redis, &long[..64]);
    let proxy = Proxy::to(redis.port);
    let mut second = engine(&tiny, &format!("redis://127.0.0.1:{}", proxy.port), &patient(), Duration::from_secs(2));
    proxy.turns();
    // It answers which whole blocks it has, what was ever written, and which partial blocks it has; then it falls silent.
    proxy.silent_from(4);
    let answer = ask(&mut second, &long);
    let missed: Vec<_> = answer.cache.misses.iter().map(|miss| (miss.reason, miss.from, miss.tokens)).collect();
    assert_eq!(missed[0], (Reason::Deadline, 0, 64), "{missed:?}");
    assert_eq!((answer.cache.sources, stats(&second).late), (remote(0), 1));
    same("silent", &cold(&tiny, &long), &answer);
}

#[test]
fn damaged_values_are_counted_as_misses_and_removed() {
    let tiny = Tiny::read(NAMES[0]);
    let long = prompt(&tiny, 6);
    let reference = cold(&tiny, &long);
    let redis = Redis::start(&[]);
    prefill(&tiny, &redis, &long[..64]);
    let names = names(&engine(&tiny, &redis.url(), &patient(), LONG), &long[..64]);
    let whole: Vec<Vec<u8>> = names.iter().map(|name| redis.ask(&[b"GET", name.as_bytes()])).collect();
    let flipped = |at: usize| {
        let mut bytes = whole[1].clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let longer = [&whole[1][..], b"x"].concat();
    let table = [
        ("a flipped bit of the length", flipped(3), "header"),
        ("a flipped bit of the header", flipped(40), "header"),
        ("a flipped bit of the tokens", flipped(whole[1].len() - 15_360 - 20), "digest"),
        ("a flipped bit of the KV", flipped(whole[1].len() - 100), "digest"),
        ("the first half", whole[1][..whole[1].len() / 2].to_vec(), "truncated"),
        ("one byte", vec![0], "truncated"),
        ("one byte more", longer, "size"),
        ("another block", whole[2].clone(), "key"),
    ];
    for (what, damage, reason) in table {
        redis.ask(&[b"SET", names[1].as_bytes(), &damage]);
        let mut second = engine(&tiny, &redis.url(), &patient(), LONG);
        let answer = ask(&mut second, &long);
        assert_eq!(answer.cache.sources, remote(16), "{what}");
        assert_eq!(answer.cache.misses[0].reason, Reason::Integrity, "{what}");
        assert_eq!(stats(&second).rejected.into_iter().collect::<Vec<_>>(), [(reason, 1)], "{what}");
        same(what, &reference, &answer);
        block_on(second.persist()).unwrap();
        assert_eq!(redis.ask(&[b"GET", names[1].as_bytes()]), whole[1], "{what}: written again unchanged");
    }
    // Two values swapped: the first is refused, and the chain ends there.
    redis.ask(&[b"SET", names[0].as_bytes(), &whole[1]]);
    redis.ask(&[b"SET", names[1].as_bytes(), &whole[0]]);
    let answer = ask(&mut engine(&tiny, &redis.url(), &patient(), LONG), &long);
    assert_eq!((answer.cache.sources, answer.cache.misses[0].reason), (remote(0), Reason::Integrity));
    same("swapped", &reference, &answer);
    // Not a block at all: counts as missing.
    for words in [vec!["SET", &names[2], ""], vec!["LPUSH", &names[2], "x"]] {
        redis.text(&["DEL", &names[2]]);
        redis.text(&["SET", &names[0], "x"]);
        redis.ask(&[b"SET", names[0].as_bytes(), &whole[0]]);
        redis.ask(&[b"SET", names[1].as_bytes(), &whole[1]]);
        redis.text(&words);
        let answer = ask(&mut engine(&tiny, &redis.url(), &patient(), LONG), &long);
        assert_eq!(answer.cache.sources, remote(32), "{words:?}");
        same("of another type", &reference, &answer);
    }
}

#[test]
fn a_redis_that_evicts_or_is_full_costs_misses() {
    let tiny = Tiny::read(NAMES[0]);
    let evicting = Redis::start(&["--maxmemory", "2500kb", "--maxmemory-policy", "allkeys-lru"]);
    let full = Redis::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    for redis in [&evicting, &full] {
        let mut first = engine(&tiny, &redis.url(), &patient(), LONG);
        (0..40).for_each(|seed| warm(&mut first, &prompt(&tiny, 100 + seed)));
        let mut second = engine(&tiny, &redis.url(), &patient(), LONG);
        for seed in [0, 20, 39] {
            let long = prompt(&tiny, 100 + seed);
            let answer = ask(&mut second, &long);
            same("under pressure", &cold(&tiny, &long), &answer);
            assert_eq!(answer.cache.sources, remote(answer.usage.cached_tokens));
        }
        match redis.port == full.port {
            true => assert_eq!((stats(&first).saved, stats(&first).dropped > 0, redis.size()), (0, true, 0)),
            false => assert!(stats(&first).saved > redis.size() as u64 && redis.size() > 0),
        }
    }
}
