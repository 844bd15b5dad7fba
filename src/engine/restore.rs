//! Restores KV from the tiers: what a request finds there is loaded before its prompt is computed, while others go on.
//!
//! Restoring is a phase of a sequence, polled between steps. The tiers are asked which blocks of the prompt they have
//! that pages lack. Blocks that are expected to load faster than they compute are fetched and verified ahead. As they
//! arrive, they are written to pages and published, until one fails or the deadline passes. The deadline bounds all
//! waiting for stores of one request. Any failure is a miss. A step waits for a store only if no sequence has anything
//! to compute, and then briefly.
//!
//! Cost of a request: two round trips to each tier, one for every group of blocks, and the blocks' bytes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use web_time::Instant;

use super::{
    Engine, explain,
    fetch::Page,
    request::{Event, FinishReason, SequenceId},
    reuse::{Beginning, Reuse},
    save::Persistence,
    search::{Found, Groups, Past, Search, kind, search},
    sequence::Phase,
};
use crate::{
    error::Result,
    kernels::PAGE,
    kv::{self, Admission, BlockTable, Choice, Reason},
    store::{self, Ahead, BoxFuture, Deadline, GROUP, Loaded, Missing, Wanted},
};

/// Most bytes of KV that a step accepts while others compute.
const STEP_BYTES: usize = 4 << 20;
/// The longest that a step waits for stores if there is nothing else to do.
const MOMENT: Duration = Duration::from_millis(50);

/// A sequence that waits for stores.
pub(crate) struct Restoring {
    deadline: Deadline,
    stage: Stage,
}

enum Stage {
    /// It holds no pages yet.
    Finding(BoxFuture<'static, Search>),
    Loading(Box<Loading>),
}

struct Loading {
    admission: Admission,
    beginning: Beginning,
    choices: Vec<Choice>,
    /// Why not everything found was loaded, and up to which token that reason applies.
    failure: Option<(Reason, usize)>,
    past: Past,
    /// Whether a marked block was skipped in favour of one that may be unmarked.
    unmarked: bool,
    /// Blocks that are not being awaited yet, in order.
    found: VecDeque<Found>,
    next: BoxFuture<'static, Option<Next>>,
    /// Bytes and milliseconds of loading, by tier.
    loads: Vec<(f64, f64)>,
    /// Whether others computed meanwhile, which makes these times meaningless.
    beside: bool,
}

/// An awaited block, and the reader of those after it.
struct Next {
    found: Found,
    block: Result<Loaded<Page>, Missing>,
    ahead: Ahead<Page>,
}

/// The outcome of a block that arrived.
enum Placed {
    /// A page holds it.
    Whole,
    /// Decode kernels wrote it, so it must not be reused.
    Marked,
    Nothing,
}

/// The result that a sequence was waiting for.
enum Arrival {
    Search(Search),
    Block(Option<Box<Next>>),
}

impl Restoring {
    pub(crate) fn table(&self) -> Option<&BlockTable> {
        match &self.stage {
            Stage::Finding(_) => None,
            Stage::Loading(loading) => Some(&loading.admission.table),
        }
    }

    pub(crate) fn into_table(self) -> Option<BlockTable> {
        match self.stage {
            Stage::Finding(_) => None,
            Stage::Loading(loading) => Some(loading.admission.table),
        }
    }

