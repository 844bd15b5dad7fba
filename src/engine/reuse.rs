//! Reuse of KV: the index of pages, the hidden states at prompts' ends, the tiers, and the namespaces.
//!
//! It decides which part of a prompt need not be computed, and knows no device.

use std::time::Duration;

use web_time::Instant;

use super::{
    EngineOptions, KvIdentity,
    breakpoints::Breakpoints,
    choice::Rate,
    heal::{Decoded, Ill},
    identity,
    pages::PageLayout,
    request::Request,
    runner::Runner,
    save::{Block, Persistence},
    sequence::Sequence,
};
use crate::{
    gpu::Numerics,
    kernels::PAGE,
    kv::{self, AdmitOptions, BlockTable, Cache, Fields, Key, Namespace},
    model::Config,
    quant::Format,
    store::{Deadline, Tiers},
};

pub(super) struct Reuse {
    pub(crate) cache: Cache,
    pub(crate) breakpoints: Breakpoints,
    pub(crate) layout: PageLayout,
    pub(crate) persistence: Option<Persistence>,
    /// Sequences that decoding wrote and that may be recomputed.
    pub(crate) decoded: Ill,
    /// Rate of prefill, in tokens a millisecond.
    pub(crate) prefill: Rate,
    /// Elements of a hidden state.
    pub(crate) hidden: usize,
    quantize: Option<Format>,
    class: Numerics,
    fields: Fields,
    /// The namespace of requests without a salt.
    namespace: Namespace,
    /// The origin of the cache's clock.
    began: Instant,
}

/// What outlives a device: the tiers, the fields that identify the KV, and the measured rates.
pub(super) struct Kept {
    persistence: Option<Persistence>,
    fields: Fields,
    prefill: Rate,
}

/// The part of a sequence that is looked up: the tokens, and how many of them may be reused.
pub(super) struct Beginning {
    pub(crate) namespace: Namespace,
    pub(crate) tokens: Vec<u32>,
    pub(crate) options: AdmitOptions,
    /// The hidden state after the whole prompt, if it is known.
    pub(crate) hidden: Option<Vec<f32>>,
}

impl Reuse {
    /// `runner.name` identifies the model until the digest of its weights is known.
    pub(crate) fn new(runner: &Runner, options: &EngineOptions) -> Self {
        let (config, class, layout) = (&runner.config, runner.caps().numerics(), PageLayout::new(&runner.config));
        let cache = Cache::new(kv::CacheConfig {
            capacity: runner.kv.pages(),
            has_state: layout.state() > 0,
            window: layout.window(),
            page_bytes: layout.words() as u64 * 4,
            ttl_ms: options.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            quota: options.salt_quota,
            ..Default::default()
        });
        let fields = identity::fields(config, &runner.name, options.quantize, class);
        Self {
            cache,
            breakpoints: Breakpoints::default(),
            layout,
            persistence: None,
            decoded: Ill::default(),
            prefill: Rate::default(),
            hidden: config.hidden,
            quantize: options.quantize,
            class,
            namespace: Namespace::new(fields.clone()),
            fields,
            began: Instant::now(),
        }
    }

    pub(crate) fn attach(&mut self, config: &Config, tiers: Tiers, weights_digest: &str, deadline: Duration) {
        self.fields = identity::fields(config, weights_digest, self.quantize, self.class);
        self.namespace = Namespace::new(self.fields.clone());
        self.persistence = Some(Persistence::new(tiers, deadline));
    }

    pub(crate) fn detach(&mut self) -> Kept {
        let mut persistence = self.persistence.take();
        persistence.iter_mut().for_each(Persistence::forget_pages);
        Kept { persistence, fields: self.fields.clone(), prefill: std::mem::take(&mut self.prefill) }
    }

    pub(crate) fn adopt(&mut self, Kept { persistence, fields, prefill }: Kept) {
        // The new device may have another class of numerics and another rate.
        let numerics = self.fields.numerics.clone();
        let prefill = if fields.numerics == numerics { prefill } else { Rate::default() };
        let fields = Fields { numerics, ..fields };
        self.namespace = Namespace::new(fields.clone());
        (self.persistence, self.fields, self.prefill) = (persistence, fields, prefill);
    }

