//! An engine under load: more sequences than pages, stores that hang, requests that keep arriving.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headstart::engine::pace::{Pace, TILE};
use headstart::engine::{Engine, EngineOptions, Event, FinishReason, Request, SequenceId, scheduler};
use headstart::kv::{self, Sources};
use headstart::sample::SamplingParams;
use headstart::store::{
    Background, BackgroundConfig, BreakerConfig, Bytes, MemoryStore, Store, StoreAnswer, StoreKey, Tiers, TiersConfig,
    system_clock,
};
use pollster::block_on;

use crate::support::engine::{greedy, load, run, run_behind};
use crate::support::model_path;
use crate::support::odd::{NAMES, Tiny};

const LONG: Duration = Duration::from_secs(600);

fn prompt(length: usize, vocabulary: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 29 + i * 13 + seed * 103 + 5) % vocabulary) as u32).collect()
}

/// A sampled request, whose random numbers differ from step to step, so that a misplaced token is noticed.
fn drawn(tokens: &[u32], count: usize, seed: u64) -> Request {
    let sampling = SamplingParams { temperature: 1.0, top_k: Some(40), seed, ..SamplingParams::default() };
    Request { sampling, ..greedy(tokens, count) }
}

#[test]
fn sequences_that_compete_for_pages_answer_as_alone() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        // Each will need seven pages, and there are fourteen for the three.
        let options =
            EngineOptions { kv_limit: Some(14 * 16), kv_tokens: Some(16), chunk: Some(32), ..EngineOptions::default() };
        let requests: Vec<Request> =
            (0..3).map(|seed| drawn(&prompt(41, tiny.vocabulary, seed), 64, seed as u64)).collect();
        let mut engine = load(&tiny.folder, &options);
        let alone = |request: &Request| {
            engine.clear_cache();
            run(&mut engine, std::slice::from_ref(request))
        };
        let alone: Vec<_> = requests.iter().map(alone).collect();
        let mut engine = load(&tiny.folder, &options);
        let together = run(&mut engine, &requests);
        for (alone, together) in alone.iter().zip(&together) {
            assert_eq!(alone[0].tokens, together.tokens, "{name}");
            assert_eq!((together.usage.completion_tokens, together.usage.cached_tokens), (64, 0), "{name}");
            assert_eq!(alone[0].cache, together.cache, "{name}");
        }
        assert_eq!(engine.kv_pages(), 14);
        assert_eq!(engine.page_use().used, 0);
        // What they computed is still cached.
        assert!(engine.page_use().cached > 10);
    }
}

/// A sequence that is alone and runs out of pages ends with what it has.
#[test]
fn a_sequence_longer_than_all_pages_ends_and_others_continue() {
    let tiny = Tiny::read(NAMES[0]);
    let options = EngineOptions { kv_limit: Some(5 * 16), kv_tokens: Some(16), ..EngineOptions::default() };
    let mut engine = load(&tiny.folder, &options);
    let submit = |engine: &mut Engine, length: usize, count: usize| {
        engine.submit(greedy(&prompt(length, tiny.vocabulary, length), count)).unwrap()
    };
    let ids = [submit(&mut engine, 40, 100), submit(&mut engine, 90, 3), submit(&mut engine, 20, 4)];
    let ended = finish(&mut engine);
    let reason =
        |id: SequenceId| ended.iter().find(|(ended, ..)| *ended == id).map(|(_, reason, tokens)| (*reason, *tokens));
    assert_eq!(reason(ids[0]), Some((FinishReason::Context, 41)));
    assert_eq!(reason(ids[1]), Some((FinishReason::Context, 0)));
    assert_eq!(reason(ids[2]), Some((FinishReason::Length, 4)));
}

fn finish(engine: &mut Engine) -> Vec<(SequenceId, FinishReason, usize)> {
    let mut ended = Vec::new();
    while engine.is_busy() {
        for event in block_on(engine.step()).unwrap() {
            if let Event::Finished { sequence, reason, usage, .. } = event {
                ended.push((sequence, reason, usage.completion_tokens));
            }
        }
    }
    ended
}

type Shared = Arc<Mutex<HashMap<StoreKey, Bytes>>>;

/// A store that blocks every call until its gate is opened.
struct Gated {
    inner: Shared,
    gate: Option<Receiver<()>>,
}

impl Gated {
    fn pass(&self) {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
    }
}

impl Store for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        self.pass();
        Box::pin(async move { Ok(self.inner.lock().unwrap().get(key).cloned()) })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], _: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        self.pass();
        Box::pin(async move { Ok(keys.iter().map(|key| self.inner.lock().unwrap().get(key).cloned()).collect()) })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, _: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            self.inner.lock().unwrap().insert(*key, bytes.clone());
            Ok(())
        })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        self.pass();
        Box::pin(async move { Ok(keys.iter().map(|key| self.inner.lock().unwrap().contains_key(key)).collect()) })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { Ok(self.inner.lock().unwrap().remove(key).is_some()) })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            self.inner.lock().unwrap().clear();
            Ok(())
        })
    }
}

