//! A reader of damaged blocks, and of blocks whose writer failed, gives the right text every time. A counter increases, and no
//! later run trusts what was damaged.

use headstart::engine::Engine;
use headstart::kv::{Miss, Reason};
use pollster::block_on;

use super::{chunked, cold, digest, prompt, same, warm, watched};
use crate::support::blob::regions;
use crate::support::engine::{Answer, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiers::{Places, Reach, Tier};

/// One kind of damage to the block with the given index among all blocks.
type Damage = Box<dyn Fn(usize, &[Vec<u8>]) -> Vec<u8>>;

fn damages(whole: &[Vec<u8>]) -> Vec<(String, usize, Damage)> {
    let mut found: Vec<(String, usize, Damage)> = Vec::new();
    for (block, bytes) in whole.iter().enumerate() {
        // The MAC is left out, since the store that keeps the file writes it.
        let regions = regions(bytes).into_iter().filter(|(name, _)| name != "value of mac");
        for (turn, (name, region)) in regions.enumerate() {
            let (middle, bit) = (region.start + region.len() / 2, turn % 8);
            found.push((
                format!("a flipped bit in {name}"),
                block,
                Box::new(move |block, whole| {
                    let mut bytes = whole[block].clone();
                    bytes[middle] ^= 1 << bit;
                    bytes
                }),
            ));
            found.push((
                format!("an end in {name}"),
                block,
                Box::new(move |block, whole| whole[block][..middle].to_vec()),
            ));
        }
        found.push(("one byte".into(), block, Box::new(|block, whole| whole[block][..1].to_vec())));
        found.push(("one byte more".into(), block, Box::new(|block, whole| [&whole[block][..], &[0]].concat())));
        found.push((
            "zeros behind the first half".into(),
            block,
            Box::new(|block, whole| {
                let (half, _) = whole[block].split_at(whole[block].len() / 2);
                [half, &vec![0; whole[block].len() - half.len()]].concat()
            }),
        ));
        found.push((
            "the block behind it".into(),
            block,
            Box::new(|block, whole| whole[(block + 1) % whole.len()].clone()),
        ));
        found.push((
            "the block before it".into(),
            block,
            Box::new(|block, whole| whole[(block + 2) % whole.len()].clone()),
        ));
    }
    found
}

/// The keys and values of the three blocks of a 40-token prompt, as stored in the tier.
fn stored(engine: &Engine, tokens: &[u32]) -> (Vec<headstart::store::StoreKey>, Vec<Vec<u8>>) {
    let keys: Vec<_> = headstart::kv::Key::chain(&engine.namespace(""), tokens).map(|key| key.0).collect();
    let store = engine.tiers().unwrap().stores().last().unwrap();
    let value = |key| block_on(store.get(key)).unwrap().expect("the block was stored");
    let bytes = keys.iter().map(|key| value(key).to_vec()).collect();
    (keys, bytes)
}

#[test]
fn a_damaged_block_costs_the_tokens_from_it_on_once() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let tokens = prompt(40, tiny.vocabulary, 6);
    let colds = [1, 3].map(|max_tokens| run(&mut engine, &[cold(watched(&tokens, max_tokens))]).remove(0));
    let places = Places::default();
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        place.restart(&mut engine, "digest");
        warm(&mut engine, &tokens);
        let (keys, whole) = stored(&engine, &tokens);
        for (damage, block, apply) in damages(&whole) {
            let what = format!("{damage}, block {block}, {}", tier.name);
            let damaged = apply(block, &whole);
            assert_ne!(damaged, whole[block], "{what}");
            place.put(&keys[block], &damaged);

            let ask = |engine: &mut Engine, cold: &Answer, cached: usize, rejected: u64| -> Answer {
                place.restart(engine, "digest");
                let answer = run(engine, &[watched(&tokens, cold.tokens.len())]).remove(0);
                assert_eq!(answer.cache.sources, (tier.sources)(cached, 40 - cached), "{what}");
                same(&what, cold, &answer, cached);
                assert_eq!(place.stats(engine).rejected.values().sum::<u64>(), rejected, "{what}");
                answer
            };
            let met = ask(&mut engine, &colds[0], 16 * block, 1);
            assert_eq!(
                (met.cache.misses[0].reason, met.cache.misses[0].from),
                (Reason::Integrity, 16 * block),
                "{what}"
            );
            // The next run does not find the damage, whether or not the block has been stored again.
            if damage.starts_with("an end") {
                ask(&mut engine, &colds[0], 16 * block, 0);
            }
            block_on(engine.persist()).unwrap();
            ask(&mut engine, &colds[1], 40, 0);
            assert_eq!(stored(&engine, &tokens).1, whole, "{what}: stored again with other bytes");
        }
    }
}

