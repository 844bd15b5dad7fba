//! A store behind its own threads: what is queued, what is waited for, and what a hanging store costs.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use headstart::store::{
    Background, BackgroundConfig, BreakerConfig, Bytes, Deadline, FilesystemConfig, FilesystemStore, MemoryStore,
    Store, StoreAnswer, StoreError, StoreKey, Tiers, TiersConfig, system_clock,
};

use super::{blob, expected, key, wait};

/// The state of a fake store, which tests observe and control while other threads use it.
#[derive(Default)]
struct Inner {
    values: HashMap<StoreKey, Bytes>,
    /// Number of calls that have begun.
    reads: usize,
    writes: usize,
    reads_hang: bool,
    writes_hang: bool,
    fails: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<(Mutex<Inner>, Condvar)>);

impl Fake {
    fn set(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn see<T>(&self, look: impl Fn(&Inner) -> T) -> T {
        look(&self.0.0.lock().unwrap())
    }

    /// Returns once other threads have made it true.
    fn until(&self, is: impl Fn(&Inner) -> bool) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |inner| !is(inner)).unwrap());
    }

    fn work<T>(
        &self,
        begin: impl FnOnce(&mut Inner),
        hangs: impl Fn(&Inner) -> bool,
        end: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, StoreError> {
        self.set(begin);
        let mut inner = self.0.1.wait_while(self.0.0.lock().unwrap(), |inner| hangs(inner)).unwrap();
        let done = match inner.fails {
            true => Err(StoreError::Backend { store: "fake", problem: "gone".into() }),
            false => Ok(end(&mut inner)),
        };
        self.0.1.notify_all();
        done
    }

    fn read<T>(&self, end: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        self.work(|inner| inner.reads += 1, |inner| inner.reads_hang, end)
    }

    fn write<T>(&self, end: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        self.work(|inner| inner.writes += 1, |inner| inner.writes_hang, end)
    }
}

impl Store for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { self.read(|inner| inner.values.get(key).cloned()) })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, _: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move { self.write(|inner| drop(inner.values.insert(*key, bytes.clone()))) })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move { self.read(|inner| keys.iter().map(|key| inner.values.contains_key(key)).collect()) })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { self.read(|inner| inner.values.remove(key).is_some()) })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move { self.write(|inner| inner.values.clear()) })
    }
}

const NEVER_MS: u64 = 1 << 40;

/// Deadlines that never pass, and a pause that never ends.
fn patient() -> BackgroundConfig {
    let breaker = BreakerConfig { failures: 2, deadline_ms: NEVER_MS, pause_ms: NEVER_MS, max_pause_ms: NEVER_MS };
    let patience = Duration::from_millis(NEVER_MS);
    BackgroundConfig { queue_bytes: 1 << 20, reads: breaker, writes: Some(breaker), patience }
}

/// Deadlines that pass at once if the store hangs.
fn hasty() -> BackgroundConfig {
    let mut config = patient();
    (config.reads.deadline_ms, config.patience) = (1, Duration::from_millis(1));
    config
}

fn behind(fake: &Fake, config: BackgroundConfig) -> Background {
    Background::new(fake.clone(), fake.clone(), config)
}

fn put(store: &Background, n: u8) -> Result<(), StoreError> {
    wait(store.put(&key(n), &vec![n; 10].into(), None))
}

#[test]
fn queued_values_are_visible_and_written_while_nobody_waits() {
    let fake = Fake::default();
    fake.set(|inner| (inner.writes_hang, inner.reads_hang) = (true, true));
    let store = behind(&fake, patient());
    for n in 0..3 {
        put(&store, n).unwrap();
    }
    fake.until(|inner| inner.writes == 1);
    assert_eq!(wait(store.contains(&[key(0), key(2)])).unwrap(), [true, true]);
    assert_eq!(wait(store.get(&key(1))).unwrap(), Some(Bytes::from(vec![1; 10])));
    assert_eq!(fake.see(|inner| (inner.reads, inner.values.len())), (0, 0), "the store itself was not asked");

    fake.set(|inner| inner.reads_hang = false);
    assert_eq!(
        wait(store.get_many(&[key(9), key(0)], usize::MAX)).unwrap(),
        [None, Some(vec![0; 10].into())],
        "no read waits for a write"
    );
    fake.set(|inner| inner.writes_hang = false);
    wait(store.flush()).unwrap();
    assert_eq!(fake.see(|inner| (inner.writes, inner.values.len())), (3, 3));
    assert_eq!((store.usage().dropped, store.problem()), (0, None));
}

