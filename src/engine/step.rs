//! One step: save a little, admit, restore, plan, launch, collect. If [`ahead`](super::ahead) allows it, the next step
//! is launched before this one is awaited.

use web_time::Instant;

use super::{
    Engine,
    batch::{Draw, Logits, Rows},
    request::{Event, FinishReason, Request, SequenceId},
    runner::Started,
    scheduler::{self, Ready, Scheduled},
    sequence::{Phase, Sequence},
};
use crate::{
    error::{Error, Result},
    kernels::{Class, PAGE, topk},
    kv::{AdmitOptions, BlockTable, PageCopy, Producer},
    sample::{self, SamplingPlan},
};

/// A sequence's new token, and, if the request asks for them, the logits that it was chosen from.
struct Chosen {
    token: u32,
    logits: Option<Vec<f32>>,
}

/// The results of a sequence's rows.
#[derive(Default)]
struct Outcome {
    /// The chosen token, if the rows end the prompt or follow it.
    chosen: Option<Chosen>,
    /// The logits of every row, in order, if the request asks for those of the prompt.
    logits: Vec<f32>,
    /// The breakpoints in these rows: lengths of beginnings of the prompt, each with its last hidden state.
    hidden: Vec<(usize, Vec<f32>)>,
}

/// The rows of a sequence in a step, with their slots allocated.
pub(super) struct Planned {
    /// The sequence may have ended by the time they are computed.
    pub(crate) sequence: SequenceId,
    pub(crate) rows: Scheduled,
    pub(crate) position: usize,
    /// Token ids, or values of [`embed::drawn`](crate::kernels::embed::drawn).
    pub(crate) tokens: Vec<u32>,
    pub(crate) slots: Vec<u32>,
}

/// A step in flight.
pub(super) struct Launched {
    pub(crate) planned: Vec<Planned>,
    /// The rows whose logits are needed, by sequence.
    logits: Vec<Logits>,
    /// The breakpoints whose hidden states are read back, by sequence.
    ends: Vec<Vec<usize>>,
    started: Started,
}

impl Planned {
    /// The position after the last row.
    fn end(&self) -> usize {
        self.position + self.tokens.len()
    }

    /// Tokens of the answer before the token that follows these rows.
    pub(super) fn answered(&self, request: &Request) -> usize {
        self.end().saturating_sub(request.tokens.len())
    }
}

impl Engine {
    /// Computes the next rows of every ready sequence and returns the events. There are none when idle, or if only
    /// prompts progressed. It waits for stores only if no sequence has anything to compute, and then briefly.
    ///
    /// # Errors
    /// Errors of the GPU, and [`Error::Logits`] if a token would have to be chosen from logits that are not finite. No
    /// sequence has progressed or ended then, and the caller must cancel the running ones.
    #[doc(hidden)]
    pub async fn step(&mut self) -> Result<Vec<Event>> {
        if !self.is_busy() {
            self.persist_some().await?;
            return Ok(Vec::new());
        }
        self.advance().await
    }

    /// A step of the current sequences.
    pub(super) async fn advance(&mut self) -> Result<Vec<Event>> {
        let computed = self.compute().await;
        if computed.is_err() {
            self.take_back();
        }
        computed
    }

    async fn compute(&mut self) -> Result<Vec<Event>> {
        let (began, mut events) = (Instant::now(), Vec::new());
        self.reuse.tick();
        self.save_share().await?;
        let launched = match self.take_ahead() {
            Some(launched) => launched,
            None => {
                self.admit(&mut events).await?;
                self.restore(&mut events).await?;
                let planned = self.plan(&mut events).await?;
                if planned.is_empty() {
                    return Ok(events);
                }
                self.launch(planned).await?
            }
        };
        self.ahead = self.launch_ahead(&launched).await?;
        let outcomes = self.land(launched).await?;
        for copy in self.collect(outcomes, &mut events) {
            self.runner.copy(copy)?;
        }
        self.step_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(events)
    }

