//! What is reused, for every length around page boundaries, and why the rest is not.

use headstart::kv::{
    AdmitOptions, Cache, CacheConfig, Fields, Key, Miss, Namespace, OutOfPages, PAGE, Producer, Reason, Report,
    Sources, Tier,
};

use super::world::{World, namespace};

fn world(capacity: usize) -> World {
    World::new(CacheConfig { capacity, ..CacheConfig::default() })
}

/// Tokens that never repeat, so that nothing matches by accident.
fn prompt(len: usize) -> Vec<u32> {
    (1..=len as u32).collect()
}

fn run(world: &mut World, ns: &Namespace, tokens: &[u32], options: &AdmitOptions) -> usize {
    let cached = world.start(ns, tokens, options).expect("room");
    world.step();
    world.sequences.iter().for_each(|sequence| world.read_back(sequence));
    world.check();
    world.finish(world.sequences.len() - 1);
    world.check();
    cached
}

fn report(cache: &mut Cache, ns: &Namespace, tokens: &[u32], options: &AdmitOptions) -> Report {
    let admission = cache.admit(ns, tokens, options).expect("room");
    cache.release(admission.table);
    admission.report
}

#[test]
fn every_hit_length_is_token_exact() {
    let ns = namespace("");
    let full = prompt(50);
    for known in 0..=50 {
        for shared in 0..=known {
            for more in [0, 1, 15, 16, 17] {
                let mut world = world(16);
                run(&mut world, &ns, &full[..known], &AdmitOptions::default());
                let mut asked = full[..shared].to_vec();
                asked.extend(1000..1000 + more);
                let expected = shared.min(asked.len().saturating_sub(1));
                let cached = run(&mut world, &ns, &asked, &AdmitOptions::default());
                assert_eq!(cached, expected, "{shared} of {known} tokens shared, {more} more");
            }
        }
    }
}

#[test]
fn a_repeat_recomputes_one_token_or_none() {
    let ns = namespace("");
    for len in 1..=50 {
        let mut world = world(8);
        let tokens = prompt(len);
        assert_eq!(run(&mut world, &ns, &tokens, &AdmitOptions::default()), 0);
        assert_eq!(run(&mut world, &ns, &tokens, &AdmitOptions::default()), len - 1);
        let all = AdmitOptions { max: Some(len), ..AdmitOptions::default() };
        assert_eq!(run(&mut world, &ns, &tokens, &all), len);
        assert!(world.cache.cached() <= len.div_ceil(PAGE) + 1);
    }
}

#[test]
fn every_limit_is_respected() {
    let ns = namespace("");
    let tokens = prompt(50);
    let mut world = world(64);
    run(&mut world, &ns, &tokens, &AdmitOptions::default());
    for max in 0..=50 {
        let options = AdmitOptions { max: Some(max), ..AdmitOptions::default() };
        assert_eq!(run(&mut world, &ns, &tokens, &options), max);
    }
}

#[test]
fn a_finished_conversation_continues_in_its_own_page() {
    let ns = namespace("");
    let mut world = world(8);
    run(&mut world, &ns, &prompt(20), &AdmitOptions::default());
    let admission = world.cache.admit(&ns, &prompt(30), &AdmitOptions::default()).expect("room");
    assert_eq!((admission.cached_tokens, admission.copy), (20, None));
    let second = world.cache.admit(&ns, &prompt(30), &AdmitOptions::default()).expect("room");
    let copy = second.copy.expect("the page has a writer already");
    assert_eq!((second.cached_tokens, copy.from, copy.tokens), (20, admission.table.pages()[1], 4));
    world.cache.release(admission.table);
    world.cache.release(second.table);
    world.check();
}

#[test]
fn running_sequences_share_before_they_end() {
    let ns = namespace("");
    let mut world = world(8);
    world.start(&ns, &prompt(37), &AdmitOptions::default()).expect("room");
    world.step();
    assert_eq!(world.start(&ns, &prompt(40), &AdmitOptions::default()), Ok(37));
    assert_eq!(world.sequences[0].table.pages()[..2], world.sequences[1].table.pages()[..2]);
    assert_ne!(world.sequences[0].table.pages()[2], world.sequences[1].table.pages()[2]);
    world.step();
    world.sequences.iter().for_each(|sequence| world.read_back(sequence));
    world.check();
}