#[test]
fn the_queue_is_bounded_and_a_flush_makes_room() {
    let fake = Fake::default();
    fake.set(|inner| inner.writes_hang = true);
    let store = behind(&fake, BackgroundConfig { queue_bytes: 25, ..patient() });
    put(&store, 0).unwrap();
    put(&store, 1).unwrap();
    assert!(matches!(put(&store, 2), Err(StoreError::QueueFull { bytes: 20, .. })));
    put(&store, 1).expect("it replaces the queued value of the same key");
    fake.set(|inner| inner.writes_hang = false);
    wait(store.flush()).unwrap();
    put(&store, 2).unwrap();
    wait(store.flush()).unwrap();
    assert_eq!(fake.see(|inner| inner.values.len()), 3);
}

#[test]
fn a_value_put_while_another_is_written_replaces_it() {
    let fake = Fake::default();
    fake.set(|inner| inner.writes_hang = true);
    let store = behind(&fake, patient());
    put(&store, 0).unwrap();
    fake.until(|inner| inner.writes == 1);
    wait(store.put_new(&key(0), &Bytes::from_static(b"not this"), None)).unwrap();
    let this = Bytes::from(b"this".to_vec());
    wait(store.put(&key(0), &this, None)).unwrap();
    let queued = wait(store.get(&key(0))).unwrap().unwrap();
    assert_eq!((&queued, queued.as_ptr()), (&this, this.as_ptr()), "it is shared");
    fake.set(|inner| inner.writes_hang = false);
    wait(store.flush()).unwrap();
    assert_eq!(fake.see(|inner| (inner.writes, inner.values[&key(0)].clone())), (2, "this".into()));
    wait(store.put_new(&key(0), &Bytes::from_static(b"nor this"), None)).unwrap();
    wait(store.flush()).unwrap();
    assert_eq!(fake.see(|inner| (inner.writes, inner.values[&key(0)].clone())), (2, "this".into()));
}

#[test]
fn a_hanging_store_is_avoided_after_a_few_timeouts() {
    let fake = Fake::default();
    fake.set(|inner| inner.reads_hang = true);
    let store = behind(&fake, hasty());
    for _ in 0..2 {
        assert!(matches!(wait(store.get(&key(0))), Err(StoreError::Late { ms: 1, .. })));
    }
    for _ in 0..100 {
        assert!(matches!(wait(store.contains(&[key(0)])), Err(StoreError::Paused { .. })));
    }
    assert!(fake.see(|inner| inner.reads) <= 1, "the second call timed out before its turn");
    assert!(store.problem().unwrap().contains("did not answer within 1 ms"));
    // Writes still work.
    put(&store, 1).unwrap();
    fake.until(|inner| inner.values.len() == 1);
    fake.set(|inner| inner.reads_hang = false);
}

#[test]
fn a_cancelled_call_is_no_failure_of_the_store() {
    let fake = Fake::default();
    fake.set(|inner| inner.reads_hang = true);
    let store = behind(&fake, patient());
    for _ in 0..5 {
        assert!(wait(Deadline::after(Duration::from_millis(1)).bound(store.get(&key(0)))).is_none());
    }
    fake.set(|inner| inner.reads_hang = false);
    assert_eq!(wait(store.get(&key(0))).unwrap(), None);
    assert!(fake.see(|inner| inner.reads) < 5, "calls without a waiting caller are not made");
}

