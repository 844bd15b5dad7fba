//! Which sequences a directory lists, and what is left after one is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use headstart::kv::{self, Fields, Namespace};
use headstart::store::{
    BLOCK, Bytes, Chain, Chains, Description, FilesystemConfig, FilesystemStore, Reject, Removed, Store, StoreError,
};
use proptest::prelude::*;

use super::*;
use crate::support::blob::regions;

pub const FILE: u64 = 4096;

pub fn namespace(salt: &str) -> Namespace {
    Namespace::new(Fields { weights: "w".into(), salt: salt.into(), ..Fields::default() })
}

/// The key that is the parent of a namespace's first block.
pub fn root(fields: &BTreeMap<String, String>) -> Option<StoreKey> {
    let fields = Fields::from_entries(fields.iter().map(|(tag, value)| (&**tag, &**value)))?;
    Some(Namespace::new(fields).key().0)
}

/// The blocks of a sequence; with `hidden` the last one has a hidden state.
pub fn blocks(namespace: &Namespace, tokens: &[u32], hidden: bool) -> Vec<Blob> {
    let fields = namespace.fields().entries().map(|(tag, value)| (tag.to_owned(), value.to_owned()));
    let mut parent = namespace.key().0;
    let keys = kv::Key::chain(namespace, tokens);
    let made = tokens.chunks(BLOCK).zip(keys).map(|(block, key)| {
        let bytes: usize = block.len() * 20;
        let parent = std::mem::replace(&mut parent, key.0);
        Blob { key: key.0, parent, tokens: block.to_vec(), kv: vec![7; bytes], ..blob(1, false) }
    });
    let mut made: Vec<Blob> =
        made.map(|block| Blob { namespace: fields.clone().into_iter().collect(), ..block }).collect();
    if hidden {
        made.last_mut().unwrap().last_hidden = Some(vec![1.0; HIDDEN]);
    }
    made
}

pub fn disk(folder: &Path, time: &Time) -> FilesystemStore {
    FilesystemStore::new(folder, FilesystemConfig::default(), time.clock())
}

/// Stores the missing blocks, and returns the keys of the whole sequence.
pub fn store(disk: &FilesystemStore, blocks: &[Blob], ttl: Option<Duration>) -> Vec<StoreKey> {
    let keys: Vec<StoreKey> = blocks.iter().map(|block| block.key).collect();
    let there = wait(disk.contains(&keys)).unwrap();
    for (block, _) in blocks.iter().zip(there).filter(|(_, there)| !there) {
        wait(disk.put(&block.key, &block.encode().into(), ttl)).unwrap();
    }
    wait(disk.touch(&keys));
    keys
}

/// A chain with its blocks and tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    pub keys: Vec<StoreKey>,
    pub tokens: Vec<u32>,
    pub chain: Chain,
}

pub fn wholes(listed: &Chains) -> Vec<Whole> {
    let whole = |chain: &Chain| Whole { keys: listed.keys(chain), tokens: listed.tokens(chain), chain: chain.clone() };
    let wholes: Vec<Whole> = listed.found.iter().map(whole).collect();
    for Whole { keys, tokens, chain } in &wholes {
        assert_eq!((keys.last(), keys.len(), tokens.len()), (Some(&chain.key), chain.blocks, chain.tokens));
        assert_eq!(chain.beginning[..], tokens[..tokens.len().min(64)]);
    }
    wholes
}

pub fn list(disk: &FilesystemStore) -> Vec<Whole> {
    let listed = disk.chains(&root).unwrap();
    assert_eq!((listed.damaged, listed.left_out), (0, 0));
    wholes(&listed)
}