#[test]
fn exact_reuse_leaves_decode_written_tokens_out() {
    let ns = namespace("");
    let exact = AdmitOptions { exact: true, ..AdmitOptions::default() };
    for decoded_from in 1..=40 {
        let mut world = world(16);
        world.start(&ns, &prompt(decoded_from), &AdmitOptions::default()).expect("room");
        world.step();
        for token in decoded_from as u32 + 1..=40 {
            world.extend(0, &[token], Producer::Decode).expect("room");
            world.step();
        }
        world.finish(0);
        let asked = prompt(60);
        assert_eq!(world.cache.lookup(&ns, &asked, &AdmitOptions::default()), 40);
        assert_eq!(world.cache.lookup(&ns, &asked, &exact), decoded_from);
        let report = report(&mut world.cache, &ns, &asked, &exact);
        let (from, why) = (report.misses[0].from, report.misses[0].reason);
        let expected = if decoded_from == 40 { Reason::Cold } else { Reason::DecodeWritten };
        assert_eq!((from, why), (decoded_from, expected));
        // Tokens that were never seen are cold, not decode-written.
        let unseen = report.misses.iter().filter(|miss| miss.reason == Reason::Cold).map(|miss| miss.tokens);
        assert_eq!(unseen.sum::<usize>(), 19);
        // Prefilling them once makes them exact for everybody afterwards, although decode wrote them first.
        assert_eq!(run(&mut world, &ns, &asked, &exact), decoded_from);
        assert_eq!(world.cache.lookup(&ns, &asked, &exact), 59);
    }
}

#[test]
fn prefill_after_decode_is_not_exact() {
    let ns = namespace("");
    let mut world = world(8);
    world.start(&ns, &prompt(10), &AdmitOptions::default()).expect("room");
    world.step();
    world.extend(0, &[11], Producer::Decode).expect("room");
    world.step();
    world.extend(0, &prompt(40)[11..], Producer::Prefill).expect("room");
    world.step();
    assert_eq!(world.sequences[0].table.exact(), 10);
    let exact = AdmitOptions { exact: true, ..AdmitOptions::default() };
    assert_eq!(world.cache.lookup(&ns, &prompt(50), &exact), 10);
}

#[test]
fn out_of_pages_is_a_value_and_changes_nothing() {
    let ns = namespace("");
    let mut world = world(4);
    world.start(&ns, &prompt(40), &AdmitOptions::default()).expect("room");
    world.step();
    let full = OutOfPages { needed: 2, free: 1 };
    assert_eq!(world.start(&ns, &[7; 32], &AdmitOptions::default()), Err(full));
    assert_eq!(world.extend(0, &[9; 25], Producer::Decode), Err(full));
    world.check();
    assert_eq!(world.sequences[0].table.len(), 40);
    world.grow(5);
    assert_eq!(world.start(&ns, &[7; 32], &AdmitOptions::default()), Ok(0));
    world.check();
}

#[test]
fn the_only_page_left_is_used_even_if_it_holds_the_tail() {
    let ns = namespace("");
    let mut world = world(1);
    run(&mut world, &ns, &prompt(16), &AdmitOptions::default());
    let admission = world.cache.admit(&ns, &prompt(10), &AdmitOptions::default()).expect("a page is there");
    assert_eq!((admission.cached_tokens, admission.copy), (0, None));
    assert_eq!(admission.report.misses, [Miss { reason: Reason::Evicted, from: 0, tokens: 9 }]);
    world.cache.release(admission.table);
    assert_eq!(run(&mut world, &ns, &prompt(10), &AdmitOptions::default()), 0);
}

#[test]
fn the_oldest_leaf_is_evicted_first_and_remembered() {
    let ns = namespace("");
    let mut world = world(6);
    let (old, new): (Vec<u32>, Vec<u32>) = ((100..148).collect(), (200..248).collect());
    run(&mut world, &ns, &old, &AdmitOptions::default());
    run(&mut world, &ns, &new, &AdmitOptions::default());
    run(&mut world, &ns, &prompt(16), &AdmitOptions::default());
    let cap = AdmitOptions { max: Some(48), ..AdmitOptions::default() };
    assert_eq!(world.cache.lookup(&ns, &new, &cap), 48);
    let report = report(&mut world.cache, &ns, &old, &cap);
    assert_eq!(report.sources.gpu, 32);
    assert_eq!(report.misses, [Miss { reason: Reason::Evicted, from: 32, tokens: 16 }]);
    assert_eq!(world.cache.stats().evicted_pages, 1);
}

