//! Tampered cache directories: no call panics or hangs, every answer is the block that was requested, and foreign files stay as
//! they are, inside the directory and outside.
//!
//! The mutants are the same in every run; `HEADSTART_FUZZ_CASES` makes more of them.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime};

use headstart::store::{
    FilesystemConfig, FilesystemStore, Manifest, MemoryStore, Store, Tiers, TiersConfig, system_clock,
};
use headstart::weights::digest::Remembered;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::support::fuzz_cases;

/// Longer than any mutant takes on any machine; a call that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const BLOCKS: u8 = 5;

/// A change to a directory. Places are numbers, taken modulo the number of existing entries.
#[derive(Clone, Debug)]
enum Mutation {
    Truncate(usize, usize),
    Flip(usize, usize, u8),
    Swap(usize, usize),
    Remove(usize),
    Mode(usize, u32),
    /// Replaces an entry by something else.
    Replace(usize, Thing),
    /// Adds something to a folder.
    Extra(usize, usize, Thing),
}

#[derive(Clone, Debug)]
enum Thing {
    File,
    Folder,
    FullFolder,
    Deep,
    Pipe,
    Link,
    FolderLink,
    Sparse,
    Socket,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Thing::*;
    let at = any::<usize>;
    let thing = || prop::sample::select(vec![File, Folder, FullFolder, Deep, Pipe, Link, FolderLink, Sparse, Socket]);
    let mode = prop::sample::select(vec![0, 0o400, 0o100, 0o755, 0o777, 0o700]);
    prop_oneof![
        2 => (at(), at()).prop_map(|(at, length)| Mutation::Truncate(at, length)),
        2 => (at(), at(), 0u8..8).prop_map(|(at, byte, bit)| Mutation::Flip(at, byte, bit)),
        1 => (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        1 => at().prop_map(Mutation::Remove),
        2 => (at(), mode).prop_map(|(at, mode)| Mutation::Mode(at, mode)),
        4 => (at(), thing()).prop_map(|(at, thing)| Mutation::Replace(at, thing)),
        3 => (at(), at(), thing()).prop_map(|(at, name, thing)| Mutation::Extra(at, name, thing)),
    ]
}

/// Names that the store might use, and some that it does not.
fn name(number: usize) -> String {
    let key = Blob { key: key((number / 16) as u8), ..blob(1, false) }.key;
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    match number % 16 {
        0 => "1-1.tmp".into(),
        1 => "77-0123456789abcdef.tmp".into(),
        2 => "letter.tmp".into(),
        3 => "letter".into(),
        4 => "weights.json".into(),
        5 => "weights.json.0.tmp".into(),
        6 => "kept.pin".into(),
        7 => "Letter.pin".into(),
        8 => format!("{hex}.manifest"),
        9 | 10 => format!("{hex}.safetensors"),
        11 => format!("{hex}.SAFETENSORS"),
        12 => "tenants".into(),
        13 => "0123456789abcdef".into(),
        14 => ["0", "a", "f"][number / 16 % 3].into(),
        _ => "blocks".into(),
    }
}

/// Everything below a folder, without following links.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).into_iter().filter(|_| !folder.is_symlink());
    for entry in entries.flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found.sort();
    found
}

fn put(path: &Path, thing: &Thing, outside: &Path) -> io::Result<()> {
    match thing {
        Thing::File => fs::write(path, b"a letter")?,
        Thing::Folder => fs::create_dir(path)?,
        Thing::FullFolder => {
            fs::create_dir(path)?;
            fs::write(path.join("letter"), b"a letter")?;
        }
        Thing::Deep => fs::create_dir_all((0..60).fold(path.to_owned(), |path, _| path.join("a")))?,
        Thing::Pipe => drop(Command::new("mkfifo").arg(path).stderr(Stdio::null()).status()?),
        Thing::Link => symlink(outside.join("1-1.tmp"), path)?,
        Thing::FolderLink => symlink(outside, path)?,
        Thing::Sparse => File::create(path)?.set_len(1 << 36)?,
        Thing::Socket => {
            let short = outside.with_file_name("s");
            drop(UnixListener::bind(&short)?);
            fs::rename(short, path)?;
        }
    }
    if matches!(thing, Thing::File | Thing::Sparse) {
        let then = SystemTime::now() - Duration::from_secs(9_999);
        File::options().write(true).open(path)?.set_times(FileTimes::new().set_accessed(then))?;
    }
    Ok(())
}