pub fn tokens(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

#[test]
fn a_chain_is_listed_with_all_that_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::at(1_000_000);
    let disk = disk(folder.path(), &time);
    assert!(list(&disk).is_empty());
    let (plain, salted) = (namespace(""), namespace("s"));
    let ttl = Duration::from_millis(60_000);
    let [long, short] = [tokens(0..53), [tokens(0..32), tokens(900..910)].concat()];
    let long_keys = store(&disk, &blocks(&plain, &long, true), Some(ttl));
    time.advance(1_000);
    let short_keys = store(&disk, &blocks(&plain, &short, false), None);
    time.advance(1_000);
    let other_keys = store(&disk, &blocks(&salted, &long[..16], false), None);
    disk.pin("start", &long_keys[..2]).unwrap();
    disk.pin("again", &long_keys[..1]).unwrap();
    disk.pin("all of it", &[]).unwrap_err();

    let fields = |namespace: &Namespace| -> BTreeMap<String, String> {
        namespace.fields().entries().iter().map(|(tag, value)| (tag.to_string(), value.to_string())).collect()
    };
    let whole = |keys: &[StoreKey], tokens: &[u32], chain: &Chain| {
        let (key, beginning) = (*keys.last().unwrap(), tokens.into());
        let chain = Chain { key, blocks: keys.len(), tokens: tokens.len(), beginning, ..chain.clone() };
        Whole { keys: keys.to_vec(), tokens: tokens.to_vec(), chain }
    };
    let chain = Chain {
        key: key(0),
        blocks: 0,
        tokens: 0,
        beginning: [].into(),
        namespace: fields(&salted).into(),
        bytes: FILE,
        own_bytes: FILE,
        used_ms: 1_002_000,
        expires_ms: None,
        pins: Default::default(),
        pinned: 0,
        complete: true,
        last_hidden: false,
    };
    let pins = BTreeSet::from(["again".to_owned(), "start".to_owned()]);
    let second = Chain {
        namespace: fields(&plain).into(),
        bytes: 3 * FILE,
        used_ms: 1_001_000,
        pins: pins.into(),
        pinned: 2,
        ..chain.clone()
    };
    let third = Chain {
        bytes: 4 * FILE,
        own_bytes: 2 * FILE,
        used_ms: 1_000_000,
        expires_ms: Some(1_060_000),
        last_hidden: true,
        ..second.clone()
    };
    let expected = [
        whole(&other_keys, &long[..16], &chain),
        whole(&short_keys, &short, &second),
        whole(&long_keys, &long, &third),
    ];
    assert_eq!(list(&disk), expected);

    disk.pin("whole", &long_keys).unwrap();
    let listed = list(&disk).into_iter().find(|chain| chain.keys == long_keys).unwrap().chain;
    assert_eq!((listed.expires_ms, listed.pinned, listed.own_bytes), (None, 4, 0), "pinned blocks do not expire");
    time.advance(60_000);
    assert_eq!(list(&disk).len(), 3);
    disk.unpin("whole").unwrap();
    let left: Vec<Vec<u32>> = list(&disk).into_iter().map(|chain| chain.tokens).collect();
    assert_eq!(left.len(), 2, "expired blocks are not listed: {left:?}");
}

#[test]
fn a_chain_without_an_ancestor_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    let ns = namespace("");
    let all = tokens(0..70);
    let keys = store(&disk, &blocks(&ns, &all, false), None);
    wait(disk.remove(&keys[1])).unwrap();
    let mut chains = list(&disk);
    chains.sort_by_key(|chain| chain.keys.len());
    let found: Vec<_> = chains.iter().map(|whole| (&whole.keys[..], &whole.tokens[..], whole.chain.complete)).collect();
    assert_eq!(found, [(&keys[..1], &all[..16], true), (&keys[2..], &all[32..], false)]);
    let nobody = disk.chains(&|_| None).unwrap();
    assert!(nobody.found.iter().all(|chain| !chain.complete), "invalid fields have no first block");
    // Both are chains, and are removed as such.
    assert_eq!(disk.remove_chain(&keys[4]).unwrap(), Removed { blocks: 3, bytes: 3 * FILE });
    assert_eq!(list(&disk).len(), 1);
}

#[test]
fn listing_does_not_count_as_use() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::at(1_000_000);
    let disk = disk(folder.path(), &time);
    let sequences = [tokens(0..16), tokens(100..116), tokens(200..216)];
    let keys = sequences.each_ref().map(|tokens| {
        time.advance(1_000);
        store(&disk, &blocks(&namespace(""), tokens, false), None)[0]
    });
    time.advance(1_000);
    let before = list(&disk);
    assert_eq!(before.iter().map(|chain| chain.keys[0]).rev().collect::<Vec<_>>(), keys);
    for _ in 0..3 {
        assert_eq!(list(&disk), before);
    }
    let config = FilesystemConfig { budget: 2 * FILE, ..FilesystemConfig::default() };
    FilesystemStore::new(folder.path(), config, time.clock()).sweep().unwrap();
    assert_eq!(wait(disk.contains(&keys)).unwrap(), [false, true, true]);
}