#[test]
fn all_damaged_blocks_of_a_prompt_are_stored_again_by_the_run_that_meets_the_first() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let tokens = prompt(100, tiny.vocabulary, 6);
    let places = Places::default();
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        place.restart(&mut engine, "digest");
        warm(&mut engine, &tokens);
        let (keys, whole) = stored(&engine, &tokens);
        for (key, bytes) in keys.iter().zip(&whole).skip(1) {
            let mut damaged = bytes.clone();
            damaged[bytes.len() - 1] ^= 1;
            place.put(key, &damaged);
        }
        place.restart(&mut engine, "digest");
        let answer = run(&mut engine, &[watched(&tokens, 1)]).remove(0);
        assert_eq!(answer.cache.sources, (tier.sources)(16, 84), "{}", tier.name);
        let damage = Miss { reason: Reason::Integrity, from: 16, tokens: 83 };
        assert_eq!(answer.cache.misses, [damage], "{}", tier.name);
        block_on(engine.persist()).unwrap();
        assert_eq!(stored(&engine, &tokens).1, whole, "{}", tier.name);
    }
}

#[cfg(unix)]
mod processes {
    use std::fs;
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::support::files;
    use crate::support::process::{NO_ROOT, PLAIN, UNSIGNALLED, again, child, succeeds};
    use crate::support::tiers::Place;

    struct Reader {
        engine: Engine,
        digest: String,
        vocabulary: usize,
        place: Place,
        rejected: u64,
        dropped: u64,
        failures: u64,
    }

    impl Reader {
        fn new(place: Place) -> Self {
            let tiny = Tiny::read(NAMES[0]);
            let (engine, digest) = (load(&tiny.folder, &chunked(64)), digest(&tiny.folder));
            Self { engine, digest, vocabulary: tiny.vocabulary, place, rejected: 0, dropped: 0, failures: 0 }
        }

        fn prompt(&self, seed: usize) -> Vec<u32> {
            prompt(40, self.vocabulary, seed)
        }

        fn warm(&mut self, seed: usize) {
            let tokens = self.prompt(seed);
            self.place.restart(&mut self.engine, &self.digest);
            warm(&mut self.engine, &tokens);
        }

        /// Asks as a new process would, and compares the answer with a cold one. Returns the number of reused tokens.
        fn ask(&mut self, seed: usize) -> usize {
            let tokens = self.prompt(seed);
            let cold = run(&mut self.engine, &[cold(watched(&tokens, 3))]).remove(0);
            self.place.restart(&mut self.engine, &self.digest);
            let answer = run(&mut self.engine, &[watched(&tokens, 3)]).remove(0);
            let cached = answer.usage.cached_tokens;
            assert_eq!(answer.cache.sources, (self.place.tier.sources)(cached, 40 - cached), "prompt {seed}");
            same(&format!("prompt {seed}"), &cold, &answer, cached);
            block_on(self.engine.persist()).unwrap();
            let stats = self.place.stats(&self.engine);
            self.rejected += stats.rejected.values().sum::<u64>();
            (self.dropped, self.failures) = (self.dropped + stats.dropped, self.failures + stats.failures);
            cached
        }

        fn ask_all<const N: usize>(&mut self, seeds: [usize; N]) -> [usize; N] {
            seeds.map(|seed| self.ask(seed))
        }
    }

    /// Runs the test `name` of this file again in another process, with the same place.
    fn other(name: &str, reader: &Reader) -> std::process::Command {
        again(&format!("reuse::faults::processes::{name}"), &reader.place.path, PLAIN)
    }

    fn disk() -> Reader {
        Reader::new(Places::default().new_in(Tier::named("disk")))
    }

    #[test]
    fn kv_of_a_process_is_found_by_another_after_it_has_ended() {
        if let Some(folder) = child() {
            let mut reader = Reader::new(Place::at(&folder));
            assert_eq!(reader.ask(1), 40, "what the first process computed");
            reader.warm(2);
            return;
        }
        let places = Places::default();
        for tier in Tier::reaching(Reach::All) {
            let mut reader = Reader::new(places.new_in(tier));
            reader.warm(1);
            succeeds(other("kv_of_a_process_is_found_by_another_after_it_has_ended", &reader));
            assert_eq!(reader.ask_all([1, 2, 3]), [40, 40, 0], "{}", tier.name);
        }
    }

