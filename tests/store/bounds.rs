//! A listing of a directory of any size keeps no more in memory than its limits.

use std::collections::BTreeMap;
use std::rc::Rc;

use headstart::store::{FilesystemConfig, FilesystemStore, Store};

use super::chains::*;
use super::*;

/// Many leaves after one long common beginning, which is held and counted once.
#[test]
fn leaves_that_share_a_beginning_are_listed_without_copies_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    let ns = namespace("");
    let begin = tokens(0..16 * 40);
    let ends: Vec<Vec<u32>> = (0..30).map(|n| [&begin[..], &[5_000 + n; 16]].concat()).collect();
    let keys: Vec<Vec<StoreKey>> = ends.iter().map(|tokens| store(&disk, &blocks(&ns, tokens, false), None)).collect();
    let listed = list(&disk);
    assert_eq!(listed.len(), 30);
    for Whole { keys: found, tokens, chain } in &listed {
        let at = keys.iter().position(|keys| keys == found).expect("a chain that was stored");
        assert_eq!((tokens, chain.bytes, chain.own_bytes, chain.complete), (&ends[at], 41 * FILE, FILE, true));
        assert!(Rc::ptr_eq(&chain.beginning, &listed[0].chain.beginning));
        assert!(Rc::ptr_eq(&chain.namespace, &listed[0].chain.namespace));
        assert!(Rc::ptr_eq(&chain.pins, &listed[0].chain.pins));
    }
}

#[test]
fn beyond_the_limit_the_least_recently_used_blocks_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::at(1_000_000);
    let all = disk(folder.path(), &time);
    let ns = namespace("");
    let old = store(&all, &blocks(&ns, &tokens(100..164), false), None);
    time.advance(1_000);
    let new = store(&all, &blocks(&ns, &tokens(0..48), false), None);
    let with = |listed_blocks, listed_bytes| {
        let config = FilesystemConfig { listed_blocks, listed_bytes, ..FilesystemConfig::default() };
        let disk = FilesystemStore::new(folder.path(), config, time.clock());
        let listed = disk.chains(&root).unwrap();
        assert_eq!(listed.damaged, 0);
        (wholes(&listed).into_iter().map(|whole| whole.keys).collect::<Vec<_>>(), listed.left_out)
    };
    assert_eq!(with(7, u64::MAX), (vec![new.clone(), old.clone()], 0));
    assert_eq!(with(5, u64::MAX), (vec![new.clone(), old[..2].to_vec()], 2), "from the root, in order of use");
    assert_eq!(with(3, u64::MAX), (vec![new.clone()], 4));
    assert_eq!(with(0, u64::MAX), (vec![], 7));
    let (found, left_out) = with(7, 2_000);
    assert!((1..7).contains(&left_out) && found[0][..] == new[..7 - left_out], "{left_out}");
    assert_eq!(with(7, 0), (vec![], 7));
    // Blocks left out of the listing are not treated as missing: their record is kept when the last listed chain is removed.
    let config = FilesystemConfig { listed_blocks: 3, ..FilesystemConfig::default() };
    let few = FilesystemStore::new(folder.path(), config, time.clock());
    assert_eq!(few.remove_chain(&new[2]).unwrap().blocks, 3);
    assert_eq!(wait(few.contains(&old)).unwrap(), [true; 4]);
}

#[test]
fn endless_namespaces_are_not_held() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), &Time::at(1_000_000));
    for n in 0..120 {
        let fields = BTreeMap::from([("weights".to_owned(), format!("{n:03}").repeat(80_000))]);
        let forged = Blob { key: key(n), parent: key(250), namespace: fields, ..blob(1, false) };
        wait(disk.put(&forged.key, &forged.encode().into(), None)).unwrap();
    }
    let listed = disk.chains(&root).unwrap();
    let held: usize = listed.found.iter().map(|chain| chain.namespace["weights"].len()).sum();
    assert!(listed.left_out > 0 && held <= 16 << 20, "{held} bytes, {} left out", listed.left_out);
}
