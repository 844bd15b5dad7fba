//! A simulated device and store under the cache: the content of every slot, and the oracles that read it back.

use std::collections::{BTreeMap, HashSet, VecDeque};

use headstart::kv::{
    Admission, AdmitOptions, BlockTable, Cache, CacheConfig, Fields, Key, Namespace, OutOfPages, PAGE, PageCopy,
    PageId, Producer,
};

/// A random number generator (SplitMix64).
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

/// A running sequence: its table and all of its tokens. The slots after `written` await the next step.
pub struct Sequence {
    pub table: BlockTable,
    pub tokens: Vec<u32>,
    pub producer: Producer,
}

/// A block as the store holds it.
struct Saved {
    namespace: Namespace,
    parent: Key,
    tokens: Vec<u32>,
    kv: Vec<Kv>,
}

/// Keeps every published block until newer ones need the room. It outlives the process.
#[derive(Default)]
pub struct Tier {
    blocks: BTreeMap<Key, Saved>,
    order: VecDeque<Key>,
}

impl Tier {
    const BLOCKS: usize = 40;

    fn save(&mut self, key: Key, block: Saved) {
        if self.blocks.insert(key, block).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > Self::BLOCKS {
            self.order.pop_front().map(|oldest| self.blocks.remove(&oldest));
        }
    }

    /// The stored sequences that are complete from the root and that no other continues.
    pub fn sequences(&self) -> Vec<(Namespace, Vec<u32>)> {
        let parents: HashSet<Key> = self.blocks.values().map(|block| block.parent).collect();
        let leaves = self.blocks.iter().filter(|(key, _)| !parents.contains(key));
        let whole = leaves.filter_map(|(_, leaf)| {
            let (mut tokens, mut block) = (leaf.tokens.clone(), leaf);
            while block.parent != leaf.namespace.key() {
                block = self.blocks.get(&block.parent)?;
                tokens.splice(0..0, block.tokens.iter().copied());
            }
            Some((leaf.namespace.clone(), tokens))
        });
        whole.collect()
    }
}

pub struct World {
    pub cache: Cache,
    pub memory: Vec<Kv>,
    /// The state after the last token written to each page.
    pub states: Vec<Kv>,
    pub sequences: Vec<Sequence>,
    pub copies: Vec<PageCopy>,
    pub tier: Tier,
    has_state: bool,
}

impl World {
    pub fn new(config: CacheConfig) -> Self {
        let [memory, states] = [config.capacity * PAGE, config.capacity].map(|count| vec![Kv::default(); count]);
        let (has_state, cache) = (config.has_state, Cache::new(config));
        let (sequences, copies, tier) = (Vec::new(), Vec::new(), Tier::default());
        Self { cache, memory, states, sequences, copies, tier, has_state }
    }

    /// A new process: tables, index and device memory are lost, the store remains.
    pub fn crash(&mut self, config: CacheConfig) {
        let tier = std::mem::take(&mut self.tier);
        *self = Self { tier, ..Self::new(config) };
    }

    /// Restores the unknown part of a sequence that the store holds completely. False if there is no room.
    pub fn load(&mut self, ns: &Namespace, tokens: &[u32]) -> bool {
        let options = AdmitOptions { max: Some(tokens.len()), ..AdmitOptions::default() };
        let Ok(Admission { mut table, copy, .. }) = self.cache.admit(ns, tokens, &options) else { return false };
        self.copies.extend(copy);
        self.run_copies();
        for (block, key) in Key::chain(ns, tokens).enumerate().skip(table.written() / PAGE) {
            let begin = table.written();
            let kv = self.tier.blocks[&key].kv[begin - block * PAGE..].to_vec();
            let slots = self.cache.append(&mut table, kv.len()).expect("the admission counted the pages");
            slots.iter().zip(&kv).for_each(|(slot, kv)| self.write(*slot, *kv));
            let exact = begin + kv.iter().take_while(|kv| kv.exact).count();
            self.cache.publish(&mut table, &tokens[begin..exact], Producer::Prefill);
            self.cache.publish(&mut table, &tokens[exact..begin + kv.len()], Producer::Decode);
        }
        assert_eq!(table.tokens(), tokens);
        self.cache.release(table);
        true
    }

    pub fn grow(&mut self, capacity: usize) {
        self.cache.grow(capacity);
        self.memory.resize(self.cache.capacity() * PAGE, Kv::default());
        self.states.resize(self.cache.capacity(), Kv::default());
    }

