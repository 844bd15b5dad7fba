//! Pages without the KV of sliding-window layers: a hit ends only where the next token's whole window is present.

use headstart::kv::{AdmitOptions, CacheConfig, Producer, Reason, is_unseen};

use super::world::{World, namespace};

const WINDOW: usize = 20;

/// Indexes pages for the blocks of `tokens`, the first `partial` of them without the KV of sliding-window layers.
fn load(world: &mut World, tokens: &[u32], partial: usize) {
    let options = AdmitOptions { max: Some(0), ..AdmitOptions::default() };
    let mut table = world.cache.admit(&namespace(""), tokens, &options).expect("room").table;
    for (number, block) in tokens.chunks(16).enumerate() {
        world.cache.append(&mut table, block.len()).expect("room");
        if number < partial {
            table.omit_windows(number);
        }
        world.cache.publish(&mut table, block, Producer::Prefill);
    }
    world.cache.release(table);
    world.check();
}

fn lookup(world: &World, tokens: &[u32]) -> usize {
    world.cache.lookup(&namespace(""), tokens, &AdmitOptions { max: Some(tokens.len()), ..AdmitOptions::default() })
}

#[test]
fn the_token_after_a_hit_attends_to_its_window_alone() {
    // The token after 48 attends to those from 29: none of page 0, the last three of page 1.
    for (number, end, unseen) in
        [(0, 48, true), (1, 48, false), (1, 50, false), (1, 51, true), (0, 34, false), (0, 35, true)]
    {
        assert_eq!(is_unseen(number, WINDOW, end), unseen, "page {number} behind {end}");
    }
}

#[test]
fn a_hit_ends_where_its_window_is_complete() {
    let tokens: Vec<u32> = (1..=96).collect();
    let mut world = World::new(CacheConfig { capacity: 24, window: Some(WINDOW), ..CacheConfig::default() });
    load(&mut world, &tokens, 3);
    // After 67 tokens or more the window is complete. A shorter hit would need what the partial pages lack.
    for (length, expected) in [(96, 96), (80, 80), (67, 67), (66, 0), (48, 0), (40, 0), (16, 0)] {
        assert_eq!(lookup(&world, &tokens[..length]), expected, "of {length}");
    }
    let misses = world.cache.admit(&namespace(""), &tokens[..50], &AdmitOptions::default()).map(|admission| {
        let misses = admission.report.misses.clone();
        world.cache.release(admission.table);
        misses
    });
    assert_eq!(misses.expect("room")[0].reason, Reason::NotKept);
}

#[test]
fn a_complete_page_replaces_a_partial_one_but_not_vice_versa() {
    let tokens: Vec<u32> = (1..=96).collect();
    let mut world = World::new(CacheConfig { capacity: 24, window: Some(WINDOW), ..CacheConfig::default() });
    load(&mut world, &tokens, 3);
    load(&mut world, &tokens[..64], 0);
    assert_eq!((lookup(&world, &tokens[..50]), lookup(&world, &tokens)), (50, 96));
    load(&mut world, &tokens[..64], 2);
    assert_eq!((lookup(&world, &tokens[..50]), lookup(&world, &tokens)), (50, 96));
}

/// A sequence that continued from partial pages shares them with no one who needs more of them.
#[test]
fn pages_computed_after_partial_ones_are_complete() {
    let tokens: Vec<u32> = (1..=96).collect();
    let mut world = World::new(CacheConfig { capacity: 24, window: Some(WINDOW), ..CacheConfig::default() });
    load(&mut world, &tokens, 3);
    let longer: Vec<u32> = (1..=130).collect();
    world.start(&namespace(""), &longer, &AdmitOptions::default()).expect("room");
    world.step();
    world.finish(0);
    world.check();
    assert_eq!((lookup(&world, &longer), lookup(&world, &longer[..66])), (130, 0));
}
