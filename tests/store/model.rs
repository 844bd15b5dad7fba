//! Memory and disk compared with one simple model: a list in order of use, with a budget, expiry times and, on disk, pins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headstart::store::{
    Bytes, FilesystemConfig, FilesystemStore, MemoryStore, Store, StoreError, StoreKey, system_clock,
};
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
    Pin(u8, Vec<u8>),
    Unpin(u8),
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
        3 => (0u8..3, prop::collection::vec(0u8..10, 1..4)).prop_map(|(name, keys)| Op::Pin(name, keys)),
        1 => (0u8..3).prop_map(Op::Unpin),
    ]
}

/// Least recently used first.
struct Model {
    entries: Vec<(StoreKey, Bytes, Option<u64>)>,
    pins: BTreeMap<u8, Vec<StoreKey>>,
    cost: fn(usize) -> u64,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| (self.cost)(entry.1.len())).sum()
    }

    fn take(&mut self, key: &StoreKey) -> Option<(StoreKey, Bytes, Option<u64>)> {
        let at = self.entries.iter().position(|entry| entry.0 == *key)?;
        Some(self.entries.remove(at))
    }

    fn touch(&mut self, key: &StoreKey) -> Option<Bytes> {
        let entry = self.take(key)?;
        self.entries.push(entry);
        self.entries.last().map(|entry| entry.1.clone())
    }

    fn pinned(&self) -> BTreeSet<StoreKey> {
        self.pins.values().flatten().copied().collect()
    }

    fn cost_of(&self, key: &StoreKey) -> Option<u64> {
        self.entries.iter().find(|entry| entry.0 == *key).map(|entry| (self.cost)(entry.1.len()))
    }

    fn expire(&mut self, now: u64) {
        let pinned = self.pinned();
        self.entries.retain(|entry| pinned.contains(&entry.0) || entry.2.is_none_or(|at| at > now));
    }

    fn pin(&mut self, name: u8, keys: Vec<StoreKey>) -> bool {
        let mut pins = self.pins.clone();
        pins.remove(&name);
        let mut costs = BTreeMap::new();
        for keys in pins.values().chain([&keys]) {
            let largest = keys.iter().filter_map(|key| self.cost_of(key)).max().unwrap_or(0);
            for key in keys {
                costs.entry(*key).or_insert_with(Vec::new).push(self.cost_of(key).unwrap_or(largest));
            }
        }
        if costs.values().map(|costs| costs.iter().max().unwrap()).sum::<u64>() > BUDGET / 2 {
            return false;
        }
        keys.iter().rev().for_each(|key| drop(self.touch(key)));
        self.pins.insert(name, keys);
        true
    }

    fn put(&mut self, key: StoreKey, value: Bytes, expires: Option<u64>) -> bool {
        let pinned = self.pinned();
        let others = pinned.iter().filter(|other| **other != key).filter_map(|other| self.cost_of(other));
        if (self.cost)(value.len()) + others.sum::<u64>() > BUDGET {
            return false;
        }
        self.take(&key);
        self.entries.push((key, value, expires));
        while self.bytes() > BUDGET {
            let oldest = self.entries.iter().position(|entry| !pinned.contains(&entry.0));
            self.entries.remove(oldest.expect("pinned entries fit"));
        }
        true
    }
}