    fn poll(&mut self, context: &mut Context) -> Poll<Arrival> {
        match &mut self.stage {
            Stage::Finding(search) => search.as_mut().poll(context).map(Arrival::Search),
            Stage::Loading(loading) => {
                loading.next.as_mut().poll(context).map(|next| Arrival::Block(next.map(Box::new)))
            }
        }
    }
}

async fn next(mut ahead: Ahead<Page>, found: Found) -> Option<Next> {
    let block = ahead.next().await?;
    Some(Next { found, block, ahead })
}

impl Reuse {
    /// Asks the tiers for the part of a prompt that pages lack; `None` if there is nothing to ask.
    pub(crate) fn restore(&self, beginning: &Beginning, prompt: usize) -> Option<Restoring> {
        let persistence = self.persistence.as_ref().filter(|_| beginning.options.max != Some(0))?;
        let Beginning { namespace, tokens, options, .. } = beginning;
        let known = self.cache.lookup(namespace, tokens, options);
        if known >= prompt {
            return None;
        }
        let (tiers, deadline) = (persistence.tiers.clone(), persistence.deadline());
        let useful = self.useful(options.exact);
        let search = search(tiers, namespace.clone(), tokens[..prompt].to_vec(), known, useful, deadline);
        Some(Restoring { deadline, stage: Stage::Finding(Box::pin(search)) })
    }
}

impl Engine {
    /// Accepts what stores have delivered since the last step.
    pub(super) async fn restore(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let taken = self.take_arrivals(events).await;
        self.runner.place_pages()?;
        taken
    }

    async fn take_arrivals(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let (mut left, until) = (STEP_BYTES, Deadline::after(MOMENT));
        loop {
            let alone = !self.running.iter().any(|s| matches!(s.phase, Phase::Prefilling(_) | Phase::Decoding(_)));
            if until.passed() || (!alone && left == 0) {
                return Ok(());
            }
            let arrived = self.arrivals(alone, until).await;
            if arrived.is_empty() {
                return Ok(());
            }
            for (id, arrival) in arrived {
                let Some(at) = self.running.iter().position(|sequence| sequence.id == id) else { continue };
                let phase = mem::replace(&mut self.running[at].phase, Phase::Waiting);
                let Phase::Restoring(Restoring { deadline, stage }) = phase else { continue };
                match (arrival, stage) {
                    (Arrival::Search(search), _) => self.begin(id, search, deadline, events).await?,
                    (Arrival::Block(next), Stage::Loading(loading)) => {
                        left = left.saturating_sub(self.reuse.layout.words() * 4);
                        self.make_room(1).await?;
                        let loading = Box::new(Loading { beside: loading.beside || !alone, ..*loading });
                        self.take_block(at, loading, next.map(|next| *next), deadline)?;
                    }
                    (Arrival::Block(_), Stage::Finding(_)) => {}
                }
            }
        }
    }

    /// What has arrived, by sequence. Waits briefly if there is nothing else to do.
    async fn arrivals(&mut self, alone: bool, until: Deadline) -> Vec<(SequenceId, Arrival)> {
        let restoring = self.running.iter_mut().filter_map(|sequence| match &mut sequence.phase {
            Phase::Restoring(restoring) => Some((sequence.id, restoring)),
            _ => None,
        });
        let mut restoring: Vec<(SequenceId, &mut Restoring)> = restoring.collect();
        if restoring.is_empty() {
            return Vec::new();
        }
        let polled = poll_fn(|context| {
            let arrived = restoring.iter_mut().filter_map(|(id, restoring)| match restoring.poll(context) {
                Poll::Ready(arrival) => Some((*id, arrival)),
                Poll::Pending => None,
            });
            let arrived: Vec<_> = arrived.collect();
            if arrived.is_empty() && alone { Poll::Pending } else { Poll::Ready(arrived) }
        });
        until.bound(polled).await.unwrap_or_default()
    }