/// Tiers with such a store alone, a sender that opens its gate when dropped, and the store's content.
fn gated(opened: bool) -> (Tiers, Sender<()>, Shared) {
    let (open, gate) = channel();
    let inner = Shared::default();
    let reader = Gated { inner: inner.clone(), gate: (!opened).then_some(gate) };
    let reads = BreakerConfig { deadline_ms: LONG.as_millis() as u64, ..BreakerConfig::default() };
    let config = BackgroundConfig { reads, ..BackgroundConfig::default() };
    let store = Background::new(reader, Gated { inner: inner.clone(), gate: None }, config);
    let tiers = Tiers::new(MemoryStore::new(0, system_clock()), vec![Box::new(store)], TiersConfig::default());
    (tiers, open, inner)
}

/// While a store hangs, requests that need nothing from it generate every token. Afterwards its content is reused.
#[test]
fn a_hanging_store_delays_nobody_else() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let long = prompt(70, tiny.vocabulary, 1);
    let (tiers, open, _) = gated(false);
    engine.attach(tiers, "digest", LONG);
    let talking = engine.submit(Request { no_cache: true, ..greedy(&prompt(9, tiny.vocabulary, 2), 40) }).unwrap();
    block_on(engine.step()).unwrap();
    let waiting = engine.submit(greedy(&long, 3)).unwrap();
    let mut steps = 0;
    'said: loop {
        steps += 1;
        for event in block_on(engine.step()).unwrap() {
            match event {
                Event::Finished { sequence, .. } if sequence == talking => break 'said,
                Event::Token { sequence, .. } => assert_eq!(sequence, talking),
                other => panic!("{other:?} while the store hung"),
            }
        }
    }
    assert_eq!(steps, 39, "a token a step, whatever the store does");
    drop(open);
    let mut tokens = 0;
    while engine.is_busy() {
        for event in block_on(engine.step()).unwrap() {
            tokens += usize::from(matches!(event, Event::Token { sequence, .. } if sequence == waiting));
        }
    }
    assert_eq!(tokens, 3);
}

/// A request that is cancelled while stores are asked for it ends at once.
#[test]
fn a_request_waiting_for_a_store_can_be_cancelled() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let (tiers, open, _) = gated(false);
    engine.attach(tiers, "digest", LONG);
    let waiting = engine.submit(greedy(&prompt(70, tiny.vocabulary, 1), 3)).unwrap();
    for _ in 0..3 {
        assert!(block_on(engine.step()).unwrap().is_empty());
    }
    engine.cancel(waiting);
    assert!(!engine.is_busy());
    assert_eq!(engine.page_use().used, 0);
    drop(open);
    assert_eq!(run(&mut engine, &[greedy(&prompt(70, tiny.vocabulary, 1), 3)])[0].tokens.len(), 3);
}

/// Requests that arrive back to back leave no step without a prompt; what they compute is saved nevertheless.
#[test]
fn blocks_are_kept_under_a_queue_that_never_empties() {
    let tiny = Tiny::read(NAMES[0]);
    let options =
        EngineOptions { chunk: Some(32), kv_limit: Some(512), max_sequences: Some(2), ..EngineOptions::default() };
    let mut engine = load(&tiny.folder, &options);
    let (tiers, _open, kept) = gated(true);
    engine.attach(tiers, "digest", LONG);
    let prompts: Vec<Vec<u32>> = (0..24).map(|seed| prompt(100, tiny.vocabulary, 40 + seed)).collect();
    let mut next = prompts.iter();
    let mut queue = |engine: &mut Engine| next.next().is_some_and(|tokens| engine.submit(greedy(tokens, 2)).is_ok());
    (0..6).for_each(|_| assert!(queue(&mut engine)));
    let mut ended = 0;
    while ended < 18 {
        // A tiny model's step ends before the threads wake up; a real model's step takes longer.
        std::thread::sleep(Duration::from_millis(5));
        for event in block_on(engine.step()).unwrap() {
            if let Event::Finished { .. } = event {
                ended += 1;
                queue(&mut engine);
            }
        }
    }
    // The engine was never idle, and the store has something; how much depends on thread scheduling.
    block_on(engine.tiers().unwrap().flush());
    assert!(!kept.lock().unwrap().is_empty());
    finish(&mut engine);
    block_on(engine.persist()).unwrap();
    // Everything computed, far more than the pages hold, is stored, except for what was counted as dropped: steps do not wait
    // for threads.
    let dropped: u64 = engine.tiers().unwrap().stats().iter().map(|(_, stats)| stats.dropped).sum();
    let (namespace, kept) = (engine.namespace(""), kept.lock().unwrap());
    let blocks = prompts.iter().flat_map(|tokens| kv::Key::chain(&namespace, &tokens[..96]));
    let lost = blocks.filter(|key| !kept.contains_key(&key.0)).count();
    assert!(lost as u64 <= dropped, "{lost} blocks are gone, {dropped} were dropped");
}