#[test]
fn a_chain_is_removed_back_to_where_another_branches_off() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    let ns = namespace("");
    let one = store(&disk, &blocks(&ns, &tokens(0..64), false), None);
    let two = store(&disk, &blocks(&ns, &[tokens(0..32), tokens(500..540)].concat(), false), None);
    let stranger = store(&disk, &blocks(&namespace("s"), &tokens(0..64), false), None);
    assert_eq!(disk.remove_chain(&one[1]).unwrap(), Removed::default(), "others continue it");
    assert_eq!(disk.remove_chain(&key(9)).unwrap(), Removed::default(), "there is no such chain");
    assert_eq!(disk.remove_chain(&one[3]).unwrap(), Removed { blocks: 2, bytes: 2 * FILE });
    assert_eq!(wait(disk.contains(&one)).unwrap(), [true, true, false, false]);
    assert_eq!(disk.remove_chain(&one[3]).unwrap(), Removed::default());
    assert_eq!(disk.remove_chain(&two[4]).unwrap().blocks, 5, "back to the root, since no other remains");
    let left: BTreeSet<StoreKey> = disk.keys().unwrap().into_iter().collect();
    assert_eq!(left, stranger.into_iter().collect());
    assert_eq!(disk.usage().failures, 0);
}

#[test]
fn nothing_of_a_pinned_chain_is_removed_before_it_is_unpinned() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    let keys = store(&disk, &blocks(&namespace(""), &tokens(0..64), false), None);
    disk.pin("chat", &keys).unwrap();
    disk.pin("other", &keys[3..]).unwrap();
    let refused = disk.remove_chain(&keys[3]).unwrap_err();
    assert!(matches!(&refused, StoreError::Pinned { pins } if *pins == ["chat", "other"]), "{refused}");
    assert!(refused.to_string().contains("chat, other"), "{refused}");
    assert_eq!(disk.keys().unwrap().len(), 4);
    disk.unpin("other").unwrap();
    disk.pin("chat", &keys[..2]).unwrap();
    assert_eq!(disk.remove_chain(&keys[3]).unwrap().blocks, 2, "back to the pinned part");
    assert_eq!(wait(disk.contains(&keys)).unwrap(), [true, true, false, false]);
    disk.unpin("chat").unwrap();
    assert_eq!(disk.remove_chain(&keys[1]).unwrap().blocks, 2);
}

#[test]
fn damaged_files_are_counted_and_the_rest_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    let ns = namespace("");
    let good = store(&disk, &blocks(&ns, &tokens(0..16), false), None);
    let whole = blocks(&ns, &tokens(100..116), false)[0].encode();
    let data = whole.len() - 16 * 24;
    let bad = key(1);
    let put = |bytes: &[u8]| wait(disk.put(&bad, &Bytes::copy_from_slice(bytes), None)).unwrap();
    let mut damages: Vec<Vec<u8>> = (0..data).step_by(7).map(|length| whole[..length].to_vec()).collect();
    damages.extend([whole.clone(), whole[..whole.len() - 1].to_vec(), [&whole[..], b"x"].concat(), vec![0xff; 9000]]);
    for damage in &damages {
        put(damage);
        let listed = disk.chains(&root).unwrap();
        assert_eq!((listed.found.len(), listed.damaged), (1, 1), "{} bytes", damage.len());
        assert_eq!(wholes(&listed)[0].keys, good);
    }
    assert!(disk.path(&bad).exists(), "a listing removes nothing");
    assert_eq!(disk.remove_chain(&bad).unwrap(), Removed::default());
    assert_eq!(disk.remove_chain(&good[0]).unwrap().blocks, 1);
}

#[test]
fn forged_ancestors_end_the_walk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    let forge = |own: u8, parent: u8, n: usize| {
        let forged = Blob { key: key(own), parent: key(parent), ..blob(n, false) };
        wait(disk.put(&forged.key, &forged.encode().into(), None)).unwrap();
    };
    let listed = || {
        let listed = disk.chains(&root).unwrap();
        let found: BTreeSet<Vec<StoreKey>> = wholes(&listed).into_iter().map(|whole| whole.keys).collect();
        assert!(listed.found.iter().all(|chain| !chain.complete));
        (found, listed.damaged)
    };
    let chains = |chains: &[&[u8]]| -> BTreeSet<Vec<StoreKey>> {
        chains.iter().map(|chain| chain.iter().map(|n| key(*n)).collect()).collect()
    };
    forge(1, 1, 16);
    assert_eq!(listed(), (chains(&[]), 1), "its own parent");
    forge(1, 2, 16);
    forge(2, 3, 16);
    forge(3, 1, 16);
    assert_eq!(listed(), (chains(&[]), 3), "a circle");
    forge(4, 2, 16);
    assert_eq!(listed(), (chains(&[&[1, 3, 2, 4]]), 0), "a cycle and a path into it");
    assert_eq!(disk.remove_chain(&key(4)).unwrap().blocks, 1);
    wait(disk.clear()).unwrap();
    forge(5, 6, 16);
    forge(6, 7, 4);
    assert_eq!(listed(), (chains(&[&[5]]), 1), "a partial block has no children");
}

