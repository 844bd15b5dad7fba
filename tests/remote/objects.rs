//! A bucket and a web server as stores, with a test server that checks signatures by its own implementation.

use std::fs;
use std::time::Duration;

use headstart::store::{
    FilesystemConfig, FilesystemStore, Guard, RemoteConfig, Store, StoreError, StoreKey, connect, system_clock,
};
use pollster::block_on as wait;

use super::redis::{block, patient, refusal, write};
use crate::store::key;
use crate::support::object_server::{BUCKET, KEY, ObjectServer, SECRET};

pub fn bucket(server: &ObjectServer, prefix: &str) -> String {
    let secret = SECRET.replace('/', "%2F").replace('+', "%2B");
    format!("s3://{KEY}:{secret}@{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{}&region=eu-north-1", server.port)
}

pub fn web(server: &ObjectServer, path: &str) -> String {
    format!("http://127.0.0.1:{}/{path}", server.port)
}

#[test]
fn values_put_into_a_bucket_are_found_by_others() {
    let server = ObjectServer::start(Some(SECRET));
    let open = || connect(&bucket(&server, "kv/team"), &Guard::Trust, &patient()).unwrap();
    let (first, second) = (open(), open());
    let (id, bytes) = block(1);
    write(&*first, &id, &bytes);
    assert_eq!((first.usage().written, first.usage().dropped, first.problem()), (1, 0, None));
    assert_eq!(wait(second.contains(&[key(2), id])).unwrap(), [false, true]);
    assert_eq!(wait(second.get_many(&[key(2), id], usize::MAX)).unwrap(), [None, Some(bytes.clone())]);
    assert_eq!(wait(second.get_many(&[key(2), id], 100)).unwrap(), [None, Some(bytes.slice(..100))]);
    let path = server.state().objects.keys().next().unwrap().clone();
    assert!(path.starts_with(&format!("{BUCKET}/kv/team/blocks/")), "{path}");
    wait(second.remove(&id)).unwrap();
    assert!(server.state().objects.is_empty());

    for n in 0..25 {
        let (id, bytes) = block(n);
        wait(first.put(&id, &bytes, None)).unwrap();
    }
    wait(first.flush()).unwrap();
    let others =
        ["kv/team/notes", "kv/team/blocks/a/b/notes", "kv/other/blocks/x"].map(|name| format!("{BUCKET}/{name}"));
    others.iter().for_each(|name| drop(server.state().objects.insert(name.clone(), vec![1])));
    assert_eq!(server.state().objects.len(), 28);
    wait(first.clear()).unwrap();
    assert_eq!(server.state().objects.keys().cloned().collect::<std::collections::BTreeSet<_>>(), others.into());
}

