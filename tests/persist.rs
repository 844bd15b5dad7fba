//! KV beyond the GPU, with the tiers combined: memory first, repeats, and decoded KV. `reuse` tests every hit from every tier.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use headstart::engine::{Engine, EngineOptions, Request};
use headstart::kv::{Reason, Sources};
use headstart::store::{
    Bytes, FilesystemConfig, FilesystemStore, MemoryStore, Store, StoreAnswer, StoreKey, Tiers, TiersConfig,
    system_clock,
};
use pollster::block_on;

use crate::support::engine::{Answer, greedy, load, run};
use crate::support::odd::{NAMES, Tiny};

const DEADLINE: Duration = Duration::from_secs(60);

fn prompt(length: usize, vocabulary: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 29 + i * 13 + seed * 103 + 5) % vocabulary) as u32).collect()
}

fn tiers(memory: u64, folder: Option<&Path>) -> Tiers {
    let disk = folder.map(|folder| {
        Box::new(FilesystemStore::new(folder, FilesystemConfig::default(), system_clock())) as Box<dyn Store>
    });
    Tiers::new(MemoryStore::new(memory, system_clock()), disk.into_iter().collect(), TiersConfig::default())
}

/// An engine that keeps KV in this much memory and in a folder.
fn engine(model: &Path, options: &EngineOptions, memory: u64, folder: Option<&Path>) -> Engine {
    let mut engine = load(model, options);
    engine.attach(tiers(memory, folder), "digest", DEADLINE);
    engine
}

fn with_logits(tokens: &[u32]) -> Request {
    Request { logits: true, ..greedy(tokens, 4) }
}

/// Computes a prefix without an answer, and saves it.
fn warm(engine: &mut Engine, tokens: &[u32]) {
    let answer = run(engine, &[greedy(tokens, 0)]);
    assert!(answer[0].tokens.is_empty());
    block_on(engine.persist()).unwrap();
}

fn same(what: &str, cold: &Answer, warm: &Answer) {
    assert_eq!(cold.tokens, warm.tokens, "{what}");
    assert_eq!(cold.logits.len(), warm.logits.len(), "{what}");
    assert!(cold.logits == warm.logits, "{what}: logits differ");
}

const HITS: [usize; 11] = [1, 15, 16, 17, 31, 32, 33, 48, 64, 69, 70];

#[test]
fn kv_restored_from_memory_changes_no_bit() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let mut engine = load(&tiny.folder, &EngineOptions::default());
        let long = prompt(70, tiny.vocabulary, 1);
        let cold = run(&mut engine, &[Request { no_cache: true, ..with_logits(&long) }]);
        for hit in HITS {
            // New tiers have no measured speed yet, so what they have is loaded.
            engine.attach(tiers(1 << 30, None), "digest", DEADLINE);
            engine.clear_cache();
            warm(&mut engine, &long[..hit]);
            engine.clear_cache();
            let answer = &run(&mut engine, &[with_logits(&long)])[0];
            let what = format!("{name}: a hit of {hit}");
            let sources = Sources { memory: hit, computed: 70 - hit, ..Sources::default() };
            assert_eq!((answer.usage.cached_tokens, answer.cache.sources), (hit, sources), "{what}");
            same(&what, &cold[0], answer);
        }
    }
}

/// The whole prompt is known with its last hidden state: no layer runs, and the tokens are the same.
#[test]
fn an_exact_repeat_runs_no_layer() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let folder = tempfile::tempdir().unwrap();
        let mut first = engine(&tiny.folder, &EngineOptions::default(), 1 << 30, Some(folder.path()));
        for length in [1, 16, 37, 64] {
            let tokens = prompt(length, tiny.vocabulary, length);
            let cold = run(&mut first, &[with_logits(&tokens)]);
            assert_eq!(cold[0].usage.cached_tokens, 0);
            let again = run(&mut first, &[with_logits(&tokens)]);
            assert_eq!(again[0].cache.sources, Sources { gpu: length, ..Sources::default() }, "{name}: {length}");
            same(&format!("{name}: {length} from pages"), &cold[0], &again[0]);
            // Two repeats and another prompt in one step.
            let stranger = prompt(21, tiny.vocabulary, 77 + length);
            let together = run(&mut first, &[with_logits(&tokens), with_logits(&stranger), with_logits(&tokens)]);
            same(&format!("{name}: {length} beside others"), &cold[0], &together[0]);
            same(&format!("{name}: {length} beside others"), &cold[0], &together[2]);
            block_on(first.persist()).unwrap();
            let mut restarted = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
            let warm = run(&mut restarted, &[with_logits(&tokens)]);
            assert_eq!(warm[0].cache.sources, Sources { disk: length, ..Sources::default() }, "{name}: {length}");
            same(&format!("{name}: {length} from disk"), &cold[0], &warm[0]);
        }
    }
}

