//! KV beyond the GPU: what tiers give back is what was computed, bit for bit, and exactly as much as there should be.

use std::path::Path;
use std::time::Duration;

use headstart::engine::{Engine, EngineOptions, Request};
use headstart::kv::{Reason, Sources};
use headstart::store::{FilesystemConfig, FilesystemStore, MemoryStore, Store, Tiers, TiersConfig, system_clock};
use pollster::block_on;

use crate::support::engine::{Answer, greedy, load, run};
use crate::support::golden::Golden;
use crate::support::model_path;
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

/// An engine that keeps KV in so much memory and in a folder.
fn engine(model: &Path, options: &EngineOptions, memory: u64, folder: Option<&Path>) -> Engine {
    let mut engine = load(model, options);
    engine.attach(tiers(memory, folder), "digest", DEADLINE);
    engine
}

fn with_logits(tokens: &[u32]) -> Request {
    Request { logits: true, ..greedy(tokens, 4) }
}

/// Computes a prefix and nothing else, and saves it.
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
fn what_memory_gives_back_changes_no_bit() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let mut engine = engine(&tiny.folder, &EngineOptions::default(), 1 << 30, None);
        let long = prompt(70, tiny.vocabulary, 1);
        let cold = run(&mut engine, &[Request { no_cache: true, ..with_logits(&long) }]);
        for hit in HITS {
            block_on(engine.tiers().unwrap().stores().next().unwrap().clear()).unwrap();
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

#[test]
fn what_a_disk_gives_back_after_a_restart_changes_no_bit() {
    for name in NAMES {
        let tiny = Tiny::read(name);
        let long = prompt(70, tiny.vocabulary, 2);
        let cold = run(&mut load(&tiny.folder, &EngineOptions::default()), &[with_logits(&long)]);
        for (hit, chunk) in [(1, 16), (15, 17), (17, 32), (33, 64), (48, 512), (69, 128), (70, 16)] {
            let folder = tempfile::tempdir().unwrap();
            let options = EngineOptions { chunk: Some(chunk), ..EngineOptions::default() };
            warm(&mut engine(&tiny.folder, &options, 0, Some(folder.path())), &long[..hit]);
            let mut restarted = engine(&tiny.folder, &options, 0, Some(folder.path()));
            // Beside two others, of which one has nothing to reuse and one the same prefix.
            let others = [greedy(&prompt(40, tiny.vocabulary, 3), 9), greedy(&long[..hit.max(2)], 6)];
            let answers = run(&mut restarted, &[with_logits(&long), others[0].clone(), others[1].clone()]);
            let what = format!("{name}: a hit of {hit} in chunks of {chunk}");
            let sources = Sources { disk: hit, computed: 70 - hit, ..Sources::default() };
            assert_eq!(answers[0].cache.sources, sources, "{what}");
            assert_eq!(answers[1].usage.cached_tokens, 0, "{what}");
            same(&what, &cold[0], &answers[0]);
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
            // Two repeats and a stranger in one step.
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

#[test]
fn the_real_model_answers_the_same_from_every_tier() {
    let ids = &Golden::read().prompts["long"].reference.ids;
    let long = &ids[..ids.len().min(100)];
    let mut first = engine(&model_path(), &EngineOptions::default(), 1 << 30, None);
    let cold = run(&mut first, &[Request { no_cache: true, ..with_logits(long) }]);
    first.clear_cache();
    warm(&mut first, &long[..83]);
    let pages = run(&mut first, &[Request { max_tokens: 1, ..with_logits(long) }]);
    assert_eq!(pages[0].cache.sources, Sources { gpu: 83, computed: 17, ..Sources::default() });
    first.clear_cache();
    let memory = run(&mut first, &[with_logits(long)]);
    assert_eq!(memory[0].cache.sources, Sources { memory: 83, computed: 17, ..Sources::default() });
    same("memory", &cold[0], &memory[0]);

    let folder = tempfile::tempdir().unwrap();
    let on_disk = || engine(&model_path(), &EngineOptions::default(), 0, Some(folder.path()));
    warm(&mut on_disk(), &long[..83]);
    let disk = run(&mut on_disk(), &[with_logits(long)]);
    assert_eq!(disk[0].cache.sources, Sources { disk: 83, computed: 17, ..Sources::default() });
    same("disk", &cold[0], &disk[0]);
}

/// Pages that decode kernels wrote are reused while they are in memory, never from a disk, and never under `exact`.
#[test]
fn decoded_pages_stay_in_memory_and_out_of_exact_reuse() {
    let tiny = Tiny::read(NAMES[0]);
    let folder = tempfile::tempdir().unwrap();
    let mut first = engine(&tiny.folder, &EngineOptions::default(), 1 << 30, Some(folder.path()));
    let asked = prompt(20, tiny.vocabulary, 5);
    let answer = run(&mut first, &[greedy(&asked, 30)]);
    block_on(first.persist()).unwrap();
    let mut restarted = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
    let disk = run(&mut restarted, &[greedy(&[asked.as_slice(), &answer[0].tokens].concat(), 1)]);
    assert_eq!(disk[0].cache.sources, Sources { disk: 20, computed: 30, ..Sources::default() });

    let next = [asked.as_slice(), &answer[0].tokens, &prompt(9, tiny.vocabulary, 6)].concat();
    let exactly = Request { exact: true, ..with_logits(&next) };
    let cold = run(&mut load(&tiny.folder, &EngineOptions::default()), &[with_logits(&next)]);

    let exact = run(&mut first, std::slice::from_ref(&exactly));
    assert_eq!(exact[0].cache.sources, Sources { gpu: 20, computed: 39, ..Sources::default() });
    assert_eq!(exact[0].cache.misses[0].reason, Reason::DecodeWritten);
    same("exact", &cold[0], &exact[0]);
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
    // Three whole blocks; the last token of the answer was never computed.
    assert_eq!(memory[0].cache.sources, Sources { memory: 48, computed: 11, ..Sources::default() });
    engine.clear_cache();
    let exact = run(&mut engine, &[Request { exact: true, ..greedy(&next[..49], 1) }]);
    // The prompt's first block is exact; the second was finished by decoding.
    assert_eq!(exact[0].cache.sources, Sources { memory: 16, computed: 33, ..Sources::default() });
    assert_eq!(exact[0].cache.misses[0].reason, Reason::DecodeWritten);
}

#[test]
fn what_is_cleared_is_nowhere_and_what_waited_is_not_saved_after_all() {
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
    let mut second = engine(&tiny.folder, &EngineOptions::default(), 0, Some(folder.path()));
    for engine in [&mut first, &mut second] {
        let answer = &run(engine, &[greedy(&tokens, 1)])[0];
        assert_eq!(answer.cache.sources, Sources { computed: 70, ..Sources::default() });
    }
}

#[test]
fn a_reuse_spares_what_computing_would_have_taken() {
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
