//! KV beyond the GPU: what a request finds in the tiers is loaded before it starts, what it computes is saved behind it.
//!
//! Restoring: all blocks of the prompt that pages do not have are asked for at once; those whose loading is expected to
//! beat computing are read, verified, written to pages and published, the next ones being on their way meanwhile, until
//! one fails or the deadline passes: it bounds all the waiting for stores that a request does. Whatever goes wrong is a
//! miss. Saving: blocks queue when they are written and are read back in steps that compute no prompt, a few at a time;
//! the stores write them when they like. So neither a first token nor the decoding waits for a store to write.
//!
//! Costs: a request, two round trips to each tier, one for every group of blocks, and their bytes; a saved block, one copy
//! to the host and one SHA-256.

use std::collections::VecDeque;
use std::time::Duration;

use web_time::Instant;

use super::{
    Engine,
    choice::{self, Rate, Stored},
    pages::PageLayout,
    request::Request,
};
use crate::{
    error::{Error, Result},
    gpu::Recording,
    kv::{self, Admission, AdmitOptions, BlockTable, Choice, Key, Namespace, OutOfPages, PAGE, Reason, Tier},
    store::{self, Ahead, Blob, Deadline, Element, Expected, Tiers},
};

/// Blocks that may wait to be saved; what comes when they do is not.
const MOST_WAITING: usize = 8192;
/// Bytes of KV saved between two decode steps.
const STEP_BYTES: usize = 1 << 20;
/// Bytes of KV that are read at once; three times as much is held while blocks are read ahead.
const GROUP_BYTES: usize = 4 << 20;

/// The tiers and what is known of their speed.
pub(super) struct Persistence {
    pub tiers: Tiers,
    /// The longest that one request may wait for stores.
    deadline: Duration,
    rates: Vec<Rate>,
    waiting: VecDeque<Block>,
    /// Blocks loaded since the tiers were last told, each behind its parent.
    used: Vec<store::Key>,
    /// Bytes and milliseconds of what the request under way loaded, by tier.
    loads: Vec<(f64, f64)>,
}

/// A block that has been written to a page.
pub(super) struct Block {
    pub namespace: Namespace,
    pub parent: Key,
    pub key: Key,
    pub tokens: Vec<u32>,
    pub hidden: Option<Vec<f32>>,
}

impl Block {
    /// With what its page holds, as tiers and packs keep it.
    pub fn blob(self, layout: &PageLayout, producer: store::Producer, page: &[u32]) -> Blob {
        let fields = self.namespace.fields().entries();
        Blob {
            key: self.key.0,
            parent: self.parent.0,
            namespace: fields.iter().map(|(tag, value)| ((*tag).into(), (*value).into())).collect(),
            producer,
            last_hidden: self.hidden,
            element: Element::F16,
            rows: layout.rows(),
            kv: layout.to_blob(page, self.tokens.len()),
            tokens: self.tokens,
        }
    }
}

/// Where in a prompt a block that a tier has lies.
struct Found {
    block: usize,
    key: Key,
    stored: Stored,
}

/// What of a prompt is to be loaded, and why.
#[derive(Default)]
struct Plan {
    found: Vec<Found>,
    choices: Vec<Choice>,
    /// A tier did not say in time what it has.
    late: bool,
}

impl Persistence {
    pub fn new(tiers: Tiers, deadline: Duration) -> Self {
        let (rates, loads) = tiers.stores().map(|_| (Rate::default(), (0.0, 0.0))).unzip();
        Self { tiers, deadline, rates, waiting: VecDeque::new(), used: Vec::new(), loads }
    }

    /// Takes the measure of what a request loaded: of all of it, since blocks come in groups.
    fn measure(&mut self) {
        for (rate, load) in self.rates.iter_mut().zip(&mut self.loads) {
            let (bytes, ms) = std::mem::take(load);
            if bytes > 0.0 {
                rate.measure(bytes, ms);
            }
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.deadline)
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.used.is_empty()
    }

    fn push(&mut self, block: Block) {
        match self.waiting.len() < MOST_WAITING {
            true => self.waiting.push_back(block),
            false => self.tiers.drop_unsaved(1),
        }
    }

