//! Forgetting one sequence: shared pages, pinned pages and running sequences stay.

use headstart::kv::{AdmitOptions, CacheConfig, Namespace, Producer};

use super::world::{World, namespace};

fn world() -> World {
    World::new(CacheConfig { capacity: 24, ..CacheConfig::default() })
}

fn know(world: &mut World, ns: &Namespace, tokens: &[u32]) {
    world.start(ns, tokens, &AdmitOptions::default()).expect("room");
    world.step();
    world.finish(world.sequences.len() - 1);
    world.check();
}

fn known(world: &World, ns: &Namespace, tokens: &[u32]) -> usize {
    let options = AdmitOptions { max: Some(tokens.len()), ..AdmitOptions::default() };
    world.cache.lookup(ns, tokens, &options)
}

fn tokens(len: u32) -> Vec<u32> {
    (1..=len).collect()
}

#[test]
fn a_sequence_is_forgotten_back_to_where_another_branches() {
    let (ns, other) = (namespace(""), namespace("s"));
    let mut world = world();
    let one = tokens(53);
    let two = [&one[..32], &[900; 20]].concat();
    know(&mut world, &ns, &one);
    know(&mut world, &ns, &two);
    know(&mut world, &other, &one);
    let cached = world.cache.cached();
    assert_eq!(world.cache.forget(&ns, &one), 2);
    world.check();
    assert_eq!((known(&world, &ns, &one), known(&world, &ns, &two), known(&world, &other, &one)), (32, 52, 53));
    assert_eq!((world.cache.cached(), world.cache.available()), (cached - 2, 24));
    assert_eq!(world.cache.forget(&ns, &one), 0, "it is no longer known");
    assert_eq!(world.cache.forget(&ns, &two), 4, "back to the root, since no other remains");
    world.check();
    assert_eq!((known(&world, &ns, &two), known(&world, &other, &one)), (0, 53));
    assert_eq!(world.cache.stats().evicted_pages, 0, "forgetting is not counted as eviction");
}

#[test]
fn only_the_exact_sequence_is_forgotten() {
    let ns = namespace("");
    for len in 0..=40 {
        for asked in 0..=45 {
            let mut world = world();
            know(&mut world, &ns, &tokens(len));
            let expected = if asked == len { len.div_ceil(16) as usize } else { 0 };
            assert_eq!(world.cache.forget(&ns, &tokens(asked)), expected, "{asked} of {len}");
            assert_eq!(known(&world, &ns, &tokens(len)), if asked == len { 0 } else { len as usize });
            world.check();
        }
    }
}

#[test]
fn pinned_pages_stay() {
    let ns = namespace("");
    let mut world = world();
    let all = tokens(60);
    know(&mut world, &ns, &all);
    let pinned = world.cache.pin(&ns, &all[..32]).expect("room");
    assert_eq!(world.cache.forget(&ns, &all), 2);
    assert_eq!((known(&world, &ns, &all), world.cache.forget(&ns, &all[..32])), (32, 0));
    world.check();
    assert!(world.cache.unpin(pinned.id));
    assert_eq!(world.cache.forget(&ns, &all[..32]), 2);
    world.check();
}

#[test]
fn sequences_that_run_keep_their_pages_and_publish_again() {
    let ns = namespace("");
    let mut world = world();
    world.start(&ns, &tokens(40), &AdmitOptions::default()).expect("room");
    world.step();
    let pages = world.sequences[0].table.pages().to_vec();
    assert_eq!(world.cache.forget(&ns, &tokens(40)), 3);
    world.check();
    assert_eq!((known(&world, &ns, &tokens(40)), world.cache.available()), (0, 21));
    world.extend(0, &[41], Producer::Decode).expect("room");
    world.step();
    world.read_back(&world.sequences[0]);
    world.read_known();
    world.check();
    assert_eq!(world.sequences[0].table.pages(), pages);
    assert_eq!(known(&world, &ns, &tokens(41)), 41);
    world.finish(0);
    assert_eq!(world.cache.forget(&ns, &tokens(41)), 3);
    assert_eq!(world.cache.available(), 24);
}