/// Compares `store` with the model; `disk` is the same store if it supports pins.
fn agrees(
    store: &dyn Store,
    disk: Option<&FilesystemStore>,
    ops: Vec<Op>,
    cost: fn(usize) -> u64,
    time: &Time,
    settle: &dyn Fn(),
) {
    let mut model = Model { entries: Vec::new(), pins: BTreeMap::new(), cost };
    let keys: Vec<StoreKey> = (0..10).map(key).collect();
    for (step, op) in ops.into_iter().enumerate() {
        model.expire(time.now());
        match op {
            Op::Put { key: n, bytes, ttl_ms } => {
                let value: Bytes = (0..bytes).map(|i| (i + step) as u8).collect();
                let expires = ttl_ms.map(|ttl| time.now() + ttl);
                let put = wait(store.put(&key(n), &value, ttl_ms.map(Duration::from_millis)));
                match model.put(key(n), value, expires) {
                    true => put.unwrap(),
                    false => assert!(matches!(put, Err(StoreError::TooLarge { budget: ..=BUDGET, .. }))),
                }
            }
            Op::Get(n) => assert_eq!(wait(store.get(&key(n))).unwrap(), model.touch(&key(n)), "{step}"),
            Op::Remove(n) => assert_eq!(wait(store.remove(&key(n))).unwrap(), model.take(&key(n)).is_some()),
            Op::Touch(chain) => {
                let chain: Vec<StoreKey> = chain.into_iter().map(key).collect();
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
                model.pins.clear();
            }
            Op::Pin(name, keys) => {
                let Some(disk) = disk else { continue };
                let keys: Vec<StoreKey> = keys.into_iter().map(key).collect();
                let pinned = disk.pin(&format!("p{name}"), &keys);
                match model.pin(name, keys) {
                    true => {
                        model.expire(time.now());
                        let pinned = pinned.unwrap();
                        let costs: BTreeMap<_, _> = pinned.keys.iter().map(|key| (key, model.cost_of(key))).collect();
                        assert_eq!(pinned.bytes, costs.values().flatten().sum::<u64>());
                        assert_eq!(pinned.missing, costs.values().filter(|cost| cost.is_none()).count());
                    }
                    false => assert!(matches!(pinned, Err(StoreError::PinsFull { .. })), "{step}"),
                }
            }
            Op::Unpin(name) => {
                let Some(disk) = disk else { continue };
                assert_eq!(disk.unpin(&format!("p{name}")).unwrap(), model.pins.remove(&name).is_some());
                model.expire(time.now());
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
        agrees(&store, None, ops, |bytes| bytes as u64 + MemoryStore::OVERHEAD, &time, &|| {});
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
        agrees(&store, Some(&store), ops, blocks, &time, &|| store.sweep().unwrap());
    }
}

#[test]
fn an_empty_budget_keeps_nothing() {
    let store = MemoryStore::new(0, Time::at(0).clock());
    assert!(matches!(wait(store.put(&key(1), &Bytes::new(), None)), Err(StoreError::TooLarge { .. })));
    assert_eq!(wait(store.get(&key(1))).unwrap(), None);
}

#[test]
fn evictions_and_expiries_are_counted() {
    let time = Time::at(0);
    let store = MemoryStore::new(2 * MemoryStore::OVERHEAD, time.clock());
    for n in 0..5 {
        wait(store.put(&key(n), &Bytes::new(), Some(Duration::from_millis(10)))).unwrap();
    }
    time.advance(9);
    assert_eq!(wait(store.contains(&[key(3), key(4)])).unwrap(), [true, true]);
    time.advance(1);
    assert_eq!(wait(store.contains(&[key(3), key(4)])).unwrap(), [false, false]);
    let usage = store.usage();
    assert_eq!((usage.evicted, usage.expired, usage.entries, usage.bytes), (3, 2, 0, 0));
}

#[test]
fn the_start_of_a_value_can_be_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] = [
        Box::new(MemoryStore::new(1 << 20, system_clock())),
        Box::new(FilesystemStore::new(folder.path(), FilesystemConfig::default(), system_clock())),
    ];
    for store in stores {
        wait(store.put(&key(1), &vec![7; 300].into(), None)).unwrap();
        let start = |most| wait(store.get_many(&[key(1), key(2)], most)).unwrap();
        assert_eq!(start(100), [Some(vec![7; 100].into()), None], "{}", store.name());
        assert_eq!(start(1000), [Some(vec![7; 300].into()), None], "{}", store.name());
    }
}
