//! How an engine that never saw a prompt explains why it had to be computed again: whether stores once had it.

use std::fs;
use std::thread;
use std::time::Duration;

use headstart::Preset;
use headstart::engine::{Engine, EngineOptions, Request};
use headstart::kv::{Key, KvFormat, Miss, Namespace, Reason};
use headstart::store::{
    self, Bytes, FilesystemConfig, FilesystemStore, MemoryStore, Store, StoreAnswer, Tiers, TiersConfig, system_clock,
};
use pollster::block_on;

use super::{chunked, cold, digest, prompt, same, warm, watched};
use crate::support::engine::{greedy, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiers::{Places, Reach, Tier};

const PATIENCE: Duration = Duration::from_secs(600);

fn misses(reasons: &[(Reason, usize, usize)]) -> Vec<Miss> {
    reasons.iter().map(|&(reason, from, tokens)| Miss { reason, from, tokens }).collect()
}

fn namespace(engine: &Engine) -> Namespace {
    engine.namespace("")
}

#[test]
fn a_new_process_tells_evicted_tokens_from_unseen_ones() {
    let tiny = Tiny::read(NAMES[0]);
    let (mut engine, mut reference) = (load(&tiny.folder, &chunked(64)), load(&tiny.folder, &chunked(64)));
    let digest = digest(&tiny.folder);
    let places = Places::default();
    let known = prompt(300, tiny.vocabulary, 5);
    let parted = |at: usize| {
        let mut tokens = known.clone();
        tokens[at] = (tokens[at] + 1) % tiny.vocabulary as u32;
        tokens
    };
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        place.restart(&mut engine, &digest);
        warm(&mut engine, &known);
        // Removes blocks 4 and 5, and those after 17, as eviction would.
        let keys: Vec<Key> = Key::chain(&namespace(&engine), &known).collect();
        let tiers = place.open();
        for block in (4..6).chain(17..19) {
            assert!(block_on(tiers.stores().last().unwrap().remove(&keys[block].0)).unwrap());
        }
        let mut ask = |what: &str, tokens: &[u32], cached: usize, expected: &[(Reason, usize, usize)]| {
            place.restart(&mut engine, &digest);
            let answer = run(&mut engine, &[watched(tokens, 1)]).remove(0);
            block_on(engine.persist()).unwrap();
            let what = format!("{what}, {}", tier.name);
            assert_eq!(answer.cache.sources, (tier.sources)(cached, tokens.len() - cached), "{what}");
            assert_eq!(answer.cache.misses, misses(expected), "{what}");
            let diverged = expected.iter().find(|miss| miss.0 == Reason::Diverged).map(|miss| miss.1);
            assert_eq!(answer.cache.first_divergent, diverged, "{what}");
            same(&what, &run(&mut reference, &[cold(watched(tokens, 1))]).remove(0), &answer, cached);
        };
        ask("diverged in a stored block", &parted(20), 20, &[(Reason::Diverged, 20, 279)]);
        ask("diverged in an evicted block", &parted(70), 64, &[(Reason::Evicted, 64, 6), (Reason::Diverged, 70, 229)]);
        let other = prompt(300, tiny.vocabulary, 6);
        ask("never seen", &other, 0, &[(Reason::Cold, 0, 299)]);
        // The prompt that diverged in an evicted block is stored now, and begins as that block did.
        ask("two blocks and the end were evicted", &known, 70, &[(Reason::Evicted, 70, 229)]);
        let longer = [&known[..], &other[..20]].concat();
        ask("the beginning of a longer one", &longer, 300, &[(Reason::Cold, 300, 19)]);
    }
}

