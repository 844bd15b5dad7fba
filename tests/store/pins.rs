//! Pinned blocks stay on disk, whoever writes there and however much time passes; an invalid pin file keeps nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use headstart::store::{
    FilesystemConfig, FilesystemStore, MAX_PINNED, Pinned, Store, StoreError, StoreKey, system_clock,
};

use super::faults::{KIB, files, open, value};
#[cfg(unix)]
use super::faults::{again, child};
use super::*;

const TTL: Option<Duration> = Some(Duration::from_millis(1_000));

fn at(folder: &Path, blocks: u64, time: &Time) -> FilesystemStore {
    let config = FilesystemConfig { budget: blocks * 8 * KIB, rescan_ms: 0, ..FilesystemConfig::default() };
    FilesystemStore::new(folder, config, time.clock())
}

fn fill(store: &FilesystemStore, keys: std::ops::Range<u8>, ttl: Option<Duration>) {
    keys.for_each(|n| wait(store.put(&key(n), &value(n), ttl)).unwrap());
}

fn keys<const N: usize>(numbers: [u8; N]) -> [StoreKey; N] {
    numbers.map(key)
}

fn names(store: &FilesystemStore) -> Vec<String> {
    store.pins().unwrap().found.into_iter().map(|pin| pin.name).collect()
}

#[test]
fn a_pinned_chain_survives_eviction_until_it_is_unpinned() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 8 * 8 * KIB);
    fill(&store, 0..4, None);
    let pinned = store.pin("system", &keys([0, 1, 9])).unwrap();
    assert_eq!(pinned, Pinned { name: "system".into(), keys: keys([0, 1, 9]).into(), missing: 1, bytes: 16 * KIB });
    assert_eq!(store.pins().unwrap().found, [pinned]);
    fill(&store, 9..60, None);
    assert_eq!(wait(store.contains(&keys([0, 1, 2, 3, 9, 10]))).unwrap(), [true, true, false, false, true, false]);
    assert!(store.usage().bytes <= 64 * KIB && store.usage().failures == 0);
    assert_eq!(store.pins().unwrap().found[0].missing, 0, "pinned once it was stored");

    assert!(store.unpin("system").unwrap());
    assert!(!store.unpin("system").unwrap() && store.pins().unwrap().found.is_empty());
    fill(&store, 60..70, None);
    assert_eq!(wait(store.contains(&keys([0, 1, 9]))).unwrap(), [false; 3]);
}

#[test]
fn a_pinned_block_does_not_expire_for_anyone() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::at(1_000_000);
    let config = FilesystemConfig { rescan_ms: u64::MAX, ..FilesystemConfig::default() };
    let [other, writer] = [0, 1].map(|_| FilesystemStore::new(folder.path(), config, time.clock()));
    let store = at(folder.path(), 20, &time);
    fill(&store, 0..4, TTL);
    // Sweeps from before the pin, recent enough that no other is needed.
    other.sweep().unwrap();
    writer.sweep().unwrap();
    store.pin("kept", &keys([0, 1])).unwrap();
    time.advance(5_000);
    let expected = [true, true, false, false];
    fill(&writer, 8..9, None);
    assert_eq!(writer.usage().expired, 2, "a write removes expired blocks, but not those pinned meanwhile");
    for who in [&other, &store, &at(folder.path(), 20, &time)] {
        assert_eq!(wait(who.contains(&keys([0, 1, 2, 3]))).unwrap(), expected);
        assert_eq!(wait(who.get(&key(0))).unwrap(), Some(value(0)));
        assert_eq!(wait(who.get(&key(2))).unwrap(), None);
    }
    wait(other.put(&key(7), &value(7), None)).unwrap();
    store.sweep().unwrap();
    assert_eq!(wait(store.contains(&keys([0, 1, 2, 3]))).unwrap(), expected);

    store.unpin("kept").unwrap();
    assert_eq!(wait(store.contains(&keys([0, 1]))).unwrap(), [false; 2]);
    store.sweep().unwrap();
    assert!(!store.path(&key(0)).exists() && !store.path(&key(1)).exists());
}

