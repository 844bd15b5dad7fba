//! Memory before a disk before worse stores: what moves between them, what is counted, and what is accepted.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use headstart::store::{
    Blob, Bytes, Deadline, FilesystemConfig, FilesystemStore, MemoryStore, Producer, Store, StoreAnswer, StoreError,
    StoreKey, TierStats, Tiers, TiersConfig,
};

use super::*;

fn memory(budget: u64) -> MemoryStore {
    MemoryStore::new(budget, Time::at(1_000_000).clock())
}

fn disk(folder: &Path) -> FilesystemStore {
    FilesystemStore::new(folder, FilesystemConfig::default(), Time::at(1_000_000).clock())
}

fn tiers(folder: &Path) -> Tiers {
    Tiers::new(memory(1 << 20), vec![Box::new(disk(folder))], TiersConfig::default())
}

fn stat(tiers: &Tiers, tier: usize) -> TierStats {
    tiers.stats()[tier].1.clone()
}

/// Blocks with different keys.
fn chain(n: u8) -> Vec<Blob> {
    let block = |i: u8| Blob { key: key(i + 1), parent: key(i), ..blob(16, false) };
    (0..n).map(block).collect()
}

#[test]
fn saved_blocks_are_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(3);
    let keys: Vec<StoreKey> = blocks.iter().map(|block| block.key).chain([key(99)]).collect();
    let first = tiers(folder.path());
    blocks.iter().for_each(|block| wait(first.save(block)));
    assert_eq!(wait(first.find(&keys, Deadline::NEVER)).tiers, [Some(0), Some(0), Some(0), None]);
    wait(first.flush());
    assert_eq!((stat(&first, 0).saved, stat(&first, 1).saved), (3, 3));
    drop(first);

    let second = tiers(folder.path());
    assert_eq!(wait(second.find(&keys, Deadline::NEVER)).tiers, [Some(1), Some(1), Some(1), None]);
    for block in &blocks {
        let loaded = wait(second.load(&expected(block))).unwrap();
        assert_eq!((&loaded.value, loaded.tier, loaded.name), (block, 1, "disk"));
        assert_eq!(loaded.bytes, block.encode().len());
        let again = wait(second.load(&expected(block))).unwrap();
        assert_eq!((&again.value, again.tier, again.name), (block, 0, "memory"));
    }
    let (front, back) = (stat(&second, 0), stat(&second, 1));
    assert_eq!((front.hits, front.saved), (3, 3));
    assert_eq!((back.hits, back.saved, back.failures), (3, 0, 0));
    assert_eq!(back.loaded_bytes, blocks.iter().map(|block| block.encode().len() as u64).sum::<u64>());
    assert!(back.load_ms > 0.0);
    wait(second.save(&blocks[0]));
    assert_eq!(stat(&second, 1).saved, 0, "stored blocks are not written again");
}

#[test]
fn a_damaged_file_is_counted_as_a_miss_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let block = blob(16, true);
    let whole = block.encode();
    let path = disk(folder.path()).path(&block.key);
    let damages: [(&str, Vec<u8>); 8] = [
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("truncated", Vec::new()),
        ("size", [&whole[..], b"x"].concat()),
        ("digest", whole.iter().rev().enumerate().rev().map(|(i, byte)| byte ^ (i == 9) as u8).collect()),
        ("key", Blob { key: key(9), ..block.clone() }.encode()),
        ("tokens", Blob { tokens: vec![5; 16], ..block.clone() }.encode()),
        ("namespace", Blob { namespace: Default::default(), ..block.clone() }.encode()),
        ("header", vec![0; whole.len()]),
    ];
    for (reason, damage) in damages {
        let tiers = tiers(folder.path());
        wait(tiers.save(&block));
        assert_eq!(stat(&tiers, 1).saved, 1, "{reason}: the damaged file was removed the last time");
        let file = fs::File::options().write(true).open(&path).unwrap();
        let times = file.metadata().unwrap().modified().unwrap();
        fs::write(&path, damage).unwrap();
        file.set_modified(times).unwrap();

        let fresh = self::tiers(folder.path());
        assert!(wait(fresh.load(&expected(&block))).is_none(), "{reason}");
        let back = stat(&fresh, 1);
        assert_eq!(back.rejected.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert_eq!((back.hits, back.failures), (0, 0));
        assert!(!path.exists(), "{reason}");
    }
}

#[test]
fn swapped_files_are_misses() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(2);
    let tiers = tiers(folder.path());
    blocks.iter().for_each(|block| wait(tiers.save(block)));
    let paths = [0, 1].map(|i: usize| disk(folder.path()).path(&blocks[i].key));
    fs::rename(&paths[0], folder.path().join("x")).unwrap();
    fs::rename(&paths[1], &paths[0]).unwrap();
    fs::rename(folder.path().join("x"), &paths[1]).unwrap();
    let fresh = self::tiers(folder.path());
    assert!(blocks.iter().all(|block| wait(fresh.load(&expected(block))).is_none()));
    assert_eq!(stat(&fresh, 1).rejected["key"], 2);
}

