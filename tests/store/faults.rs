//! A directory store and its environment: several processes, a kill, a full disk, a file in its place, foreign files in it.

use std::fs::{self, File, FileTimes};
use std::path::Path;
#[cfg(unix)]
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use headstart::store::{
    BreakerConfig, Bytes, FilesystemConfig, FilesystemStore, Store, StoreError, StoreKey, system_clock,
};

use super::*;
pub use crate::support::files;
#[cfg(unix)]
pub use crate::support::process::{again, child};

pub const KIB: u64 = 1024;

pub fn open(folder: &Path, budget: u64) -> FilesystemStore {
    let config = FilesystemConfig { budget, rescan_ms: 0, ..FilesystemConfig::default() };
    FilesystemStore::new(folder, config, system_clock())
}

/// The only valid value of a key: its length and every byte follow from the key.
pub fn value(n: u8) -> Bytes {
    (0..5_000 + 40 * n as usize).map(|i| (i as u8).wrapping_mul(n | 1)).collect()
}

#[test]
fn values_of_one_process_are_found_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (open(folder.path(), KIB << 10), open(folder.path(), KIB << 10));
    assert_eq!(wait(b.get(&key(1))).unwrap(), None);
    wait(a.put(&key(1), &value(1), None)).unwrap();
    wait(a.put(&key(2), &value(2), None)).unwrap();
    assert_eq!(wait(b.get(&key(1))).unwrap(), Some(value(1)));
    assert_eq!(wait(b.contains(&[key(1), key(3), key(2)])).unwrap(), [true, false, true]);
    assert!(wait(b.remove(&key(1))).unwrap());
    assert!(!wait(a.remove(&key(1))).unwrap());
    assert_eq!(wait(a.get(&key(1))).unwrap(), None);
    drop((a, b));
    let later = open(folder.path(), KIB << 10);
    assert_eq!(wait(later.get(&key(2))).unwrap(), Some(value(2)));
    later.sweep().unwrap();
    assert_eq!((later.usage().entries, later.keys().unwrap()), (1, vec![key(2)]));
}

#[test]
fn nothing_is_created_before_the_first_write() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep").join("cache");
    let store = open(&root, KIB << 10);
    assert_eq!(wait(store.get(&key(1))).unwrap(), None);
    store.sweep().unwrap();
    wait(store.clear()).unwrap();
    assert!(!root.exists());
    wait(store.put(&key(1), &value(1), None)).unwrap();
    assert_eq!(files(&root).len(), 1);
    #[cfg(unix)]
    for folder in [root.join("blocks"), root.join("tmp")] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700, "blocks reveal conversations");
    }
    fs::remove_dir_all(&root).unwrap();
    wait(store.put(&key(2), &value(2), None)).unwrap();
    assert_eq!(wait(store.get(&key(2))).unwrap(), Some(value(2)));
}

#[test]
fn the_order_of_use_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 64 * KIB);
    let keys: Vec<StoreKey> = (0..4).map(key).collect();
    for (n, key) in keys.iter().enumerate() {
        wait(first.put(key, &value(n as u8), None)).unwrap();
    }
    wait(first.get(&keys[1])).unwrap();
    // As a chain 2 → 3, so that the root is evicted last.
    wait(first.touch(&keys[2..]));
    drop(first);
    for (room, left) in
        [(3, [false, true, true, true]), (2, [false, false, true, true]), (1, [false, false, true, false])]
    {
        let next = open(folder.path(), room * 8 * KIB);
        next.sweep().unwrap();
        assert_eq!(wait(next.contains(&keys)).unwrap(), left);
    }
}

#[test]
fn blocks_used_by_another_process_since_are_spared() {
    let folder = tempfile::tempdir().unwrap();
    let config = FilesystemConfig { budget: 40 * 8 * KIB, rescan_ms: 1 << 40, ..FilesystemConfig::default() };
    let a = FilesystemStore::new(folder.path(), config, system_clock());
    for n in 0..40 {
        wait(a.put(&key(n), &value(n), None)).unwrap();
    }
    // A sweep so recent that the next write needs no other.
    a.sweep().unwrap();
    let b = open(folder.path(), KIB << 10);
    assert!(wait(b.get(&key(0))).unwrap().is_some());
    wait(a.put(&key(40), &value(40), None)).unwrap();
    assert_eq!(wait(a.contains(&[0, 1, 2, 40].map(key))).unwrap(), [true, false, true, true]);
}