#[test]
fn a_process_with_an_old_sweep_spares_what_was_pinned_since() {
    let folder = tempfile::tempdir().unwrap();
    let config = FilesystemConfig { budget: 40 * 8 * KIB, rescan_ms: u64::MAX, ..FilesystemConfig::default() };
    let other = FilesystemStore::new(folder.path(), config, system_clock());
    fill(&other, 0..40, None);
    other.sweep().unwrap();
    let store = open(folder.path(), 40 * 8 * KIB);
    store.pin("first", &keys([0, 1])).unwrap();
    for n in 40..240 {
        wait(other.put(&key(n), &value(n), None)).unwrap();
        assert_eq!(wait(store.contains(&keys([0, 1]))).unwrap(), [true; 2], "after {n}");
    }
    assert!(other.usage().evicted >= 200);
}

#[test]
fn pins_take_no_more_than_their_share() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 8 * 8 * KIB);
    fill(&store, 0..6, None);
    store.pin("a", &keys([0, 1, 2])).unwrap();
    let full = store.pin("b", &keys([2, 3, 4])).unwrap_err();
    let (asked, allowed) = (40 * KIB, 32 * KIB);
    assert!(matches!(full, StoreError::PinsFull { asked: a, allowed: b } if (a, b) == (asked, allowed)), "{full}");
    assert!(full.to_string().contains("40960 bytes") && full.to_string().contains("32768"), "{full}");
    assert_eq!(names(&store), ["a"], "nothing was changed");
    store.pin("b", &keys([2, 3])).expect("a block that two pins name counts once");
    assert!(store.pin("b", &[&keys([2, 3])[..], &keys([77])].concat()).is_err(), "missing blocks count as well");
    assert_eq!(store.pins().unwrap().found[1].keys, keys([2, 3]));
    store.pin("a", &keys([0])).expect("a pin is replaced");
    store.pin("b", &keys([2, 3, 77])).unwrap();
    fill(&store, 6..30, None);
    assert_eq!(wait(store.contains(&keys([0, 1, 2, 3]))).unwrap(), [true, false, true, true]);

    let share = |pinned_percent| {
        let config = FilesystemConfig { budget: 64 * KIB, pinned_percent, ..FilesystemConfig::default() };
        FilesystemStore::new(folder.path(), config, system_clock()).pin("c", &keys([29]))
    };
    assert!(matches!(share(0), Err(StoreError::PinsFull { allowed: 0, .. })));
    assert!(share(100).is_ok());
}

#[test]
fn if_all_is_pinned_nothing_more_is_stored_and_nothing_fails() {
    let folder = tempfile::tempdir().unwrap();
    let large = open(folder.path(), 32 * 8 * KIB);
    fill(&large, 0..6, None);
    large.pin("most", &keys([0, 1, 2, 3, 4])).unwrap();
    let small = open(folder.path(), 5 * 8 * KIB);
    for _ in 0..5 {
        let refused = wait(small.put(&key(50), &value(50), None)).unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { budget: 0, .. }), "{refused}");
    }
    wait(small.put(&key(3), &value(3), None)).expect("a pinned block in its own place");
    assert_eq!(wait(small.contains(&keys([0, 1, 2, 3, 4, 50]))).unwrap(), [true, true, true, true, true, false]);
    assert_eq!((small.usage().failures, small.usage().refused), (0, 0));
    small.unpin("most").unwrap();
    wait(small.put(&key(50), &value(50), None)).unwrap();
    assert!(small.usage().bytes <= 5 * 8 * KIB);
}

#[test]
fn only_plain_names_become_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let store = open(&root, KIB << 10);
    let long = "x".repeat(65);
    for name in
        ["", ".", "..", "../x", "/etc/x", "a/b", "a\\b", ".hidden", "-x", "_x", "A", "é", "a b", "a\n", "a\0", &long]
    {
        let refused = store.pin(name, &keys([1])).unwrap_err();
        assert!(matches!(&refused, StoreError::Pin { name: n, .. } if n == name), "{name:?}: {refused}");
        assert!(matches!(store.unpin(name), Err(StoreError::Pin { .. })), "{name:?}");
    }
    assert!(matches!(store.pin("empty", &[]), Err(StoreError::Pin { .. })));
    assert!(matches!(store.pin("long", &vec![key(1); MAX_PINNED + 1]), Err(StoreError::Pin { .. })));
    assert!(!root.exists() && store.pins().unwrap().found.is_empty());
    for name in ["a", "0", "a.b-c_d", &long[1..]] {
        assert_eq!(store.pin(name, &keys([1])).unwrap().missing, 1);
    }
    let made: Vec<_> = files(folder.path()).into_keys().collect();
    assert!(made.len() == 4 && made.iter().all(|path| path.parent() == Some(&root.join("pins"))), "{made:?}");
    assert_eq!(store.pin("long", &vec![key(1); MAX_PINNED]).unwrap().keys.len(), MAX_PINNED);
    assert_eq!(store.pins().unwrap().damaged, 0);
    wait(store.clear()).unwrap();
    assert!(files(folder.path()).is_empty(), "clear removes all of the store's files");
}

