//! What a shared store reveals to its readers, and what happens to values that others wrote to it.

use headstart::store::{
    Blob, Bytes, Element, Guard, Manifest, MemoryStore, Producer, Store, StoreKey, TierStats, Tiers, TiersConfig,
    Written, connect, system_clock,
};
use pollster::block_on as wait;

use super::objects::bucket;
use super::redis::{patient, write};
use crate::store::{NAMESPACE, blob, expected, key};
use crate::support::object_server::{ObjectServer, SECRET};
use crate::support::redis::Redis;

const ROOT: StoreKey = [9; 32];
/// The value of the marks that writers leave.
pub const MARK: &[u8] = b"headstart-sealed/1";

pub fn secret(text: &str, encrypt: bool) -> Guard {
    Guard::Secret { secret: text.as_bytes().to_vec(), encrypt }
}

pub fn open(url: &str, guard: &Guard) -> Box<dyn Store> {
    connect(url, guard, &patient()).unwrap()
}

fn tiers(url: &str, guard: &Guard) -> Tiers {
    Tiers::new(MemoryStore::new(0, system_clock()), vec![open(url, guard)], TiersConfig::default())
}

fn stats(tiers: &Tiers) -> TierStats {
    tiers.stats()[1].1.clone()
}

/// All names and values in a server.
pub fn all(redis: &Redis) -> Vec<(Vec<u8>, Vec<u8>)> {
    let names = redis.names();
    names.into_iter().map(|name| (name.clone(), redis.ask(&[b"GET", &name]))).collect()
}

/// The names of what is no mark.
fn values(redis: &Redis) -> Vec<Vec<u8>> {
    all(redis).into_iter().filter(|(_, value)| value != MARK).map(|(name, _)| name).collect()
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn readers_of_a_store_learn_no_token_salt_or_text() {
    let mut block = Blob { tokens: (0..16).map(|i| 70_000 + i * 1_001).collect(), ..blob(16, true) };
    block.namespace.insert("salt".into(), "swordfish".into());
    let tokens: Vec<u8> = block.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    let hidden: Vec<u8> = block.last_hidden.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let hex = |key: &StoreKey| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    for encrypt in [false, true] {
        let redis = Redis::start(&[]);
        let server = ObjectServer::start(Some(SECRET));
        let guard = secret("a secret of many", encrypt);
        for url in [redis.url(), bucket(&server, "kv")] {
            let tiers = tiers(&url, &guard);
            wait(tiers.save(&block));
            let written = Written { key: block.key, path: block.tokens.clone(), producer: Producer::Prefill };
            wait(tiers.record(vec![(ROOT, written)]));
            wait(tiers.flush());
            assert_eq!((stats(&tiers).failures, stats(&tiers).dropped), (0, 0));
        }
        let objects: Vec<(Vec<u8>, Vec<u8>)> =
            server.state().objects.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect();
        let shown = [all(&redis), objects].concat();
        assert_eq!(shown.len(), 8, "a block, a manifest and two marks in each store");
        for (name, value) in &shown {
            for part in [&tokens[..], &hidden, b"swordfish", b"salt", b"weights", b"digest", &block.key, &ROOT] {
                assert!(!has(name, part) && !has(value, part), "{}", String::from_utf8_lossy(part));
            }
            let keys = [block.key, block.parent, ROOT, Manifest::key(&ROOT)];
            assert!(keys.iter().all(|key| !has(name, &hex(key)) && !has(value, &hex(key))));
            // Not even a single token.
            assert!(block.tokens.iter().all(|token| !has(value, &token.to_le_bytes())));
        }
        let kv = shown.iter().filter(|(_, value)| has(value, &block.kv)).count();
        assert_eq!(kv, if encrypt { 0 } else { 2 });
    }
}

#[test]
fn only_holders_of_the_secret_find_each_others_blocks() {
    for encrypt in [false, true] {
        let redis = Redis::start(&[]);
        let guard = secret("a secret of many", encrypt);
        let block = blob(16, true);
        let bytes: Bytes = block.encode().into();
        write(&*open(&redis.url(), &guard), &block.key, &bytes);
        let found = |guard: &Guard| wait(open(&redis.url(), guard).get(&block.key)).unwrap();
        // The writer decides whether the KV is encrypted; readers accept both.
        assert_eq!(found(&secret("a secret of many", !encrypt)), Some(bytes.clone()));
        assert_eq!(found(&secret("another of 16 ..", encrypt)), None);
        assert_eq!(found(&Guard::Trust), None);
        let store = open(&redis.url(), &guard);
        assert_eq!(wait(store.contains(&[key(5), block.key])).unwrap(), [false, true]);
        let starts = wait(store.get_many(&[key(5), block.key], 700)).unwrap();
        let start = starts[1].as_ref().unwrap();
        assert!(starts[0].is_none() && bytes.starts_with(start) && start.len() >= 700, "{}", start.len());
        assert_eq!((store.usage().failures, values(&redis).len()), (0, 1));
        assert!(wait(store.remove(&block.key)).unwrap());
        assert!(values(&redis).is_empty());
    }
}

#[test]
fn forged_values_are_refused_counted_removed_and_written_again() {
    for encrypt in [false, true] {
        let redis = Redis::start(&[]);
        let guard = secret("a secret of many", encrypt);
        let (block, other) = (blob(16, true), Blob { key: key(9), ..blob(16, false) });
        let fresh = || tiers(&redis.url(), &guard);
        wait(fresh().save(&other));
        let name_of_other = values(&redis).remove(0);
        wait(fresh().save(&block));
        let name = values(&redis).into_iter().find(|name| *name != name_of_other).unwrap();
        let (whole, of_other) = (redis.ask(&[b"GET", &name]), redis.ask(&[b"GET", &name_of_other]));
        let front = "headstart-sealed/1".len();
        let mut mutants: Vec<(String, Vec<u8>, &str)> = Vec::new();
        let last = whole.len() - 1;
        for at in [0, front, front + 3, front + 4, front + 15, front + 16, front + 600, last - 320, last] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            // After the head, which the MAC covers, the digest vouches for the rest.
            let reason = if !encrypt && at > whole.len() - 320 { "digest" } else { "forged" };
            mutants.push((format!("byte {at}"), bytes, reason));
        }
        mutants.push(("another's value".into(), of_other, "forged"));
        mutants.push(("a block in clear".into(), block.encode(), "forged"));
        mutants.push(("nothing".into(), vec![0], "forged"));
        mutants.push(("cut".into(), whole[..front + 100].to_vec(), "forged"));
        for (what, bytes, reason) in mutants {
            redis.ask(&[b"SET", &name, &bytes]);
            let tiers = fresh();
            assert!(wait(tiers.load(&expected(&block))).is_none(), "{what}");
            let found = stats(&tiers);
            assert_eq!(found.rejected.into_iter().collect::<Vec<_>>(), [(reason, 1)], "{what}, hidden: {encrypt}");
            assert_eq!(values(&redis), [&name_of_other[..]], "{what} was left there");
            wait(tiers.save(&block));
            wait(tiers.flush());
            assert_eq!(wait(tiers.load(&expected(&block))).unwrap().value, block, "{what}");
        }
    }
}

