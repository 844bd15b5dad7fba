//! A directory that others can access, or that contains foreign entries: refused or passed over, and never read, written or
//! swept.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use headstart::store::{FilesystemConfig, FilesystemStore, Manifest, Store, StoreError, system_clock};
use tempfile::TempDir;

use super::faults::{KIB, again, child, files, open, value};
use super::*;

/// Another user, if the test may give files away.
const STRANGER: u32 = 12_345;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Whether the test may give files to another user; prints a note if not.
fn is_root(folder: &Path) -> bool {
    let root = fs::metadata(folder).unwrap().uid() == 0;
    if !root {
        println!("skipped: only root can give a file to another user");
    }
    root
}

/// A cache with blocks, a manifest and a pin.
fn filled(root: &Path) -> FilesystemStore {
    let store = open(root, KIB << 10);
    for n in 0..3 {
        wait(store.put(&key(n), &value(n), None)).unwrap();
    }
    wait(store.put(&Manifest::key(&key(9)), &value(9), None)).unwrap();
    store.pin("kept", &[key(1)]).unwrap();
    store
}

/// The contents of a folder, to check that nothing changes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_keys().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Checks that every operation is refused with the reason.
fn refuses(root: &Path, named: &Path, reason: &str) {
    let store = open(root, KIB << 10);
    let before = contents(named);
    let said = |error: StoreError| match &error {
        StoreError::Io { path, .. } if path == named => {
            assert!(error.to_string().contains(reason), "{error}");
        }
        _ => panic!("{error}"),
    };
    said(store.check().unwrap_err());
    said(wait(store.get(&key(1))).unwrap_err());
    said(wait(store.contains(&[key(1)])).unwrap_err());
    said(wait(store.put(&key(1), &value(1), None)).unwrap_err());
    said(wait(store.remove(&key(1))).unwrap_err());
    said(wait(store.clear()).unwrap_err());
    said(store.sweep().unwrap_err());
    said(store.keys().unwrap_err());
    said(store.pins().unwrap_err());
    said(store.pin("more", &[key(1)]).unwrap_err());
    said(store.unpin("kept").unwrap_err());
    said(store.chains(&|_| None).err().unwrap());
    said(FilesystemStore::tenants(root).unwrap_err());
    let salted = FilesystemStore::for_salt(root, "s", FilesystemConfig::default(), system_clock());
    said(wait(salted.put(&key(1), &value(1), None)).unwrap_err());
    assert_eq!(contents(named), before);
}

#[test]
fn a_root_that_others_can_write_to_is_refused() {
    for bits in [0o777, 0o770, 0o1777, 0o722] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("cache");
        filled(&root);
        set_mode(&root, bits);
        refuses(&root, &root, "chmod 700");
        assert_eq!(mode(&root), bits, "the mode of a refused directory is not changed");
        set_mode(&root, 0o700);
        assert_eq!(wait(open(&root, KIB << 10).get(&key(1))).unwrap(), Some(value(1)), "the remedy works");
    }
}

#[test]
fn a_root_that_others_can_read_is_closed_to_them() {
    for bits in [0o755, 0o711, 0o704, 0o2750, 0o555] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("cache");
        filled(&root);
        set_mode(&root, bits);
        assert_eq!(wait(open(&root, KIB << 10).get(&key(1))).unwrap(), Some(value(1)));
        assert_eq!(mode(&root), bits & 0o7700);
    }
}

#[test]
fn a_root_of_another_user_is_refused_to_root_too() {
    let folder = tempfile::tempdir().unwrap();
    if !is_root(folder.path()) {
        return;
    }
    let root = folder.path().join("cache");
    filled(&root);
    chown(&root, Some(STRANGER), None).unwrap();
    refuses(&root, &root, "belongs to user 12345");
}

