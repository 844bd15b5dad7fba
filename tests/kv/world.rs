//! A simulated device under the cache: what every slot holds, and the oracle that reads it back.

use std::collections::HashSet;

use headstart::kv::{
    Admission, AdmitOptions, BlockTable, Cache, Config, Fields, Namespace, OutOfPages, PAGE, PageCopy, PageId, Producer,
};

/// splitmix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }
}

pub fn namespace(salt: &str) -> Namespace {
    Namespace::new(Fields { weights: "w".into(), salt: salt.into(), ..Fields::default() })
}

/// The KV of one token: a digest of it and all before it, and whether it is bit-identical to a cold prefill.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Kv {
    digest: u64,
    exact: bool,
}

fn mix(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(23).wrapping_add(0x9e37_79b9)
}

fn digests(namespace: &Namespace, tokens: &[u32]) -> impl Iterator<Item = u64> {
    let seed = u64::from_le_bytes(namespace.key().0[..8].try_into().expect("eight bytes"));
    tokens.iter().scan(seed, |state, &token| {
        *state = mix(*state, token.into());
        Some(*state)
    })
}

/// A running sequence: its table and all tokens it is to hold, of which the slots after `written` await the next step.
pub struct Sequence {
    pub table: BlockTable,
    pub tokens: Vec<u32>,
    pub producer: Producer,
}

pub struct World {
    pub cache: Cache,
    pub memory: Vec<Kv>,
    pub sequences: Vec<Sequence>,
    pub copies: Vec<PageCopy>,
}

impl World {
    pub fn new(config: Config) -> Self {
        let memory = vec![Kv::default(); config.capacity * PAGE];
        Self { cache: Cache::new(config), memory, sequences: Vec::new(), copies: Vec::new() }
    }

    pub fn grow(&mut self, capacity: usize) {
        self.cache.grow(capacity);
        self.memory.resize(self.cache.capacity() * PAGE, Kv::default());
    }

    /// Admits a prompt and gives slots to all of it; the KV is written by the next `step`.
    pub fn start(&mut self, ns: &Namespace, prompt: &[u32], options: &AdmitOptions) -> Result<usize, OutOfPages> {
        let Admission { mut table, cached_tokens, copy, report } = self.cache.admit(ns, prompt, options)?;
        assert_eq!(table.len(), cached_tokens);
        let from_misses: usize = report.misses.iter().map(|miss| miss.tokens).sum();
        let max = options.max.unwrap_or(prompt.len().saturating_sub(1)).min(prompt.len());
        assert_eq!(cached_tokens + from_misses, max, "{report:?}");
        assert_eq!(report.sources.gpu + report.sources.computed, prompt.len());
        self.copies.extend(copy);
        let slots =
            self.cache.append(&mut table, prompt.len() - cached_tokens).expect("the admission counted the pages");
        assert_eq!(slots.len(), prompt.len() - cached_tokens);
        self.sequences.push(Sequence { table, tokens: prompt.to_vec(), producer: Producer::Prefill });
        Ok(cached_tokens)
    }

    /// Slots for more tokens of a running sequence.
    pub fn extend(&mut self, number: usize, tokens: &[u32], producer: Producer) -> Result<(), OutOfPages> {
        let sequence = &mut self.sequences[number];
        self.cache.append(&mut sequence.table, tokens.len())?;
        sequence.tokens.extend_from_slice(tokens);
        sequence.producer = producer;
        Ok(())
    }

    /// What one submit does: all copies in order, then all writes; then the tables say what was written.
    pub fn step(&mut self) {
        for copy in self.copies.drain(..) {
            let from = copy.from as usize * PAGE;
            self.memory.copy_within(from..from + copy.tokens, copy.to as usize * PAGE);
        }
        for Sequence { table, tokens, producer } in &self.sequences {
            let begin = table.written();
            let before = (0..begin).all(|at| self.memory[table.slot(at) as usize].exact);
            let exact = before && *producer == Producer::Prefill;
            for (at, digest) in digests(table.namespace(), tokens).enumerate().skip(begin) {
                self.memory[table.slot(at) as usize] = Kv { digest, exact };
            }
        }
        for Sequence { table, tokens, producer } in &mut self.sequences {
            let fresh = &tokens[table.written()..];
            self.cache.publish(table, fresh, *producer);
        }
    }

    pub fn finish(&mut self, number: usize) {
        self.cache.release(self.sequences.swap_remove(number).table);
    }

    /// Every table reads back the KV of its own tokens, and no more of it is called exact than is.
    pub fn read_back(&self, sequence: &Sequence) {
        let table = &sequence.table;
        assert_eq!(table.tokens(), &sequence.tokens[..table.written()]);
        let mut exact = true;
        for (at, digest) in digests(table.namespace(), table.tokens()).enumerate() {
            let kv = self.memory[table.slot(at) as usize];
            assert_eq!(kv.digest, digest, "token {at} of {} reads another sequence's KV", table.written());
            exact &= kv.exact;
            assert!(exact || at >= table.exact(), "token {at} is called exact and is not");
        }
    }

    pub fn check(&self) {
        if let Err(problem) = self.cache.check(self.sequences.iter().map(|sequence| &sequence.table)) {
            panic!("{problem}");
        }
    }

    pub fn held(&self) -> usize {
        let pages = self.sequences.iter().flat_map(|sequence| sequence.table.pages());
        pages.collect::<HashSet<&PageId>>().len()
    }
}

/// The longest prefix of `prompt` that any known sequence shares, found by comparing with all of them.
pub fn longest(cache: &Cache, ns: &Namespace, prompt: &[u32], max: usize, exact: bool) -> usize {
    let entries = cache.entries();
    let shared = entries.iter().filter(|entry| entry.namespace == *ns).map(|entry| {
        let common = entry.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        if exact { common.min(entry.exact) } else { common }
    });
    shared.max().unwrap_or(0).min(max)
}
