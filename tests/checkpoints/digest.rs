//! The digest that names KV: the same for the same weights wherever they are stored, and computed once.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use headstart::model::Role;
use headstart::quant::Format;
use headstart::store::Seal;
use headstart::weights::digest::Remembered;
use headstart::weights::{ByteSource, Checkpoint, FileSource, Identity, Kind, MemorySource, ReadFuture};
use pollster::block_on;
use sha2::{Digest, Sha256};

use super::{safetensors as st, tiny};

/// Counts the bytes that are read.
struct Counting {
    source: Box<dyn ByteSource>,
    read: Rc<Cell<u64>>,
}

impl ByteSource for Counting {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a> {
        self.read.set(self.read.get() + out.len() as u64);
        self.source.read(offset, out)
    }

    fn identity(&self) -> Option<Identity> {
        self.source.identity()
    }
}

fn counted(mut checkpoint: Checkpoint) -> (Checkpoint, Rc<Cell<u64>>) {
    let read = Rc::new(Cell::new(0));
    let count = |source| Box::new(Counting { source, read: read.clone() }) as Box<dyn ByteSource>;
    checkpoint.parts = checkpoint.parts.into_iter().map(count).collect();
    (checkpoint, read)
}

fn digest(checkpoint: &Checkpoint) -> String {
    block_on(checkpoint.digest(&mut |_, _| {})).unwrap()
}

fn tiny_file() -> Vec<u8> {
    tiny::gguf(&tiny::config(), Format::Q8_0).build()
}

fn memory(bytes: &[u8]) -> Checkpoint {
    block_on(Checkpoint::gguf(Box::new(MemorySource::new("tiny.gguf", bytes)))).unwrap()
}