    /// The blocks of `tokens` from block `first` on that tiers have, without a gap. The last may be partial: the longest
    /// beginning of the first missing block that holds more than `known` tokens and ends where a prompt once ended.
    async fn find(
        &self,
        namespace: &Namespace,
        tokens: &[u32],
        keys: &[Key],
        first: usize,
        known: usize,
        deadline: Deadline,
    ) -> Vec<Found> {
        let asked: Vec<_> = keys[first..].iter().map(|key| key.0).collect();
        let present = self.tiers.find(&asked, deadline).await;
        let size = |block: usize| (tokens.len() - block * PAGE).min(PAGE);
        let mut found: Vec<Found> = (first..keys.len())
            .zip(&present)
            .map_while(|(block, tier)| Some((block, (*tier)?)))
            .map(|(block, tier)| Found { block, key: keys[block], stored: Stored { tier, tokens: size(block) } })
            .collect();
        let next = first + found.len();
        if next < keys.len() {
            let least = if next == first { known - first * PAGE + 1 } else { 1 };
            let parent = next.checked_sub(1).map_or(namespace.key(), |last| keys[last]);
            let rest = &tokens[next * PAGE..next * PAGE + size(next)];
            // Of all its tokens it has just been asked for.
            let lengths: Vec<usize> = (least..rest.len()).rev().collect();
            let asked: Vec<_> = lengths.iter().map(|&n| Key::block(&parent, &rest[..n])).collect();
            let present = self.tiers.find(&asked.iter().map(|key| key.0).collect::<Vec<_>>(), deadline).await;
            let longest = present.iter().position(Option::is_some);
            found.extend(longest.and_then(|at| {
                Some(Found { block: next, key: asked[at], stored: Stored { tier: present[at]?, tokens: lengths[at] } })
            }));
        }
        found
    }
}

fn kind(tiers: &Tiers, index: usize) -> Tier {
    match tiers.stores().nth(index).map_or("", |store| store.name()) {
        "memory" => Tier::Memory,
        "disk" | "opfs" | "indexeddb" => Tier::Disk,
        "pack" => Tier::Pack,
        _ => Tier::Remote,
    }
}

/// What a tier does wrong between two moments, by its counters.
#[derive(Clone, Copy)]
struct Faults {
    rejected: u64,
    late: u64,
}

impl Faults {
    fn of(tiers: &Tiers) -> Self {
        let stats = tiers.stats();
        let rejected = stats.iter().flat_map(|(_, stats)| stats.rejected.values()).sum();
        Self { rejected, late: stats.iter().map(|(_, stats)| stats.late).sum() }
    }
}

impl Engine {
    /// Keeps KV beyond the GPU in `tiers` from now on, under the digest of the model's weights. A request waits for stores
    /// no longer than `deadline` in all, and computes the rest.
    pub fn attach(&mut self, tiers: Tiers, weights_digest: &str, deadline: Duration) {
        self.fields = super::identity::fields(&self.config, weights_digest, self.quantize);
        self.namespace = Namespace::new(self.fields.clone());
        self.persistence = Some(Persistence::new(tiers, deadline));
    }

    /// The tiers, if any are attached.
    pub fn tiers(&self) -> Option<&Tiers> {
        self.persistence.as_ref().map(|persistence| &persistence.tiers)
    }

    /// The root of the keys of requests with this salt.
    pub fn namespace(&self, salt: &str) -> Namespace {
        match salt.is_empty() {
            true => self.namespace.clone(),
            false => Namespace::new(kv::Fields { salt: salt.to_owned(), ..self.fields.clone() }),
        }
    }