    /// Gives a running sequence the pages that hold the beginning of its prompt, and starts to fetch the following
    /// blocks from the tiers. If there is no room, the sequence waits again, or ends if no other sequence will free
    /// any.
    pub(super) async fn begin(
        &mut self,
        id: SequenceId,
        search: Search,
        deadline: Deadline,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        let Some(at) = self.running.iter().position(|sequence| sequence.id == id) else { return Ok(()) };
        let mut beginning = self.reuse.beginning(&self.running[at]);
        self.make_room(beginning.tokens.len().div_ceil(PAGE)).await?;
        let Search { mut found, late, past } = search;
        let known = self.reuse.cache.lookup(&beginning.namespace, &beginning.tokens, &beginning.options);
        // Meanwhile pages may hold more or less.
        found.retain(|found| found.block >= known / PAGE);
        if found.front().is_some_and(|found| found.block != known / PAGE) {
            found.clear();
        }
        let all = found.back().map(Found::end);
        let choices = self.reuse.choose(&mut found, beginning.options.exact);
        // What was not found in time may exist; what is not worth loading does exist.
        let declined = all.filter(|end| found.back().is_none_or(|last| last.end() < *end));
        let failure = match late {
            true => Some((Reason::Deadline, usize::MAX)),
            false => declined.map(|end| (Reason::SlowerThanComputing, end)),
        };
        beginning.options.whole_pages = !found.is_empty();
        let Some(admission) = self.admission(&beginning)? else {
            let mut sequence = self.running.remove(at);
            sequence.phase = Phase::Waiting;
            match self.running.is_empty() {
                true => events.push(super::step::finished(&sequence, FinishReason::Context)),
                false => self.wait(sequence),
            }
            return Ok(());
        };
        let before = admission.table.keys().last().copied().unwrap_or(beginning.namespace.key());
        let ahead = self.reuse.fetch(&beginning, &found, before, deadline);
        match ahead.zip(found.pop_front()) {
            None => {
                let mut admission = admission;
                account(&mut admission, &beginning.tokens, failure, &past, choices);
                self.start(at, admission, beginning.hidden);
            }
            Some((ahead, first)) => {
                let loads = vec![(0.0, 0.0); self.reuse.persistence.as_ref().map_or(0, |p| p.rates.len())];
                let next = Box::pin(next(ahead, first));
                let (unmarked, beside) = (false, false);
                let loading =
                    Loading { admission, beginning, choices, failure, past, unmarked, found, next, loads, beside };
                let stage = Stage::Loading(Box::new(loading));
                self.running[at].phase = Phase::Restoring(Restoring { deadline, stage });
            }
        }
        Ok(())
    }

    /// The pages that a sequence begins with; `None` if there is no room.
    fn admission(&mut self, beginning: &Beginning) -> Result<Option<Admission>> {
        let cache = &mut self.reuse.cache;
        let Ok(admission) = cache.admit(&beginning.namespace, &beginning.tokens, &beginning.options) else {
            return Ok(None);
        };
        if let Some(copy) = admission.copy
            && let Err(error) = self.runner.copy(copy)
        {
            self.reuse.cache.withdraw(admission);
            return Err(error);
        }
        Ok(Some(admission))
    }

    /// Puts a loaded block into a page and continues with the next, or ends the loading.
    fn take_block(
        &mut self,
        at: usize,
        mut loading: Box<Loading>,
        arrived: Option<Next>,
        deadline: Deadline,
    ) -> Result<()> {
        let Some(Next { found, block, ahead }) = arrived else { return self.end_loading(at, *loading) };
        let next: Option<BoxFuture<'static, Option<Next>>> = match self.place(&mut loading, &found, block)? {
            Placed::Whole => loading.found.pop_front().map(|following| Box::pin(next(ahead, following)) as _),
            Placed::Marked => self.unmarked(&mut loading, found, deadline),
            Placed::Nothing => None,
        };
        match next {
            Some(_) if deadline.passed() => _ = loading.failure.get_or_insert((Reason::Deadline, usize::MAX)),
            Some(next) => {
                loading.next = next;
                let stage = Stage::Loading(loading);
                self.running[at].phase = Phase::Restoring(Restoring { deadline, stage });
                return Ok(());
            }
            None => {}
        }
        self.end_loading(at, *loading)
    }