/// Sets a file's modification time to `seconds` ago.
fn age(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

/// The digest from `remembered`, and how many bytes had to be read for it.
fn ask(remembered: &Remembered, path: &Path) -> (String, u64) {
    let (checkpoint, read) = counted(block_on(Checkpoint::open(path)).unwrap());
    (block_on(remembered.digest(&checkpoint, &mut |_, _| {})).unwrap(), read.get())
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn one_file_has_the_digest_of_its_bytes() {
    let mut bytes = tiny_file();
    let first = digest(&memory(&bytes));
    assert_eq!(first, sha(&bytes));
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.gguf", "b.gguf"] {
        fs::write(directory.path().join(name), &bytes).unwrap();
        assert_eq!(digest(&block_on(Checkpoint::open(directory.path().join(name))).unwrap()), first);
    }
    *bytes.last_mut().unwrap() ^= 1;
    assert_ne!(digest(&memory(&bytes)), first);
}

#[test]
fn a_file_of_several_pieces_is_hashed_whole_with_progress() {
    let mut bytes = tiny_file();
    bytes.resize(9 << 20, 7);
    let mut steps = Vec::new();
    let checkpoint = memory(&bytes);
    assert_eq!(block_on(checkpoint.digest(&mut |done, total| steps.push((done, total)))).unwrap(), sha(&bytes));
    let total = bytes.len() as u64;
    assert!(steps.len() > 2 && steps.is_sorted(), "{steps:?}");
    assert!(steps.iter().all(|step| step.1 == total) && steps.last() == Some(&(total, total)));
}

/// The tiny model in two shards. The index takes the final norm, which both hold, from the shard `norm_from`.
fn shards(norm_from: &str) -> st::Directory {
    let config = tiny::config();
    let roles = config.roles();
    let (first, second) = roles.split_at(7);
    let mut files = tiny::directory(&config);
    files.remove("model.safetensors");
    let both = |roles: &[Role]| {
        let mut roles = roles.to_vec();
        roles.retain(|role| *role != Role::FinalNorm);
        roles.push(Role::FinalNorm);
        tiny::safetensors(&config, &roles)
    };
    files.insert("a.safetensors".into(), both(first));
    files.insert("b.safetensors".into(), both(second));
    let shard = |role: &Role| match role {
        Role::FinalNorm => norm_from,
        role if first.contains(role) => "a.safetensors",
        _ => "b.safetensors",
    };
    let map: serde_json::Map<String, serde_json::Value> =
        roles.iter().map(|role| (role.name(Kind::HuggingFace), shard(role).into())).collect();
    files.insert("model.safetensors.index.json".into(), serde_json::json!({ "weight_map": map }).to_string().into());
    files
}

fn open(files: &st::Directory) -> Checkpoint {
    block_on(Checkpoint::safetensors("dir", st::sources(files))).unwrap()
}

#[test]
fn the_digest_covers_every_shard_and_the_index() {
    let files = shards("a.safetensors");
    let first = digest(&open(&files));
    assert_eq!(first, digest(&open(&files)));
    assert_eq!(first.len(), 64);
    for name in ["a.safetensors", "b.safetensors"] {
        let mut changed = files.clone();
        *changed.get_mut(name).unwrap().last_mut().unwrap() ^= 1;
        assert_ne!(digest(&open(&changed)), first, "{name}");
    }
    assert_ne!(digest(&open(&shards("b.safetensors"))), first, "another index");
    // Other files do not count.
    let mut other = files.clone();
    other.insert("chat_template.jinja".into(), b"{{ messages }}".to_vec());
    assert_eq!(digest(&open(&other)), first);
}

#[test]
fn a_remembered_digest_costs_no_read_until_the_file_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let remembered = Remembered::new(directory.path().join("new/cache"));
    let mut bytes = tiny_file();
    let len = bytes.len() as u64;
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    assert_eq!(ask(&remembered, &path), (sha(&bytes), len));
    assert_eq!(ask(&remembered, &path), (sha(&bytes), 0));

    #[cfg(unix)]
    {
        let link = directory.path().join("link.gguf");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(ask(&remembered, &link), (sha(&bytes), 0), "by another path");
    }
    let copy = directory.path().join("copy.gguf");
    fs::write(&copy, &bytes).unwrap();
    assert_eq!(ask(&remembered, &copy), (sha(&bytes), len), "another file");

    age(&path, 50);
    assert_eq!(ask(&remembered, &path), (sha(&bytes), len), "another mtime");
    assert_eq!(ask(&remembered, &path).1, 0);

    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    bytes.extend([0; 32]);
    fs::write(&path, &bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
    assert_eq!(ask(&remembered, &path), (sha(&bytes), len + 32), "another size");
    assert_eq!(ask(&remembered, &path).1, 0);
}

#[test]
fn only_the_shard_that_changed_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let files = shards("a.safetensors");
    for (name, bytes) in &files {
        fs::write(directory.path().join(name), bytes).unwrap();
        age(&directory.path().join(name), 100);
    }
    let remembered = Remembered::new(directory.path().join("cache"));
    let (first, _) = ask(&remembered, directory.path());
    assert_eq!(first, digest(&open(&files)));
    age(&directory.path().join("b.safetensors"), 60);
    assert_eq!(ask(&remembered, directory.path()), (first, files["b.safetensors"].len() as u64));
}

#[test]
fn a_file_that_may_change_within_its_mtime_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let remembered = Remembered::new(directory.path());
    let bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    let far_ahead = SystemTime::now() + Duration::from_secs(3600);
    for mtime in [SystemTime::now(), far_ahead, SystemTime::UNIX_EPOCH - Duration::from_secs(9)] {
        File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
        for _ in 0..2 {
            assert_eq!(ask(&remembered, &path), (sha(&bytes), bytes.len() as u64), "{mtime:?}");
        }
    }
    assert!(!directory.path().join("weights.json").exists());

    // Bytes in memory have no identity to be remembered by.
    let (checkpoint, read) = counted(memory(&bytes));
    for _ in 0..2 {
        block_on(remembered.digest(&checkpoint, &mut |_, _| {})).unwrap();
    }
    assert_eq!(read.get(), 2 * bytes.len() as u64);
}

/// A source whose file is written, with some more bytes, while it is read.
struct Written {
    source: Box<dyn ByteSource>,
    path: std::path::PathBuf,
    more: &'static [u8],
}

impl ByteSource for Written {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a> {
        fs::write(&self.path, [&fs::read(&self.path).unwrap(), self.more].concat()).unwrap();
        age(&self.path, 100);
        self.source.read(offset, out)
    }

