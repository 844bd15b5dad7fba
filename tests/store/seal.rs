//! Authentication of stored values: blocks that others wrote are refused, however valid they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use headstart::store::{
    Bytes, FORGED, FilesystemConfig, FilesystemStore, Manifest, MemoryStore, Producer, Seal, Slot, Store, StoreError,
    Tiers, TiersConfig, Written, key_file, secret_file, system_clock,
};
use sha2::{Digest, Sha256};

use super::*;

fn disk(folder: &Path, secret: &[u8]) -> FilesystemStore {
    FilesystemStore::new(folder, FilesystemConfig::default(), system_clock()).sealed(Seal::new(secret))
}

fn tiers(folder: &Path, secret: &[u8]) -> Tiers {
    let memory = MemoryStore::new(0, system_clock());
    Tiers::new(memory, vec![Box::new(disk(folder, secret))], TiersConfig::default())
}

/// Replaces a file, keeping its modification time, which is when it expires.
fn replace(path: &Path, bytes: &[u8]) {
    let times = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(times).unwrap();
}

/// HMAC-SHA-256 by its definition (RFC 2104).
fn hmac(secret: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..secret.len()].copy_from_slice(secret);
    let pad = |byte: u8| block.map(|of| of ^ byte);
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().into()
}

#[test]
fn a_mac_is_the_standard_one_over_the_name_and_the_digest() {
    // RFC 4231, test case 2.
    let found: String = Seal::new(b"Jefe").mac(b"what do ya want for nothing?").map(|b| format!("{b:02x}")).concat();
    assert_eq!(found, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");

    let folder = tempfile::tempdir().unwrap();
    let blob = blob(16, true);
    wait(disk(folder.path(), b"one").put(&blob.key, &blob.encode().into(), None)).unwrap();
    let kept = fs::read(disk(folder.path(), b"one").path(&blob.key)).unwrap();
    let length = u64::from_le_bytes(kept[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&kept[8..8 + length]).unwrap();
    let metadata = &header["__metadata__"];
    let digest = metadata["digest"].as_str().unwrap();
    let message = [&b"headstart-mac/1"[..], &blob.key, digest.as_bytes()].concat();
    let mac: String = hmac(b"one", &message).map(|b| format!("{b:02x}")).concat();
    assert_eq!(metadata["mac"], mac);
    assert_eq!(Blob::decode(&kept, &expected(&blob)).unwrap(), blob, "the MAC is not part of the blob");
}

#[test]
fn valid_blocks_of_others_are_refused_counted_and_written_again() {
    let changed = |change: &dyn Fn(&mut Blob)| {
        let mut other = blob(16, true);
        change(&mut other);
        other.encode()
    };
    let forged: [(&str, Vec<u8>); 5] = [
        ("as it is, by nobody", changed(&|_| {})),
        ("one bit of KV", changed(&|blob| blob.kv[0] ^= 1)),
        ("the last hidden state", changed(&|blob| blob.last_hidden = Some(vec![1.0; HIDDEN]))),
        ("no number", changed(&|blob| blob.kv[..2].copy_from_slice(&0x7e00u16.to_le_bytes()))),
        ("a hidden state that is no number", changed(&|blob| blob.last_hidden = Some(vec![f32::NAN; HIDDEN]))),
    ];
    let blob = blob(16, true);
    for (what, bytes) in forged {
        let folder = tempfile::tempdir().unwrap();
        wait(tiers(folder.path(), b"one").save(&blob));
        let path = disk(folder.path(), b"one").path(&blob.key);
        // Signed with another directory's key, and with the MAC of the earlier block.
        let own = fs::read(&path).unwrap();
        let other = tempfile::tempdir().unwrap();
        wait(disk(other.path(), b"two").put(&blob.key, &Bytes::from(bytes.clone()), None)).unwrap();
        let of_other = fs::read(disk(other.path(), b"two").path(&blob.key)).unwrap();
        let slot = Slot::find(&blob.key, &bytes).unwrap();
        let (before, mac, behind) = slot.fill(&bytes, &slot.read(&own).unwrap());
        let with_old_mac = [before, &mac, behind].concat();
        for (how, bytes) in [("nobody", &bytes), ("another", &of_other), ("the earlier block", &with_old_mac)] {
            if *bytes == own {
                continue;
            }
            replace(&path, bytes);
            let later = tiers(folder.path(), b"one");
            assert!(wait(later.load(&expected(&blob))).is_none(), "{what}, vouched for by {how}");
            let stats = later.stats()[1].1.clone();
            assert_eq!((stats.rejected["forged"], stats.hits, stats.failures), (1, 0, 0), "{what} by {how}");
            wait(later.save(&blob));
            assert_eq!(wait(later.load(&expected(&blob))).unwrap().value, blob, "{what} by {how}");
        }
    }
}

#[test]
fn a_blob_or_manifest_under_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = disk(folder.path(), b"one");
    let other = Blob { key: key(9), ..blob(16, false) };
    let blob = blob(16, false);
    [&blob, &other].iter().for_each(|blob| wait(store.put(&blob.key, &blob.encode().into(), None)).unwrap());
    replace(&store.path(&blob.key), &fs::read(store.path(&other.key)).unwrap());
    assert_eq!(wait(store.get(&blob.key)).unwrap(), Some(Bytes::from_static(FORGED)));
    assert!(wait(store.get(&other.key)).unwrap().is_some());

    let note = |root: &StoreKey| {
        let written = Written { key: key(1), path: (0..16).collect(), producer: Producer::Prefill };
        let tiers = tiers(folder.path(), b"one");
        wait(tiers.record(vec![(*root, written)]));
    };
    note(&[1; 32]);
    note(&[2; 32]);
    let [one, two] = [[1; 32], [2; 32]].map(|root| Manifest::key(&root));
    let whole = wait(store.get(&one)).unwrap().unwrap();
    replace(&store.path(&one), &fs::read(store.path(&two)).unwrap());
    assert_eq!(wait(store.get(&one)).unwrap(), Some(Bytes::from_static(FORGED)));
    // Written by somebody without the key.
    wait(store.put(&one, &whole, None)).unwrap();
    assert!(wait(store.get(&one)).unwrap().is_some_and(|value| !value.is_empty()));
    wait(disk(folder.path(), b"two").put(&one, &whole, None)).unwrap();
    assert_eq!(wait(store.get(&one)).unwrap(), Some(Bytes::from_static(FORGED)));
}

#[test]
fn a_key_is_created_once_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("of/this/user.key");
    let made: Vec<StoreKey> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| key_file(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|key| *key == made[0]) && made[0] != [0; 32]);
    assert_eq!(key_file(&path).unwrap(), made[0]);
    fs::write(&path, fs::read_to_string(&path).unwrap().to_uppercase()).unwrap();
    assert_eq!(key_file(&path).unwrap(), made[0]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no other file is left");

    let refused = |problem: &str| {
        let error = key_file(&path).unwrap_err();
        assert!(matches!(error, StoreError::Secret { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(problem) && text.contains("user.key"), "{text}");
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    refused("others may read or write it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for other in ["", "short", &"g".repeat(64), &"a".repeat(4096), &format!("{}\n\nand more", "a".repeat(64))] {
        fs::write(&path, other).unwrap();
        refused("64 hexadecimal digits");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("not a file of this user's");
}

#[test]
fn a_secret_is_a_files_text_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "sixteen letters!\r\n").unwrap();
    assert_eq!(secret_file(&path).unwrap(), b"sixteen letters!");
    for text in ["fifteen letters\n", &"a".repeat(5000), &format!("{}\n\nand more", "a".repeat(4096))] {
        fs::write(&path, text).unwrap();
        assert!(secret_file(&path).unwrap_err().to_string().contains("16 to 4,096 bytes"));
    }
    fs::write(&path, "sixteen letters!").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(secret_file(&path).unwrap_err().to_string().contains("others may write to it"));
    // A pipe without a writer ends at once; a pipe with one is waited for.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(secret_file(&pipe).unwrap_err().to_string().contains("16 to 4,096 bytes"));
    let (there, mut writer) = std::io::pipe().unwrap();
    let late = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(50));
        std::io::Write::write_all(&mut writer, b"sixteen letters!\n").unwrap();
    });
    let name = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&there));
    assert_eq!(secret_file(Path::new(&name)).unwrap(), b"sixteen letters!");
    late.join().unwrap();
    assert!(secret_file(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
}