#[test]
fn a_buckets_secret_may_be_in_a_file() {
    let server = ObjectServer::start(Some(SECRET));
    let folder = tempfile::tempdir().unwrap();
    let secret = |content: &str| {
        let path = folder.path().join(format!("{}", content.len()));
        fs::write(&path, content).unwrap();
        let port = server.port;
        format!("{BUCKET}?endpoint=http://127.0.0.1:{port}&region=eu-north-1&secret_file={}", path.display())
    };
    let store = connect(&format!("s3://{KEY}@{}", secret(&format!("{SECRET}\n"))), &Guard::Trust, &patient()).unwrap();
    let (id, bytes) = block(1);
    write(&*store, &id, &bytes);
    assert_eq!((wait(store.get(&id)).unwrap(), store.problem()), (Some(bytes), None));
    for (url, about) in [
        (format!("s3://{KEY}@{}", secret("hunter2")), "403 SignatureDoesNotMatch"),
        (format!("s3://{KEY}:hunter2@{}", secret(SECRET)), "there is a secret in the URL and secret_file="),
        (format!("s3://{}", secret("hunter2")), "KEY@ and a file in secret_file="),
        (format!("s3://{KEY}@{BUCKET}?secret_file=/no/such/hunter2"), "secret_file=: No such file"),
        (format!("s3://{KEY}@{}", secret("")), "secret_file=: it is empty"),
    ] {
        let problem = refusal(&url);
        assert!(problem.contains(about) && !problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn many_objects_are_requested_in_parallel() {
    let server = ObjectServer::start(Some(SECRET));
    let store = connect(&bucket(&server, ""), &Guard::Trust, &patient()).unwrap();
    let keys: Vec<StoreKey> = (0..64).map(key).collect();
    let (id, bytes) = block(5);
    write(&*store, &id, &bytes);
    // The server answers only once eight requests have arrived, so sequential requests would never end.
    server.state().at_least = 8;
    let there = wait(store.contains(&keys)).unwrap();
    assert!(there.iter().enumerate().all(|(n, is)| *is == (n == 5)));
    server.state().at_least = 8;
    assert_eq!(wait(store.get_many(&keys, usize::MAX)).unwrap().iter().flatten().count(), 1);
    let state = server.state();
    assert!(state.asked >= 128 && state.connections < 40, "{} connections", state.connections);
}

#[test]
fn a_buckets_errors_are_explained() {
    let server = ObjectServer::start(Some(SECRET));
    let url = bucket(&server, "");
    let wrong = refusal(&url.replace("wJalr", "other"));
    assert!(
        wrong.contains("403 SignatureDoesNotMatch") && wrong.contains("check the key") && !wrong.contains("other"),
        "{wrong}"
    );
    let told = |url: &str| connect(url, &Guard::Trust, &patient()).unwrap().problem().unwrap();
    let missing = told(&url.replace(BUCKET, "nobodys"));
    assert!(missing.contains("404 NoSuchBucket") && missing.contains("make the bucket"), "{missing}");
    for (status, about) in [
        (301, "region"),
        (400, "does not accept"),
        (408, "does not accept"),
        (423, "423"),
        (425, "425"),
        (429, "too often"),
        (500, "failed"),
        (503, "failed"),
    ] {
        server.state().failing = Some(status);
        let problem = told(&url);
        assert!(problem.contains(&status.to_string()) && problem.contains(about), "{status}: {problem}");
    }
    for status in [401, 403] {
        server.state().failing = Some(status);
        assert!(refusal(&url).contains("check the key"));
    }
    let store = {
        server.state().failing = Some(503);
        connect(&url, &Guard::Trust, &patient()).unwrap()
    };
    server.state().failing = None;
    assert_eq!(wait(store.get(&key(1))).unwrap(), None, "the bucket works again");
    assert!(refusal(&format!("s3://{BUCKET}?endpoint=ftp://a")).contains("write endpoint=https://HOST"));
    assert!(refusal(&format!("s3://{BUCKET}?regoin=x")).contains("is not known; there are endpoint, region, ca"));
    assert!(refusal(&format!("s3://{KEY}@{BUCKET}")).contains("KEY:SECRET@"));
    assert!(refusal("s3:///kv").contains("names no bucket"));
}

#[test]
fn a_cache_directory_that_is_served_is_a_store_to_read_from() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FilesystemStore::new(folder.path(), FilesystemConfig::default(), system_clock());
    let server = ObjectServer::start(None);
    let (id, bytes) = block(1);
    wait(disk.put(&id, &bytes, None)).unwrap();
    let path = disk.path(&id);
    let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
    server.state().objects.insert(format!("served/{name}"), fs::read(path).unwrap());
    for path in ["served", "served/"] {
        let store = connect(&web(&server, path), &Guard::Trust, &patient()).unwrap();
        assert_eq!((store.name(), store.problem()), ("http", None));
        assert_eq!(wait(store.contains(&[key(2), id])).unwrap(), [false, true]);
        assert_eq!(wait(store.get(&id)).unwrap().as_ref(), Some(&bytes));
        assert!(matches!(wait(store.put(&id, &bytes, None)), Err(StoreError::ReadOnly { .. })));
        assert!(matches!(wait(store.remove(&id)), Err(StoreError::ReadOnly { .. })));
        wait(store.clear()).unwrap();
    }
    assert_eq!(server.state().objects.len(), 1);
    assert!(refusal("https://ann:secret@localhost/kv").contains("leave it out"));
}

#[test]
fn an_oversized_object_is_a_miss_with_or_without_a_length() {
    let server = ObjectServer::start(None);
    let store = connect(&web(&server, ""), &Guard::Trust, &RemoteConfig { max_value: 1_000, ..patient() }).unwrap();
    let name = |n: u8| {
        let digits: String = key(n).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("blocks/{}/{}/{digits}.safetensors", &digits[..1], &digits[1..2])
    };
    for (n, length) in [(0, 1_000), (1, 1_001), (2, 10 << 20)] {
        server.state().objects.insert(name(n), vec![7; length]);
    }
    assert_eq!(wait(store.contains(&[key(0), key(1), key(2)])).unwrap(), [true, false, false]);
    for lengthless in [false, true] {
        server.state().lengthless = lengthless;
        let lengths = [0, 1, 2].map(|n| wait(store.get(&key(n))).unwrap().map(|value| value.len()));
        assert_eq!(lengths, [Some(1_000), None, None], "without a length: {lengthless}");
    }
}

#[test]
fn a_web_server_that_hangs_costs_the_deadline() {
    let server = ObjectServer::start(None);
    let deadline = Duration::from_millis(100);
    let config = RemoteConfig { deadline, write_deadline: deadline, ..RemoteConfig::default() };
    let store = connect(&web(&server, ""), &Guard::Trust, &config).unwrap();
    server.state().hangs = true;
    assert!(matches!(wait(store.get(&key(1))), Err(StoreError::Late { ms: 100, .. })));
}