#[test]
fn decoded_blocks_are_kept_but_never_replace_prefilled_ones() {
    let folder = tempfile::tempdir().unwrap();
    let exact = blob(16, false);
    let decoded = Blob { producer: Producer::Decode, ..blob(16, true) };
    let producer = || wait(self::tiers(folder.path()).load(&expected(&exact))).unwrap().value.producer;
    let tiers = tiers(folder.path());
    wait(tiers.save(&decoded));
    wait(tiers.save(&exact));
    assert_eq!(
        (stat(&tiers, 1).saved, producer()),
        (1, Producer::Decode),
        "this process did not know that it was marked"
    );
    wait(tiers.heal(&exact));
    assert_eq!(producer(), Producer::Prefill);
    wait(tiers.save(&decoded));
    wait(tiers.heal(&decoded));
    assert_eq!(producer(), Producer::Prefill);
}

#[test]
fn a_last_hidden_state_replaces_a_block_without() {
    let folder = tempfile::tempdir().unwrap();
    let tiers = tiers(folder.path());
    for (hidden, saved) in [(false, 1), (false, 1), (true, 2)] {
        wait(tiers.save(&blob(16, hidden)));
        assert_eq!(stat(&tiers, 1).saved, saved);
    }
    let fresh = self::tiers(folder.path());
    assert_eq!(wait(fresh.load(&expected(&blob(16, true)))).unwrap().value, blob(16, true));
}

#[test]
fn without_memory_the_disk_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let tiers = Tiers::new(memory(0), vec![Box::new(disk(folder.path()))], TiersConfig::default());
    wait(tiers.save(&blob(4, false)));
    for _ in 0..2 {
        assert_eq!(wait(tiers.load(&expected(&blob(4, false)))).unwrap().tier, 1);
    }
}

#[test]
fn all_tiers_share_the_bytes_of_a_block() {
    let block = blob(16, false);
    let tiers = Tiers::new(memory(1 << 20), vec![Box::new(memory(1 << 20))], TiersConfig::default());
    let stores: Vec<&dyn Store> = tiers.stores().collect();
    let start = |store: &&dyn Store| wait(store.get_many(&[block.key], 8)).unwrap().pop().flatten().unwrap();
    let places = || stores.iter().map(|store| start(store).as_ptr()).collect::<Vec<_>>();
    wait(tiers.save(&block));
    assert_eq!(places()[0], places()[1], "saved");
    assert!(wait(stores[0].remove(&block.key)).unwrap());
    assert_eq!(wait(tiers.load(&expected(&block))).unwrap().tier, 1);
    assert_eq!(places()[0], places()[1], "moved to the front");
}

type Got = Result<Option<Bytes>, StoreError>;

/// A store that fails, or answers with anything.
struct Liar {
    answer: Rc<dyn Fn(&StoreKey) -> Got>,
    puts: Rc<Cell<usize>>,
}

fn broken() -> StoreError {
    StoreError::Backend { store: "liar", problem: "gone".into() }
}

impl Store for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { (self.answer)(key) })
    }

    fn put<'a>(&'a self, _: &'a StoreKey, _: &'a Bytes, _: Option<Duration>) -> StoreAnswer<'a, ()> {
        self.puts.set(self.puts.get() + 1);
        Box::pin(async { Err(broken()) })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        // One answer too few, and none true.
        Box::pin(async move { Ok(vec![false; keys.len().saturating_sub(1)]) })
    }

    fn remove<'a>(&'a self, _: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async { Err(broken()) })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async { Err(broken()) })
    }
}

#[test]
fn a_failing_and_a_lying_store_cost_misses() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(4);
    let other = Bytes::from(blocks[1].encode());
    let puts = Rc::new(Cell::new(0));
    let liar = |answer: Rc<dyn Fn(&StoreKey) -> _>| Box::new(Liar { answer, puts: puts.clone() }) as Box<dyn Store>;
    let behind = vec![
        liar(Rc::new(|_| Err(broken()))),
        liar(Rc::new(move |_| Ok(Some(other.clone())))),
        Box::new(disk(folder.path())),
    ];
    let tiers = Tiers::new(memory(1 << 20), behind, TiersConfig::default());
    blocks.iter().for_each(|block| wait(tiers.save(block)));
    assert_eq!((stat(&tiers, 3).saved, puts.get()), (4, 8), "the last store accepted all");
    assert_eq!((stat(&tiers, 1).dropped, stat(&tiers, 1).failures), (4, 4));

    let behind = vec![
        liar(Rc::new(|_| Err(broken()))),
        liar(Rc::new(move |_| Ok(Some(vec![0; 999].into())))),
        Box::new(disk(folder.path())),
    ];
    let tiers = Tiers::new(memory(1 << 20), behind, TiersConfig::default());
    let loaded = wait(tiers.load(&expected(&blocks[0]))).unwrap();
    assert_eq!((&loaded.value, loaded.tier), (&blocks[0], 3));
    // One lookup, one removal of a refused block, and one write of the block found further away.
    assert_eq!((stat(&tiers, 1).misses, stat(&tiers, 1).failures), (1, 2));
    assert_eq!((stat(&tiers, 2).rejected["header"], stat(&tiers, 2).failures), (1, 2));
    assert_eq!(wait(tiers.load(&expected(&blocks[0]))).unwrap().tier, 0);
    assert_eq!(puts.get(), 10, "a block found further away is to be written nearer");
}
