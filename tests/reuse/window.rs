//! Models with sliding windows: a hit fetches only what the next token attends to. A later request may need what was left out.

use headstart::engine::{Engine, Request};
use headstart::kv::Key;

use super::{chunked, cold, digest, prompt, same, warm, watched};
use crate::support::engine::{Answer, load, run};
use crate::support::odd::Tiny;
use crate::support::tiers::{Places, Reach, Tier};

/// Six of seven layers with a window of 17; all layers with a window of 19.
const MODELS: [(&str, f64); 2] = [("tiny-gemma3-f16", 0.6), ("tiny-mistral-f16", 0.6)];
const LENGTH: usize = 150;

fn ask(engine: &mut Engine, tokens: &[u32], exact: bool) -> Answer {
    run(engine, &[Request { exact, ..watched(tokens, 2) }]).remove(0)
}

#[test]
fn a_hit_leaves_out_kv_outside_the_next_tokens_window() {
    let places = Places::default();
    for (name, share) in MODELS {
        let tiny = Tiny::read(name);
        let [mut writer, mut reader, mut reference] = [(); 3].map(|()| load(&tiny.folder, &chunked(48)));
        let digest = digest(&tiny.folder);
        let tokens = prompt(LENGTH, tiny.vocabulary, 3);
        let parted = |at: usize, length: usize| {
            let mut other = prompt(length, tiny.vocabulary, 3);
            other[at] = (other[at] + 1) % tiny.vocabulary as u32;
            other
        };
        for tier in Tier::reaching(Reach::Process) {
            let place = places.new_in(tier);
            place.restart(&mut writer, &digest);
            warm(&mut writer, &tokens);
            let longer = [&tokens[..], &prompt(20, tiny.vocabulary, 8)].concat();
            let what = format!("{name}, from {}", tier.name);

            place.restart(&mut reader, &digest);
            let whole = ask(&mut reader, &longer, true);
            assert_eq!(whole.cache.sources, (tier.sources)(LENGTH, 20), "{what}");
            let all = place.stats(&reader).loaded_bytes;
            place.restart(&mut reader, &digest);
            let hit = ask(&mut reader, &longer, false);
            assert_eq!(hit.cache.sources, (tier.sources)(LENGTH, 20), "{what}");
            let loaded = place.stats(&reader).loaded_bytes;
            assert!((loaded as f64) < share * all as f64, "{what}: {loaded} of {all} bytes");
            let expected = run(&mut reference, &[cold(watched(&longer, 2))]).remove(0);
            same(&what, &expected, &whole, LENGTH);
            same(&what, &expected, &hit, LENGTH);

            // A continuation finds complete pages. A prompt that diverged earlier fetches what was left out, from the same
            // place.
            for (at, gpu) in
                [(160, Some(160)), (LENGTH - 1, None), (131, None), (64, None), (17, None), (100, None), (63, Some(63))]
            {
                let other = parted(at, LENGTH + 12);
                let other = if at < LENGTH { other } else { [&longer[..at], &other[..9]].concat() };
                place.attach(&mut reader, &digest);
                let answer = ask(&mut reader, &other, false);
                let what = format!("{what}, parted at {at}");
                assert_eq!(answer.usage.cached_tokens, at, "{what}");
                if let Some(gpu) = gpu {
                    assert_eq!(answer.cache.sources.gpu, gpu, "{what}");
                }
                same(&what, &run(&mut reference, &[cold(watched(&other, 2))]).remove(0), &answer, at);
            }
        }
    }
}

/// A place that loses a block in the middle: pages loaded for a longer hit are of no use for a shorter one.
#[test]
fn a_block_lost_meanwhile_is_computed_and_changes_no_bit() {
    let (places, name) = (Places::default(), MODELS[0].0);
    let tiny = Tiny::read(name);
    let [mut writer, mut reader, mut reference] = [(); 3].map(|()| load(&tiny.folder, &chunked(48)));
    let digest = digest(&tiny.folder);
    let tokens = prompt(LENGTH, tiny.vocabulary, 3);
    for (tier, block) in [("memory", 7), ("disk", 1), ("disk", 8)] {
        let place = places.new_in(Tier::named(tier));
        place.restart(&mut writer, &digest);
        warm(&mut writer, &tokens);
        let keys: Vec<Key> = Key::chain(&writer.namespace(""), &tokens).collect();
        place.put(&keys[block].0, b"no block");
        place.restart(&mut reader, &digest);
        let answer = ask(&mut reader, &tokens, false);
        let what = format!("{tier}, without block {block}");
        assert!(answer.usage.cached_tokens <= 16 * block, "{what}");
        same(&what, &run(&mut reference, &[cold(watched(&tokens, 2))]).remove(0), &answer, answer.usage.cached_tokens);
        // Once computed, it is stored again.
        let again = ask(&mut reader, &tokens, false);
        assert_eq!(again.usage.cached_tokens, LENGTH, "{what}");
    }
}