#[test]
fn a_chunk_takes_a_quarter_of_a_second() {
    for (tokens, ms, chunk) in [
        // Slower than one tile in that time: still one tile.
        (16, 3_000.0, 16),
        (16, 250.0, 16),
        (16, 130.0, 16),
        (16, 125.0, 32),
        (16, 60.0, 64),
        // Whole tiles.
        (16, 50.0, 80),
        (16, 48.0, 80),
        // However fast: never more than the limit.
        (16, 1.0, 512),
        (512, 11.0, 512),
    ] {
        let mut pace = Pace::measured(512);
        assert_eq!(pace.chunk(), TILE, "nothing is known yet");
        pace.measure(tokens, ms);
        assert_eq!(pace.chunk(), chunk, "{tokens} tokens in {ms} ms");
    }
    let mut pace = Pace::measured(512);
    pace.measure(15, 1.0);
    assert_eq!(pace.chunk(), TILE, "less than a tile says nothing");
    // It follows an adapter that becomes slower, for example with a longer context.
    (0..20).for_each(|_| pace.measure(512, 100.0));
    assert_eq!(pace.chunk(), 512);
    (0..20).for_each(|_| pace.measure(64, 250.0));
    assert!((64..=80).contains(&pace.chunk()), "{}", pace.chunk());
    let mut few = Pace::measured(5);
    assert_eq!(few.chunk(), 5);
    few.measure(5, 1e6);
    assert_eq!((few.chunk(), few.most()), (5, 5));
    let mut fixed = Pace::fixed(48);
    fixed.measure(48, 1e6);
    assert_eq!(fixed.chunk(), 48);
}

#[test]
fn decoding_sequences_get_rows_first_then_prompts_in_order() {
    use scheduler::Ready::{Decode, Prompt};
    use scheduler::Scheduled;
    let prompt = |left| Prompt { left, logits: false };
    let every = |left| Prompt { left, logits: true };
    let some = |count, last| Some(Scheduled::Prompt { count, last });
    for (what, ready, chunk, logits, expected) in [
        ("nobody", vec![], 32, 4, vec![]),
        ("one prompt", vec![prompt(10)], 32, 4, vec![some(10, true)]),
        ("a longer one", vec![prompt(40)], 32, 4, vec![some(32, false)]),
        ("its last rows", vec![prompt(32)], 32, 4, vec![some(32, true)]),
        ("an exact repeat", vec![prompt(0)], 32, 4, vec![some(0, true)]),
        ("first come", vec![prompt(20), prompt(20)], 32, 4, vec![some(20, true), some(12, false)]),
        ("no budget left", vec![prompt(32), prompt(1)], 32, 4, vec![some(32, true), None]),
        ("a repeat needs none", vec![prompt(32), prompt(0)], 32, 4, vec![some(32, true), some(0, true)]),
        (
            "who decodes",
            vec![Decode, prompt(40), Decode],
            32,
            4,
            vec![Some(Scheduled::Decode), some(32, false), Some(Scheduled::Decode)],
        ),
        ("logits of every row", vec![every(10)], 32, 4, vec![some(4, false)]),
        (
            "beside others",
            vec![every(10), Decode, prompt(3)],
            32,
            4,
            vec![some(2, false), Some(Scheduled::Decode), some(3, true)],
        ),
        ("with no row to spare", vec![every(10), every(10)], 32, 2, vec![some(1, false), some(1, false)]),
    ] {
        assert_eq!(scheduler::plan(&ready, chunk, logits), expected, "{what}");
    }
    let ids = |list: &[u64]| list.iter().map(|id| SequenceId(*id)).collect::<Vec<_>>();
    for (holding, yields) in [(&[][..], None), (&[4], Some(4)), (&[2, 9, 5], Some(9))] {
        assert_eq!(scheduler::yields(&ids(holding)), yields.map(SequenceId));
    }
}

/// Restores more KV than one step takes in, while another answer is computed.
#[test]
fn real_model_blocks_are_restored_beside_an_answer() {
    let mut engine = load(&model_path(), &EngineOptions::default());
    let tiers = Tiers::new(MemoryStore::new(1 << 30, system_clock()), Vec::new(), TiersConfig::default());
    engine.attach(tiers, "digest", LONG);
    let long = prompt(300, 40_000, 1);
    let cold = run(&mut engine, &[greedy(&long, 4)]).remove(0);
    block_on(engine.persist()).unwrap();
    engine.clear_cache();
    let talking = Request { no_cache: true, ..greedy(&prompt(20, 40_000, 2), 24) };
    let answers = run_behind(&mut engine, &[talking], &[greedy(&long, 4)]);
    assert_eq!(answers[1].cache.sources, Sources { memory: 300, ..Sources::default() });
    assert_eq!(answers[1].tokens, cold.tokens);
    assert_eq!(answers[0].tokens.len(), 24);
}