#[test]
fn a_root_may_be_a_link_of_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
    symlink("real", &link).unwrap();
    let store = open(&link, KIB << 10);
    assert_eq!(wait(store.get(&key(1))).err().map(|error| error.to_string().contains("link to nothing")), Some(true));
    fs::create_dir(&real).unwrap();
    filled(&link);
    assert_eq!(wait(store.get(&key(1))).unwrap(), Some(value(1)));
    assert_eq!(mode(&real), 0o700);
    assert_eq!(wait(open(&real, KIB << 10).get(&key(1))).unwrap(), Some(value(1)));
    assert!(link.is_symlink());
    assert_eq!(wait(open(&link.join(""), KIB << 10).get(&key(1))).unwrap(), Some(value(1)), "with a trailing slash");
    // The link's target must meet the same conditions.
    set_mode(&real, 0o777);
    refuses(&link, &real.canonicalize().unwrap(), "chmod 700");
    set_mode(&real, 0o700);
    if is_root(folder.path()) {
        lchown(&link, Some(STRANGER), None).unwrap();
        refuses(&link, &link, "it is a link, and it belongs to user 12345");
        refuses(&link.join(""), &link, "it is a link, and it belongs to user 12345");
    }
}

/// The path to the root is not checked.
#[test]
fn directories_above_the_root_may_be_links_or_belong_to_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shared")).unwrap();
    set_mode(&folder.path().join("shared"), 0o1777);
    symlink("shared", folder.path().join("link")).unwrap();
    let root = folder.path().join("link/cache");
    filled(&root);
    assert_eq!(wait(open(&root, KIB << 10).get(&key(1))).unwrap(), Some(value(1)));
}

/// The ways in which an inner folder can be unusable.
fn spoil(folder: &Path, outside: &Path, way: &str) {
    match way {
        "a link" => {
            fs::rename(folder, outside).unwrap();
            symlink(outside, folder).unwrap();
        }
        "writable" => set_mode(folder, 0o777),
        "another's" => chown(folder, Some(STRANGER), None).unwrap(),
        "closed" => set_mode(folder, 0),
        "a file" => {
            fs::rename(folder, outside).unwrap();
            fs::write(folder, b"a letter").unwrap();
        }
        _ => unreachable!("{way}"),
    }
}

#[test]
fn an_inner_folder_that_others_can_access_is_passed_over() {
    let home = open(Path::new("/"), 0).path(&key(1));
    let home = home.parent().unwrap().strip_prefix("/").unwrap().to_owned();
    let above = home.parent().unwrap();
    let mut ways = vec!["a link", "writable", "closed", "a file"];
    ways.extend(is_root(tempfile::tempdir().unwrap().path()).then_some("another's"));
    for way in ways {
        for name in [Path::new("blocks"), above, &home] {
            let (_folder, root, outside) = spoilt(name, way);
            let fresh = open(&root, KIB << 10);
            let (before, within) = (contents(&outside), contents(&root.join("manifests")));
            assert_eq!(wait(fresh.get(&key(1))).unwrap(), None, "{name:?} {way}");
            assert_eq!(wait(fresh.contains(&[key(1)])).unwrap(), [false], "{name:?} {way}");
            assert!(!fresh.keys().unwrap().contains(&key(1)), "{name:?} {way}");
            assert!(!wait(fresh.remove(&key(1))).unwrap(), "{name:?} {way}");
            fresh.sweep().unwrap();
            let refused = wait(fresh.put(&key(1), &value(1), None)).unwrap_err();
            assert!(matches!(&refused, StoreError::Io { path, .. } if *path == root.join(name)), "{refused}");
            assert_eq!(contents(&root.join("manifests")), within);
            wait(fresh.clear()).unwrap();
            assert_eq!(contents(&outside), before, "{name:?} {way}");
        }
        let (_folder, root, outside) = spoilt(Path::new("tmp"), way);
        let old = outside.join("1-1.tmp");
        if way == "a link" {
            fs::write(&old, b"a stranger's").unwrap();
            let then = SystemTime::now() - Duration::from_secs(9_999);
            File::options().write(true).open(&old).unwrap().set_times(FileTimes::new().set_accessed(then)).unwrap();
        }
        let before = contents(&outside);
        let fresh = open(&root, KIB << 10);
        fresh.sweep().unwrap();
        assert_eq!(wait(fresh.get(&key(1))).unwrap(), Some(value(1)), "reading still works");
        let refused = wait(fresh.put(&key(5), &value(5), None)).unwrap_err();
        assert!(matches!(&refused, StoreError::Io { path, .. } if *path == root.join("tmp")), "{refused}");
        assert_eq!(contents(&outside), before, "tmp {way}");

        let (_folder, root, outside) = spoilt(Path::new("pins"), way);
        let before = contents(&outside);
        let fresh = open(&root, KIB << 10);
        assert!(fresh.pins().unwrap().found.is_empty() && !fresh.unpin("kept").unwrap(), "pins {way}");
        assert!(fresh.pin("kept", &[key(2)]).is_err());
        wait(fresh.clear()).unwrap();
        assert_eq!(contents(&outside), before, "pins {way}");
    }
}