    /// The root of the keys of requests with this salt.
    pub(crate) fn namespace(&self, salt: &str) -> Namespace {
        match salt.is_empty() {
            true => self.namespace.clone(),
            false => Namespace::new(kv::Fields { salt: salt.to_owned(), ..self.fields.clone() }),
        }
    }

    pub(crate) fn identity(&self, config: &Config) -> KvIdentity {
        KvIdentity::of(self.fields.clone(), self.layout.clone(), config)
    }

    /// Advances the cache's clock to now.
    pub(crate) fn tick(&mut self) {
        self.cache.advance(self.began.elapsed().as_millis() as u64);
    }

    /// A new sequence begins with its prompt. The last token is computed for its logits, unless its hidden state is
    /// known. A sequence that ran before continues after everything that it had computed.
    pub(crate) fn beginning(&mut self, sequence: &Sequence) -> Beginning {
        let request = &sequence.request;
        let namespace = self.namespace(&request.cache_salt);
        let goes_on = sequence.admitted.is_some() && !sequence.generated.is_empty();
        let tokens = if goes_on { sequence.computed() } else { request.tokens.clone() };
        let last = Key::chain(&namespace, &tokens).last().filter(|_| !request.no_cache && !goes_on);
        let hidden = last.and_then(|key| self.breakpoints.get(&key, request.exact)).map(<[f32]>::to_vec);
        let max = match () {
            _ if request.no_cache => Some(0),
            _ if goes_on || hidden.is_some() => Some(tokens.len()),
            _ => None,
        };
        let left = sequence.left.clone().filter(|_| goes_on);
        let options = AdmitOptions { max, exact: request.exact, left, ..AdmitOptions::default() };
        Beginning { namespace, tokens, options, hidden }
    }

    /// Publishes what the rows of `tokens` wrote, in the cache and to the tiers.
    pub(crate) fn publish(&mut self, table: &mut BlockTable, tokens: &[u32], producer: kv::Producer, no_cache: bool) {
        let before = table.written();
        self.cache.publish(table, tokens, producer);
        if !no_cache {
            self.queue_blocks(table, before);
        }
    }

    /// Queues the whole blocks of `table` after its first `before` tokens to be saved.
    fn queue_blocks(&mut self, table: &BlockTable, before: usize) {
        let Some(persistence) = &mut self.persistence else { return };
        for block in before / PAGE..table.keys().len() {
            persistence.push(Block::new(table.namespace(), table.keys(), table.tokens(), block));
        }
    }

    /// Records the end of a sequence. Its last, partial block is queued, so that continuations find it to the token.
    pub(crate) fn end(&mut self, table: &BlockTable, request: &Request) {
        if table.exact() < table.written() {
            let (tokens, prompt) = (table.tokens().to_vec(), request.tokens.len().min(table.written()));
            self.decoded.push(Decoded { salt: request.cache_salt.clone(), tokens, prompt });
        }
        let (block, end) = (table.keys().len(), table.written());
        let Some(persistence) = &mut self.persistence else { return };
        persistence.end(table);
        let key = table.key();
        if !end.is_multiple_of(PAGE) && persistence.queued(&key).is_none() {
            persistence.push(Block::new(table.namespace(), table.keys(), table.tokens(), block));
        }
    }

    /// Keeps the last hidden state of the first `end` tokens of `table`, here and, with their last block, in the tiers.
    /// If pages have a state, only the one after the last written token is kept.
    pub(crate) fn keep_breakpoint(&mut self, table: &BlockTable, end: usize, hidden: Vec<f32>) {
        if self.has_state() && end < table.written() {
            return;
        }
        let block = Block::new(table.namespace(), table.keys(), &table.tokens()[..end], (end - 1) / PAGE);
        let key = block.key;
        self.breakpoints.insert(key, hidden.clone(), end <= table.exact());
        let Some(persistence) = &mut self.persistence else { return };
        if let Some(queued) = persistence.queued(&key) {
            queued.hidden = Some(hidden);
            return;
        }
        persistence.push(Block { hidden: Some(hidden), ..block });
    }

    /// Whether reuse must end where a state is stored.
    pub(crate) fn has_state(&self) -> bool {
        self.layout.state() > 0
    }

    /// The deadline until which a request may wait for stores.
    pub(crate) fn deadline(&self) -> Deadline {
        self.persistence.as_ref().map_or(Deadline::NEVER, Persistence::deadline)
    }
}