#[test]
fn racing_writers_readers_and_sweeps_give_whole_values_or_none() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for thread in 0u64..4 {
            let folder = folder.path();
            scope.spawn(move || {
                // Room for about a third of the keys, so that evictions race too.
                let store = open(folder, 32 * KIB);
                let (mut state, mut found) = (thread + 1, 0);
                for _ in 0..150 {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let n = (state >> 33) as u8 % 12;
                    match (state >> 50) % 8 {
                        0..=2 => wait(store.put(&key(n), &value(n), None)).unwrap(),
                        3..=5 => {
                            let got = wait(store.get(&key(n))).unwrap();
                            found += u32::from(got.is_some());
                            assert!(got.is_none_or(|got| got == value(n)), "a value that was never written");
                        }
                        6 => drop(wait(store.remove(&key(n))).unwrap()),
                        _ => store.sweep().unwrap(),
                    }
                }
                assert!(found > 0, "the race was never run");
                assert_eq!(store.usage().failures, 0);
            });
        }
    });
    let store = open(folder.path(), 32 * KIB);
    store.sweep().unwrap();
    let left = files(folder.path());
    assert!(left.keys().all(|path| path.starts_with(folder.path().join("blocks"))), "{left:?}");
    assert!(store.usage().bytes <= 32 * KIB);
    assert_eq!(left.len() as u64, store.usage().entries);
}

#[cfg(unix)]
#[test]
fn a_process_killed_while_writing_leaves_nothing_that_is_trusted() {
    if let Some(folder) = child() {
        let store = open(&folder, KIB << 20);
        for n in (0u8..=255).cycle() {
            wait(store.put(&key(n), &value(n).repeat(50).into(), None)).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let shell = "exec \"$0\" --exact \"$1\"";
    let name = "store::faults::a_process_killed_while_writing_leaves_nothing_that_is_trusted";
    for _ in 0..8 {
        let before = files(folder.path()).len();
        let mut child = again(name, folder.path(), shell).spawn().unwrap();
        for _ in 0..2_000 {
            if files_racing(folder.path()) > before.min(200) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let store = open(folder.path(), KIB << 20);
    let found = (0..=255).filter(|&n| {
        let got = wait(store.get(&key(n))).unwrap();
        assert!(got.as_ref().is_none_or(|got| *got == value(n).repeat(50)), "half a value under key {n}");
        got.is_some()
    });
    assert!(found.count() > 5, "the child wrote nothing");
    let later: Clock = std::sync::Arc::new(|| system_clock()() + 3_600_000);
    let config = FilesystemConfig { budget: KIB << 20, ..FilesystemConfig::default() };
    FilesystemStore::new(folder.path(), config, later).sweep().unwrap();
    assert_eq!(files(folder.path()).len(), files_racing(folder.path()), "its unfinished files are swept");
}

#[cfg(unix)]
fn files_racing(folder: &Path) -> usize {
    let blocks = folder.join("blocks");
    let folders = fs::read_dir(blocks).into_iter().flatten().flatten().flat_map(|entry| fs::read_dir(entry.path()));
    folders.flatten().flatten().flat_map(|entry| fs::read_dir(entry.path())).flatten().count()
}

#[test]
fn leftovers_of_dead_writers_are_swept_and_foreign_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), KIB << 10);
    wait(store.put(&key(1), &value(1), None)).unwrap();
    let make = |name: &str, age: u64| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"half a va").unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        // A writer may die after it has set the expiry time.
        let times = FileTimes::new().set_accessed(then).set_modified(SystemTime::now() + Duration::from_secs(9_999));
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        path
    };
    let dead = [make("tmp/77-1.tmp", 601), make("tmp/78-1.tmp", 9_000)];
    let name = format!("{}.safetensors", "ab".repeat(32));
    let kept = [
        make("tmp/79-1.tmp", 60),
        make("tmp/notes.txt", 9_000),
        make("letter.txt", 9_000),
        make("blocks/a/b/letter.txt", 9_000),
        make(&format!("blocks/c/d/{name}"), 9_000),
        make(&format!("blocks/a/b/{}", name.to_uppercase()), 9_000),
        store.path(&key(1)),
    ];
    thread::scope(|scope| {
        for _ in 0..4 {
            let folder = folder.path();
            scope.spawn(move || open(folder, KIB << 10).sweep().unwrap());
        }
    });
    assert!(dead.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    store.sweep().unwrap();
    assert_eq!((store.usage().entries, store.usage().failures), (1, 0));
    wait(store.clear()).unwrap();
    assert!(kept[..6].iter().all(|path| path.exists()) && !kept[6].exists());
}