/// A cache with one spoilt folder, and the path to which that folder may have moved.
fn spoilt(name: &Path, way: &str) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let [root, outside] = ["cache", "outside"].map(|name| folder.path().join(name));
    filled(&root);
    spoil(&root.join(name), &outside, way);
    (folder, root, outside)
}

#[test]
fn a_salts_folder_that_others_can_access_is_passed_over() {
    let mut ways = vec!["a link", "writable", "a file"];
    ways.extend(is_root(tempfile::tempdir().unwrap().path()).then_some("another's"));
    for way in ways {
        for depth in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let [root, outside] = ["cache", "outside"].map(|name| folder.path().join(name));
            let salted = || FilesystemStore::for_salt(&root, "s", FilesystemConfig::default(), system_clock());
            wait(salted().put(&key(1), &value(1), None)).unwrap();
            assert_eq!(FilesystemStore::tenants(&root).unwrap(), [salted().root()]);
            let spoilt = if depth == 1 { root.join("tenants") } else { salted().root().to_owned() };
            spoil(&spoilt, &outside, way);
            let before = contents(&outside);
            assert_eq!(wait(salted().get(&key(1))).unwrap(), None, "{way}");
            assert!(FilesystemStore::tenants(&root).unwrap().is_empty(), "{way}");
            let refused = wait(salted().put(&key(1), &value(1), None)).unwrap_err();
            assert!(matches!(&refused, StoreError::Io { path, .. } if *path == spoilt), "{refused}");
            wait(salted().clear()).unwrap();
            assert_eq!(contents(&outside), before, "{way}");
        }
    }
}

#[test]
fn a_foreign_entry_in_a_files_place_is_a_miss_and_is_replaced() {
    type Make = fn(&Path);
    let places: [(&str, Make); 7] = [
        ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("a link", |path| symlink("/etc/hostname", path).unwrap()),
        ("a socket", |path| {
            // The path of a socket must be short.
            let short = tempfile::tempdir().unwrap();
            drop(UnixListener::bind(short.path().join("s")).unwrap());
            fs::rename(short.path().join("s"), path).unwrap();
        }),
        ("a folder", |path| fs::create_dir(path).unwrap()),
        ("a sparse file", |path| File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ("a file that cannot be read", |path| {
            fs::write(path, value(1)).unwrap();
            set_mode(path, 0);
        }),
        ("a file of another", |path| {
            fs::write(path, value(1)).unwrap();
            if is_root(path) {
                chown(path, Some(STRANGER), None).unwrap();
            } else {
                set_mode(path, 0);
            }
        }),
    ];
    for (what, make) in places {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path());
        let path = store.path(&key(1));
        fs::remove_file(&path).unwrap();
        make(&path);
        let store = open(folder.path(), KIB << 10);
        assert_eq!(wait(store.get(&key(1))).unwrap(), None, "{what}");
        assert_eq!(wait(store.contains(&[key(1)])).unwrap(), [false], "{what}");
        wait(store.put_new(&key(1), &value(1), None)).unwrap();
        assert_eq!(wait(store.get(&key(1))).unwrap(), Some(value(1)), "{what} is repaired");
        assert_eq!((mode(&path), store.usage().failures), (0o600, 0));
    }
    // The content of a folder may be somebody's.
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    let path = store.path(&key(1));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter"), b"a letter").unwrap();
    let refused = wait(store.put(&key(1), &value(1), None)).unwrap_err();
    assert!(refused.to_string().contains("a directory with something in it"), "{refused}");
    assert_eq!((wait(store.get(&key(1))).unwrap(), wait(store.remove(&key(1))).unwrap()), (None, false));
    assert_eq!(fs::read(path.join("letter")).unwrap(), b"a letter");
    assert!(!files(folder.path()).keys().any(|path| path.ends_with(".tmp")), "nothing is left behind");
}