    /// Starts waiting sequences while there is room, with the parts of their prompts that pages and tiers have. A
    /// sequence whose beginning is being computed for another waits for it, so that a prefix that many request at once
    /// is computed once.
    async fn admit(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let mut at = 0;
        while at < self.waiting.len() {
            if self.is_short && !self.running.iter().all(|sequence| sequence.is_held) {
                break;
            }
            if self.waiting[at].is_held || self.is_under_way(&self.waiting[at].request) {
                at += 1;
                continue;
            }
            if self.running.len() >= self.runner.max_sequences {
                let Some(held) = self.youngest_held() else { break };
                at = self.make_way(held, at);
            }
            let beginning = self.reuse.beginning(&self.waiting[at]);
            self.make_room(beginning.tokens.len().div_ceil(PAGE)).await?;
            let fits = self.reuse.cache.fits(&beginning.namespace, &beginning.tokens, &beginning.options);
            if !fits && let Some(held) = self.youngest_held() {
                at = self.make_way(held, at);
                continue;
            }
            if !fits && !self.running.is_empty() {
                break;
            }
            let Some(mut sequence) = self.waiting.remove(at) else { break };
            let (id, prompt) = (sequence.id, sequence.request.tokens.len());
            match self.reuse.restore(&beginning, prompt).filter(|_| fits) {
                Some(restoring) => {
                    sequence.phase = Phase::Restoring(restoring);
                    self.running.push(sequence);
                }
                None => {
                    self.running.push(sequence);
                    self.begin(id, Default::default(), self.reuse.deadline(), events).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns a sequence to the queue, in its order.
    pub(super) fn wait(&mut self, sequence: Sequence) {
        let at = self.waiting.partition_point(|waiting| waiting.id < sequence.id);
        self.waiting.insert(at, sequence);
    }

    /// Whether a prompt that is being computed will provide `request` with whole pages, or with all of it, that are not
    /// available yet.
    fn is_under_way(&self, request: &Request) -> bool {
        let (tokens, salt) = (&request.tokens, &request.cache_salt);
        let computing = |other: &&Sequence| matches!(other.phase, Phase::Restoring(_) | Phase::Prefilling(_));
        let moving = self.running.iter().filter(|other| !other.is_held);
        let sharing = moving.filter(computing).map(|other| &other.request);
        let sharing = sharing.filter(|other| other.cache_salt == *salt && !other.no_cache);
        let shared = sharing.map(|other| other.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count());
        let coming = shared.max().map_or(0, |count| if count == tokens.len() { count } else { count / PAGE * PAGE });
        if coming < PAGE || request.no_cache {
            return false;
        }
        let options = AdmitOptions { max: Some(coming), exact: request.exact, ..AdmitOptions::default() };
        self.reuse.cache.lookup(&self.namespace(salt), tokens, &options) < coming
    }

    /// Chooses the rows of the step and allocates their slots. If no sequence can get any, the youngest gives up its
    /// pages and waits; a single sequence ends.
    async fn plan(&mut self, events: &mut Vec<Event>) -> Result<Vec<Planned>> {
        loop {
            let (planned, starved) = self.take_slots().await?;
            let Some(yields) = scheduler::yields(&starved).filter(|_| planned.is_empty()) else { return Ok(planned) };
            if let Some(held) = self.youngest_held() {
                self.set_aside(held);
                continue;
            }
            let Some(at) = self.running.iter().position(|sequence| sequence.id == yields) else { return Ok(planned) };
            if starved.len() == 1 {
                let sequence = self.running.remove(at);
                events.push(finished(&sequence, FinishReason::Context));
                self.release(sequence);
                return Ok(planned);
            }
            self.set_aside(at);
            self.is_short = true;
        }
    }

    /// Allocates slots for the rows of every ready sequence. Returns the rows that got slots, and, if any did not, all
    /// sequences that hold pages.
    async fn take_slots(&mut self) -> Result<(Vec<Planned>, Vec<SequenceId>)> {
        let ready = |sequence: &Sequence| match &sequence.phase {
            _ if sequence.is_held => None,
            Phase::Prefilling(table) => Some(Ready::Prompt {
                left: sequence.request.tokens.len() - table.len(),
                logits: sequence.request.prompt_logits,
            }),
            Phase::Decoding(_) => Some(Ready::Decode),
            Phase::Waiting | Phase::Restoring(_) => None,
        };
        let standing: Vec<(usize, Ready)> =
            self.running.iter().enumerate().filter_map(|(index, sequence)| Some((index, ready(sequence)?))).collect();
        let ready: Vec<Ready> = standing.iter().map(|(_, ready)| *ready).collect();
        let rows = scheduler::plan(&ready, self.runner.pace.chunk(), self.runner.max_sequences);
        let needed = rows.iter().flatten().map(|rows| match rows {
            Scheduled::Prompt { count, .. } => count.div_ceil(PAGE) + 1,
            Scheduled::Decode => 1,
        });
        self.make_room(needed.sum()).await?;

        let mut planned = Vec::new();
        let mut starved = false;
        for ((index, _), rows) in standing.into_iter().zip(rows) {
            let Some(rows) = rows else { continue };
            let Sequence { id, request, generated, phase, .. } = &mut self.running[index];
            let (Phase::Prefilling(table) | Phase::Decoding(table)) = phase else { continue };
            let position = table.len();
            let tokens: Vec<u32> = match rows {
                Scheduled::Prompt { count, .. } => request.tokens[position..position + count].to_vec(),
                Scheduled::Decode => vec![generated[position - request.tokens.len()]],
            };
            match self.reuse.cache.append(table, tokens.len()) {
                Ok(slots) => planned.push(Planned { sequence: *id, rows, position, tokens, slots }),
                Err(_) => starved = true,
            }
        }
        let holding = self.running.iter().filter(|sequence| sequence.phase.table().is_some());
        let holding = holding.map(|sequence| sequence.id).filter(|_| starved);
        Ok((planned, holding.collect()))
    }

    /// Frees the slots of rows that were not computed.
    fn take_back(&mut self) {
        self.ahead = None;
        for sequence in &mut self.running {
            if let Phase::Prefilling(table) | Phase::Decoding(table) = &mut sequence.phase {
                self.reuse.cache.cancel(table);
            }
        }
    }

    /// The index of a sequence in `running`, if it has not ended.
    pub(super) fn position(&self, id: SequenceId) -> Option<usize> {
        self.running.iter().position(|sequence| sequence.id == id)
    }

    /// Launches the rows.
    pub(super) async fn launch(&mut self, planned: Vec<Planned>) -> Result<Launched> {
        let find = |rows: &Planned| self.running.iter().find(|sequence| sequence.id == rows.sequence);
        let sequences: Vec<&Sequence> = planned.iter().map(|rows| find(rows).expect("what is planned runs")).collect();
        let each = || planned.iter().zip(&sequences);
        let logits: Vec<Logits> = each().map(|(rows, sequence)| self.logits(rows, &sequence.request)).collect();
        let ends: Vec<Vec<usize>> = each().map(|(rows, sequence)| breakpoints_in(rows, &sequence.request)).collect();
        let kept = |(rows, ends): (&Planned, &Vec<usize>)| ends.iter().map(|end| end - 1 - rows.position).collect();
        let keep: Vec<Vec<usize>> = planned.iter().zip(&ends).map(kept).collect();
        let groups: Vec<Rows> = each()
            .zip(logits.iter().zip(&keep))
            .map(|((rows, sequence), (logits, keep))| Rows {
                class: match rows.rows {
                    Scheduled::Prompt { .. } => Class::Prompt,
                    Scheduled::Decode => Class::Decode,
                },
                tokens: &rows.tokens,
                position: rows.position,
                slots: &rows.slots,
                pages: sequence.phase.table().map_or(&[], BlockTable::pages),
                logits: *logits,
                hidden: sequence.hidden.as_deref(),
                keep,
            })
            .collect();
        let started = self.runner.start(&groups).await?;
        Ok(Launched { planned, logits, ends, started })
    }

    /// Waits for a step and returns the results of each sequence's rows.
    async fn land(&mut self, launched: Launched) -> Result<Vec<(Planned, Outcome)>> {
        let Launched { planned, logits, ends, started } = launched;
        let mut ran = self.runner.finish(started).await?;
        let mut next = 0;
        let mut outcomes = Vec::with_capacity(planned.len());
        for ((rows, ends), logits) in planned.into_iter().zip(ends).zip(logits) {
            let hidden = ends.into_iter().map_while(|end| Some((end, ran.hidden.pop_front()?))).collect();
            let mut outcome = Outcome { hidden, ..Outcome::default() };
            let first = next;
            next += logits.rows(rows.tokens.len());
            let Some(at) = self.position(rows.sequence) else { continue };
            if let Logits::All(_) = logits
                && !rows.tokens.is_empty()
            {
                outcome.logits = self.runner.read_logits(first, rows.tokens.len()).await?;
                let mut each = outcome.logits.chunks_exact(self.config().vocab);
                if let Some(row) = each.position(|logits| !logits.iter().all(|logit| logit.is_finite())) {
                    return Err(self.not_finite(rows.position + row));
                }
            }
            if next > first && !matches!(rows.rows, Scheduled::Prompt { last: false, .. }) {
                if ran.drawn[next - 1] == topk::NOT_FINITE {
                    return Err(self.not_finite(rows.end().saturating_sub(1)));
                }
                outcome.chosen = Some(self.draw(at, &rows, next - 1, ran.drawn[next - 1]).await?);
            }
            outcomes.push((rows, outcome));
        }
        Ok(outcomes)
    }

    fn not_finite(&self, position: usize) -> Error {
        Error::Logits { model: self.runner.name.clone(), position }
    }

    /// The token after `rows`, whose logits are in row `row`: the GPU's choice, or the host's if only the host can
    /// choose.
    async fn draw(&mut self, at: usize, rows: &Planned, row: usize, drawn: u32) -> Result<Chosen> {
        let request = &self.running[at].request;
        let on_host = request.sampling.plan() == SamplingPlan::Host;
        if !on_host && !request.logits {
            return Ok(Chosen { token: drawn, logits: None });
        }
        let mut values = self.runner.read_logits(row, 1).await?;
        let Sequence { request, generated, .. } = &self.running[at];
        let logits = request.logits.then(|| values.clone());
        let before = &generated[..rows.answered(request)];
        let token = match on_host {
            true => sample::sample(&mut values, &request.sampling, &request.tokens, before),
            false => drawn,
        };
        Ok(Chosen { token, logits })
    }

    fn logits(&self, rows: &Planned, request: &Request) -> Logits {
        let wanted = match rows.rows {
            Scheduled::Prompt { .. } if request.prompt_logits => Logits::All,
            Scheduled::Prompt { last: false, .. } => return Logits::None,
            _ => Logits::Last,
        };
        let sampling = &request.sampling;
        wanted(match sampling.plan() {
            SamplingPlan::TopK { k } => Draw {
                k: k.min(self.config().vocab as u32),
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                uniform: sample::uniform(sampling.seed, rows.answered(request) as u64),
            },
            SamplingPlan::Greedy | SamplingPlan::Host => Draw::GREEDY,
        })
    }

    /// Publishes what was computed and reports new tokens. Returns the pages to copy before the next step.
    fn collect(&mut self, outcomes: Vec<(Planned, Outcome)>, events: &mut Vec<Event>) -> Vec<PageCopy> {
        let (vocab, context) = (self.config().vocab, self.context());
        let mut copies = Vec::new();
        for (rows, Outcome { chosen, logits, hidden }) in outcomes {
            let Some(at) = self.position(rows.sequence) else { continue };
            let phase = std::mem::replace(&mut self.running[at].phase, Phase::Waiting);
            let Some(mut table) = phase.into_table() else { continue };
            self.publish(at, &rows, &mut table, hidden);
            let sequence = &mut self.running[at];
            // A sequence that gave up its pages computes some positions again.
            let untold = (rows.position..).zip(logits.chunks_exact(vocab)).filter(|row| row.0 >= sequence.told_logits);
            for (position, logits) in untold {
                events.push(Event::PromptLogits { sequence: sequence.id, position, logits: logits.to_vec() });
            }
            sequence.told_logits = sequence.told_logits.max(rows.end());
            let Some(Chosen { token, logits, .. }) = chosen else {
                sequence.phase = Phase::Prefilling(table);
                continue;
            };
            if matches!(rows.rows, Scheduled::Prompt { .. })
                && let Some(copy) = self.reuse.cache.checkpoint(&mut table)
            {
                copies.push(copy);
            }
            let index = rows.answered(&sequence.request);
            sequence.hidden = None;
            sequence.phase = Phase::Decoding(table);
            let known = index < sequence.generated.len();
            if let Some(logits) = logits.filter(|_| !known) {
                events.push(Event::Logits { sequence: sequence.id, logits });
            }
            let (told, reason) = match sequence.request.max_tokens {
                0 => (None, Some(FinishReason::Length)),
                _ => sequence.take(index, token, context),
            };
            events.extend(told.map(|token| Event::Token { sequence: sequence.id, token }));
            if let Some(reason) = reason {
                events.push(finished(sequence, reason));
                let sequence = self.running.remove(at);
                self.release(sequence);
            }
        }
        copies
    }

    /// Publishes what the rows wrote, here and to the tiers, and measures a finished prompt.
    fn publish(&mut self, at: usize, rows: &Planned, table: &mut BlockTable, hidden: Vec<(usize, Vec<f32>)>) {
        let Sequence { request, generated, cache, admitted, is_measured, .. } = &self.running[at];
        let (tokens, producer) = match rows.rows {
            Scheduled::Prompt { last, .. } => {
                if let Some(admitted) = admitted.filter(|_| *is_measured && last && cache.sources.computed > 1) {
                    let ms = admitted.elapsed().as_secs_f64() * 1e3;
                    self.reuse.prefill.measure(cache.sources.computed as f64, ms);
                }
                (&rows.tokens[..], Producer::Prefill)
            }
            Scheduled::Decode => {
                let answered = rows.answered(request);
                (&generated[answered - 1..answered], Producer::Decode)
            }
        };
        self.reuse.publish(table, tokens, producer, request.no_cache);
        for (end, hidden) in hidden {
            self.reuse.keep_breakpoint(table, end, hidden);
        }
    }

    /// Releases a sequence's pages. Their content stays known, to the last token.
    pub(super) fn release(&mut self, mut sequence: Sequence) {
        self.give_up_pages(&mut sequence);
        self.is_short = false;
    }

    pub(super) fn give_up_pages(&mut self, sequence: &mut Sequence) {
        let phase = std::mem::replace(&mut sequence.phase, Phase::Waiting);
        let Some(mut table) = phase.into_table() else { return };
        self.reuse.cache.cancel(&mut table);
        if !sequence.request.no_cache {
            self.reuse.end(&table, &sequence.request);
        }
        sequence.left = Some(self.reuse.cache.leave(table, sequence.request.tokens.len()));
    }

    /// Grows the KV cache if `pages` free pages are lacking, doubling it each time. Cached prefixes are dropped only
    /// once the largest size is reached or the GPU has no more memory.
    pub(super) async fn make_room(&mut self, pages: usize) -> Result<()> {
        let (cache, kv) = (&self.reuse.cache, &self.runner.kv);
        let free = cache.available() - cache.cached();
        let wanted = (kv.pages() + pages.saturating_sub(free)).max(2 * kv.pages()).min(kv.limit());
        if free < pages && wanted > kv.pages() && self.runner.grow(wanted).await? {
            self.reuse.cache.grow(wanted);
        }
        Ok(())
    }
}

/// The breakpoints in these rows: the lengths of beginnings of the prompt whose last hidden state is kept, i.e. the
/// whole prompt and those that the request names.
fn breakpoints_in(rows: &Planned, request: &Request) -> Vec<usize> {
    if request.no_cache || !matches!(rows.rows, Scheduled::Prompt { .. }) {
        return Vec::new();
    }
    let inside = |end: &usize| (rows.position + 1..=rows.end()).contains(end);
    let mut ends: Vec<usize> =
        request.breakpoints.iter().copied().chain([request.tokens.len()]).filter(inside).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

pub(super) fn finished(sequence: &Sequence, reason: FinishReason) -> Event {
    Event::Finished { sequence: sequence.id, reason, usage: sequence.usage(), cache: sequence.cache.clone() }
}
