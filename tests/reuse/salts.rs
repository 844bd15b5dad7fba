//! Isolation of salts: what a request is told, computes and asks of stores is the same whether or not another salt has stored
//! its text. Counts are compared, not times.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use headstart::engine::{Counters, Engine, Request};
use headstart::kv::{self, Reason};
use headstart::store::{
    BoxFuture, Bytes, MemoryStore, Record, Store, StoreAnswer, StoreKey, StoreUsage, Tiers, TiersConfig, system_clock,
};
use pollster::block_on;
use serde_json::Value;

use super::{chunked, prompt, watched};
use crate::support::engine::{self, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiers::{Place, Places, Reach, TIERS};

type Asked = Rc<RefCell<BTreeSet<(&'static str, StoreKey)>>>;

/// A store that records which calls it gets, and for which keys.
struct Spy {
    inner: Box<dyn Store>,
    asked: Asked,
}

impl Spy {
    fn note(&self, what: &'static str, keys: &[StoreKey]) {
        self.asked.borrow_mut().extend(keys.iter().map(|key| (what, *key)));
    }
}

impl Store for Spy {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        self.note("get", std::slice::from_ref(key));
        self.inner.get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        self.note("get", keys);
        self.inner.get_many(keys, most)
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        self.note("put", std::slice::from_ref(key));
        self.inner.put(key, bytes, ttl)
    }

    fn put_new<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        self.note("put", std::slice::from_ref(key));
        self.inner.put_new(key, bytes, ttl)
    }

    fn record<'a>(&'a self, root: &'a StoreKey, record: &'a Record) -> StoreAnswer<'a, ()> {
        self.note("record", std::slice::from_ref(root));
        self.inner.record(root, record)
    }

    fn flush(&self) -> StoreAnswer<'_, ()> {
        self.inner.flush()
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        self.note("contains", keys);
        self.inner.contains(keys)
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        self.note("remove", std::slice::from_ref(key));
        self.inner.remove(key)
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        self.inner.clear()
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        self.note("touch", keys);
        self.inner.touch(keys)
    }

    fn usage(&self) -> StoreUsage {
        self.inner.usage()
    }

    fn problem(&self) -> Option<String> {
        self.inner.problem()
    }
}

fn salted(salt: &str, tokens: &[u32], max_tokens: usize) -> Request {
    Request { cache_salt: salt.into(), explain: true, ..watched(tokens, max_tokens) }
}

/// Makes the engine keep KV in a place, and records the calls that the place gets.
fn spied(place: &Place, engine: &mut Engine) -> Asked {
    let asked = Asked::default();
    let spy = |inner| Box::new(Spy { inner, asked: asked.clone() }) as Box<dyn Store>;
    let behind = place.store().into_iter().map(spy).collect();
    let tiers = Tiers::new(MemoryStore::new(0, system_clock()), behind, TiersConfig::default());
    engine.attach(tiers, "digest", Duration::from_secs(600));
    asked
}

/// What salts that stored nothing observe and cause.
#[derive(Debug, PartialEq)]
struct Seen {
    /// The answers to the other salt's text, and to one that diverges from it, with the logits of every token computed.
    answers: Vec<engine::Answer>,
    reports: Vec<Value>,
    /// Of their decode steps, since no other ran.
    counters: Counters,
    asked: BTreeSet<(&'static str, StoreKey)>,
}

fn seen(tiny: &Tiny, place: &Place, texts: [&[u32]; 2], known: &[&[u32]]) -> (Seen, Engine) {
    let mut engine = load(&tiny.folder, &chunked(64));
    place.attach(&mut engine, "digest");
    for tokens in known {
        let stored = run(&mut engine, &[salted("theirs", tokens, 0)]);
        assert_eq!(stored[0].cache.reused(), 0);
        block_on(engine.persist()).unwrap();
    }
    if !place.tier.is_gpu() {
        engine.clear_cache();
    }
    let asked = spied(place, &mut engine);
    let mut answers = Vec::new();
    for (salt, tokens) in ["mine", "mine too"].into_iter().zip(texts) {
        answers.extend(run(&mut engine, &[salted(salt, tokens, 3)]));
        block_on(engine.persist()).unwrap();
    }
    let reports = answers.iter().map(|answer| serde_json::to_value(&answer.cache).unwrap()).collect();
    let asked = asked.take();
    (Seen { answers, reports, counters: engine.counters(), asked }, engine)
}

#[test]
fn another_salts_text_is_neither_reported_nor_reused_nor_looked_up() {
    let tiny = Tiny::read(NAMES[0]);
    let text = prompt(70, tiny.vocabulary, 6);
    let mut parted = text.clone();
    parted[37] = (parted[37] + 1) % tiny.vocabulary as u32;
    let places = Places::default();
    for tier in TIERS {
        let (place, alone) = (places.new_in(tier), places.new_in(tier));
        let (beside, mut engine) = seen(&tiny, &place, [&text, &parted], &[&text]);
        let (never, _) = seen(&tiny, &alone, [&text, &parted], &[]);
        for answer in &beside.answers {
            assert_eq!((answer.cache.reused(), answer.usage.cached_tokens), (0, 0), "{}", tier.name);
            assert_eq!(answer.prompt_logits.len(), 70, "{}: every token is computed", tier.name);
            assert!(answer.cache.misses.iter().all(|miss| miss.reason == Reason::Cold), "{:?}", answer.cache);
        }
        let theirs: BTreeSet<StoreKey> = kv::Key::chain(&engine.namespace("theirs"), &text).map(|key| key.0).collect();
        assert!(beside.asked.iter().all(|(_, key)| !theirs.contains(key)), "{}", tier.name);
        assert_eq!(beside.asked.is_empty(), tier.reach == Reach::Engine, "{}", tier.name);
        assert!(beside == never, "{}: {beside:?}\n{never:?}", tier.name);
        // It was stored all the time.
        if !tier.is_gpu() {
            place.restart(&mut engine, "digest");
        }
        let own = run(&mut engine, &[salted("theirs", &text, 1)]);
        assert_eq!(own[0].cache.sources, (tier.sources)(70, 0), "{}", tier.name);
    }
}