#[test]
fn a_store_that_recovers_is_used_again() {
    let fake = Fake::default();
    fake.set(|inner| inner.fails = true);
    let mut config = patient();
    (config.reads.pause_ms, config.reads.max_pause_ms) = (1, 1);
    let store = behind(&fake, config);
    for _ in 0..3 {
        assert!(wait(store.get(&key(0))).is_err());
    }
    fake.set(|inner| inner.fails = false);
    while wait(store.get(&key(0))).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn values_that_a_failing_store_refuses_are_dropped_and_counted() {
    let fake = Fake::default();
    fake.set(|inner| inner.fails = true);
    let store = behind(&fake, patient());
    for n in 0..50 {
        put(&store, n).unwrap();
    }
    wait(store.flush()).unwrap();
    assert_eq!(
        (store.usage().dropped, fake.see(|inner| inner.writes)),
        (50, 2),
        "after two failures it is not tried again"
    );
    fake.set(|inner| inner.fails = false);
    assert_eq!(wait(store.get(&key(0))).unwrap(), None, "reads have a separate breaker");
}

#[test]
fn dropping_waits_for_queued_writes_up_to_a_limit() {
    let fake = Fake::default();
    let store = behind(&fake, patient());
    for n in 0..50 {
        put(&store, n).unwrap();
    }
    drop(store);
    assert_eq!(fake.see(|inner| inner.values.len()), 50);

    fake.set(|inner| inner.writes_hang = true);
    let store = behind(&fake, BackgroundConfig { patience: Duration::from_millis(1), ..patient() });
    put(&store, 60).unwrap();
    put(&store, 61).unwrap();
    assert!(matches!(wait(store.flush()), Err(StoreError::Late { .. })));
    assert_eq!((store.usage().dropped, wait(store.contains(&[key(61)])).is_ok()), (2, true));
    put(&store, 62).unwrap();
    drop(store);
    fake.set(|inner| inner.writes_hang = false);
}

#[test]
fn removing_and_clearing_also_cover_queued_values() {
    let fake = Fake::default();
    fake.set(|inner| inner.writes_hang = true);
    let store = behind(&fake, patient());
    for n in 0..4 {
        put(&store, n).unwrap();
    }
    fake.until(|inner| inner.writes == 1);
    assert!(!wait(store.remove(&key(2))).unwrap(), "the store did not have it yet");
    assert_eq!(wait(store.contains(&[key(2), key(3)])).unwrap(), [false, true]);
    fake.set(|inner| inner.writes_hang = false);
    wait(store.flush()).unwrap();
    assert_eq!(fake.see(|inner| inner.values.len()), 3);
    put(&store, 5).unwrap();
    wait(store.clear()).unwrap();
    assert_eq!(fake.see(|inner| inner.values.len()), 0);
}

#[test]
fn a_directory_behind_threads_behaves_as_without() {
    let folder = tempfile::tempdir().unwrap();
    let disk = || FilesystemStore::new(folder.path(), FilesystemConfig::default(), system_clock());
    let open = || {
        let memory = MemoryStore::new(0, system_clock());
        let store: Box<dyn Store> = Box::new(Background::new(disk(), disk(), patient()));
        Tiers::new(memory, vec![store], TiersConfig::default())
    };
    let first = open();
    wait(first.save(&blob(16, false)));
    wait(first.flush());
    assert_eq!(first.stats()[1].1.saved, 1);
    wait(first.save(&blob(16, false)));
    drop(first);
    assert_eq!(disk().keys().unwrap(), [key(1)]);
    let second = open();
    assert_eq!(wait(second.find(&[key(1), key(2)], Deadline::NEVER)).tiers, [Some(1), None]);
    let loaded = wait(second.load(&expected(&blob(16, false)))).unwrap();
    assert_eq!((loaded.value, loaded.name), (blob(16, false), "disk"));
    assert_eq!((second.stats()[1].1.hits, second.stats()[1].1.saved), (1, 0));
}