#[test]
fn unused_pages_expire() {
    let ns = namespace("");
    let mut cache = World::new(CacheConfig { capacity: 8, ttl_ms: Some(1000), ..CacheConfig::default() });
    run(&mut cache, &ns, &prompt(20), &AdmitOptions::default());
    cache.cache.advance(999);
    assert_eq!(cache.cache.lookup(&ns, &prompt(30), &AdmitOptions::default()), 20);
    run(&mut cache, &ns, &prompt(16), &AdmitOptions::default()); // uses the first page again
    cache.cache.advance(1000);
    assert_eq!(cache.cache.lookup(&ns, &prompt(30), &AdmitOptions::default()), 16);
    cache.cache.advance(5000);
    cache.cache.advance(0);
    let report = report(&mut cache.cache, &ns, &prompt(30), &AdmitOptions::default());
    assert_eq!(report.misses[0], Miss { reason: Reason::Expired, from: 0, tokens: 20 });
    assert_eq!(report.misses[1], Miss { reason: Reason::Cold, from: 20, tokens: 9 });
    assert_eq!(cache.cache.available(), 8);
    cache.check();
}

#[test]
fn pins_outlive_pressure_and_are_capped() {
    let ns = namespace("");
    let mut world = World::new(CacheConfig { capacity: 8, pinned_percent: 25, ..CacheConfig::default() });
    run(&mut world, &ns, &prompt(20), &AdmitOptions::default());
    let pinned = world.cache.pin(&ns, &prompt(30)).expect("two of eight");
    assert_eq!(pinned.tokens, 20);
    run(&mut world, &ns, &[5; 96], &AdmitOptions::default());
    run(&mut world, &ns, &[6; 96], &AdmitOptions::default());
    world.cache.clear();
    assert_eq!(world.cache.lookup(&ns, &prompt(30), &AdmitOptions::default()), 20);
    run(&mut world, &ns, &[5; 16], &AdmitOptions::default());
    let full = world.cache.pin(&ns, &[5; 16]).expect_err("a third page");
    assert_eq!((full.asked, full.allowed), (3, 2));
    assert!(world.cache.unpin(pinned.id));
    assert!(world.cache.pin(&ns, &[5; 16]).is_ok());
    world.check();
}

#[test]
fn a_tenant_over_its_quota_loses_its_own_pages_only() {
    let (a, b) = (namespace("a"), namespace("b"));
    let mut world = World::new(CacheConfig { capacity: 32, page_bytes: 100, ..CacheConfig::default() });
    world.cache.set_quota(&a, 250);
    run(&mut world, &b, &prompt(48), &AdmitOptions::default());
    run(&mut world, &a, &prompt(32), &AdmitOptions::default());
    run(&mut world, &a, &[9; 32], &AdmitOptions::default());
    let known = |tokens: &[u32], ns| world.cache.lookup(ns, tokens, &AdmitOptions::default());
    assert_eq!((known(&prompt(49), &b), known(&[9; 33], &a), known(&prompt(33), &a)), (48, 32, 0));
    run(&mut world, &a, &[8; 64], &AdmitOptions::default());
    assert_eq!(world.cache.lookup(&a, &[8; 65], &AdmitOptions::default()), 32);
}

#[test]
fn salts_see_nothing_of_each_other() {
    let (a, b) = (namespace("a"), namespace("b"));
    let mut world = world(8);
    run(&mut world, &a, &prompt(40), &AdmitOptions::default());
    let told = report(&mut world.cache, &b, &prompt(40), &AdmitOptions::default());
    assert_eq!(told.misses, [Miss { reason: Reason::Cold, from: 0, tokens: 39 }]);
    let open = AdmitOptions { across_salts: true, ..AdmitOptions::default() };
    let told = report(&mut world.cache, &b, &prompt(40), &open);
    assert_eq!(told.misses, [Miss { reason: Reason::Salt, from: 0, tokens: 39 }]);
}

#[test]
fn every_field_keeps_namespaces_apart_and_is_named() {
    for tag in 0..8 {
        let mut fields = Fields::default();
        let values = [
            &mut fields.weights,
            &mut fields.architecture,
            &mut fields.rope,
            &mut fields.kv_dtype,
            &mut fields.kv_layout,
            &mut fields.adapter,
            &mut fields.salt,
            &mut fields.numerics,
        ];
        values.into_iter().nth(tag).expect("a field").push('x');
        let (plain, other) = (Namespace::new(Fields::default()), Namespace::new(fields));
        let mut world = world(8);
        run(&mut world, &plain, &prompt(40), &AdmitOptions::default());
        let options = AdmitOptions { across_salts: true, ..AdmitOptions::default() };
        let told = report(&mut world.cache, &other, &prompt(40), &options);
        let field = Fields::default().entries()[tag].0;
        let reason = if field == "salt" { Reason::Salt } else { Reason::NamespaceChanged { field } };
        assert_eq!(told.misses, [Miss { reason, from: 0, tokens: 39 }]);
        assert_eq!(report(&mut world.cache, &plain, &prompt(40), &options).sources.gpu, 39);
    }
}