    #[test]
    fn two_processes_share_a_tier() {
        if let Some(folder) = child() {
            let mut reader = Reader::new(Place::at(&folder));
            (0..20).for_each(|seed| _ = reader.ask(seed));
            assert_eq!((reader.rejected, reader.failures), (0, 0));
            return;
        }
        let places = Places::default();
        for tier in Tier::reaching(Reach::All) {
            let mut reader = Reader::new(places.new_in(tier));
            let mut child = other("two_processes_share_a_tier", &reader).spawn().unwrap();
            while child.try_wait().unwrap().is_none() {
                (0..20).rev().for_each(|seed| _ = reader.ask(seed));
            }
            assert!(child.wait().unwrap().success(), "{}", tier.name);
            assert!((0..20).all(|seed| reader.ask(seed) == 40), "{}: all are stored in the end", tier.name);
            assert_eq!((reader.rejected, reader.failures), (0, 0), "{}", tier.name);
        }
    }

    #[test]
    fn a_process_killed_while_writing_leaves_whole_blocks_or_none() {
        if let Some(folder) = child() {
            let mut reader = Reader::new(Place::at(&folder));
            for seed in (0..400).cycle() {
                reader.warm(seed);
            }
        }
        let mut reader = disk();
        let blocks = reader.place.path.join("blocks");
        for kill in 1..4 {
            let mut child =
                other("a_process_killed_while_writing_leaves_whole_blocks_or_none", &reader).spawn().unwrap();
            for _ in 0..6_000 {
                if files(&blocks).len() > 40 * kill {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(files(&blocks).len() > 40 * kill, "it wrote nothing");
        }
        let cached: Vec<usize> = (0..60).map(|seed| reader.ask(seed)).collect();
        assert!(cached.iter().all(|cached| [0, 16, 32, 40].contains(cached)), "{cached:?}");
        assert!(cached.iter().sum::<usize>() > 30 * 40, "{cached:?}");
        assert_eq!(reader.rejected, 0, "half a block was there");
        assert!((0..60).all(|seed| reader.ask(seed) == 40));
    }

    /// A limit of 8 KiB on the size of files makes writes fail half way, as a full disk does. It is set after the engine has
    /// loaded, because software renderers keep GPU memory in files.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_costs_what_it_cannot_hold() {
        let name = "a_full_disk_costs_what_it_cannot_hold";
        if let Some(folder) = child() {
            let mut reader = Reader::new(Place::at(&folder));
            assert_eq!(reader.ask_all([1, 2]), [40, 0]);
            assert_eq!((reader.dropped, reader.failures), (0, 0));
            let own = std::process::id().to_string();
            assert!(
                std::process::Command::new("prlimit").args(["--fsize=8192", "--pid", &own]).status().unwrap().success()
            );
            assert_eq!(reader.ask_all([3, 3, 1, 2]), [0, 0, 40, 40]);
            // Three blocks each time; after a failure the rest are not tried.
            assert!(reader.dropped >= 6 && reader.failures >= 2, "{} {}", reader.dropped, reader.failures);
            assert_eq!(reader.rejected, 0);
            return;
        }
        let mut reader = disk();
        assert_eq!(reader.ask(1), 0);
        let command = again(&format!("reuse::faults::processes::{name}"), &reader.place.path, UNSIGNALLED);
        succeeds(command);
        let left = files(&reader.place.path.join("blocks"));
        // Three blocks of each of two prompts, and the block in which each answer ended.
        assert!(left.len() == 8 && left.values().all(|bytes| *bytes > 8192), "more was left behind: {left:?}");
        assert_eq!(reader.ask_all([1, 2, 3, 3]), [40, 40, 0, 40]);
    }

    /// Sets the mode of a folder and of everything below it.
    fn set_mode(folder: &Path, mode: u32) {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let inner = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        inner.filter(|path| path.is_dir()).for_each(|path| set_mode(&path, mode));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_read_only_directory_serves_what_it_has() {
        let name = "a_read_only_directory_serves_what_it_has";
        if let Some(folder) = child() {
            assert!(fs::write(folder.join("probe"), b"").is_err(), "the directory is writable");
            let mut reader = Reader::new(Place::at(&folder));
            assert_eq!(reader.ask_all([1, 2, 2, 1]), [40, 0, 0, 40]);
            assert!(reader.dropped >= 6 && reader.failures >= 2, "{} {}", reader.dropped, reader.failures);
            assert_eq!(reader.rejected, 0);
            return;
        }
        let mut reader = disk();
        reader.warm(1);
        let before = files(&reader.place.path);
        set_mode(&reader.place.path, 0o555);
        let command = again(&format!("reuse::faults::processes::{name}"), &reader.place.path, NO_ROOT);
        succeeds(command);
        set_mode(&reader.place.path, 0o755);
        assert_eq!(files(&reader.place.path), before);
    }
}