/// Decoded KV is restored after a restart, up to the last computed token; with `exact` it is not.
#[test]
fn decoded_blocks_outlive_a_restart_and_stay_out_of_exact_reuse() {
    // The second model's pages keep a state beside keys and values.
    for name in [NAMES[0], "tiny-lfm2-f16"] {
        let tiny = Tiny::read(name);
        let folder = tempfile::tempdir().unwrap();
        let mut first = engine(&tiny.folder, &EngineOptions::default(), 1 << 30, Some(folder.path()));
        let asked = prompt(20, tiny.vocabulary, 5);
        let answer = run(&mut first, &[greedy(&asked, 30)]);
        block_on(first.persist()).unwrap();
        let next = [asked.as_slice(), &answer[0].tokens, &prompt(9, tiny.vocabulary, 6)].concat();
        let exactly = Request { exact: true, ..with_logits(&next) };
        let cold = run(&mut load(&tiny.folder, &EngineOptions::default()), &[with_logits(&next)]);

        let mut restarted = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
        let disk = run(&mut restarted, &[greedy(&next, 1)]);
        // KV of the answer's last token was never computed.
        assert_eq!(disk[0].cache.sources, Sources { disk: 49, computed: 10, ..Sources::default() });
        let mut restarted = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
        let exact = run(&mut restarted, std::slice::from_ref(&exactly));
        // The prompt ended in its second block, which was kept as prefill wrote it.
        assert_eq!(exact[0].cache.sources, Sources { disk: 20, computed: 39, ..Sources::default() });
        assert_eq!(exact[0].cache.misses[0].reason, Reason::DecodeWritten);
        same("exact from disk", &cold[0], &exact[0]);

        let exact = run(&mut first, &[exactly]);
        assert_eq!((exact[0].usage.cached_tokens, exact[0].cache.sources.computed), (20, 39));
        assert_eq!(exact[0].cache.misses[0].reason, Reason::DecodeWritten);
        same("exact", &cold[0], &exact[0]);
    }
}

#[test]
fn memory_keeps_decoded_pages_that_the_gpu_lost() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = engine(&tiny.folder, &EngineOptions::default(), 1 << 30, None);
    let asked = prompt(20, tiny.vocabulary, 5);
    let answer = run(&mut engine, &[greedy(&asked, 30)]);
    block_on(engine.persist()).unwrap();
    engine.clear_cache();
    let next = [asked.as_slice(), &answer[0].tokens, &prompt(9, tiny.vocabulary, 6)].concat();
    let memory = run(&mut engine, &[greedy(&next, 1)]);
    // Three whole blocks and the first token of the next. KV of the answer's last token was never computed.
    assert_eq!(memory[0].cache.sources, Sources { memory: 49, computed: 10, ..Sources::default() });
    engine.clear_cache();
    let exact = run(&mut engine, &[Request { exact: true, ..greedy(&next[..49], 1) }]);
    // The prompt ended in its second block, which decode completed; both versions are kept.
    assert_eq!(exact[0].cache.sources, Sources { memory: 20, computed: 29, ..Sources::default() });
    assert_eq!(exact[0].cache.misses[0].reason, Reason::DecodeWritten);
}

/// The hidden state at a breakpoint is kept: a request for just that beginning runs no layer, from pages or after a restart.
#[test]
fn a_breakpoint_inside_a_prompt_makes_its_beginning_an_exact_repeat() {
    let tiny = Tiny::read(NAMES[0]);
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { chunk: Some(24), ..EngineOptions::default() };
    let mut first = engine(&tiny.folder, &options, 1 << 30, Some(folder.path()));
    let long = prompt(70, tiny.vocabulary, 8);
    // In the middle of a chunk and a page, at the end of a page, at the end of a chunk, and beyond the first chunks.
    let breakpoints = vec![5, 32, 48, 67];
    let cold: Vec<Answer> = breakpoints
        .iter()
        .map(|&end| run(&mut first, &[Request { no_cache: true, ..with_logits(&long[..end]) }]).remove(0))
        .collect();
    first.clear_cache();
    run(&mut first, &[Request { breakpoints: breakpoints.clone(), ..greedy(&long, 2) }, greedy(&long[..9], 2)]);
    for (&end, cold) in breakpoints.iter().zip(&cold) {
        let again = &run(&mut first, &[with_logits(&long[..end])])[0];
        assert_eq!(again.cache.sources, Sources { gpu: end, ..Sources::default() });
        same(&format!("{end} from pages"), cold, again);
    }
    block_on(first.persist()).unwrap();
    let mut restarted = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
    for (&end, cold) in breakpoints.iter().zip(&cold) {
        restarted.clear_cache();
        let warm = &run(&mut restarted, &[with_logits(&long[..end])])[0];
        assert_eq!(warm.cache.sources, Sources { disk: end, ..Sources::default() });
        same(&format!("{end} from disk"), cold, warm);
    }
    // Without a breakpoint the last token is computed for its logits.
    assert_eq!(run(&mut first, &[greedy(&long[..40], 1)])[0].usage.cached_tokens, 39);
    for wrong in [vec![0], vec![71], vec![1, 2, 3, 4, 5]] {
        let refused = first.submit(Request { breakpoints: wrong, ..greedy(&long, 1) });
        assert!(refused.unwrap_err().to_string().contains("breakpoints"));
    }
}