    fn identity(&self) -> Option<Identity> {
        self.source.identity()
    }
}

#[test]
fn a_file_that_changes_while_it_is_hashed_is_not_remembered() {
    for more in [&b"more"[..], b""] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tiny.gguf");
        fs::write(&path, tiny_file()).unwrap();
        age(&path, 200);
        let remembered = Remembered::new(directory.path());
        let mut checkpoint = block_on(Checkpoint::open(&path)).unwrap();
        let source = checkpoint.parts.remove(0);
        checkpoint.parts.push(Box::new(Written { source, path: path.clone(), more }));
        block_on(remembered.digest(&checkpoint, &mut |_, _| {})).unwrap();
        assert!(!directory.path().join("weights.json").exists());
        assert_eq!(ask(&remembered, &path).0, sha(&fs::read(&path).unwrap()));
    }
}

#[test]
fn a_damaged_or_unusable_list_costs_only_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    let hashed = (sha(&bytes), bytes.len() as u64);
    let remembered = Remembered::new(directory.path());
    ask(&remembered, &path);
    let list = directory.path().join("weights.json");
    let whole = fs::read_to_string(&list).unwrap();
    for damaged in [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        "[]".to_owned(),
        whole.replace(&hashed.0, &hashed.0[1..]),
        whole.replace(&hashed.0, &"X".repeat(64)),
        " ".repeat(9 << 20) + &whole,
    ] {
        fs::write(&list, &damaged).unwrap();
        assert_eq!(ask(&remembered, &path), hashed, "{:.80}", damaged.trim_start());
        assert_eq!(ask(&remembered, &path).1, 0, "repaired");
    }
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    assert_eq!(ask(&remembered, &path), hashed, "a directory in its place");
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing is left behind: {names:?}");
    assert_eq!(ask(&Remembered::new(&path), &path), hashed, "no directory");
}

#[test]
fn the_oldest_entries_are_forgotten_beyond_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    fs::write(&path, tiny_file()).unwrap();
    age(&path, 100);
    let list = directory.path().join("weights.json");
    let entry = |n: usize| serde_json::json!({ "path": format!("/models/{n}"), "size": n, "mtime_ns": 7, "sha256": "0".repeat(64) });
    let entries: Vec<_> = (0..1000).map(entry).collect();
    fs::write(&list, serde_json::json!({ "entries": entries }).to_string()).unwrap();
    let remembered = Remembered::new(directory.path());
    ask(&remembered, &path);
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let kept = kept["entries"].as_array().unwrap();
    assert_eq!((kept.len(), &kept[0]["path"]), (256, &"/models/745".into()));
    assert_eq!(ask(&remembered, &path).1, 0);
}

#[test]
fn concurrent_writers_leave_a_complete_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = |n: usize| directory.path().join(format!("{n}.gguf"));
    let bytes = tiny_file();
    for n in 0..8 {
        fs::write(path(n), &bytes).unwrap();
        age(&path(n), 100);
    }
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || {
                let remembered = Remembered::new(path(n).parent().unwrap());
                for round in 0..20 {
                    age(&path(n), 100 + round);
                    assert_eq!(ask(&remembered, &path(n)).0, sha(&tiny_file()));
                }
            });
        }
        for _ in 0..200 {
            if let Ok(list) = fs::read(directory.path().join("weights.json")) {
                let list: serde_json::Value = serde_json::from_slice(&list).expect("complete whenever it is read");
                assert!(list["entries"].as_array().is_some_and(|entries| !entries.is_empty()));
            }
        }
    });
    let remembered = Remembered::new(directory.path());
    assert!((0..8).any(|n| ask(&remembered, &path(n)).1 == 0), "the last writer's entry is there");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 9, "nothing is left behind");
}