    fn place(&mut self, loading: &mut Loading, found: &Found, block: Result<Loaded<Page>, Missing>) -> Result<Placed> {
        let has_state = self.reuse.has_state();
        let bytes = self.reuse.load_bytes(found);
        let Some(persistence) = &mut self.reuse.persistence else { return Ok(Placed::Nothing) };
        let Found { block: number, key, stored, start, .. } = *found;
        let mut spent = |tier: usize, ms: f64| {
            loading.loads[tier].0 += bytes;
            loading.loads[tier].1 += ms;
        };
        let (end, end_of_all) = (found.end(), loading.found.back().unwrap_or(found).end());
        let Loaded { value, tier, ms, .. } = match block {
            Ok(loaded) => loaded,
            Err(missing) => {
                let failure = match missing {
                    Missing::Late { ms } => {
                        // Loading takes at least that long.
                        spent(stored.tier, ms);
                        Some((Reason::Deadline, end_of_all))
                    }
                    Missing::Damaged => {
                        persistence.renew(&loading.found);
                        Some((Reason::Integrity, end_of_all))
                    }
                    Missing::Absent => None,
                };
                loading.failure = failure.or(loading.failure);
                return Ok(Placed::Nothing);
            }
        };
        let began = Instant::now();
        let Page { producer, last_hidden, words } = value;
        let computed_exactly = producer == store::Producer::Prefill;
        let Beginning { tokens, options, .. } = &loading.beginning;
        if !computed_exactly {
            persistence.mark(key.0);
        }
        if options.exact && !computed_exactly {
            // The following blocks were computed from it.
            persistence.renew(&loading.found);
            loading.failure.get_or_insert((Reason::DecodeWritten, end_of_all));
            return Ok(Placed::Marked);
        }
        if let Some(hidden) = last_hidden {
            self.reuse.breakpoints.insert(key, hidden, computed_exactly);
        }
        // The last token is computed for its logits, unless its hidden state is known or its logits are not needed.
        let needs_logits = end == tokens.len() && options.max.is_none();
        let ends_there = needs_logits && stored.tokens == stored.size;
        let hidden = self.reuse.breakpoints.get(&key, options.exact).filter(|_| ends_there);
        loading.beginning.hidden = hidden.map(<[f32]>::to_vec).or(loading.beginning.hidden.take());
        let Beginning { tokens, hidden, .. } = &loading.beginning;
        let end = end - usize::from(needs_logits && hidden.is_none());
        let Admission { table, report, cached_tokens, .. } = &mut loading.admission;
        // A block has a state only after its last token.
        if has_state && end < number * PAGE + stored.size {
            return Ok(Placed::Nothing);
        }
        let fresh = end.saturating_sub(table.written());
        if fresh == 0 || self.reuse.cache.append(table, fresh).is_err() {
            return Ok(Placed::Nothing);
        }
        let page = table.pages()[number];
        self.runner.kv.write(&mut self.runner.gpu, page, words)?;
        if start {
            table.omit_windows(number);
        }
        let producer = if computed_exactly { kv::Producer::Prefill } else { kv::Producer::Decode };
        self.reuse.cache.publish(table, &tokens[table.written()..end], producer);
        report.load(kind(&persistence.tiers, tier), fresh);
        spent(tier, ms + began.elapsed().as_secs_f64() * 1e3);
        *cached_tokens = table.written();
        Ok(Placed::Whole)
    }