#[test]
fn clearing_removes_kv_everywhere_and_cancels_pending_saves() {
    let tiny = Tiny::read(NAMES[0]);
    let folder = tempfile::tempdir().unwrap();
    let tokens = prompt(70, tiny.vocabulary, 9);
    let mut first = engine(&tiny.folder, &EngineOptions::default(), 1 << 30, Some(folder.path()));
    warm(&mut first, &tokens[..48]);
    run(&mut first, &[greedy(&tokens, 1)]);
    assert!(first.has_unsaved());
    let pages = first.page_use();
    assert_eq!((pages.used, pages.total), (0, first.kv_pages()));
    assert!(pages.cached >= 4, "{pages:?}");

    block_on(first.clear_all()).unwrap();
    assert!(!first.has_unsaved());
    assert_eq!(first.page_use().cached, 0);
    block_on(first.persist()).unwrap();
    let second = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
    assert!(second.tiers().unwrap().stores().all(|store| store.usage().entries == 0));
    let answer = &run(&mut first, &[greedy(&tokens, 1)])[0];
    assert_eq!(answer.cache.sources, Sources { computed: 70, ..Sources::default() });
}

/// More often than the steps of a few answers ask a write whether it has ended.
const POLLS: usize = 1_000;

/// A store whose writes go on when nobody waits for them, as JavaScript's do.
#[derive(Clone, Default)]
struct Unstoppable {
    begun: Rc<RefCell<Vec<(StoreKey, Bytes)>>>,
    values: Rc<RefCell<HashMap<StoreKey, Bytes>>>,
}

impl Unstoppable {
    fn end_writes(&self) {
        self.values.borrow_mut().extend(self.begun.take());
    }
}

impl Store for Unstoppable {
    fn name(&self) -> &'static str {
        "unstoppable"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.values.borrow().get(key).cloned()) })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, _: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            self.begun.borrow_mut().push((*key, bytes.clone()));
            let mut left = POLLS;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                left -= 1;
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            self.end_writes();
            Ok(())
        })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move { Ok(keys.iter().map(|key| self.values.borrow().contains_key(key)).collect()) })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { Ok(self.values.borrow_mut().remove(key).is_some()) })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            self.values.borrow_mut().clear();
            self.end_writes();
            Ok(())
        })
    }
}

#[test]
fn a_write_that_has_begun_does_not_bring_back_what_is_cleared() {
    let tiny = Tiny::read(NAMES[0]);
    let store = Unstoppable::default();
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let memory = MemoryStore::new(0, system_clock());
    engine.attach(Tiers::new(memory, vec![Box::new(store.clone())], TiersConfig::default()), "digest", DEADLINE);
    let mut seeds = 0..20;
    while store.begun.borrow().is_empty() {
        let seed = seeds.next().expect("answers save nothing");
        run(&mut engine, &[greedy(&prompt(70, tiny.vocabulary, seed), 8)]);
    }
    block_on(engine.clear_all()).unwrap();
    assert_eq!((store.begun.borrow().len(), store.values.borrow().len()), (0, 0));
}

#[test]
fn the_time_saved_is_what_computing_would_have_taken() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &EngineOptions::default());
    let tokens = prompt(70, tiny.vocabulary, 10);
    assert_eq!(
        engine.saved_ms(&run(&mut load(&tiny.folder, &EngineOptions::default()), &[greedy(&tokens, 1)])[0].cache),
        None
    );
    let cold = run(&mut engine, &[greedy(&tokens, 1)]).remove(0);
    assert_eq!(engine.saved_ms(&cold.cache), Some(0.0));
    let warm = run(&mut engine, &[greedy(&tokens, 1)]).remove(0);
    assert!(engine.saved_ms(&warm.cache).unwrap() > 0.0);
}