#[test]
fn mutating_any_token_reuses_exactly_what_is_before_it() {
    let ns = namespace("");
    let mut world = world(64);
    run(&mut world, &ns, &prompt(50), &AdmitOptions::default());
    for at in 0..50 {
        let mut changed = prompt(50);
        changed[at] = 999;
        let told = report(&mut world.cache, &ns, &changed, &AdmitOptions::default());
        assert_eq!(told.sources.gpu, at.min(49));
        match at {
            0 => assert_eq!(told.misses[0].reason, Reason::Cold),
            49 => assert_eq!(told.misses, []),
            _ => assert_eq!((told.misses[0].reason, told.first_divergent), (Reason::Diverged, Some(at))),
        }
    }
}

#[test]
fn a_prefix_that_is_too_short_is_left() {
    let ns = namespace("");
    let mut world = world(8);
    run(&mut world, &ns, &prompt(10), &AdmitOptions::default());
    let options = AdmitOptions { min: 11, ..AdmitOptions::default() };
    let told = report(&mut world.cache, &ns, &prompt(30), &options);
    assert_eq!(told.sources.gpu, 0);
    assert_eq!(told.misses[0], Miss { reason: Reason::BelowMin, from: 0, tokens: 10 });
    assert_eq!(told.misses[1], Miss { reason: Reason::Cold, from: 10, tokens: 19 });
}

#[test]
fn a_report_is_flat_json() {
    let miss = Miss { reason: Reason::NamespaceChanged { field: "weights" }, from: 3, tokens: 4 };
    let json = serde_json::to_value(miss).expect("JSON");
    assert_eq!(json, serde_json::json!({"reason": "namespace_changed", "field": "weights", "from": 3, "tokens": 4}));
}

#[test]
fn tables_know_the_keys_of_their_blocks() {
    let ns = namespace("");
    let mut world = world(8);
    world.start(&ns, &prompt(40), &AdmitOptions::default()).expect("room");
    world.step();
    let keys: Vec<Key> = Key::chain(&ns, &prompt(32)).collect();
    assert_eq!(world.sequences[0].table.keys(), keys);
    assert_eq!(world.sequences[0].table.key(), Key::of(&ns, &prompt(40)));
    assert_eq!(world.cache.check_keys(), Ok(()));
}

#[test]
fn a_pin_follows_its_tokens_to_another_page() {
    let ns = namespace("");
    let known = |world: &World| world.cache.lookup(&ns, &prompt(40), &AdmitOptions::default());
    // Decode-written and pinned, then prefilled by a request for exact pages.
    let mut decoded = world(12);
    decoded.start(&ns, &prompt(3), &AdmitOptions::default()).expect("room");
    decoded.step();
    decoded.extend(0, &prompt(20)[3..], Producer::Decode).expect("room");
    decoded.step();
    decoded.finish(0);
    decoded.cache.pin(&ns, &prompt(20)).expect("room");
    let exact = AdmitOptions { exact: true, ..AdmitOptions::default() };
    assert_eq!(run(&mut decoded, &ns, &prompt(20), &exact), 3);
    decoded.cache.clear();
    decoded.check();
    assert_eq!(known(&decoded), 20);
    assert_eq!(decoded.cache.lookup(&ns, &prompt(40), &exact), 20);
    // Pinned while it grows to tokens that another page holds already.
    let mut growing = world(12);
    growing.start(&ns, &prompt(10), &AdmitOptions::default()).expect("room");
    growing.step();
    growing.cache.pin(&ns, &prompt(10)).expect("room");
    growing.start(&ns, &prompt(12), &AdmitOptions::default()).expect("room");
    growing.step();
    growing.extend(0, &[11, 12], Producer::Prefill).expect("room");
    growing.step();
    growing.check();
    growing.finish(0);
    growing.finish(0);
    growing.cache.clear();
    growing.check();
    assert_eq!(known(&growing), 12);
}

#[test]
fn a_growing_pinned_page_stays_indexed_whatever_the_quota() {
    let ns = namespace("");
    let mut world = world(8);
    world.start(&ns, &prompt(10), &AdmitOptions::default()).expect("room");
    world.step();
    world.cache.pin(&ns, &prompt(10)).expect("room");
    world.cache.set_quota(&ns, 0);
    world.extend(0, &[11], Producer::Decode).expect("room");
    world.step();
    world.check();
    assert_eq!(world.cache.lookup(&ns, &prompt(20), &AdmitOptions::default()), 11);
}