    /// Begins a request with the longest prefix of its prompt that pages or tiers have.
    pub(super) async fn begin(&mut self, request: &Request) -> Result<Result<Admission, OutOfPages>> {
        let (tokens, namespace) = (&request.tokens, self.namespace(&request.cache_salt));
        if request.no_cache {
            let options = AdmitOptions { max: Some(0), ..AdmitOptions::default() };
            return Ok(self.cache.admit(&namespace, tokens, &options));
        }
        let keys: Vec<Key> = Key::chain(&namespace, tokens).collect();
        let whole = keys.last().is_some_and(|key| self.breakpoints.contains(key, request.exact));
        let options = AdmitOptions { max: whole.then_some(tokens.len()), exact: request.exact, ..Default::default() };
        let known = self.cache.lookup(&namespace, tokens, &options);
        let deadline = self.persistence.as_ref().map_or(Deadline::NEVER, |persistence| persistence.deadline());
        let Plan { found, choices, late } = self.choose(&namespace, tokens, &keys, known, deadline).await;
        let begun = self.cache.admit(&namespace, tokens, &AdmitOptions { whole_pages: !found.is_empty(), ..options });
        let Ok(mut admission) = begun else { return Ok(begun) };
        self.copy(&admission)?;
        // What was not found in time may be there.
        let mut failure = late.then_some((Reason::Deadline, usize::MAX));
        if !found.is_empty() {
            failure = self.restore(&mut admission, &found, tokens, request.exact, deadline).await.or(failure);
            self.persistence.iter_mut().for_each(Persistence::measure);
            if admission.cached_tokens == admission.report.sources.gpu {
                // What pages have of the block that could not be loaded is better than nothing.
                self.cache.withdraw(admission);
                let again = self.cache.admit(&namespace, tokens, &options);
                let Ok(whole) = again else { return Ok(again) };
                self.copy(&whole)?;
                admission = whole;
            }
        }
        if let Some((reason, tokens)) = failure {
            admission.report.blame(reason, tokens);
        }
        admission.report.choices = choices;
        Ok(Ok(admission))
    }

    /// The copy that an admission asks for, at once: the cache may grow before the step's own recording runs.
    fn copy(&mut self, admission: &Admission) -> Result<()> {
        let Some(copy) = admission.copy else { return Ok(()) };
        let mut recording = Recording::new();
        self.kv.copy(&mut recording, copy);
        self.gpu.submit(&recording)
    }

    /// The stored blocks that are worth loading, and the account of the decision by tier.
    async fn choose(
        &mut self,
        namespace: &Namespace,
        tokens: &[u32],
        keys: &[Key],
        known: usize,
        deadline: Deadline,
    ) -> Plan {
        let Some(persistence) = &mut self.persistence else { return Default::default() };
        let first = known / PAGE;
        if known == tokens.len() {
            return Default::default();
        }
        let before = Faults::of(&persistence.tiers);
        let mut found = persistence.find(namespace, tokens, keys, first, known, deadline).await;
        let late = Faults::of(&persistence.tiers).late > before.late;
        let stored: Vec<Stored> = found.iter().map(|found| found.stored).collect();
        let bytes = self.layout.token_bytes() as f64;
        let count = choice::worthwhile(&stored, bytes, &self.prefill, &persistence.rates);
        let mut choices: Vec<Choice> = Vec::new();
        for (index, stored) in stored.iter().enumerate() {
            let (tier, load) = (kind(&persistence.tiers, stored.tier), index < count);
            let load_ms = persistence.rates[stored.tier].ms(stored.tokens as f64 * bytes);
            let prefill_ms = self.prefill.ms(stored.tokens as f64);
            match choices.last_mut().filter(|choice| choice.tier == tier && choice.load == load) {
                Some(choice) => {
                    choice.tokens += stored.tokens;
                    choice.load_ms = choice.load_ms.zip(load_ms).map(|(a, b)| a + b);
                    choice.prefill_ms = choice.prefill_ms.zip(prefill_ms).map(|(a, b)| a + b);
                }
                None => choices.push(Choice { tier, tokens: stored.tokens, load, load_ms, prefill_ms }),
            }
        }
        if let Some(declined) = stored.get(count) {
            persistence.rates[declined.tier].relent();
        }
        found.truncate(count);
        Plan { found, choices, late }
    }

