//! Prefixes on an engine without the command line, as in a server or a browser: warmed, exported, imported by another engine.

use std::time::Duration;

use headstart::engine::answers::{Answers, unheard};
use headstart::engine::{Engine, EngineOptions, Request};
use headstart::error::Result;
use headstart::kv::Sources;
use headstart::store::{MemoryStore, Pack, PackLimits, Tiers, TiersConfig, system_clock};
use pollster::block_on;

use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiny_chat::bytes;

fn engine(tiny: &Tiny) -> Answers {
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    attach(&mut engine);
    Answers::new(engine, &bytes(), None)
}

/// Empty memory whose speed the engine has not measured yet: after a slow measurement on a busy machine it would compute
/// instead.
fn attach(engine: &mut Engine) {
    let memory = MemoryStore::new(1 << 30, system_clock());
    engine.attach(Tiers::new(memory, Vec::new(), TiersConfig::default()), "digest", Duration::from_secs(60));
}

fn export(answers: &mut Answers, name: &str, tokens: &[u32], salt: &str) -> Result<Pack> {
    block_on(answers.export_pack(name, tokens, salt, None, &mut unheard)).map(|pack| pack.expect("nobody cancelled it"))
}

fn prompt(length: usize, vocabulary: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 29 + i * 13 + 5) % vocabulary) as u32).collect()
}

#[test]
fn a_pack_goes_from_engine_to_engine() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let (mut giver, mut taker) = (engine(&tiny), engine(&tiny));
        for length in [1, 15, 16, 17, 50] {
            let prefix = prompt(length, tiny.vocabulary);
            // A prefix that was answered before: nothing of the answer may be in the pack.
            run(giver.engine_mut(), &[greedy(&prefix[..length.div_ceil(2)], 5)]);
            let pack = export(&mut giver, "rules", &prefix, "").unwrap();
            assert_eq!((pack.tokens(), pack.last_hidden().is_some()), (&prefix[..], true), "{name}: {length}");
            let again = export(&mut giver, "rules", &prefix, "").unwrap();
            assert!(pack == again, "{name}: {length}");

            let read = Pack::read(pack.bytes().to_vec(), &PackLimits::default()).unwrap();
            attach(taker.engine_mut());
            let imported = block_on(taker.engine_mut().import_pack(&read, "")).unwrap();
            let blocks = length.div_ceil(16);
            assert_eq!((imported.tokens, imported.blocks), (length, blocks));
            assert_eq!(imported.kept, [("memory", blocks)]);
            let long = [prefix.as_slice(), &[3, 1, 4, 1, 5]].concat();
            let asked = Request { logits: true, ..greedy(&long, 3) };
            let cold = run(&mut load(&tiny.folder, &EngineOptions::default()), std::slice::from_ref(&asked));
            taker.engine_mut().clear_cache();
            let warm = run(taker.engine_mut(), &[asked]);
            let sources = Sources { memory: length, computed: 5, ..Sources::default() };
            assert_eq!(warm[0].cache.sources, sources, "{name}: {length}");
            assert!(warm[0].logits == cold[0].logits && warm[0].tokens == cold[0].tokens, "{name}: {length}");
        }
    }
}

#[test]
fn an_impossible_export_or_import_is_refused() {
    let tiny = Tiny::read(NAMES[0]);
    let prefix = prompt(20, tiny.vocabulary);
    let refused = |result: Result<Pack>| result.expect_err("refused").to_string();
    let mut without = Answers::new(load(&tiny.folder, &EngineOptions::default()), &bytes(), None);
    assert!(refused(export(&mut without, "rules", &prefix, "")).contains("attach tiers first"));
    let mut engine = engine(&tiny);
    let nameless = refused(export(&mut engine, "two\nlines", &prefix, ""));
    assert!(nameless.contains("cannot be the name of a pack"), "{nameless}");
    assert!(refused(export(&mut engine, "rules", &[], "")).contains("prompt: is empty"));
    let pack = export(&mut engine, "rules", &prefix, "one").unwrap();
    let salted = block_on(engine.engine_mut().import_pack(&pack, "other")).unwrap_err().to_string();
    assert!(salted.starts_with("rules: ") && salted.contains("another salt"), "{salted}");
    // A prefix that is cached already needs no step.
    assert!(export(&mut engine, "rules", &prefix, "one").unwrap() == pack);
}
