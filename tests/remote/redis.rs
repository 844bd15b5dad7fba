//! Redis as a store: what is kept, what is refused, what it costs.

use std::time::Duration;

use headstart::store::{Deadline, Key, MemoryStore, RemoteConfig, Store, StoreError, Tiers, TiersConfig, connect};
use pollster::block_on as wait;

use crate::store::{Time, blob, expected, key};
use crate::support::redis::Redis;

/// A deadline that a busy machine keeps.
fn patient() -> RemoteConfig {
    let long = Duration::from_secs(60);
    RemoteConfig { deadline: long, write_deadline: long, ..RemoteConfig::default() }
}

fn open(url: &str) -> Box<dyn Store> {
    connect(url, &patient()).unwrap()
}

fn block(n: u8) -> (Key, Vec<u8>) {
    let block = headstart::store::Blob { key: key(n), ..blob(16, false) };
    (block.key, block.encode())
}

#[test]
fn what_is_put_is_there_for_others_until_it_expires() {
    let redis = Redis::start(&[]);
    let (first, second) = (open(&redis.url()), open(&redis.url()));
    let (name, bytes) = block(1);
    wait(first.put(&name, &bytes, Some(Duration::from_secs(3_600)))).unwrap();
    assert_eq!(wait(first.get(&name)).unwrap().as_ref(), Some(&bytes), "what is queued is seen");
    wait(first.flush()).unwrap();
    assert_eq!((first.usage().written, first.usage().written_bytes), (1, bytes.len() as u64));
    drop(first);
    assert_eq!(wait(second.contains(&[key(2), name])).unwrap(), [false, true]);
    assert_eq!(wait(second.get_many(&[key(2), name])).unwrap(), [None, Some(bytes.clone())]);

    let stored = redis.text(&["RANDOMKEY"]);
    assert!(stored.starts_with("headstart:kv:") && stored.len() == 13 + 64, "{stored}");
    let left: i64 = redis.text(&["TTL", &stored]).trim_start_matches(':').parse().unwrap();
    assert!((3_000..=3_600).contains(&left), "{left}");
    wait(second.put(&name, &bytes, None)).unwrap();
    wait(second.flush()).unwrap();
    let left: i64 = redis.text(&["TTL", &stored]).trim_start_matches(':').parse().unwrap();
    assert!((6 * 86_400..=7 * 86_400).contains(&left), "{left}");

    assert!(wait(second.remove(&name)).unwrap() && !wait(second.remove(&name)).unwrap());
    assert_eq!(redis.size(), 0);
}