/// All metadata stay as they were, so only the bytes can tell.
#[cfg(unix)]
#[test]
fn a_file_changed_in_place_is_detected_by_its_bytes() {
    use std::os::unix::fs::{FileExt, MetadataExt};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let mut bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    let remembered = Remembered::new(directory.path());
    ask(&remembered, &path);
    let before = fs::metadata(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    // As if the inode's change time had stood still.
    let changed = |found: &fs::Metadata| (found.ctime() * 1_000_000_000 + found.ctime_nsec()).to_string();
    let list = directory.path().join("weights.json");
    let text = fs::read_to_string(&list).unwrap();
    let (old, new) = (changed(&before), changed(&fs::metadata(&path).unwrap()));
    assert!(old != new && text.contains(&old), "{text}");
    fs::write(&list, text.replace(&old, &new)).unwrap();
    assert_eq!(ask(&remembered, &path), (sha(&bytes), bytes.len() as u64));
    assert_eq!(ask(&remembered, &path).1, 0);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_the_list_or_a_file_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    let make_pipe = |path: &Path| {
        fs::remove_file(path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let remembered = Remembered::new(directory.path());
    ask(&remembered, &path);
    let list = directory.path().join("weights.json");
    make_pipe(&list);
    assert!(remembered.files().is_empty());
    assert_eq!(ask(&remembered, &path), (sha(&bytes), bytes.len() as u64));
    assert_eq!(ask(&remembered, &path).1, 0, "it is replaced");
    // A link is neither read nor written through.
    let elsewhere = directory.path().join("elsewhere.json");
    fs::rename(&list, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &list).unwrap();
    let before = fs::read(&elsewhere).unwrap();
    assert_eq!(ask(&remembered, &path), (sha(&bytes), bytes.len() as u64));
    assert!(!list.is_symlink() && fs::read(&elsewhere).unwrap() == before);
    make_pipe(&path);
    assert!(remembered.files().is_empty());
    assert!(FileSource::open(&path).is_err());
}

#[test]
fn leftovers_of_dead_writers_do_no_harm_and_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    let left = |name: String, seconds: u64| {
        let path = directory.path().join(name);
        fs::write(&path, b"half").unwrap();
        age(&path, seconds);
        path
    };
    let old: Vec<_> = (0..100).map(|n| left(format!("weights.json.{n}.tmp"), 9_000)).collect();
    let kept = [
        left("weights.json.100.tmp".into(), 60),
        left("weights.json.letter.tmp".into(), 9_000),
        left("weights.json.tmp".into(), 9_000),
        left("letter.tmp".into(), 9_000),
    ];
    let remembered = Remembered::new(directory.path());
    ask(&remembered, &path);
    assert_eq!(ask(&remembered, &path), (sha(&bytes), 0));
    assert!(old.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
}

/// Not even its own list is trusted if others can write to the directory.
#[cfg(unix)]
#[test]
fn a_directory_that_others_can_write_to_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    let cache = directory.path().join("cache");
    let remembered = Remembered::new(&cache);
    ask(&remembered, &path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&cache), mode(&cache.join("weights.json"))), (0o700, 0o600));
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(remembered.files().is_empty());
    assert_eq!(ask(&remembered, &path), (sha(&bytes), bytes.len() as u64));
}

#[cfg(unix)]
#[test]
fn a_list_written_without_the_key_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    let bytes = tiny_file();
    fs::write(&path, &bytes).unwrap();
    age(&path, 100);
    let cache = directory.path().join("cache");
    let open = |secret: &[u8]| Remembered::new(&cache).sealed(Seal::new(secret));
    let hashed = (sha(&bytes), bytes.len() as u64);
    assert_eq!(ask(&open(b"one"), &path), hashed);
    assert_eq!(ask(&open(b"one"), &path), (sha(&bytes), 0), "then it is remembered");
    assert_eq!(open(b"one").files().len(), 1);
    assert!(open(b"two").files().is_empty());
    let list = cache.join("weights.json");
    let whole = fs::read_to_string(&list).unwrap();
    for changed in [
        whole.replace(&sha(&bytes), &"0".repeat(64)),
        whole.replacen("\"mac\"", "\"man\"", 1),
        whole.replacen("\"mac\": \"", "\"mac\": \"0", 1),
    ] {
        assert_ne!(changed, whole);
        fs::write(&list, changed).unwrap();
        assert!(open(b"one").files().is_empty());
        assert_eq!(ask(&open(b"one"), &path), hashed);
    }
    assert_eq!(ask(&Remembered::default(), &path), hashed, "nothing is remembered");
}