#[test]
fn forged_objects_in_a_bucket_are_refused_and_replaced() {
    let server = ObjectServer::start(Some(SECRET));
    let (url, guard, block) = (bucket(&server, "kv"), secret("a secret of many", false), blob(16, true));
    wait(tiers(&url, &guard).save(&block));
    let is_block = |(_, value): &(&String, &Vec<u8>)| value[..] != *MARK;
    let (name, whole) =
        server.state().objects.iter().find(is_block).map(|(name, value)| (name.clone(), value.clone())).unwrap();
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mutants = [
        (changed(100), "forged"),
        (changed(whole.len() - 1), "digest"),
        (block.encode(), "forged"),
        (vec![], "forged"),
    ];
    for (bytes, reason) in mutants {
        server.state().objects.insert(name.clone(), bytes);
        let tiers = tiers(&url, &guard);
        assert!(wait(tiers.load(&expected(&block))).is_none(), "{reason}");
        assert_eq!(stats(&tiers).rejected.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert!(!server.state().objects.contains_key(&name));
        wait(tiers.save(&block));
        wait(tiers.flush());
        assert_eq!(wait(tiers.load(&expected(&block))).unwrap().value, block);
    }
}

#[test]
fn infinite_and_nan_values_are_refused_even_if_everybody_is_trusted() {
    let redis = Redis::start(&[]);
    let halves = [0x7c00u16, 0xfc00, 0x7e00, 0xffff];
    for (half, at) in halves.into_iter().flat_map(|half| [(half, 0), (half, 64), (half, 318)]) {
        let mut block = blob(16, true);
        block.kv.fill(0);
        block.kv[at..at + 2].copy_from_slice(&half.to_le_bytes());
        assert_eq!((block.kv.len(), block.element), (320, Element::F16));
        let tiers = tiers(&redis.url(), &Guard::Trust);
        wait(tiers.save(&block));
        wait(tiers.flush());
        assert!(wait(tiers.load(&expected(&block))).is_none(), "{half:x} at {at}");
        assert_eq!(stats(&tiers).rejected["forged"], 1);
        assert_eq!(redis.size(), 0);
    }
    for value in [f32::NAN, f32::INFINITY] {
        let block = Blob { last_hidden: Some(vec![0.0, value, 0.0]), ..blob(16, true) };
        let tiers = tiers(&redis.url(), &Guard::Trust);
        wait(tiers.save(&block));
        wait(tiers.flush());
        assert!(wait(tiers.load(&expected(&block))).is_none());
        assert_eq!(stats(&tiers).rejected["not_finite"], 1);
    }
    assert_eq!(NAMESPACE[2], ("salt", ""), "the values found belong to this namespace");
}
