//! Pages without what layers with a window keep: a hit ends where all is there that the token behind it sees.

use headstart::kv::{AdmitOptions, Config, Producer, Reason, is_unseen};

use super::world::{World, namespace};

const WINDOW: usize = 20;

/// Pages that stand for the blocks of `tokens`, the first `partial` of which are without layers with a window.
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
fn the_token_behind_a_hit_sees_its_window_and_no_more() {
    // Behind 48 tokens those from 29 on are seen: of page 0 none, of page 1 the last three.
    for (number, end, unseen) in
        [(0, 48, true), (1, 48, false), (1, 50, false), (1, 51, true), (0, 34, false), (0, 35, true)]
    {
        assert_eq!(is_unseen(number, WINDOW, end), unseen, "page {number} behind {end}");
    }
}

#[test]
fn a_hit_ends_where_its_window_is_whole() {
    let tokens: Vec<u32> = (1..=96).collect();
    let mut world = World::new(Config { capacity: 24, window: Some(WINDOW), ..Config::default() });
    load(&mut world, &tokens, 3);
    // What is seen from there on is whole, and so is what is seen from where nothing is known.
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
fn a_whole_page_takes_the_place_of_one_without_windows_and_not_the_other_way() {
    let tokens: Vec<u32> = (1..=96).collect();
    let mut world = World::new(Config { capacity: 24, window: Some(WINDOW), ..Config::default() });
    load(&mut world, &tokens, 3);
    load(&mut world, &tokens[..64], 0);
    assert_eq!((lookup(&world, &tokens[..50]), lookup(&world, &tokens)), (50, 96));
    load(&mut world, &tokens[..64], 2);
    assert_eq!((lookup(&world, &tokens[..50]), lookup(&world, &tokens)), (50, 96));
}

/// A sequence that went on from such pages shares them with nobody who needs more of them.
#[test]
fn what_is_computed_behind_them_is_whole() {
    let tokens: Vec<u32> = (1..=96).collect();
    let mut world = World::new(Config { capacity: 24, window: Some(WINDOW), ..Config::default() });
    load(&mut world, &tokens, 3);
    let longer: Vec<u32> = (1..=130).collect();
    world.start(&namespace(""), &longer, &AdmitOptions::default()).expect("room");
    world.step();
    world.finish(0);
    world.check();
    assert_eq!((lookup(&world, &longer), lookup(&world, &longer[..66])), (130, 0));
}