#[test]
fn a_running_sequence_indexes_forgotten_ancestors_again() {
    let ns = namespace("");
    let mut world = world(8);
    world.start(&ns, &prompt(40), &AdmitOptions::default()).expect("room");
    world.step();
    world.cache.clear();
    assert_eq!(world.cache.lookup(&ns, &prompt(50), &AdmitOptions::default()), 0);
    world.extend(0, &[41], Producer::Decode).expect("room");
    world.step();
    world.check();
    assert_eq!(world.cache.lookup(&ns, &prompt(50), &AdmitOptions::default()), 41);
}

#[test]
fn ending_a_sequence_counts_as_use_of_its_indexed_twins() {
    let ns = namespace("");
    let mut world = world(5);
    let whole = AdmitOptions::default();
    world.start(&ns, &prompt(16), &whole).expect("room");
    world.start(&ns, &prompt(16), &whole).expect("room");
    world.step(); // both computed it; the index has the first one's page
    world.finish(0);
    run(&mut world, &ns, &[7; 16], &whole);
    world.finish(0);
    run(&mut world, &ns, &[8; 64], &whole);
    let known = |tokens: &[u32]| world.cache.lookup(&ns, tokens, &AdmitOptions::default());
    assert_eq!((known(&prompt(17)), known(&[7; 17])), (16, 0));
}

#[test]
fn the_memory_of_evictions_is_bounded() {
    let ns = namespace("");
    let mut world = World::new(CacheConfig { capacity: 4, ghosts: 2, ..CacheConfig::default() });
    run(&mut world, &ns, &prompt(64), &AdmitOptions::default());
    run(&mut world, &ns, &[9; 64], &AdmitOptions::default());
    let cap = AdmitOptions { max: Some(64), ..AdmitOptions::default() };
    let told = report(&mut world.cache, &ns, &prompt(64), &cap);
    let runs = told.misses.iter().map(|miss| (miss.reason, miss.tokens)).collect::<Vec<_>>();
    assert_eq!(
        runs,
        [(Reason::Evicted, 32), (Reason::Cold, 32)],
        "leaves are evicted first, so the first two blocks were evicted last"
    );
    let mut world = self::world(4);
    for tokens in [prompt(64), vec![9; 64], prompt(64)] {
        run(&mut world, &ns, &tokens, &AdmitOptions::default());
    }
    world.cache.clear();
    let told = report(&mut world.cache, &ns, &prompt(64), &cap);
    assert_eq!(told.misses, [Miss { reason: Reason::Cold, from: 0, tokens: 64 }], "it was indexed again in between");
}

#[test]
fn a_reports_sum_is_kept_when_tiers_add_to_it() {
    let ns = namespace("");
    let mut world = world(8);
    run(&mut world, &ns, &prompt(20), &AdmitOptions::default());
    let mut told = report(&mut world.cache, &ns, &prompt(61), &AdmitOptions::default());
    told.load(Tier::Disk, 12);
    told.blame(Reason::Integrity, 16);
    told.load(Tier::Remote, 0);
    assert_eq!(told.sources, Sources { gpu: 20, disk: 12, computed: 29, ..Sources::default() });
    let integrity = Miss { reason: Reason::Integrity, from: 32, tokens: 16 };
    assert_eq!(told.misses, [integrity, Miss { reason: Reason::Cold, from: 48, tokens: 12 }]);
    told.load(Tier::Memory, 1000);
    assert_eq!(told.sources, Sources { gpu: 20, disk: 12, memory: 29, ..Sources::default() });
    told.blame(Reason::Deadline, 5);
    assert_eq!(told.misses, []);
}

#[test]
fn a_withdrawn_admission_is_not_counted() {
    let (ns, mut world, tokens) = (namespace(""), world(8), prompt(50));
    run(&mut world, &ns, &tokens, &AdmitOptions::default());
    let before = (world.cache.stats(), world.cache.available());
    let admission = world.cache.admit(&ns, &tokens, &AdmitOptions { whole_pages: true, ..Default::default() }).unwrap();
    let counted = world.cache.stats();
    assert_eq!(counted.hit_tokens - before.0.hit_tokens, 48);
    world.cache.withdraw(admission);
    assert_eq!((world.cache.stats(), world.cache.available()), before);
    world.check();
}