    /// Loads the blocks `found` into pages behind those of `admission`, until one fails: why, and how many tokens could
    /// not be had.
    async fn restore(
        &mut self,
        admission: &mut Admission,
        found: &[Found],
        tokens: &[u32],
        exact: bool,
        deadline: Deadline,
    ) -> Option<(Reason, usize)> {
        let Persistence { tiers, loads, used, .. } = self.persistence.as_mut()?;
        let Admission { table, report, cached_tokens, .. } = admission;
        let namespace = table.namespace().clone();
        let (fields, rows) = (namespace.fields().entries(), self.layout.rows());
        let wanted: Vec<store::Key> = found.iter().map(|found| found.key.0).collect();
        let places: Vec<usize> = found.iter().map(|found| found.stored.tier).collect();
        let group = GROUP_BYTES / (self.layout.words() * 4);
        let mut ahead = Ahead::new(tiers, &wanted, &places, group, deadline);
        let mut parent = table.keys().last().copied().unwrap_or(namespace.key());
        for Found { block, key, stored } in found {
            let begin = block * PAGE;
            let rest = || found.iter().filter(|found| found.block >= *block).map(|found| found.stored.tokens).sum();
            if deadline.passed() {
                return Some((Reason::Deadline, rest()));
            }
            let expected = Expected {
                key: key.0,
                parent: parent.0,
                tokens: &tokens[begin..begin + stored.tokens],
                namespace: &fields,
                element: Element::F16,
                rows: &rows,
                hidden: self.config.hidden,
            };
            let (started, before) = (Instant::now(), Faults::of(tiers));
            let bytes = (stored.tokens * self.layout.token_bytes()) as f64;
            let mut spent = |tier: usize| {
                loads[tier].0 += bytes;
                loads[tier].1 += started.elapsed().as_secs_f64() * 1e3;
            };
            let Some(loaded) = ahead.next(&expected).await else {
                let after = Faults::of(tiers);
                if after.late > before.late {
                    // It takes that long at least.
                    spent(stored.tier);
                    return Some((Reason::Deadline, rest()));
                }
                return (after.rejected > before.rejected).then_some((Reason::Integrity, stored.tokens));
            };
            let Blob { producer, last_hidden, kv, .. } = loaded.blob;
            let computed_exactly = producer == store::Producer::Prefill;
            if exact && !computed_exactly {
                return Some((Reason::DecodeWritten, stored.tokens));
            }
            if let Some(hidden) = last_hidden {
                self.breakpoints.insert(*key, hidden, computed_exactly);
            }
            // The last token is computed, for its logits, unless its hidden state is known.
            let mut end = begin + stored.tokens;
            if end == tokens.len() && !self.breakpoints.contains(key, exact) {
                end -= 1;
            }
            let fresh = end - table.written();
            if fresh == 0 || self.cache.append(table, fresh).is_err() {
                return None;
            }
            let page = table.pages()[*block];
            self.kv.write(&mut self.gpu, page, &self.layout.to_page(&kv, stored.tokens));
            let producer = if computed_exactly { kv::Producer::Prefill } else { kv::Producer::Decode };
            self.cache.publish(table, &tokens[begin..end], producer);
            report.load(kind(tiers, loaded.tier), fresh);
            spent(loaded.tier);
            used.push(key.0);
            *cached_tokens = table.written();
            parent = *key;
        }
        None
    }

    /// Queues what `table` holds beyond its first `before` tokens, in whole blocks, to be saved.
    pub(super) fn queue_blocks(&mut self, table: &BlockTable, before: usize) {
        let Some(persistence) = &mut self.persistence else { return };
        for block in before / PAGE..table.keys().len() {
            let parent = block.checked_sub(1).map_or(table.namespace().key(), |last| table.keys()[last]);
            persistence.push(Block {
                namespace: table.namespace().clone(),
                parent,
                key: table.keys()[block],
                tokens: table.tokens()[block * PAGE..(block + 1) * PAGE].to_vec(),
                hidden: None,
            });
        }
    }

    /// Keeps the last hidden state of the first `end` tokens of `table`, here and, with their last block, in the tiers.
    pub(super) fn keep_breakpoint(&mut self, table: &BlockTable, end: usize, hidden: Vec<f32>) {
        let block = (end - 1) / PAGE;
        let parent = block.checked_sub(1).map_or(table.namespace().key(), |last| table.keys()[last]);
        let tokens = &table.tokens()[block * PAGE..end];
        let key = Key::block(&parent, tokens);
        self.breakpoints.insert(key, hidden.clone(), end <= table.exact());
        let Some(persistence) = &mut self.persistence else { return };
        if let Some(queued) = persistence.waiting.iter_mut().rev().find(|queued| queued.key == key) {
            queued.hidden = Some(hidden);
            return;
        }
        let (namespace, tokens) = (table.namespace().clone(), tokens.to_vec());
        persistence.push(Block { namespace, parent, key, tokens, hidden: Some(hidden) });
    }

