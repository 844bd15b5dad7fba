//! Pages with a state after their last token: a hit ends at a page's last token.

use headstart::kv::{AdmitOptions, CacheConfig, Namespace, Producer, Reason};

use super::world::{World, namespace};

fn world() -> World {
    World::new(CacheConfig { capacity: 24, has_state: true, ..CacheConfig::default() })
}

fn known(world: &World, ns: &Namespace, tokens: &[u32], options: &AdmitOptions) -> usize {
    world.cache.lookup(ns, tokens, options)
}

fn tokens(len: u32) -> Vec<u32> {
    (1..=len).collect()
}

/// Computes a prompt, keeps a checkpoint at its end, and decodes `answer` after it.
fn converse(world: &mut World, ns: &Namespace, prompt: &[u32], answer: &[u32]) {
    world.start(ns, prompt, &AdmitOptions::default()).expect("room");
    world.step();
    let last = world.sequences.len() - 1;
    let copy = world.cache.checkpoint(&mut world.sequences[last].table);
    world.copies.extend(copy);
    world.check();
    for token in answer {
        world.extend(last, &[*token], Producer::Decode).expect("room");
        world.step();
        world.check();
    }
    world.read_known();
    world.finish(last);
    world.check();
}

#[test]
fn hits_end_at_a_prompts_end_its_answers_end_and_page_boundaries() {
    let (ns, mut world) = (namespace(""), world());
    let (prompt, answer) = (tokens(21), [900, 901, 902]);
    let all = [&prompt[..], &answer].concat();
    converse(&mut world, &ns, &prompt, &answer);
    let any = AdmitOptions::default();
    for count in 1..=all.len() {
        let then = [&all[..count], &[700]].concat();
        let expected = match count {
            24 => 24,
            21.. => 21,
            _ => count / 16 * 16,
        };
        assert_eq!(known(&world, &ns, &then, &any), expected, "{count}");
        let exact = AdmitOptions { exact: true, ..AdmitOptions::default() };
        assert_eq!(known(&world, &ns, &then, &exact), expected.min(21), "{count}, exact");
    }
    let whole = AdmitOptions { max: Some(21), ..AdmitOptions::default() };
    assert_eq!(known(&world, &ns, &prompt, &whole), 21);
    assert_eq!(known(&world, &ns, &prompt, &any), 16, "its last token is computed from the state before it");
}

#[test]
fn continuing_from_a_checkpoint_leaves_it_unchanged() {
    let (ns, mut world) = (namespace(""), world());
    let prompt = tokens(21);
    converse(&mut world, &ns, &prompt, &[]);
    for next in [500, 501, 502] {
        converse(&mut world, &ns, &[&prompt[..], &[next]].concat(), &[next + 100; 9]);
        let then = [&prompt[..], &[7]].concat();
        assert_eq!(known(&world, &ns, &then, &AdmitOptions::default()), 21);
    }
}

#[test]
fn a_checkpoint_is_made_only_if_a_page_is_partly_filled() {
    let ns = namespace("");
    for (len, made) in [(15, true), (16, false), (17, true), (32, false)] {
        let mut world = world();
        world.start(&ns, &tokens(len), &AdmitOptions::default()).expect("room");
        assert!(world.cache.checkpoint(&mut world.sequences[0].table).is_none(), "nothing is written yet");
        world.step();
        assert_eq!(world.cache.checkpoint(&mut world.sequences[0].table).is_some(), made, "{len}");
    }
    let mut stateless = World::new(CacheConfig { capacity: 4, ..CacheConfig::default() });
    stateless.start(&ns, &tokens(5), &AdmitOptions::default()).expect("room");
    stateless.step();
    assert!(stateless.cache.checkpoint(&mut stateless.sequences[0].table).is_none());
}

#[test]
fn a_miss_for_lack_of_a_state_differs_from_a_cold_one() {
    let (ns, mut world) = (namespace(""), world());
    converse(&mut world, &ns, &tokens(29), &[]);
    let prompt = [&tokens(26)[..], &[800, 801, 802]].concat();
    let admission = world.cache.admit(&ns, &prompt, &AdmitOptions::default()).expect("room");
    assert_eq!(admission.cached_tokens, 16);
    let misses: Vec<_> = admission.report.misses.iter().map(|miss| (miss.reason, miss.from, miss.tokens)).collect();
    assert_eq!(misses, [(Reason::NoState, 16, 10), (Reason::Diverged, 26, 2)]);
    assert_eq!(admission.report.first_divergent, Some(26));
    world.cache.release(admission.table);
}
