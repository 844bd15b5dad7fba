//! The known continuation of a prefix.

use headstart::kv::{AdmitOptions, CacheConfig, PAGE};

use super::world::{Rng, World, namespace};

fn world(sequences: &[&[u32]]) -> World {
    let mut world = World::new(CacheConfig { capacity: 64, ..CacheConfig::default() });
    for tokens in sequences {
        learn(&mut world, tokens);
    }
    world
}

fn learn(world: &mut World, tokens: &[u32]) {
    world.start(&namespace(""), tokens, &AdmitOptions::default()).expect("room");
    world.step();
    world.finish(0);
}

fn count(tokens: std::ops::Range<u32>) -> Vec<u32> {
    tokens.collect()
}

#[test]
fn the_other_continuation_is_found_at_every_position() {
    let known = count(0..70);
    let world = world(&[&known]);
    for at in 0..70 {
        let mut prompt = known.clone();
        prompt[at] = 999;
        for limit in [0, 1, 5, PAGE, 200] {
            let found = world.cache.known_continuation(&namespace(""), &prompt, at, limit);
            assert_eq!(found, known[at..(at + limit).min(70)], "at {at}, limit {limit}");
        }
    }
}

#[test]
fn of_several_continuations_the_last_used_is_given() {
    let (a, b, c) = ([count(0..20), count(100..140)].concat(), [count(0..20), count(200..240)].concat(), count(0..40));
    let prompt = [count(0..20), count(300..340)].concat();
    let mut world = world(&[&a, &b]);
    let next = |world: &World, at| world.cache.known_continuation(&namespace(""), &prompt, at, 100);
    assert_eq!(next(&world, 20), b[20..]);
    learn(&mut world, &a);
    assert_eq!(next(&world, 20), a[20..]);
    learn(&mut world, &c);
    assert_eq!(next(&world, 20), c[20..]);
}

#[test]
fn the_prompts_own_continuation_is_not_another() {
    let (a, b) = (count(0..40), [count(0..20), count(100..120)].concat());
    let world = world(&[&b, &a]);
    assert_eq!(world.cache.known_continuation(&namespace(""), &a, 20, 9), b[20..29]);
    assert_eq!(world.cache.known_continuation(&namespace(""), &a, 25, 9), [0; 0]);
}

#[test]
fn without_a_known_continuation_the_result_is_empty() {
    let known = count(0..40);
    let world = world(&[&known]);
    let mut other = known.clone();
    other[3] = 999;
    let find = |salt: &str, tokens: &[u32], at| world.cache.known_continuation(&namespace(salt), tokens, at, 100);
    assert_eq!(find("other", &other, 3), [0; 0]);
    assert_eq!(find("", &other, 20), [0; 0], "the prefix is not known");
    assert_eq!(find("", &count(0..60), 40), [0; 0], "the known sequence ends there");
    assert_eq!(find("", &known, 400), [0; 0]);
    assert_eq!(find("", &known[..20], 20), known[20..], "the prompt ends there");
}

#[test]
fn the_continuation_is_always_part_of_a_known_sequence() {
    let mut rng = Rng(7);
    for _ in 0..300 {
        let sequence = |rng: &mut Rng| -> Vec<u32> {
            (0..1 + rng.below(50)).map(|at| (if at < 30 { 0 } else { rng.below(2) }) as u32).collect()
        };
        let mut sequences: Vec<Vec<u32>> = (0..6).map(|_| sequence(&mut rng)).collect();
        for tokens in &mut sequences {
            let at = rng.below(tokens.len());
            tokens[at] = 1;
        }
        let world = world(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let prompt = sequence(&mut rng);
        let at = rng.below(prompt.len());
        let found = world.cache.known_continuation(&namespace(""), &prompt, at, 100);
        let differs =
            |tokens: &[u32]| tokens.starts_with(&prompt[..at]) && tokens.get(at).is_some_and(|&t| t != prompt[at]);
        let entries = world.cache.entries();
        match found.first() {
            None => assert!(!entries.iter().any(|entry| differs(&entry.tokens))),
            Some(first) => {
                assert_ne!(*first, prompt[at]);
                let known = [&prompt[..at], &found].concat();
                assert!(entries.iter().any(|entry| entry.tokens == known), "{known:?}");
            }
        }
    }
}
