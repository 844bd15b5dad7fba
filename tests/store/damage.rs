//! Damage to stored files and to the processes that write them: each costs a counted miss, and no later run trusts what is
//! left.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use headstart::store::{FilesystemConfig, FilesystemStore, MemoryStore, Seal, Store, TierStats, Tiers, TiersConfig};
#[cfg(unix)]
use headstart::store::{StoreError, system_clock};

use super::faults::files;
#[cfg(unix)]
use super::faults::{KIB, again, child, open, value};
use super::*;
use crate::support::blob::regions;

fn disk(folder: &Path) -> FilesystemStore {
    let store = FilesystemStore::new(folder, FilesystemConfig::default(), Time::at(1_000_000).clock());
    store.sealed(Seal::new(b"a secret"))
}

/// The bytes of a blob's file in a directory.
fn kept(blob: &Blob) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    wait(disk(folder.path()).put(&blob.key, &blob.encode().into(), None)).unwrap();
    fs::read(disk(folder.path()).path(&blob.key)).unwrap()
}

fn tiers(folder: &Path) -> Tiers {
    let memory = MemoryStore::new(1 << 20, Time::at(1_000_000).clock());
    Tiers::new(memory, vec![Box::new(disk(folder))], TiersConfig::default())
}

fn stat(tiers: &Tiers) -> TierStats {
    tiers.stats()[1].1.clone()
}

/// Writes `damage` to the file of `blob`, and checks three later runs.
fn costs_one_miss(folder: &Path, blob: &Blob, damage: &[u8], what: &str) {
    let first = tiers(folder);
    wait(first.save(blob));
    assert_eq!(first.stats()[1].1.saved, 1, "{what}: the earlier damage was still there");
    let path = disk(folder).path(&blob.key);
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, damage).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();

    let second = tiers(folder);
    assert!(wait(second.load(&expected(blob))).is_none(), "{what} was accepted");
    let stats = stat(&second);
    assert_eq!((stats.rejected.values().sum::<u64>(), stats.hits, stats.failures), (1, 0, 0), "{what}");
    assert!(files(folder).is_empty(), "{what} was left behind");
    let third = tiers(folder);
    assert!(wait(third.load(&expected(blob))).is_none(), "{what}");
    assert_eq!((stat(&third).misses, stat(&third).rejected.len()), (1, 0), "{what}: the third run met it again");
}

#[test]
fn a_flipped_bit_in_any_region_costs_one_miss() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(16, true);
    let whole = kept(&blob);
    let regions = regions(&whole);
    let names: Vec<&str> = regions.keys().map(String::as_str).collect();
    for name in
        ["length", "header", "tokens", "last_hidden", "k.0", "v.0", "k.1", "v.1", "value of digest", "value of key"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    for (name, region) in regions {
        for at in [region.start, region.start + region.len() / 2, region.end - 1] {
            for bit in [0, 6, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                costs_one_miss(folder.path(), &blob, &bytes, &format!("bit {bit} of byte {at}, {name}"));
            }
        }
    }
}

#[test]
fn a_cut_in_any_region_costs_one_miss() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(16, true);
    let whole = kept(&blob);
    for (name, region) in regions(&whole) {
        for length in [region.start, region.start + region.len() / 2, region.end - 1] {
            costs_one_miss(folder.path(), &blob, &whole[..length], &format!("a file that ends in {name}"));
            // As a file system leaves a file that was not completely written when the power failed.
            let mut zeros = whole.clone();
            zeros[length..].fill(0);
            costs_one_miss(folder.path(), &blob, &zeros, &format!("a file of zeros from {name} on"));
        }
    }
}

#[test]
fn files_swapped_in_any_order_cost_one_miss_each() {
    let blocks: Vec<Blob> = (1..5)
        .map(|n| Blob { key: key(n + 1), parent: key(n), tokens: vec![n.into(); 16], ..blob(16, false) })
        .collect();
    for shift in 1..4 {
        let folder = tempfile::tempdir().unwrap();
        let first = tiers(folder.path());
        blocks.iter().for_each(|block| wait(first.save(block)));
        wait(first.flush());
        for (at, block) in blocks.iter().enumerate() {
            fs::write(disk(folder.path()).path(&block.key), kept(&blocks[(at + shift) % 4])).unwrap();
        }
        let second = tiers(folder.path());
        assert!(blocks.iter().all(|block| wait(second.load(&expected(block))).is_none()));
        assert_eq!(stat(&second).rejected, BTreeMap::from([("forged", 4)]));
        assert!(files(folder.path()).is_empty());
    }
}