    fn write(&mut self, slot: u32, kv: Kv) {
        self.memory[slot as usize] = kv;
        self.states[slot as usize / PAGE] = kv;
    }

    /// Admits a prompt and takes slots for all of it; the next `step` writes the KV.
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

    /// Takes slots for more tokens of a running sequence.
    pub fn extend(&mut self, number: usize, tokens: &[u32], producer: Producer) -> Result<(), OutOfPages> {
        let sequence = &mut self.sequences[number];
        self.cache.append(&mut sequence.table, tokens.len())?;
        sequence.tokens.extend_from_slice(tokens);
        sequence.producer = producer;
        Ok(())
    }

    fn run_copies(&mut self) {
        for copy in self.copies.drain(..) {
            let from = copy.from as usize * PAGE;
            self.memory.copy_within(from..from + copy.tokens, copy.to as usize * PAGE);
            self.states[copy.to as usize] = self.states[copy.from as usize];
        }
    }

    /// One submit: all copies in order, then all writes. Then the tables publish what was written, and the store saves it.
    pub fn step(&mut self) {
        self.run_copies();
        let mut written = Vec::new();
        for Sequence { table, tokens, producer } in &self.sequences {
            let begin = table.written();
            let before = (0..begin).all(|at| self.memory[table.slot(at) as usize].exact);
            let exact = before && *producer == Producer::Prefill;
            let fresh = digests(table.namespace(), tokens).enumerate().skip(begin);
            written.extend(fresh.map(|(at, digest)| (table.slot(at), Kv { digest, exact })));
        }
        written.into_iter().for_each(|(slot, kv)| self.write(slot, kv));
        for Sequence { table, tokens, producer } in &mut self.sequences {
            let (begin, fresh) = (table.written(), &tokens[table.written()..]);
            self.cache.publish(table, fresh, *producer);
            for block in begin / PAGE..table.written().div_ceil(PAGE) {
                let range = block * PAGE..table.written().min((block + 1) * PAGE);
                let key = table.keys().get(block).copied().unwrap_or(table.key());
                let parent = if block == 0 { table.namespace().key() } else { table.keys()[block - 1] };
                let kv = range.clone().map(|at| self.memory[table.slot(at) as usize]).collect();
                let tokens = table.tokens()[range].to_vec();
                self.tier.save(key, Saved { namespace: table.namespace().clone(), parent, tokens, kv });
            }
        }
    }

    pub fn finish(&mut self, number: usize) {
        self.cache.release(self.sequences.swap_remove(number).table);
    }

    /// Checks that a table's pages hold the KV of its own tokens, and that no more of it counts as exact than is.
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
        if let Some(last) = table.written().checked_sub(1).filter(|_| self.has_state) {
            let (state, kv) = (self.states[table.slot(last) as usize / PAGE], self.memory[table.slot(last) as usize]);
            assert_eq!(state, kv, "a sequence continues from another state");
        }
    }

    /// Checks that every known page still holds the KV of its tokens, and that no more of it counts as exact than is.
    pub fn read_known(&self) {
        for entry in self.cache.entries() {
            assert_eq!(entry.pages.len(), entry.tokens.len().div_ceil(PAGE));
            for (at, digest) in digests(&entry.namespace, &entry.tokens).enumerate() {
                let kv = self.memory[entry.pages[at / PAGE] as usize * PAGE + at % PAGE];
                assert_eq!(kv.digest, digest, "token {at} of {:?} was altered", entry.tokens);
                assert!(kv.exact || at >= entry.exact, "known token {at} is called exact and is not");
                let ends = self.has_state && ((at + 1).is_multiple_of(PAGE) || at + 1 == entry.tokens.len());
                assert!(
                    !ends || self.states[entry.pages[at / PAGE] as usize] == kv,
                    "the state behind token {at} was altered"
                );
            }
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

/// The longest prefix that `prompt` shares with any known sequence, by comparison with all of them. With states, it ends where
/// one is stored.
pub fn longest(cache: &Cache, ns: &Namespace, prompt: &[u32], max: usize, exact: bool, has_state: bool) -> usize {
    let entries = cache.entries();
    let shared = entries.iter().filter(|entry| entry.namespace == *ns).map(|entry| {
        let common = entry.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let common = if exact { common.min(entry.exact) } else { common }.min(max);
        if has_state && common < entry.tokens.len() { common / PAGE * PAGE } else { common }
    });
    shared.max().unwrap_or(0)
}
