//! A preempted sequence continues with its own pages, because other kernels give the same tokens other bits.

use headstart::kv::{AdmitOptions, CacheConfig, Left, Producer};

use super::world::{World, namespace};

const PROMPT: usize = 20;

/// A world with a preempted sequence of 60 tokens, the last 40 of which were decoded.
fn left() -> (World, Vec<u32>, Left) {
    let mut world = World::new(CacheConfig { capacity: 24, ..CacheConfig::default() });
    let tokens: Vec<u32> = (1..=60).collect();
    world.start(&namespace(""), &tokens[..PROMPT], &AdmitOptions::default()).expect("room");
    world.step();
    for token in &tokens[PROMPT..] {
        world.extend(0, &[*token], Producer::Decode).expect("room");
        world.step();
    }
    let left = world.cache.leave(world.sequences.remove(0).table, PROMPT);
    world.check();
    (world, tokens, left)
}

fn prefill(world: &mut World, tokens: &[u32]) {
    world.start(&namespace(""), tokens, &AdmitOptions::default()).expect("room");
    world.step();
    world.finish(0);
    world.check();
}

/// How many tokens the sequence itself may continue after, and how many anybody may reuse.
fn usable(world: &World, tokens: &[u32], left: &Left, exact: bool) -> (usize, usize) {
    let anyone = AdmitOptions { max: Some(tokens.len()), ..AdmitOptions::default() };
    let own = AdmitOptions { left: Some(left.clone()), exact, ..anyone.clone() };
    let lookup = |options| world.cache.lookup(&namespace(""), tokens, options);
    (lookup(&own), lookup(&anyone))
}

#[test]
fn it_continues_where_it_stopped() {
    let (world, tokens, left) = left();
    assert_eq!(usable(&world, &tokens, &left, false), (60, 60));
    // It would decode its own tokens again with the same bits, so exact reuse includes them.
    assert_eq!(usable(&world, &tokens, &left, true), (60, 60));
}

#[test]
fn pages_prefilled_by_another_in_its_place_are_not_reused() {
    let (mut world, tokens, left) = left();
    assert_eq!(world.cache.forget(&namespace(""), &tokens), 4);
    prefill(&mut world, &tokens);
    assert_eq!(usable(&world, &tokens, &left, false), (PROMPT, 60));
}

#[test]
fn pages_prefilled_by_another_after_its_own_are_not_reused() {
    let (mut world, tokens, left) = left();
    prefill(&mut world, &[&tokens[..32], &[900; 5]].concat());
    assert_eq!(world.cache.forget(&namespace(""), &tokens), 2);
    prefill(&mut world, &tokens);
    assert_eq!(usable(&world, &tokens, &left, false), (32, 60));
}

#[test]
fn exact_pages_that_replaced_its_own_are_not_reused() {
    let (mut world, tokens, left) = left();
    // All of it, computed for a request that reuses no decode-written KV.
    let exact = AdmitOptions { exact: true, ..AdmitOptions::default() };
    world.start(&namespace(""), &tokens, &exact).expect("room");
    world.step();
    world.finish(0);
    world.check();
    assert_eq!(usable(&world, &tokens, &left, false), (PROMPT, 60));
}