/// KV in another format, or of kernels of another class, is not reused, and the account names the setting.
#[test]
fn a_new_process_tells_other_settings_from_unseen_tokens() {
    let tiny = Tiny::read(NAMES[0]);
    let digest = digest(&tiny.folder);
    let open =
        |kv: KvFormat, preset: Preset| load(&tiny.folder, &EngineOptions { kv, kernels: Some(preset), ..chunked(64) });
    let mut first = open(KvFormat::F16, Preset::F32);
    let mut others = [
        (open(KvFormat::Q8, Preset::F32), "kv_dtype"),
        (open(KvFormat::F16, Preset::F16), "numerics"),
        (open(KvFormat::Q8, Preset::F16), "kv_dtype"),
    ];
    // More than one manifest names.
    let known = prompt(300, tiny.vocabulary, 5);
    let longer = [&known[..], &prompt(20, tiny.vocabulary, 6)].concat();
    let stranger = prompt(40, tiny.vocabulary, 7);
    let places = Places::default();
    for tier in Tier::reaching(Reach::Process) {
        for (engine, field) in &mut others {
            let place = places.new_in(tier);
            place.restart(&mut first, &digest);
            warm(&mut first, &known);
            place.restart(engine, &digest);
            let changed = Reason::NamespaceChanged { field };
            for (tokens, expected) in [
                (&stranger, misses(&[(Reason::Cold, 0, 39)])),
                (&longer, misses(&[(changed, 0, 300), (Reason::Cold, 300, 19)])),
            ] {
                let answer = run(engine, &[greedy(tokens, 1)]).remove(0);
                assert_eq!(answer.cache.misses, expected, "{field} in {}", tier.name);
            }
            let salted = Request { cache_salt: "other".into(), ..greedy(&longer, 1) };
            assert_eq!(run(engine, &[salted])[0].cache.misses, misses(&[(Reason::Cold, 0, 319)]), "{}", tier.name);
        }
    }
}

/// Tokens that a prompt shares with a block without a state are stored, but of no use.
#[test]
fn a_new_process_reports_a_missing_state() {
    let tiny = Tiny::read("tiny-lfm2-f16");
    let mut engine = load(&tiny.folder, &chunked(64));
    let digest = digest(&tiny.folder);
    let places = Places::default();
    let known = prompt(60, tiny.vocabulary, 5);
    let mut parted = known.clone();
    parted[42] = (parted[42] + 1) % tiny.vocabulary as u32;
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        place.restart(&mut engine, &digest);
        warm(&mut engine, &known);
        place.restart(&mut engine, &digest);
        let answer = run(&mut engine, &[watched(&parted, 1)]).remove(0);
        assert_eq!(answer.cache.sources, (tier.sources)(32, 28), "{}", tier.name);
        let expected = misses(&[(Reason::NoState, 32, 10), (Reason::Diverged, 42, 17)]);
        assert_eq!(answer.cache.misses, expected, "{}", tier.name);
        same(
            tier.name,
            &run(&mut load(&tiny.folder, &chunked(64)), &[cold(watched(&parted, 1))]).remove(0),
            &answer,
            32,
        );
    }
}

#[test]
fn a_directory_remembers_what_it_evicted() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let digest = digest(&tiny.folder);
    let folder = tempfile::tempdir().unwrap();
    let attach = |engine: &mut Engine, config: FilesystemConfig| {
        let disk = FilesystemStore::new(folder.path(), config, system_clock());
        let memory = MemoryStore::new(0, system_clock());
        engine.attach(Tiers::new(memory, vec![Box::new(disk)], TiersConfig::default()), &digest, PATIENCE);
        engine.clear_cache();
    };
    // Room for six blocks; there are five prompts of four.
    let six = FilesystemConfig { budget: 6 * 20_480, ..FilesystemConfig::default() };
    let prompts: Vec<Vec<u32>> = (0..5).map(|seed| prompt(64, tiny.vocabulary, seed)).collect();
    attach(&mut engine, six);
    prompts.iter().for_each(|tokens| warm(&mut engine, tokens));
    attach(&mut engine, six);
    let answer = run(&mut engine, &[watched(&prompts[0], 1)]).remove(0);
    assert_eq!(answer.cache.misses, misses(&[(Reason::Evicted, 0, 63)]));
    // A chain is evicted from its end, so that its beginning is still useful.
    let answer = run(&mut engine, &[watched(&prompts[3], 1)]).remove(0);
    assert_eq!(answer.cache.misses, misses(&[(Reason::Evicted, 32, 31)]));
    assert_eq!(answer.usage.cached_tokens, 32);

    // A store that has no room for a single block.
    let none = FilesystemConfig { max_value: 100, ..six };
    let dropped = prompt(50, tiny.vocabulary, 9);
    attach(&mut engine, none);
    warm(&mut engine, &dropped);
    attach(&mut engine, six);
    let answer = run(&mut engine, &[watched(&dropped, 1)]).remove(0);
    assert_eq!(answer.cache.misses, misses(&[(Reason::NotKept, 0, 49)]));
}