/// Counts the bytes that are read.
struct Counting<'a>(&'a [u8], usize);

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1 += read;
        Ok(read)
    }
}

#[test]
fn a_description_reads_only_the_header_and_the_tokens() {
    for (n, hidden) in [(16, true), (5, false)] {
        let blob = blob(n, hidden);
        let whole = blob.encode();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let describe = |bytes: &[u8], length: usize| Blob::describe(&mut &bytes[..], length as u64);
        let mut reader = Counting(&whole, 0);
        let described = Blob::describe(&mut reader, whole.len() as u64).unwrap();
        assert_eq!(reader.1, header + 4 * n);
        let Blob { key, parent, tokens, namespace, producer, .. } = blob.clone();
        let expected = Description { key, parent, tokens, namespace, producer, hidden: hidden.then_some(HIDDEN) };
        assert_eq!(described, expected);

        for cut in 0..header + 4 * n {
            assert_eq!(describe(&whole[..cut], whole.len()), Err(Reject::Truncated), "{cut} bytes can be read");
        }
        for cut in 0..whole.len() {
            assert_eq!(describe(&whole, cut), Err(Reject::Truncated), "a file of {cut} bytes");
        }
        assert_eq!(describe(&whole, whole.len() + 1), Err(Reject::Size));
        // A changed digest or MAC is all that this cannot detect.
        let regions = regions(&whole);
        let unseen = ["value of digest", "value of mac"].map(|name| &regions[name]);
        for bit in (0..8 * header).filter(|bit| unseen.iter().all(|region| !region.contains(&(bit / 8)))) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(describe(&bytes, whole.len()), Ok(expected.clone()), "bit {bit}");
        }
        for claimed in [u64::MAX, 1 << 40, 1 << 19, 1 << 18] {
            let mut bytes = whole.clone();
            bytes[..8].copy_from_slice(&claimed.to_le_bytes());
            let mut reader = Counting(&bytes, 0);
            assert!(Blob::describe(&mut reader, whole.len() as u64).is_err());
            assert_eq!(reader.1, 8, "a claim of {claimed} bytes");
        }
    }
}

