//! What manifests record about the blocks after a prefix, in every store, and what damage to a manifest costs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use headstart::store::{
    Background, BackgroundConfig, Bytes, Deadline, FilesystemConfig, FilesystemStore, GROUP, Manifest, MemoryStore,
    Producer, Seal, Store, StoreError, Tiers, TiersConfig, Written, system_clock,
};

use super::*;
use crate::support::files;

const ROOT: StoreKey = [9; 32];

fn disk(folder: &Path, budget: u64) -> FilesystemStore {
    let config = FilesystemConfig { budget, ..FilesystemConfig::default() };
    FilesystemStore::new(folder, config, system_clock()).sealed(Seal::new(b"a secret"))
}

fn tiers(store: Box<dyn Store>) -> Tiers {
    Tiers::new(MemoryStore::new(0, system_clock()), vec![store], TiersConfig::default())
}

/// Tokens of whole blocks, then `rest`.
fn path(blocks: &[u32], rest: &[u32]) -> Vec<u32> {
    blocks.iter().flat_map(|block| (0..16).map(move |i| block * 100 + i)).chain(rest.iter().copied()).collect()
}

fn written(key: StoreKey, path: Vec<u32>, producer: Producer) -> (StoreKey, Written) {
    (ROOT, Written { key, path, producer })
}

fn read(tiers: &Tiers) -> Manifest {
    wait(tiers.manifests(&[ROOT], Deadline::NEVER)).remove(0)
}

/// For all blocks recorded after a path: tokens, whether they were kept, and whether prefill wrote them.
fn behind(tiers: &Tiers, path: &[u32]) -> BTreeSet<(Vec<u32>, bool, bool)> {
    let manifest = read(tiers);
    let known = manifest.behind(path).into_iter();
    known.map(|noted| (noted.tokens.clone(), noted.kept, noted.producer == Producer::Prefill)).collect()
}

#[test]
fn every_store_records_what_was_written_and_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let threads = |name: &str| {
        let place = folder.path().join(name);
        Background::new(disk(&place, 1 << 20), disk(&place, 1 << 20), BackgroundConfig::default())
    };
    let stores: [Box<dyn Store>; 3] = [
        Box::new(MemoryStore::new(1 << 20, system_clock())),
        Box::new(disk(&folder.path().join("disk"), 1 << 20)),
        Box::new(threads("background")),
    ];
    for store in stores {
        let tiers = tiers(store);
        assert!(behind(&tiers, &[]).is_empty());
        let kept = Blob { key: key(1), ..blob(16, false) };
        wait(tiers.save(&kept));
        wait(tiers.record(vec![
            written(key(1), path(&[1], &[]), Producer::Prefill),
            written(key(2), path(&[1, 2], &[]), Producer::Decode),
            written(key(3), path(&[1], &[7, 8]), Producer::Prefill),
        ]));
        wait(tiers.flush());
        let first = (path(&[1], &[]), true, true);
        let (second, third) = ((path(&[2], &[]), false, false), (vec![7, 8], false, true));
        assert_eq!(behind(&tiers, &[]), [first.clone()].into());
        assert_eq!(behind(&tiers, &path(&[1], &[])), [second, third.clone()].into());
        assert!(behind(&tiers, &path(&[3], &[])).is_empty());
        // Recorded once it is stored, and again when other kernels rewrite it.
        wait(tiers.save(&Blob { key: key(2), ..blob(16, false) }));
        wait(tiers.record(vec![written(key(2), path(&[1, 2], &[]), Producer::Prefill)]));
        wait(tiers.flush());
        assert_eq!(behind(&tiers, &path(&[1], &[])), [(path(&[2], &[]), true, true), third].into());
        let store = tiers.stores().last().unwrap();
        assert_eq!(store.usage().entries, 2, "a manifest does not count as a block");
        wait(store.clear()).unwrap();
        assert!(behind(&tiers, &[]).is_empty());
    }
}

#[test]
fn tiers_combine_the_records_of_all_stores() {
    let folder = tempfile::tempdir().unwrap();
    let alone = |store: Box<dyn Store>, n: u8| {
        let one = tiers(store);
        wait(one.save(&Blob { key: key(n), ..blob(16, false) }));
        wait(one.record(vec![written(key(n), path(&[1, n.into()], &[]), Producer::Prefill)]));
        wait(one.record(vec![written(key(9), path(&[4], &[]), Producer::Decode)]));
    };
    let places = ["near", "far"].map(|name| folder.path().join(name));
    let open = |at: usize| Box::new(disk(&places[at], 1 << 20)) as Box<dyn Store>;
    alone(open(0), 2);
    alone(open(1), 3);
    let both = Tiers::new(MemoryStore::new(0, system_clock()), vec![open(0), open(1)], TiersConfig::default());
    let block = |n: u32| (path(&[n], &[]), true, true);
    assert_eq!(behind(&both, &path(&[1], &[])), [block(2), block(3)].into());
    assert_eq!(behind(&both, &[]), [block(1), (path(&[4], &[]), false, false)].into());
}

