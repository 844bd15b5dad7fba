//! Model-based fuzz test: random interleavings of every cache operation, including crashes, against a simulated device and
//! naive oracles. Every invariant is checked after each operation, and every known page is read back. `HEADSTART_FUZZ_OPS` sets
//! the number of operations.

use headstart::kv::{AdmitOptions, CacheConfig, Entry, Namespace, PAGE, PageId, PinId, Producer};

use super::world::{Rng, World, longest, namespace};

struct Fuzz {
    config: CacheConfig,
    world: World,
    rng: Rng,
    namespaces: Vec<Namespace>,
    pins: Vec<PinId>,
    seen: Vec<Vec<u32>>,
    now: u64,
    hits: usize,
    refused: usize,
    forgotten: usize,
    restored: usize,
}

const MAX_SEQUENCES: usize = 6;

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let config = CacheConfig {
            capacity: 8 + rng.below(12),
            has_state: rng.below(2) == 0,
            window: [None, Some(5)][rng.below(2)],
            page_bytes: 10,
            ttl_ms: [None, Some(40)][rng.below(2)],
            pinned_percent: 30,
            quota: [None, Some(100)][rng.below(2)],
            ghosts: 16,
        };
        let namespaces = ["", "a", "b"].map(namespace).to_vec();
        let world = World::new(config.clone());
        let (pins, seen) = (Vec::new(), vec![Vec::new()]);
        Self { config, world, rng, namespaces, pins, seen, now: 0, hits: 0, refused: 0, forgotten: 0, restored: 0 }
    }

    fn tokens(&mut self, max: usize) -> Vec<u32> {
        let count = self.rng.below(max + 1);
        (0..count).map(|_| self.rng.below(2) as u32).collect()
    }

    /// A prefix of something seen before, then random tokens.
    fn prompt(&mut self) -> Vec<u32> {
        let known = self.rng.below(self.seen.len());
        let keep = self.rng.below(self.seen[known].len() + 1);
        let mut prompt = self.seen[known][..keep].to_vec();
        prompt.extend(self.tokens(20));
        prompt.truncate(72);
        if self.seen.len() < 12 {
            self.seen.push(prompt.clone());
        } else {
            self.seen[known] = prompt.clone();
        }
        prompt
    }

    fn options(&mut self, prompt: &[u32]) -> AdmitOptions {
        AdmitOptions {
            max: [None, None, Some(self.rng.below(prompt.len() + 1)), Some(prompt.len())][self.rng.below(4)],
            min: [0, 0, 0, 5][self.rng.below(4)],
            exact: self.rng.below(3) == 0,
            across_salts: self.rng.below(2) == 0,
            left: None,
            whole_pages: false,
        }
    }

    fn admit(&mut self) {
        let prompt = self.prompt();
        let options = self.options(&prompt);
        let ns = self.namespaces[self.rng.below(3) * self.rng.below(2)].clone();
        let max = options.max.unwrap_or(prompt.len().saturating_sub(1));
        let mut expected = longest(&self.world.cache, &ns, &prompt, max, options.exact, self.config.has_state);
        if expected < options.min {
            expected = 0;
        }
        assert_eq!(self.world.cache.lookup(&ns, &prompt, &options), expected, "{prompt:?} {options:?}");
        match self.world.start(&ns, &prompt, &options) {
            Ok(cached) => {
                let whole = expected / PAGE * PAGE;
                assert!(cached == expected || (cached == whole && self.world.cache.available() <= 1));
                self.hits += cached;
                if options.exact {
                    assert_eq!(self.world.sequences.last().map(|sequence| sequence.table.exact()), Some(cached));
                }
            }
            Err(full) => {
                assert!(full.needed > full.free);
                self.refused += 1;
            }
        }
    }

    /// The process dies at a random moment; the next one restores the sequences that the store holds completely.
    fn crash(&mut self) {
        let capacity = self.world.cache.capacity();
        self.world.crash(CacheConfig { capacity, ..self.config.clone() });
        self.pins.clear();
        assert_eq!(self.world.cache.available(), self.world.cache.capacity());
        for (ns, tokens) in self.world.tier.sequences() {
            assert!(self.world.load(&ns, &tokens), "an empty cache has room");
            let options = AdmitOptions { max: Some(tokens.len()), ..AdmitOptions::default() };
            assert_eq!(self.world.cache.lookup(&ns, &tokens, &options), tokens.len());
            self.restored += tokens.len();
        }
    }

    /// A miss: one sequence is restored from the store, beside those that run.
    fn load(&mut self) {
        let stored = self.world.tier.sequences();
        if !stored.is_empty() {
            let (ns, tokens) = &stored[self.rng.below(stored.len())];
            self.world.load(ns, tokens);
        }
    }

    fn forget(&mut self) {
        let before = self.world.cache.entries();
        let (ns, tokens) = match self.rng.below(4) {
            0 => (self.namespaces[self.rng.below(3)].clone(), self.prompt()),
            _ if before.is_empty() => return,
            _ => {
                let entry = &before[self.rng.below(before.len())];
                (entry.namespace.clone(), entry.tokens.clone())
            }
        };
        let same = |entry: &&Entry| entry.namespace == ns && entry.tokens == tokens;
        let (own, others): (Vec<&Entry>, Vec<&Entry>) = before.iter().partition(same);
        let shared = |page: &PageId| others.iter().any(|other| other.pages.contains(page));
        let most = own.iter().flat_map(|entry| &entry.pages).filter(|page| !shared(page)).count();
        let forgotten = self.world.cache.forget(&ns, &tokens);
        assert!(forgotten == most || (forgotten < most && !self.pins.is_empty()), "{forgotten} of {most} forgotten");
        let after = self.world.cache.entries();
        let pages = |entries: &mut dyn Iterator<Item = &Entry>| -> Vec<Vec<PageId>> {
            entries.map(|entry| entry.pages.clone()).collect()
        };
        let (mut left, mut expected) = (pages(&mut after.iter()), pages(&mut others.into_iter()));
        // Its pinned part, if any, remains as a sequence of its own.
        let rest = most - forgotten;
        if rest > 0 {
            let whole = &own[0].pages;
            expected.push(whole[..whole.len() - forgotten].to_vec());
        }
        left.sort();
        expected.sort();
        assert_eq!(left, expected);
        self.forgotten += forgotten;
    }

    fn operate(&mut self) {
        let running = self.world.sequences.len();
        let one = self.rng.below(running.max(1));
        match self.rng.below(1080) {
            0..250 if running < MAX_SEQUENCES => self.admit(),
            250..500 if running > 0 => {
                let producer = [Producer::Prefill, Producer::Decode][self.rng.below(2)];
                let tokens = self.tokens(if producer == Producer::Decode { 1 } else { 9 });
                let len = self.world.sequences[one].tokens.len();
                let unwritten = len > self.world.sequences[one].table.written();
                if len < 90 && !unwritten && self.world.extend(one, &tokens, producer).is_err() {
                    self.refused += 1;
                }
            }
            500..750 => self.world.step(),
            750..880 if running > 0 => self.world.finish(one),
            880..920 if (1..MAX_SEQUENCES).contains(&running) => {
                let sequence = &self.world.sequences[one];
                let (tokens, producer) = (sequence.table.tokens().to_vec(), sequence.producer);
                if let Ok((table, copy)) = self.world.cache.fork(&sequence.table) {
                    self.world.copies.extend(copy);
                    self.world.sequences.push(super::world::Sequence { table, tokens, producer });
                }
            }
            920..940 if running > 0 => {
                let sequence = &mut self.world.sequences[one];
                self.world.cache.cancel(&mut sequence.table);
                sequence.tokens.truncate(sequence.table.written());
            }
            940..955 => {
                let prompt = self.prompt();
                let ns = self.namespaces[self.rng.below(3)].clone();
                self.pins.extend(self.world.cache.pin(&ns, &prompt).map(|pinned| pinned.id));
            }
            955..975 if !self.pins.is_empty() => {
                let pin = self.pins.swap_remove(self.rng.below(self.pins.len()));
                assert!(self.world.cache.unpin(pin) && !self.world.cache.unpin(pin));
            }
            975..990 => {
                self.now += self.rng.below(20) as u64;
                self.world.cache.advance(self.now);
            }
            990..993 if self.world.cache.capacity() < 28 => self.world.grow(self.world.cache.capacity() + 1),
            993..995 => {
                let ns = self.namespaces[self.rng.below(3)].clone();
                self.world.cache.set_quota(&ns, 10 * self.rng.below(12) as u64);
            }
            995 => self.world.cache.clear(),
            996 => self.crash(),
            1000..1020 => self.load(),
            1020..1040 => self.forget(),
            1040..1080 if running > 0 => {
                let copy = self.world.cache.checkpoint(&mut self.world.sequences[one].table);
                self.world.copies.extend(copy);
            }
            _ => {}
        }
    }

    fn verify(&self) {
        self.world.check();
        self.world.read_known();
        if self.world.copies.is_empty() {
            self.world.sequences.iter().for_each(|sequence| self.world.read_back(sequence));
        }
        let (available, held) = (self.world.cache.available(), self.world.held());
        assert!(available <= self.world.cache.capacity() - held);
        assert!(available == self.world.cache.capacity() - held || !self.pins.is_empty());
    }
}

#[test]
fn any_interleaving_keeps_every_invariant() {
    let operations: usize = std::env::var("HEADSTART_FUZZ_OPS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut totals = [0; 4];
    let worlds = 100;
    for seed in 0..worlds {
        let mut fuzz = Fuzz::new(seed);
        for operation in 0..operations / worlds as usize {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                fuzz.operate();
                fuzz.verify();
            }));
            assert!(outcome.is_ok(), "seed {seed}, operation {operation}");
        }
        fuzz.world.cache.check_keys().expect("keys");
        let counted = [fuzz.hits, fuzz.refused, fuzz.forgotten, fuzz.restored];
        totals.iter_mut().zip(counted).for_each(|(total, count)| *total += count);
    }
    // Otherwise the fuzz test could pass without having tried anything.
    let [hits, refused, forgotten, restored] = totals;
    println!("{hits} tokens reused, {refused} refusals, {forgotten} pages forgotten, {restored} tokens restored");
    assert!(hits > operations / 8 && refused > operations / 1000);
    assert!(forgotten > operations / 200 && restored > operations / 50);
}
