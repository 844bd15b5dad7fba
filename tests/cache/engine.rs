//! Prefixes on an engine itself, as a server or a browser has them: warmed, exported, taken in by another engine.

use std::time::Duration;

use headstart::engine::{Engine, EngineOptions, Request};
use headstart::kv::Sources;
use headstart::store::{MemoryStore, Pack, PackLimits, Tiers, TiersConfig, system_clock};
use pollster::block_on;

use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};

fn engine(tiny: &Tiny) -> Engine {
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let memory = MemoryStore::new(1 << 30, system_clock());
    engine.attach(Tiers::new(memory, Vec::new(), TiersConfig::default()), "digest", Duration::from_secs(60));
    engine
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
            // One that was answered before leaves nothing of the answer in the pack.
            run(&mut giver, &[greedy(&prefix[..length.div_ceil(2)], 5)]);
            let pack = block_on(giver.export_pack("rules", &prefix, "", None)).unwrap();
            assert_eq!((pack.tokens(), pack.last_hidden().is_some()), (&prefix[..], true), "{name}: {length}");
            let again = block_on(giver.export_pack("rules", &prefix, "", None)).unwrap();
            assert!(pack == again, "{name}: {length}");

            let read = Pack::read(pack.bytes().to_vec(), &PackLimits::default()).unwrap();
            let imported = block_on(taker.import_pack(&read, "")).unwrap();
            let blocks = length.div_ceil(16);
            assert_eq!((imported.tokens, imported.blocks), (length, blocks));
            assert_eq!(imported.kept, [("memory", blocks)]);
            let long = [prefix.as_slice(), &[3, 1, 4, 1, 5]].concat();
            let asked = Request { logits: true, ..greedy(&long, 3) };
            let cold = run(&mut load(&tiny.folder, &EngineOptions::default()), std::slice::from_ref(&asked));
            taker.clear_cache();
            let warm = run(&mut taker, &[asked]);
            let sources = Sources { memory: length, computed: 5, ..Sources::default() };
            assert_eq!(warm[0].cache.sources, sources, "{name}: {length}");
            assert!(warm[0].logits == cold[0].logits && warm[0].tokens == cold[0].tokens, "{name}: {length}");
        }
    }
}

#[test]
fn what_no_pack_can_be_made_of_is_refused() {
    let tiny = Tiny::read(NAMES[0]);
    let prefix = prompt(20, tiny.vocabulary);
    let refused = |result: headstart::error::Result<Pack>| result.expect_err("refused").to_string();
    let mut without = load(&tiny.folder, &EngineOptions::default());
    assert!(refused(block_on(without.export_pack("rules", &prefix, "", None))).contains("attach tiers first"));
    let mut engine = engine(&tiny);
    let nameless = refused(block_on(engine.export_pack("two\nlines", &prefix, "", None)));
    assert!(nameless.contains("cannot be the name of a pack"), "{nameless}");
    assert!(refused(block_on(engine.export_pack("rules", &[], "", None))).contains("prompt: is empty"));
    let pack = block_on(engine.export_pack("rules", &prefix, "one", None)).unwrap();
    let salted = block_on(engine.import_pack(&pack, "other")).unwrap_err().to_string();
    assert!(salted.starts_with("rules: ") && salted.contains("another salt"), "{salted}");

    // While others are answered their events belong to them.
    engine.submit(greedy(&prompt(40, tiny.vocabulary)[20..], 4)).unwrap();
    let busy = block_on(engine.warm(&prefix, "")).unwrap_err().to_string();
    assert!(busy.contains("requests are under way"), "{busy}");
    // What is there already needs no step.
    assert!(block_on(engine.export_pack("rules", &prefix, "one", None)).unwrap() == pack);
}
