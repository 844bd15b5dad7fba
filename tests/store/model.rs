//! Memory and disk against one simple model: a list in order of use, with a budget and times of expiry.

use std::time::Duration;

use headstart::store::{FilesystemConfig, FilesystemStore, Key, MemoryStore, Store, StoreError};
use proptest::prelude::*;

use super::*;

const BUDGET: u64 = 40_960;

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, bytes: usize, ttl_ms: Option<u64> },
    Get(u8),
    Remove(u8),
    Touch(Vec<u8>),
    Advance(u64),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let ttl = prop::option::of(1u64..500);
    prop_oneof![
        8 => (0u8..10, 0usize..14_000, ttl).prop_map(|(key, bytes, ttl_ms)| Op::Put { key, bytes, ttl_ms }),
        5 => (0u8..10).prop_map(Op::Get),
        1 => (0u8..10).prop_map(Op::Remove),
        1 => prop::collection::vec(0u8..10, 0..6).prop_map(Op::Touch),
        2 => (0u64..300).prop_map(Op::Advance),
        1 => Just(Op::Put { key: 3, bytes: 50_000, ttl_ms: None }),
        1 => Just(Op::Clear),
    ]
}

/// Least recently used first.
struct Model {
    entries: Vec<(Key, Vec<u8>, Option<u64>)>,
    cost: fn(usize) -> u64,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| (self.cost)(entry.1.len())).sum()
    }

    fn take(&mut self, key: &Key) -> Option<(Key, Vec<u8>, Option<u64>)> {
        let at = self.entries.iter().position(|entry| entry.0 == *key)?;
        Some(self.entries.remove(at))
    }

    fn touch(&mut self, key: &Key) -> Option<Vec<u8>> {
        let entry = self.take(key)?;
        self.entries.push(entry);
        self.entries.last().map(|entry| entry.1.clone())
    }

    fn expire(&mut self, now: u64) {
        self.entries.retain(|entry| entry.2.is_none_or(|at| at > now));
    }

    fn put(&mut self, key: Key, value: Vec<u8>, expires: Option<u64>) -> bool {
        if (self.cost)(value.len()) > BUDGET {
            return false;
        }
        self.take(&key);
        self.entries.push((key, value, expires));
        while self.bytes() > BUDGET {
            self.entries.remove(0);
        }
        true
    }
}

fn agrees(store: &dyn Store, ops: Vec<Op>, cost: fn(usize) -> u64, time: &Time, settle: &dyn Fn()) {
    let mut model = Model { entries: Vec::new(), cost };
    let keys: Vec<Key> = (0..10).map(key).collect();
    for (step, op) in ops.into_iter().enumerate() {
        model.expire(time.now());
        match op {
            Op::Put { key: n, bytes, ttl_ms } => {
                let value: Vec<u8> = (0..bytes).map(|i| (i + step) as u8).collect();
                let expires = ttl_ms.map(|ttl| time.now() + ttl);
                let put = wait(store.put(&key(n), &value, ttl_ms.map(Duration::from_millis)));
                match model.put(key(n), value, expires) {
                    true => put.unwrap(),
                    false => assert!(matches!(put, Err(StoreError::TooLarge { budget: BUDGET, .. }))),
                }
            }
            Op::Get(n) => assert_eq!(wait(store.get(&key(n))).unwrap(), model.touch(&key(n)), "{step}"),
            Op::Remove(n) => assert_eq!(wait(store.remove(&key(n))).unwrap(), model.take(&key(n)).is_some()),
            Op::Touch(chain) => {
                let chain: Vec<Key> = chain.into_iter().map(key).collect();
                wait(store.touch(&chain));
                chain.iter().rev().for_each(|key| drop(model.touch(key)));
            }
            Op::Advance(ms) => {
                time.advance(ms);
                model.expire(time.now());
            }
            Op::Clear => {
                wait(store.clear()).unwrap();
                model.entries.clear();
            }
        }
        let known: Vec<bool> = keys.iter().map(|key| model.entries.iter().any(|entry| entry.0 == *key)).collect();
        assert_eq!(wait(store.contains(&keys)).unwrap(), known, "{step}");
        settle();
        let usage = store.usage();
        assert_eq!((usage.entries, usage.bytes), (model.entries.len() as u64, model.bytes()), "{step}");
        assert!(usage.bytes <= BUDGET && usage.failures == 0 && usage.refused == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn memory_agrees_with_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let time = Time::at(1_000_000);
        let store = MemoryStore::new(BUDGET, time.clock());
        agrees(&store, ops, |bytes| bytes as u64 + MemoryStore::OVERHEAD, &time, &|| {});
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn disk_agrees_with_the_model(ops in prop::collection::vec(op(), 1..60), rescan_ms in 0u64..400) {
        let folder = tempfile::tempdir().unwrap();
        let time = Time::at(1_000_000);
        let config = FilesystemConfig { budget: BUDGET, rescan_ms, ..FilesystemConfig::default() };
        let store = FilesystemStore::new(folder.path(), config, time.clock());
        let blocks = |bytes: usize| (bytes.max(1) as u64).div_ceil(4096) * 4096;
        agrees(&store, ops, blocks, &time, &|| store.sweep().unwrap());
    }
}

#[test]
fn an_empty_budget_keeps_nothing() {
    let store = MemoryStore::new(0, Time::at(0).clock());
    assert!(matches!(wait(store.put(&key(1), b"", None)), Err(StoreError::TooLarge { .. })));
    assert_eq!(wait(store.get(&key(1))).unwrap(), None);
}

#[test]
fn what_went_is_counted() {
    let time = Time::at(0);
    let store = MemoryStore::new(2 * MemoryStore::OVERHEAD, time.clock());
    for n in 0..5 {
        wait(store.put(&key(n), b"", Some(Duration::from_millis(10)))).unwrap();
    }
    time.advance(9);
    assert_eq!(wait(store.contains(&[key(3), key(4)])).unwrap(), [true, true]);
    time.advance(1);
    assert_eq!(wait(store.contains(&[key(3), key(4)])).unwrap(), [false, false]);
    let usage = store.usage();
    assert_eq!((usage.evicted, usage.expired, usage.entries, usage.bytes), (3, 2, 0, 0));
}