#[test]
fn a_file_in_place_of_the_directory_makes_the_store_read_only_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    fs::write(&root, b"a letter").unwrap();
    let time = Time::at(1_000_000);
    let breaker = BreakerConfig { failures: 3, deadline_ms: 100, pause_ms: 1_000, max_pause_ms: 2_000 };
    let config = FilesystemConfig { breaker, ..FilesystemConfig::default() };
    let store = FilesystemStore::new(&root, config, time.clock());
    for _ in 0..3 {
        assert!(matches!(wait(store.put(&key(1), &Bytes::from_static(b"x"), None)), Err(StoreError::Io { .. })));
    }
    for _ in 0..5 {
        assert!(matches!(
            wait(store.put(&key(1), &Bytes::from_static(b"x"), None)),
            Err(StoreError::Paused { store: "disk" })
        ));
    }
    let usage = store.usage();
    assert_eq!((usage.failures, usage.refused, usage.entries, usage.bytes), (3, 5, 0, 0));
    assert!(wait(store.get(&key(1))).is_err() && wait(store.contains(&[key(1)])).is_err() && store.sweep().is_err());
    assert_eq!(fs::read(&root).unwrap(), b"a letter");
    fs::remove_file(&root).unwrap();
    assert_eq!(wait(store.get(&key(1))).unwrap(), None, "reads still work");
    assert!(matches!(wait(store.put(&key(1), &Bytes::from_static(b"x"), None)), Err(StoreError::Paused { .. })));
    time.advance(1_000);
    wait(store.put(&key(1), &Bytes::from_static(b"x"), None)).unwrap();
    assert_eq!(wait(store.get(&key(1))).unwrap().unwrap(), "x");
}

/// The limit on a file's size makes a write fail half way, as a full disk does.
#[cfg(unix)]
#[test]
fn a_write_that_fails_half_way_leaves_nothing() {
    if let Some(folder) = child() {
        let store = open(&folder, KIB << 10);
        wait(store.put(&key(1), &value(1), None)).unwrap();
        for _ in 0..3 {
            let full = wait(store.put(&key(2), &vec![7; 200_000].into(), None));
            assert!(matches!(full, Err(StoreError::Io { .. })), "{full:?}");
            assert_eq!(wait(store.get(&key(2))).unwrap(), None);
        }
        assert!(matches!(wait(store.put(&key(2), &value(2), None)), Err(StoreError::Paused { .. })));
        assert_eq!(wait(store.get(&key(1))).unwrap(), Some(value(1)));
        let usage = store.usage();
        assert_eq!((usage.failures, usage.refused, usage.entries, usage.bytes), (3, 1, 1, 8 * KIB));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shell = "trap '' XFSZ; ulimit -f 64 && exec \"$0\" --exact \"$1\"";
    let name = "store::faults::a_write_that_fails_half_way_leaves_nothing";
    assert!(again(name, folder.path(), shell).status().unwrap().success());
    let store = open(folder.path(), KIB << 10);
    assert_eq!(files(folder.path()).into_keys().collect::<Vec<_>>(), [store.path(&key(1))]);
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_values() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 1 << 39);
    let place = |n: u8| {
        fs::create_dir_all(store.path(&key(n)).parent().unwrap()).unwrap();
        store.path(&key(n))
    };
    let secret = folder.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    std::os::unix::fs::symlink(&secret, place(1)).unwrap();
    fs::create_dir(place(2)).unwrap();
    assert!(Command::new("mkfifo").arg(place(3)).status().unwrap().success());
    File::create(place(4)).unwrap().set_len(1 << 40).unwrap();
    let far = SystemTime::now() + Duration::from_secs(1 << 30);
    File::options().write(true).open(place(4)).unwrap().set_times(FileTimes::new().set_modified(far)).unwrap();
    for n in 1..5 {
        assert_eq!(wait(store.get(&key(n))).unwrap(), None, "{n}");
    }
    let large = Bytes::from(vec![0; FilesystemConfig::default().max_value as usize + 1]);
    assert!(matches!(wait(store.put(&key(5), &large, None)), Err(StoreError::TooLarge { .. })));
    wait(store.put(&key(5), &large.slice(1..), None)).unwrap();
    assert_eq!(wait(store.get(&key(5))).unwrap().unwrap().len(), large.len() - 1);
    assert_eq!(wait(store.contains(&[1, 2, 3].map(key))).unwrap(), [false; 3]);
    store.sweep().unwrap();
    assert!(secret.exists() && store.path(&key(1)).is_symlink() && store.path(&key(2)).is_dir());
    assert!(!store.path(&key(4)).exists(), "a value larger than the budget is removed");
}
