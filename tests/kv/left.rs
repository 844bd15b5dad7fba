//! A sequence that gave its pages up goes on with those very pages: the same tokens by other kernels have other bits.

use headstart::kv::{AdmitOptions, Config, Left, Producer};

use super::world::{World, namespace};

const PROMPT: usize = 20;

/// A world in which a sequence of 60 tokens, of which the last 40 were decoded, gave its pages up.
fn left() -> (World, Vec<u32>, Left) {
    let mut world = World::new(Config { capacity: 24, ..Config::default() });
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

/// How many of the tokens the sequence may go on behind, and how many anybody may reuse.
fn usable(world: &World, tokens: &[u32], left: &Left, exact: bool) -> (usize, usize) {
    let anyone = AdmitOptions { max: Some(tokens.len()), ..AdmitOptions::default() };
    let own = AdmitOptions { left: Some(left.clone()), exact, ..anyone.clone() };
    let lookup = |options| world.cache.lookup(&namespace(""), tokens, options);
    (lookup(&own), lookup(&anyone))
}

#[test]
fn it_goes_on_where_it_stopped() {
    let (world, tokens, left) = left();
    assert_eq!(usable(&world, &tokens, &left, false), (60, 60));
    // Its own tokens are what it would decode again, also where only exact ones are reused.
    assert_eq!(usable(&world, &tokens, &left, true), (60, 60));
}

#[test]
fn what_another_prefilled_in_its_place_is_not_its_own() {
    let (mut world, tokens, left) = left();
    assert_eq!(world.cache.forget(&namespace(""), &tokens), 4);
    prefill(&mut world, &tokens);
    assert_eq!(usable(&world, &tokens, &left, false), (PROMPT, 60));
}

#[test]
fn nor_is_what_another_prefilled_behind_its_pages() {
    let (mut world, tokens, left) = left();
    prefill(&mut world, &[&tokens[..32], &[900; 5]].concat());
    assert_eq!(world.cache.forget(&namespace(""), &tokens), 2);
    prefill(&mut world, &tokens);
    assert_eq!(usable(&world, &tokens, &left, false), (32, 60));
}

#[test]
fn nor_is_an_exact_page_that_took_the_place_of_its_own() {
    let (mut world, tokens, left) = left();
    // All of it, computed for somebody who reuses nothing that decoding wrote.
    let exact = AdmitOptions { exact: true, ..AdmitOptions::default() };
    world.start(&namespace(""), &tokens, &exact).expect("room");
    world.step();
    world.finish(0);
    world.check();
    assert_eq!(usable(&world, &tokens, &left, false), (PROMPT, 60));
}