#[test]
fn a_damaged_pin_is_counted_and_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::at(1_000_000);
    let store = at(folder.path(), 20, &time);
    fill(&store, 0..3, TTL);
    store.pin("good", &keys([0])).unwrap();
    store.pin("bad", &keys([1, 2])).unwrap();
    let path = folder.path().join("pins/bad.pin");
    let whole = fs::read(&path).unwrap();
    let mut damages: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        damages.push(bytes);
    }
    damages.extend([[&whole[..], b"\n"].concat(), [&whole[..], &whole].concat(), vec![0xff; 300]]);
    for damage in &damages {
        fs::write(&path, damage).unwrap();
        let listed = store.pins().unwrap();
        assert_eq!((listed.found.len(), listed.damaged), (1, 1), "{:?}", String::from_utf8_lossy(damage));
    }
    // A file that claims a size of terabytes is not read.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let fresh = at(folder.path(), 20, &time);
    assert_eq!((names(&fresh), fresh.pins().unwrap().damaged), (vec!["good".to_string()], 1));
    fresh.sweep().unwrap();
    assert_eq!(wait(fresh.contains(&keys([0, 1, 2]))).unwrap(), [true; 3], "nothing is evicted early");
    time.advance(1_000);
    fresh.sweep().unwrap();
    assert_eq!(wait(fresh.contains(&keys([0, 1, 2]))).unwrap(), [true, false, false]);
    assert!(path.exists(), "an unknown pin file is not removed");
    assert_eq!(fresh.usage().failures, 0);

    assert_eq!(fresh.pin("bad", &keys([0])).unwrap().missing, 0);
    assert_eq!((names(&fresh).len(), fresh.pins().unwrap().damaged), (2, 0), "pinned anew");
    fs::write(&path, b"").unwrap();
    assert!(fresh.unpin("bad").unwrap() && !path.exists(), "or unpinned");
}

#[cfg(unix)]
#[test]
fn only_valid_pin_files_are_pins() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), KIB << 10);
    store.pin("real", &keys([1])).unwrap();
    let pins = folder.path().join("pins");
    let real = pins.join("real.pin");
    std::os::unix::fs::symlink(&real, pins.join("link.pin")).unwrap();
    fs::create_dir(pins.join("folder.pin")).unwrap();
    fs::copy(&real, pins.join("Upper.pin")).unwrap();
    fs::copy(&real, pins.join("real.pin.bak")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(pins.join("pipe.pin")).status().unwrap().success());
    assert_eq!((names(&store), store.pins().unwrap().damaged), (vec!["real".to_string()], 0));
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
    assert_eq!(mode(&pins) & 0o777, 0o700);
    wait(store.clear()).unwrap();
    assert!(!real.exists() && pins.join("Upper.pin").exists() && pins.join("real.pin.bak").exists());
}

#[cfg(unix)]
#[test]
fn a_process_killed_while_pinning_leaves_the_pin_from_before_or_after() {
    let (few, many) = (vec![key(1)], (0..200).map(key).collect::<Vec<StoreKey>>());
    if let Some(folder) = child() {
        let store = open(&folder, KIB << 20);
        for chain in [&few, &many].into_iter().cycle() {
            store.pin("swinging", chain).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "store::pins::a_process_killed_while_pinning_leaves_the_pin_from_before_or_after";
    let store = open(folder.path(), KIB << 20);
    let stamp = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    for _ in 0..5 {
        let path = folder.path().join("pins/swinging.pin");
        let before = stamp(&path);
        let mut child = again(name, folder.path(), "exec \"$0\" --exact \"$1\"").spawn().unwrap();
        for _ in 0..2_000 {
            if stamp(&path) != before {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = store.pins().unwrap();
        assert_eq!((listed.found.len(), listed.damaged), (1, 0), "the child pinned nothing, or a part");
        assert!([&few, &many].contains(&&listed.found[0].keys));
    }
    let later = Time::at(system_clock()() + 3_600_000);
    at(folder.path(), 20, &later).sweep().unwrap();
    assert_eq!(files(folder.path()).len(), 1, "its unfinished file is swept");
}