#[test]
fn a_sparse_file_evicts_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    let path = store.path(&key(7));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    file.set_times(FileTimes::new().set_accessed(SystemTime::now() + Duration::from_secs(9_999))).unwrap();
    let store = open(folder.path(), KIB << 10);
    store.sweep().unwrap();
    assert_eq!(wait(store.contains(&[0, 1, 2].map(key))).unwrap(), [true; 3]);
    assert!(!path.exists());
}

#[test]
fn only_files_named_by_the_store_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    let old = |name: &str| {
        let path = folder.path().join("tmp").join(name);
        fs::write(&path, b"a letter").unwrap();
        let then = SystemTime::now() - Duration::from_secs(9_999);
        File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_accessed(then)).unwrap();
        path
    };
    let ours = ["1-1.tmp", "77-0123456789abcdef.tmp"].map(old);
    let strange = ["letter.tmp", "1-.tmp", "-1.tmp", "1-1.tmp.bak", "1-x.tmp", "1.tmp", "a-1.tmp", ".tmp"].map(old);
    store.sweep().unwrap();
    assert!(ours.iter().all(|path| !path.exists()));
    assert!(strange.iter().all(|path| path.exists()));
}

#[test]
fn leftovers_of_the_same_process_number_do_not_stop_writing() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    for n in 0..300 {
        fs::write(folder.path().join(format!("tmp/{}-{n}.tmp", std::process::id())), b"half").unwrap();
    }
    let next = open(folder.path(), KIB << 10);
    wait(next.put(&key(5), &value(5), None)).unwrap();
    assert_eq!(wait(store.get(&key(5))).unwrap(), Some(value(5)));
}

#[test]
fn a_copy_does_not_expire() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
    let store = open(&from, KIB << 10);
    wait(store.put(&key(1), &value(1), Some(Duration::from_secs(3_600)))).unwrap();
    assert!(Command::new("cp").arg("-r").args([&from, &to]).status().unwrap().success());
    let copy = open(&to, KIB << 10);
    copy.sweep().unwrap();
    assert_eq!(wait(copy.get(&key(1))).unwrap(), Some(value(1)));
    assert_eq!(copy.usage().expired, 0);
}

/// In a process of its own, since the umask applies to the whole process.
#[test]
fn all_files_are_private_whatever_the_umask() {
    if let Some(folder) = child() {
        filled(&folder.join("deep/cache"));
        let salted =
            FilesystemStore::for_salt(folder.join("deep/cache"), "s", FilesystemConfig::default(), system_clock());
        wait(salted.put(&key(1), &value(1), None)).unwrap();
        return;
    }
    let name = "store::private::all_files_are_private_whatever_the_umask";
    for umask in ["000", "022", "077", "277"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        let shell = format!("umask {umask}; exec \"$0\" --exact \"$1\"");
        crate::support::process::succeeds(again(name, folder.path(), &shell));
        let root = folder.path().join("deep/cache");
        let made = files(&root);
        assert!(made.len() >= 6, "{made:?}");
        for (path, _) in made {
            assert_eq!(mode(&path), 0o600, "{}, umask {umask}", path.display());
            for above in path.ancestors().skip(1).take_while(|above| above.starts_with(&root)) {
                assert_eq!(mode(above), 0o700, "{}, umask {umask}", above.display());
            }
        }
    }
}