fn clear(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// An entry that an earlier mutation made inaccessible stays as it is.
fn mutate(root: &Path, outside: &Path, mutation: &Mutation) -> io::Result<()> {
    let itself = Some(root.to_owned()).filter(|root| root.symlink_metadata().is_ok());
    let all: Vec<PathBuf> = itself.into_iter().chain(walk(root)).collect();
    if all.is_empty() {
        return Ok(());
    }
    let kind = |path: &Path| path.symlink_metadata().map(|found| (found.is_file(), found.is_dir())).unwrap_or_default();
    let files: Vec<&PathBuf> = all.iter().filter(|path| kind(path).0).collect();
    let folders: Vec<&PathBuf> = all.iter().filter(|path| kind(path).1).collect();
    let file = |at: usize| files.get(at % files.len().max(1)).copied().ok_or(io::ErrorKind::NotFound);
    match mutation {
        Mutation::Truncate(at, length) => {
            let file = File::options().write(true).open(file(*at)?)?;
            file.set_len(*length as u64 % (file.metadata()?.len() + 2))?;
        }
        Mutation::Flip(at, byte, bit) => {
            let file = file(*at)?;
            if fs::metadata(file)?.len() < 1 << 20 {
                let mut bytes = fs::read(file)?;
                if let Some(byte) = (!bytes.is_empty()).then(|| byte % bytes.len()) {
                    bytes[byte] ^= 1 << bit;
                }
                fs::write(file, bytes)?;
            }
        }
        Mutation::Swap(a, b) => {
            let (a, b, aside) = (file(*a)?, file(*b)?, root.with_file_name("aside"));
            for (from, to) in [(a, &aside), (b, a), (&aside, b)] {
                let _ = fs::rename(from, to);
            }
        }
        Mutation::Remove(at) => clear(&all[at % all.len()])?,
        Mutation::Mode(at, mode) => {
            let path = &all[at % all.len()];
            if !path.is_symlink() {
                fs::set_permissions(path, Permissions::from_mode(*mode))?;
            }
        }
        Mutation::Replace(at, thing) => {
            let path = &all[at % all.len()];
            clear(path)?;
            match thing {
                // A link in the root's place would give the store permission to write there.
                Thing::FolderLink if path == root => put(path, &Thing::Link, outside)?,
                thing => put(path, thing, outside)?,
            }
        }
        Mutation::Extra(at, number, thing) => {
            if let Some(folder) = folders.get(at % folders.len().max(1)) {
                let path = folder.join(name(*number));
                clear(&path)?;
                put(&path, thing, outside)?;
            }
        }
    }
    Ok(())
}

/// Whether the store may replace and remove a file of that name in that place.
fn is_ours(root: &Path, path: &Path) -> bool {
    let path = path.strip_prefix(root).unwrap().to_str().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    match parts[..] {
        ["blocks", a, b, name] | ["manifests", a, b, name] => {
            let (stem, kind) = name.split_once('.').unwrap_or_default();
            let fits = if parts[0] == "blocks" { kind == "safetensors" } else { kind == "manifest" };
            fits && stem.len() == 64 && hex(stem) && stem.starts_with(&format!("{a}{b}"))
        }
        ["tmp", name] => {
            let (number, own) = name.strip_suffix(".tmp").and_then(|name| name.split_once('-')).unwrap_or_default();
            hex(number) && hex(own)
        }
        ["pins", name] => name.ends_with(".pin") && !name.contains(char::is_uppercase),
        ["weights.json"] => true,
        [name] => name.strip_prefix("weights.json.").and_then(|name| name.strip_suffix(".tmp")).is_some_and(hex),
        _ => false,
    }
}

/// The entries that must be unchanged afterwards.
fn strange(root: &Path, ours: &dyn Fn(&Path) -> bool) -> BTreeMap<PathBuf, String> {
    let what = |path: &Path| {
        let Ok(found) = fs::symlink_metadata(path) else { return "closed".to_owned() };
        match () {
            _ if found.is_file() && found.len() < 1 << 20 => format!("{:?}", fs::read(path).ok()),
            _ if found.is_file() => format!("{} bytes", found.len()),
            _ => format!("{:?} {:?}", found.file_type(), fs::read_link(path).ok()),
        }
    };
    let others = walk(root).into_iter().filter(|path| !ours(path));
    others.map(|path| (path.clone(), what(&path))).collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    before: usize,
    after: usize,
}

fn blocks() -> Vec<Blob> {
    let block = |n: u8| Blob { key: key(n + 1), parent: key(n), tokens: vec![n.into(); 16], ..blob(16, n == 3) };
    (0..BLOCKS).map(block).collect()
}

fn run(mutations: &[Mutation]) -> Outcome {
    // On a file system in memory, syncing is fast.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let [root, outside] = ["cache", "outside"].map(|name| folder.path().join(name));
    let disk = || FilesystemStore::new(&root, FilesystemConfig::default(), system_clock());
    let tiers = || {
        let memory = MemoryStore::new(0, system_clock());
        Tiers::new(memory, vec![Box::new(disk())], TiersConfig::default())
    };
    let blocks = blocks();
    let load = || {
        let tiers = tiers();
        let found = blocks.iter().filter(|block| {
            let loaded = wait(tiers.load(&expected(block)));
            assert!(loaded.as_ref().is_none_or(|loaded| loaded.value == **block), "another block");
            loaded.is_some()
        });
        found.count()
    };
    let first = tiers();
    blocks.iter().for_each(|block| wait(first.save(block)));
    disk().pin("kept", &[blocks[0].key]).unwrap();
    wait(disk().put(&Manifest::key(&key(9)), &vec![7; 99].into(), None)).unwrap();
    fs::write(root.join("weights.json"), b"{\"entries\": []}").unwrap();
    assert_eq!(load(), blocks.len());
    fs::create_dir_all(outside.join("a")).unwrap();
    for name in (0..64).map(name).filter(|name| name.contains('.')) {
        fs::write(outside.join(&name), b"somebody's").unwrap();
    }

    mutations.iter().for_each(|mutation| drop(mutate(&root, &outside, mutation)));
    let (within, without) = (strange(&root, &|path| is_ours(&root, path)), strange(&outside, &|_| false));
    let before = load();
    let keys: Vec<StoreKey> = blocks.iter().map(|block| block.key).collect();
    let store = disk();
    let _ = (store.sweep(), store.keys(), store.pins(), store.pin("more", &keys[..1]), wait(store.contains(&keys)));
    let listed = store.chains(&|_| None);
    let _ = wait(store.get_many(&keys, 100));
    Remembered::new(&root).files();
    let again = tiers();
    blocks.iter().for_each(|block| wait(again.save(block)));
    let after = load();
    listed.iter().flat_map(|listed| &listed.found).for_each(|chain| drop(store.remove_chain(&chain.key)));
    let _ = (FilesystemStore::tenants(&root), store.unpin("kept"), wait(store.remove(&keys[0])), wait(store.clear()));
    let kept = strange(&root, &|path| is_ours(&root, path));
    for (path, what) in within {
        let shown = path.strip_prefix(&root).unwrap();
        // The exception: an empty folder in a file's place is removed to make room for the file.
        let makes_room =
            path.ancestors().any(|above| above != root && above.starts_with(&root) && is_ours(&root, above));
        assert!(makes_room || kept.get(&path) == Some(&what), "{}: {what}: {:?}", shown.display(), kept.get(&path));
    }
    assert_eq!(strange(&outside, &|_| false), without, "outside");
    Outcome { before, after }
}

#[test]
fn a_mutant_of_a_directory_costs_misses_at_most() {
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, b"a directory that somebody was at");
    let config = Config { cases: fuzz_cases() * 28 / 5, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, seed);
    let total = std::cell::Cell::new([0; 4]);
    let result = runner.run(&prop::collection::vec(mutation(), 1..4), |mutations| {
        let (done, wait) = channel();
        thread::spawn(move || done.send(run(&mutations)));
        match wait.recv_timeout(PATIENCE) {
            Ok(Outcome { before, after }) => {
                let [all, lost, repaired, kept] = total.get();
                let whole = usize::from(BLOCKS);
                let more = [1, whole - before, after.saturating_sub(before), usize::from(after == whole)];
                total.set([all + more[0], lost + more[1], repaired + more[2], kept + more[3]]);
                Ok(())
            }
            Err(problem) => Err(TestCaseError::fail(format!("it panicked or hangs: {problem}"))),
        }
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let [all, lost, repaired, kept] = total.get();
    assert!(all >= 5 && lost > 0 && 2 * repaired > lost && 2 * kept > all, "{:?}", total.get());
}