    /// Looks for an unmarked block in place of a marked one. There may be one if a prompt ended there and decoding
    /// continued it.
    fn unmarked(
        &self,
        loading: &mut Loading,
        marked: Found,
        deadline: Deadline,
    ) -> Option<BoxFuture<'static, Option<Next>>> {
        loading.found.clear();
        if mem::replace(&mut loading.unmarked, true) {
            return None;
        }
        let tiers = self.reuse.persistence.as_ref()?.tiers.clone();
        let Loading { beginning: Beginning { namespace, tokens, .. }, admission, .. } = loading;
        let (block, prompt) = (marked.block, tokens.clone());
        let before = |block: usize| block.checked_sub(1).map_or(namespace.key(), |last| admission.table.keys()[last]);
        let (group, parent) = (block / GROUP, before(block));
        let root = before(group * GROUP);
        let family = self.reuse.family(namespace);
        let (useful, unpack) = (self.reuse.useful(true), self.reuse.unpack());
        Some(Box::pin(async move {
            let groups = Groups::read(tiers.clone(), prompt, useful, group, &[root], deadline).await;
            let found = groups.longest(&parent, block, 1).await.0?;
            let wanted =
                Wanted { key: found.key.0, parent: parent.0, tokens: found.tokens.clone(), start: false, family };
            next(Ahead::new(tiers, vec![wanted], vec![found.stored.tier], 1, deadline, unpack), found).await
        }))
    }

    /// Continues with computing what was not loaded.
    fn end_loading(&mut self, at: usize, loading: Loading) -> Result<()> {
        let Loading { mut admission, mut beginning, choices, failure, past, loads, beside, .. } = loading;
        if let Some(Persistence { rates, .. }) = self.reuse.persistence.as_mut().filter(|_| !beside) {
            // One measurement for all loaded blocks, since blocks come in groups.
            for (rate, (bytes, ms)) in rates.iter_mut().zip(loads).filter(|(_, load)| load.0 > 0.0) {
                rate.measure(bytes, ms);
            }
        }
        let is_seen = self.reuse.cache.is_seen(&admission.table);
        if admission.cached_tokens == admission.report.sources.gpu || !is_seen {
            // The part of the missing block that pages have is better than nothing. A prefix that ends earlier than
            // planned lacks tokens that the next token sees.
            self.reuse.cache.withdraw(admission);
            beginning.options.whole_pages = false;
            let Some(whole) = self.admission(&beginning)? else {
                let sequence = self.running.remove(at);
                self.wait(sequence);
                return Ok(());
            };
            admission = whole;
        }
        account(&mut admission, &beginning.tokens, failure, &past, choices);
        self.start(at, admission, beginning.hidden);
        Ok(())
    }

    /// Starts computing what the pages of a sequence lack.
    fn start(&mut self, at: usize, admission: Admission, hidden: Option<Vec<f32>>) {
        let sequence = &mut self.running[at];
        let prompt = sequence.request.tokens.len();
        sequence.hidden = hidden.filter(|_| admission.cached_tokens == prompt && sequence.generated.is_empty());
        if sequence.admitted.is_none() {
            sequence.admitted = Some(Instant::now());
            sequence.is_measured = true;
            sequence.cache = explain::report(&self.reuse.cache, &admission, &sequence.request);
        }
        let decodes = admission.cached_tokens >= prompt && !sequence.generated.is_empty();
        sequence.phase = match decodes {
            true => Phase::Decoding(admission.table),
            false => Phase::Prefilling(admission.table),
        };
    }
}

/// Completes the report: why not everything found was loaded, and what is known of the rest.
fn account(
    admission: &mut Admission,
    tokens: &[u32],
    failure: Option<(Reason, usize)>,
    past: &Past,
    choices: Vec<Choice>,
) {
    let report = &mut admission.report;
    if let Some((reason, end)) = failure {
        report.blame(reason, end.saturating_sub(admission.cached_tokens));
    }
    if let Some((reason, end)) = past.reason {
        report.remember(end, reason);
    }
    if past.parted.is_some_and(|at| report.misses.iter().any(|miss| miss.reason == Reason::Cold && miss.from == at)) {
        report.remember(report.prompt_tokens, Reason::Diverged);
        report.first_divergent = past.parted;
    }
    let elsewhere = past.elsewhere.iter().map(|(namespace, end)| (namespace, &tokens[..*end]));
    explain::recall(report, admission.table.namespace(), tokens, elsewhere);
    report.choices = choices;
}