fn branch() -> impl Strategy<Value = (usize, u32, usize)> {
    (0usize..4, 0u32..3, 1usize..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// A random tree of sequences with common beginnings, compared with sets of their blocks.
    #[test]
    fn removing_any_chain_leaves_every_block_of_every_other(
        branches in prop::collection::vec(branch(), 1..7),
        pinned in prop::option::of((0usize..7, 1usize..4)),
        order in prop::collection::vec(0usize..7, 7),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path(), &Time::at(1_000_000));
        let ns = namespace("");
        // Keyed by their tokens; a sequence that another continues is part of it.
        let mut sequences: BTreeMap<Vec<u32>, Vec<StoreKey>> = BTreeMap::new();
        let mut first = Vec::new();
        for (shared, kind, more) in branches {
            let begin: Vec<u32> = (0..16 * shared as u32).collect();
            let rest = (0..more as u32).map(|i| 1000 * (kind + 1) + i);
            let tokens: Vec<u32> = begin.into_iter().chain(rest).collect();
            let keys = store(&disk, &blocks(&ns, &tokens, false), None);
            first.push(keys.clone());
            sequences.insert(tokens, keys);
        }
        let pin: Vec<StoreKey> = pinned.map_or(Vec::new(), |(at, blocks)| {
            let keys = &first[at % first.len()];
            keys[..blocks.min(keys.len())].to_vec()
        });
        if !pin.is_empty() {
            disk.pin("p", &pin).unwrap();
        }
        let goes_on = |sequences: &BTreeMap<Vec<u32>, Vec<StoreKey>>, tokens: &[u32]| {
            sequences.keys().any(|other| other.len() > tokens.len() && other.starts_with(tokens))
        };
        for at in order {
            let ends = |(tokens, keys): &(&Vec<u32>, &Vec<StoreKey>)| {
                !goes_on(&sequences, tokens) || !tokens.len().is_multiple_of(16) && pin.contains(keys.last().unwrap())
            };
            let left: BTreeSet<(Vec<StoreKey>, Vec<u32>)> =
                sequences.iter().filter(ends).map(|(tokens, keys)| (keys.clone(), tokens.clone())).collect();
            let listed: BTreeSet<(Vec<StoreKey>, Vec<u32>)> =
                list(&disk).into_iter().map(|chain| (chain.keys, chain.tokens)).collect();
            prop_assert_eq!(&listed, &left);
            let Some((victim, tokens)) = left.iter().nth(at % left.len().max(1)).cloned() else { break };
            let own = list(&disk).into_iter().find(|whole| whole.keys == victim).unwrap().chain.own_bytes;
            let removed = disk.remove_chain(victim.last().unwrap());
            if pin.contains(victim.last().unwrap()) {
                prop_assert!(matches!(removed, Err(StoreError::Pinned { .. })), "a pinned chain was removed");
                continue;
            }
            sequences.remove(&tokens);
            // What remains of a removed chain is what others share of it or what was pinned in it. A shorter sequence that it began
            // with remains if a kept sequence, or that rest, begins with it.
            let pinned = |keys: &[StoreKey]| pin.contains(keys.last().unwrap());
            let mut kept = sequences.clone();
            kept.retain(|other, keys| !tokens.starts_with(other) || pinned(keys));
            let others: BTreeSet<&StoreKey> = kept.values().flatten().chain(&pin).collect();
            let rest = victim.iter().take_while(|key| others.contains(key)).count();
            let rest = (tokens[..16 * rest].to_vec(), victim[..rest].to_vec());
            let begun = sequences.iter().filter(|(other, _)| goes_on(&kept, other) || rest.0.starts_with(other));
            let begun: Vec<_> = begun.map(|(other, keys)| (other.clone(), keys.clone())).collect();
            kept.extend(begun);
            if !rest.0.is_empty() && !goes_on(&kept, &rest.0) {
                kept.insert(rest.0, rest.1);
            }
            sequences = kept;
            let kept: BTreeSet<StoreKey> = sequences.values().flatten().chain(&pin).copied().collect();
            let there: BTreeSet<StoreKey> = disk.keys().unwrap().into_iter().collect();
            prop_assert_eq!(&there, &kept);
            prop_assert_eq!(removed.unwrap().bytes, own);
        }
    }
}

#[test]
fn each_salt_has_its_own_part_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::at(1_000_000);
    let quota = |blocks: u64| FilesystemConfig { budget: blocks * FILE, rescan_ms: 0, ..FilesystemConfig::default() };
    let of = |salt: &str, blocks| FilesystemStore::for_salt(folder.path(), salt, quota(blocks), time.clock());
    assert!(FilesystemStore::tenants(folder.path()).unwrap().is_empty());
    let (none, a, b) = (of("", 4), of("a", 3), of("../../b", 2));
    assert_eq!(none.root(), folder.path());
    for n in 0..40 {
        for store in [&none, &a, &b] {
            wait(store.put(&key(n), &vec![n].into(), None)).unwrap();
        }
    }
    let count = |store: &FilesystemStore| store.keys().unwrap().len();
    assert_eq!([&none, &a, &b].map(count), [4, 3, 2], "no salt evicts another's blocks");
    assert_eq!([&none, &a, &b].map(|store| store.usage().bytes), [4 * FILE, 3 * FILE, 2 * FILE]);
    let found: BTreeSet<_> = FilesystemStore::tenants(folder.path()).unwrap().into_iter().collect();
    assert_eq!(found, [&none, &a, &b].iter().map(|store| store.root().to_owned()).collect());
    assert!(found.iter().all(|path| path.starts_with(folder.path())));
    assert!(!found.iter().any(|path| path.to_string_lossy().contains("../")), "a salt is not used as a path");
    fs::create_dir_all(folder.path().join("tenants/letters/blocks")).unwrap();
    assert_eq!(FilesystemStore::tenants(folder.path()).unwrap().len(), 3);

    wait(a.clear()).unwrap();
    wait(none.put(&key(1), &Bytes::from_static(b"x"), Some(Duration::from_millis(1)))).unwrap();
    time.advance(10);
    none.sweep().unwrap();
    assert_eq!([&none, &a, &b].map(count), [3, 0, 2]);
    assert_eq!(wait(of("a", 3).get(&key(39))).unwrap(), None);
    assert_eq!(wait(of("../../b", 3).get(&key(39))).unwrap(), Some(vec![39].into()));
}