/// Three processes and this one use the same keys, with room for a third of them.
#[cfg(unix)]
#[test]
fn processes_that_share_a_directory_see_whole_values_or_none() {
    fn work(folder: &Path, seed: u64) -> u32 {
        let store = open(folder, 32 * KIB);
        let (mut state, mut found) = (seed, 0);
        for step in 0..200 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let n = (state >> 33) as u8 % 12;
            match (state >> 50) % 8 {
                0..=2 => wait(store.put(&key(n), &value(n), None)).unwrap(),
                3..=5 => {
                    let got = wait(store.get(&key(n))).unwrap();
                    found += u32::from(got.is_some());
                    assert!(got.is_none_or(|got| got == value(n)), "a value that nobody wrote");
                }
                6 => drop(wait(store.remove(&key(n))).unwrap()),
                _ if step % 3 == 0 => drop(store.pin("shared", &[key(n)]).unwrap()),
                _ => store.sweep().unwrap(),
            }
        }
        assert_eq!(store.usage().failures, 0);
        found
    }
    if let Some(folder) = child() {
        work(&folder, std::process::id().into());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "store::damage::processes_that_share_a_directory_see_whole_values_or_none";
    let start = || again(name, folder.path(), "exec \"$0\" --exact \"$1\"").spawn().unwrap();
    let mut children = [start(), start(), start()];
    let mut found = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        found += work(folder.path(), found.into());
    }
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert!(found > 0, "nothing was ever found");
    let store = open(folder.path(), 32 * KIB);
    store.sweep().unwrap();
    let (blocks, rest): (Vec<_>, Vec<_>) =
        files(folder.path()).into_keys().partition(|path| path.starts_with(folder.path().join("blocks")));
    assert_eq!(rest, [folder.path().join("pins/shared.pin")]);
    assert_eq!(blocks.len() as u64, store.usage().entries);
    assert!(store.usage().bytes <= 32 * KIB);
}

/// Root may write anywhere, so it drops that capability first.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_directory_is_only_read() {
    let lock = |folder: &Path, mode: u32| {
        let set = |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            set(&folder);
            let inner = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(inner.filter(|path| path.is_dir()));
        }
    };
    if let Some(folder) = child() {
        assert!(fs::write(folder.join("probe"), b"").is_err(), "the directory is writable");
        let store = open(&folder, KIB << 10);
        assert_eq!(wait(store.get(&key(1))).unwrap(), Some(value(1)));
        assert_eq!(wait(store.contains(&[key(1), key(2)])).unwrap(), [true, false]);
        for _ in 0..3 {
            assert!(matches!(wait(store.put(&key(2), &value(2), None)), Err(StoreError::Io { .. })));
        }
        assert!(matches!(wait(store.put(&key(2), &value(2), None)), Err(StoreError::Paused { .. })));
        assert_eq!((store.usage().failures, store.usage().refused), (3, 1));
        assert!(matches!(store.pin("p", &[key(1)]), Err(StoreError::Io { .. })));
        assert!(matches!(wait(store.remove(&key(1))), Err(StoreError::Io { .. })));
        let listed = store.chains(&|_| None).unwrap();
        assert_eq!((listed.found.len(), listed.damaged, store.pins().unwrap().found.len()), (0, 2, 0));
        store.sweep().unwrap();
        assert_eq!(wait(store.get(&key(1))).unwrap(), Some(value(1)));

        // A damaged block that cannot be removed is refused each time.
        let blob = blob(4, false);
        let Blob { key, .. } = blob;
        let memory = MemoryStore::new(1 << 20, system_clock());
        let tiers = Tiers::new(memory, vec![Box::new(open(&folder, KIB << 10))], TiersConfig::default());
        for _ in 0..2 {
            assert!(wait(tiers.load(&Expected { key: super::key(3), ..expected(&blob) })).is_none());
        }
        assert_eq!((stat(&tiers).rejected["key"], stat(&tiers).failures, key), (2, 2, super::key(1)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), KIB << 10);
    wait(store.put(&key(1), &value(1), None)).unwrap();
    wait(store.put(&key(3), &blob(4, false).encode().into(), None)).unwrap();
    let before = files(folder.path());
    lock(folder.path(), 0o555);
    let shell = "if [ \"$(id -u)\" = 0 ]; then exec setpriv --bounding-set -dac_override \"$0\" --exact \"$1\"; fi; exec \"$0\" --exact \"$1\"";
    let name = "store::damage::a_read_only_directory_is_only_read";
    let done = again(name, folder.path(), shell).stdout(std::process::Stdio::piped()).output().unwrap();
    lock(folder.path(), 0o755);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(files(folder.path()), before);
}