/// KV that an exact run computes replaces all decoded KV of the prompt at once.
#[test]
fn an_exact_run_leaves_out_decoded_kv_only_once() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let places = Places::default();
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        place.restart(&mut engine, "digest");
        let asked = prompt(37, tiny.vocabulary, 4);
        let answer = run(&mut engine, &[greedy(&asked, 60)]).remove(0);
        block_on(engine.persist()).unwrap();
        let longer = [&asked[..], &answer.tokens, &prompt(4, tiny.vocabulary, 8)].concat();
        // KV of the last generated token was never computed.
        for (cached, expected) in
            [(37, misses(&[(Reason::DecodeWritten, 37, 59), (Reason::Cold, 96, 4)])), (101, vec![])]
        {
            place.restart(&mut engine, "digest");
            let again = run(&mut engine, &[watched(&longer, 1)]).remove(0);
            block_on(engine.persist()).unwrap();
            assert_eq!((again.usage.cached_tokens, again.cache.misses), (cached, expected), "{}", tier.name);
        }
    }
}

#[test]
fn stored_kv_that_is_not_worth_loading_is_reported_as_stored() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let tokens = prompt(100, tiny.vocabulary, 3);
    let places = Places::default();
    let place = places.new_in(Tier::named("disk"));
    let kept = tempfile::tempdir().unwrap();
    let attach = |engine: &mut Engine, is_slow: bool| {
        let disk = FilesystemStore::new(&place.path, FilesystemConfig::default(), system_clock());
        let disk: Box<dyn Store> = if is_slow { Box::new(Slow(disk)) } else { Box::new(disk) };
        let tiers = Tiers::new(MemoryStore::new(0, system_clock()), vec![disk], TiersConfig::default());
        engine.attach(tiers, "digest", PATIENCE);
        engine.remember_rates(kept.path());
        engine.clear_cache();
    };
    attach(&mut engine, true);
    warm(&mut engine, &tokens);
    // The first load shows how slow the store is; the second is not tried.
    let declined = (0, misses(&[(Reason::SlowerThanComputing, 0, 99)]));
    for expected in [(100, vec![]), declined.clone()] {
        engine.clear_cache();
        let answer = run(&mut engine, &[watched(&tokens, 1)]).remove(0);
        assert_eq!((answer.usage.cached_tokens, answer.cache.misses), expected);
    }
    block_on(engine.persist()).unwrap();
    let file = kept.path().join("rates.json");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Another process does not try it either, unless the measurement is lost, even though the disk is fast now.
    let rates = fs::read_to_string(&file).unwrap();
    let other_model = rates.replace("\"model\": \"", "\"model\": \"0");
    let negative = rates.replace("\"ms\": ", "\"ms\": -");
    for (what, rates, expected) in [
        ("as written", &*rates, declined),
        ("half", &rates[..rates.len() / 2], (100, vec![])),
        ("of another model", &other_model, (100, vec![])),
        ("no rates", &negative, (100, vec![])),
    ] {
        fs::write(&file, rates).unwrap();
        let mut other = load(&tiny.folder, &chunked(64));
        attach(&mut other, false);
        let answer = run(&mut other, &[watched(&tokens, 1)]).remove(0);
        assert_eq!((answer.usage.cached_tokens, answer.cache.misses), expected, "{what}");
    }
}

#[test]
fn pages_from_a_store_are_copied_in_large_pieces() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let tokens = prompt(330, tiny.vocabulary, 5);
    let places = Places::default();
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        place.restart(&mut engine, "digest");
        warm(&mut engine, &tokens);
        engine.clear_cache();
        let before = engine.placed();
        let answer = run(&mut engine, &[watched(&tokens, 1)]).remove(0);
        assert_eq!(answer.usage.cached_tokens, 330, "{}", tier.name);
        let now = engine.placed();
        let (pages, uploads) = (now.pages - before.pages, now.uploads - before.uploads);
        assert_eq!(pages, 21, "{}", tier.name);
        assert!(uploads < pages, "{uploads} uploads from {}", tier.name);
        // Free pages are adjacent.
        assert_eq!(now.copies - before.copies, uploads * engine.config().layers.len(), "{}", tier.name);
    }
}

/// A disk that is far slower than computing.
struct Slow(FilesystemStore);

impl Store for Slow {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn get<'a>(&'a self, key: &'a store::StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        self.0.get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [store::StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        thread::sleep(Duration::from_secs(3));
        self.0.get_many(keys, most)
    }

    fn put<'a>(&'a self, key: &'a store::StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        self.0.put(key, bytes, ttl)
    }

    fn contains<'a>(&'a self, keys: &'a [store::StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        self.0.contains(keys)
    }

    fn remove<'a>(&'a self, key: &'a store::StoreKey) -> StoreAnswer<'a, bool> {
        self.0.remove(key)
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        self.0.clear()
    }
}