    /// Whether anything waits to be saved; an idle [`step`](Self::step) saves a little of it.
    pub fn has_unsaved(&self) -> bool {
        self.persistence.as_ref().is_some_and(Persistence::has_work)
    }

    /// Milliseconds that computing the reused tokens of `report` would have taken beyond loading them, by the rates
    /// measured so far; none before the first measurement.
    pub fn saved_ms(&self, report: &kv::Report) -> Option<f64> {
        let loading: f64 = report.choices.iter().filter(|choice| choice.load).filter_map(|choice| choice.load_ms).sum();
        Some((self.prefill.ms(report.reused() as f64)? - loading).max(0.0))
    }

    /// Forgets every prefix: in pages, and in all tiers.
    ///
    /// # Errors
    /// [`Error::Store`] of the first store that did not, after all were asked.
    pub async fn clear_all(&mut self) -> Result<()> {
        self.clear_cache();
        let Some(persistence) = &mut self.persistence else { return Ok(()) };
        persistence.waiting.clear();
        persistence.used.clear();
        let mut outcome = Ok(());
        for store in persistence.tiers.stores() {
            let failed =
                |problem: store::StoreError| Error::Store { store: store.name().into(), problem: problem.to_string() };
            outcome = outcome.and(store.clear().await.map_err(failed));
        }
        outcome
    }

    /// Saves a little of what waits, for when nothing runs and something may come: whether more waits.
    ///
    /// # Errors
    /// As [`Engine::persist`].
    pub async fn persist_some(&mut self) -> Result<bool> {
        let pages = (STEP_BYTES / (self.layout.words() * 4)).max(1);
        self.save(pages).await?;
        Ok(self.has_unsaved())
    }

    /// Saves all that waits in every tier. For when nothing runs.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the pages cannot be read back; never for a store's sake.
    pub async fn persist(&mut self) -> Result<()> {
        while self.persistence.as_ref().is_some_and(Persistence::has_work) {
            self.save(self.kv.most_read()).await?;
        }
        if let Some(persistence) = &self.persistence {
            persistence.tiers.flush().await;
        }
        Ok(())
    }

    /// Saves up to `most` of the blocks that wait and are still in pages, the oldest first.
    async fn save(&mut self, most: usize) -> Result<()> {
        let Some(persistence) = &mut self.persistence else { return Ok(()) };
        let (mut blocks, mut pages) = (Vec::new(), Vec::new());
        while blocks.len() < most.min(self.kv.most_read())
            && let Some(block) = persistence.waiting.pop_front()
        {
            match self.cache.page(&block.parent, &block.key, &block.tokens) {
                // What others will find under this key must be what it is the key of.
                Some((page, exact)) if Key::block(&block.parent, &block.tokens) == block.key => {
                    pages.push(page);
                    blocks.push((block, exact));
                }
                _ => persistence.tiers.drop_unsaved(1),
            }
        }
        if !persistence.used.is_empty() {
            persistence.tiers.touch(&std::mem::take(&mut persistence.used)).await;
        }
        if blocks.is_empty() {
            return Ok(());
        }
        let words = match self.kv.read(&mut self.gpu, &pages).await {
            Ok(words) => words,
            // Without memory to read pages through nothing can be saved; answering goes on.
            Err(Error::GpuMemory { .. }) => {
                persistence.tiers.drop_unsaved((blocks.len() + persistence.waiting.len()) as u64);
                persistence.waiting.clear();
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        for ((block, exact), page) in blocks.into_iter().zip(words.chunks_exact(self.layout.words())) {
            let exact = exact == block.tokens.len();
            let producer = if exact { store::Producer::Prefill } else { store::Producer::Decode };
            let blob = block.blob(&self.layout, producer, page);
            persistence.tiers.save(&blob).await;
        }
        Ok(())
    }
}