#[test]
fn a_manifest_that_is_damaged_is_forgotten_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let tiers = tiers(Box::new(disk(folder.path(), 1 << 20)));
    let record = || wait(tiers.record(vec![written(key(1), path(&[1], &[5]), Producer::Prefill)]));
    record();
    let file = folder.path().join(files(folder.path()).into_keys().next().unwrap());
    let whole = fs::read(&file).unwrap();
    let before = read(&tiers);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&file, &bytes).unwrap();
        assert_eq!(read(&tiers), Manifest::default(), "byte {at}");
        fs::write(&file, &whole[..at]).unwrap();
        assert_eq!(read(&tiers), Manifest::default(), "{at} bytes");
    }
    record();
    assert_eq!(read(&tiers), before);
    // The manifest of another group in its place.
    let other = Manifest::key(&[8; 32]);
    wait(tiers.stores().last().unwrap().put(&other, &whole.into(), None)).unwrap();
    assert_eq!(wait(tiers.manifests(&[[8; 32]], Deadline::NEVER)), [Manifest::default()]);
}

#[test]
fn manifests_have_a_separate_budget_and_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let tiers = tiers(Box::new(disk(folder.path(), 8192)));
    let large = |n: u32| {
        let tokens = path(&[n], &[]);
        written(key((n % 200) as u8), tokens, Producer::Prefill)
    };
    for n in 0..12 {
        wait(tiers.save(&Blob { key: key(n), ..blob(16, false) }));
    }
    wait(tiers.record((0..3000).map(large).collect()));
    let known = behind(&tiers, &[]);
    assert_eq!(known.len(), 2048);
    assert!(known.contains(&(path(&[2999], &[]), false, true)), "the last ones stay");
    assert!(!known.contains(&(path(&[0], &[]), false, true)));
    let store = tiers.stores().last().unwrap();
    assert!(store.usage().bytes <= 8192 && store.usage().evicted > 0);
    // A path so deep that all of it is one chain.
    let deep: Vec<u32> = (1..=GROUP as u32).collect();
    wait(tiers.record(vec![written(key(1), path(&deep, &[]), Producer::Prefill)]));
    assert_eq!(behind(&tiers, &path(&deep[..15], &[])).len(), 1);
}

#[test]
fn records_are_forgotten_when_they_expire() {
    let folder = tempfile::tempdir().unwrap();
    let config = TiersConfig { ttl: Some(Duration::from_millis(1)) };
    let short = Tiers::new(MemoryStore::new(0, system_clock()), vec![Box::new(disk(folder.path(), 1 << 20))], config);
    let long = tiers(Box::new(disk(folder.path(), 1 << 20)));
    wait(long.record(vec![written(key(1), path(&[1], &[]), Producer::Prefill)]));
    wait(short.record(vec![written(key(2), path(&[2], &[]), Producer::Prefill)]));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(behind(&long, &[]), [(path(&[1], &[]), false, true)].into());
    // Its tokens leave the file as soon as the file is written again.
    wait(long.record(vec![written(key(3), path(&[3], &[]), Producer::Prefill)]));
    let token = 200u32.to_le_bytes();
    let found = files(folder.path()).into_keys().filter(|name| {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        bytes.windows(4).any(|four| four == token)
    });
    assert_eq!(found.count(), 0);
}

#[test]
fn a_read_only_store_is_not_a_failure() {
    struct ReadOnly(MemoryStore);
    impl Store for ReadOnly {
        fn name(&self) -> &'static str {
            "read-only"
        }
        fn get<'a>(&'a self, key: &'a StoreKey) -> headstart::store::StoreAnswer<'a, Option<Bytes>> {
            self.0.get(key)
        }
        fn put<'a>(
            &'a self,
            _: &'a StoreKey,
            _: &'a Bytes,
            _: Option<Duration>,
        ) -> headstart::store::StoreAnswer<'a, ()> {
            Box::pin(async { Err(StoreError::ReadOnly { store: "read-only" }) })
        }
        fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> headstart::store::StoreAnswer<'a, Vec<bool>> {
            self.0.contains(keys)
        }
        fn remove<'a>(&'a self, key: &'a StoreKey) -> headstart::store::StoreAnswer<'a, bool> {
            self.0.remove(key)
        }
        fn clear(&self) -> headstart::store::StoreAnswer<'_, ()> {
            self.0.clear()
        }
    }
    let tiers = tiers(Box::new(ReadOnly(MemoryStore::new(1 << 20, system_clock()))));
    wait(tiers.record(vec![written(key(1), path(&[1], &[]), Producer::Prefill)]));
    assert_eq!((tiers.stats()[1].1.failures, tiers.stats()[1].1.dropped), (0, 0));
}
