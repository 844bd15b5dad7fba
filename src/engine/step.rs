//! One step: admit, plan, launch, collect.

use web_time::Instant;

use super::{
    Engine,
    batch::{self, Batch, Draw, Logits, Rows},
    explain, memory,
    request::{Event, FinishReason, Request},
    scheduler::{self, Ready},
    sequence::{Phase, Sequence},
};
use crate::{
    error::{Error, Result},
    gpu::{Recording, Slice},
    kernels::{Class, PAGE, attention, topk},
    kv::{AdmitOptions, BlockTable, Producer},
    model::{Ending, Work},
    sample::{self, SamplingPlan},
};

/// A sequence's new token, and the logits it was chosen from where the request wants them.
struct Chosen {
    token: u32,
    logits: Option<Vec<f32>>,
}

/// What a sequence's rows gave.
#[derive(Default)]
struct Outcome {
    /// Where the rows end the prompt, or follow it.
    chosen: Option<Chosen>,
    /// Of every row, in order, where the request wants those of the prompt.
    logits: Vec<f32>,
    /// The lengths of the prompt's beginnings that end in these rows and whose last hidden state is kept, with that.
    hidden: Vec<(usize, Vec<f32>)>,
}

/// Rows that a sequence has in this step, with their slots taken.
struct Planned {
    /// Index in `running`.
    sequence: usize,
    rows: scheduler::Rows,
    position: usize,
    tokens: Vec<u32>,
    slots: Vec<u32>,
}

impl Planned {
    /// The position behind the last row.
    fn end(&self) -> usize {
        self.position + self.tokens.len()
    }
}

impl Engine {
    /// Computes the next rows of every sequence that is ready; the events that follow. Empty when idle, or when only
    /// prompts moved on.
    ///
    /// # Errors
    /// [`Error::Logits`] where a token would have to be chosen from logits that are not finite, and what the GPU and the
    /// tiers may fail with. The sequences that run are then to be cancelled.
    pub async fn step(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.cache.advance(self.began.elapsed().as_millis() as u64);
        if self.waiting.is_empty() && !self.running.iter().any(|s| matches!(s.phase, Phase::Prefilling(_))) {
            self.persist_some().await?;
        }
        self.admit(&mut events).await?;
        let planned = self.plan(&mut events).await?;
        if planned.is_empty() {
            return Ok(events);
        }
        let outcomes = self.launch(&planned).await?;
        self.collect(planned, outcomes, &mut events);
        Ok(events)
    }

    /// Starts waiting sequences while there is room, with what the cache has of their prompts. One whose beginning is just
    /// being computed for another waits for that, so that what many ask for at once is computed once.
    async fn admit(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let mut at = 0;
        while self.running.len() < self.max_sequences && at < self.waiting.len() {
            if self.is_under_way(&self.waiting[at].request) {
                at += 1;
                continue;
            }
            let Some(mut sequence) = self.waiting.remove(at) else { break };
            let wanted = sequence.request.tokens.len().div_ceil(PAGE);
            self.make_room(wanted).await?;
            match self.begin(&sequence.request).await? {
                Ok(admission) => {
                    if admission.cached_tokens == sequence.request.tokens.len() {
                        let known = self.breakpoints.get(&admission.table.key());
                        sequence.hidden = known.map(|breakpoint| breakpoint.hidden.clone());
                    }
                    sequence.admitted = Some(Instant::now());
                    sequence.cache = explain::report(&self.cache, &admission, &sequence.request);
                    sequence.phase = Phase::Prefilling(admission.table);
                    self.running.push(sequence);
                }
                Err(_) if !self.running.is_empty() => {
                    self.waiting.insert(at, sequence);
                    break;
                }
                Err(_) => events.push(finished(&sequence, FinishReason::Context)),
            }
        }
        Ok(())
    }

    /// Whether a prompt that is being computed will give `request` whole pages, or all of it, that nothing gives it yet.
    fn is_under_way(&self, request: &Request) -> bool {
        let (tokens, salt) = (&request.tokens, &request.cache_salt);
        let prefilling = self.running.iter().filter(|other| matches!(other.phase, Phase::Prefilling(_)));
        let sharing =
            prefilling.map(|other| &other.request).filter(|other| other.cache_salt == *salt && !other.no_cache);
        let shared = sharing.map(|other| other.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count());
        let coming = shared.max().map_or(0, |count| if count == tokens.len() { count } else { count / PAGE * PAGE });
        if coming < PAGE || request.no_cache {
            return false;
        }
        let options = AdmitOptions { max: Some(coming), exact: request.exact, ..AdmitOptions::default() };
        self.cache.lookup(&self.namespace(salt), tokens, &options) < coming
    }

    /// Chooses the rows of the step and takes their slots. A sequence that can have none ends when nothing else runs.
    async fn plan(&mut self, events: &mut Vec<Event>) -> Result<Vec<Planned>> {
        let ready: Vec<Ready> = self
            .running
            .iter()
            .map(|sequence| match &sequence.phase {
                Phase::Prefilling(table) => Ready::Prompt {
                    left: sequence.request.tokens.len() - table.len(),
                    logits: sequence.request.prompt_logits,
                },
                Phase::Waiting | Phase::Decoding(_) => Ready::Decode,
            })
            .collect();
        let rows = scheduler::plan(&ready, self.chunk, self.max_sequences);
        let needed = rows.iter().flatten().map(|rows| match rows {
            scheduler::Rows::Prompt { count, .. } => count.div_ceil(PAGE) + 1,
            scheduler::Rows::Decode => 1,
        });
        self.make_room(needed.sum()).await?;

        let mut planned = Vec::new();
        let mut starved = Vec::new();
        for (index, rows) in rows.into_iter().enumerate() {
            let Some(rows) = rows else { continue };
            let sequence = &mut self.running[index];
            let last = sequence.generated.last().copied();
            let table = match &mut sequence.phase {
                Phase::Waiting => continue,
                Phase::Prefilling(table) | Phase::Decoding(table) => table,
            };
            let position = table.len();
            let tokens: Vec<u32> = match rows {
                scheduler::Rows::Prompt { count, .. } => sequence.request.tokens[position..position + count].to_vec(),
                scheduler::Rows::Decode => last.into_iter().collect(),
            };
            match self.cache.append(table, tokens.len()) {
                Ok(slots) => planned.push(Planned { sequence: index, rows, position, tokens, slots }),
                Err(_) => starved.push(index),
            }
        }
        if planned.is_empty()
            && let Some(index) = starved.pop()
        {
            let sequence = self.running.remove(index);
            events.push(finished(&sequence, FinishReason::Context));
            self.release(sequence);
        }
        Ok(planned)
    }

    /// Runs the rows; what each sequence's gave.
    async fn launch(&mut self, planned: &[Planned]) -> Result<Vec<Outcome>> {
        let draws: Vec<Logits> = planned.iter().map(|rows| self.logits(rows)).collect();
        let batch = self.batch(planned, &draws);
        self.gpu.write(self.step_buffer, 0, &batch.words);
        let greedy = draws.iter().all(|logits| !matches!(logits, Logits::Last(draw) | Logits::All(draw) if draw.k > 1));
        let ending = if greedy { Ending::Greedy } else { Ending::Draw };
        let before = self.gpu.tally();
        for (rows, &row) in planned.iter().zip(&batch.last_rows) {
            if let Some(hidden) = self.running[rows.sequence].hidden.take() {
                self.gpu.write(self.memory.hidden, self.hidden_row(row).offset, bytemuck::cast_slice(&hidden));
            }
        }
        let mut recording = Recording::new();
        self.record(&mut recording, &batch, ending);
        let kept: Vec<Vec<usize>> = planned.iter().map(|rows| self.breakpoints_in(rows)).collect();
        let ends = planned.iter().zip(&batch.last_rows).zip(&kept);
        let rows = ends.flat_map(|((rows, last), kept)| kept.iter().map(move |end| last + end - rows.end()));
        let mut count = 0;
        for row in rows {
            let (from, at) = (self.hidden_row(row), memory::drawn_bytes(&self.config, self.max_sequences, count));
            recording.copy(from, self.memory.drawn.slice(at, from.size));
            count += 1;
        }
        let drawn_rows = batch.logits.map_or(0, |span| span.rows);
        let read = match count {
            0 if drawn_rows == 0 => {
                self.gpu.submit(&recording)?;
                return Ok(planned.iter().map(|_| Outcome::default()).collect());
            }
            0 => 4 * drawn_rows as u64,
            hidden => memory::drawn_bytes(&self.config, self.max_sequences, hidden),
        };
        let drawn = self.gpu.submit_and_read(&recording, self.memory.drawn.slice(0, read), &self.staging).await?;
        if planned.iter().all(|rows| matches!(rows.rows, scheduler::Rows::Decode)) {
            self.stats.decoded(drawn_rows, before, self.gpu.tally());
        }
        let mut hidden = drawn.get(self.max_sequences..).unwrap_or_default().chunks_exact(self.config.hidden);

        let mut next = 0;
        let mut outcomes = Vec::with_capacity(planned.len());
        for ((rows, kept), logits) in planned.iter().zip(kept).zip(draws) {
            let mut outcome = Outcome::default();
            let floats = |words: &[u32]| words.iter().map(|&word| f32::from_bits(word)).collect();
            outcome.hidden = kept.into_iter().zip(&mut hidden).map(|(end, words)| (end, floats(words))).collect();
            let first = next;
            next += match logits {
                Logits::None => 0,
                Logits::Last(_) => 1,
                Logits::All(_) => rows.tokens.len().max(1),
            };
            if let Logits::All(_) = logits
                && !rows.tokens.is_empty()
            {
                outcome.logits = self.read_logits(first, rows.tokens.len()).await?;
            }
            if next > first && !matches!(rows.rows, scheduler::Rows::Prompt { last: false, .. }) {
                self.check_drawn(rows, drawn[next - 1])?;
                outcome.chosen = Some(self.draw(rows.sequence, next - 1, drawn[next - 1]).await?);
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// # Errors
    /// [`Error::Logits`] where the GPU found a logit that is not finite in the last of these rows.
    fn check_drawn(&self, rows: &Planned, drawn: u32) -> Result<()> {
        match drawn {
            topk::NOT_FINITE => Err(Error::Logits { model: self.name.clone(), position: rows.end().saturating_sub(1) }),
            _ => Ok(()),
        }
    }

    /// The token of `sequence`, whose logits are row `row`: the GPU's choice, or the host's where only it can choose.
    async fn draw(&mut self, sequence: usize, row: usize, drawn: u32) -> Result<Chosen> {
        let request = &self.running[sequence].request;
        let on_host = request.sampling.plan() == SamplingPlan::Host;
        if !on_host && !request.logits {
            return Ok(Chosen { token: drawn, logits: None });
        }
        let mut values = self.read_logits(row, 1).await?;
        let Sequence { request, generated, .. } = &self.running[sequence];
        let logits = request.logits.then(|| values.clone());
        let token = match on_host {
            true => sample::sample(&mut values, &request.sampling, &request.tokens, generated),
            false => drawn,
        };
        Ok(Chosen { token, logits })
    }

    /// The logits of `rows` rows of the step that ran, `[rows, vocab]`.
    async fn read_logits(&mut self, first: usize, rows: usize) -> Result<Vec<f32>> {
        let bytes = (self.config.vocab * 4) as u64;
        let slice = self.memory.logits.slice(first as u64 * bytes, rows as u64 * bytes);
        let words = self.gpu.submit_and_read(&Recording::new(), slice, &self.staging).await?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    fn logits(&self, rows: &Planned) -> Logits {
        let Sequence { request, generated, .. } = &self.running[rows.sequence];
        let wanted = match rows.rows {
            scheduler::Rows::Prompt { .. } if request.prompt_logits => Logits::All,
            scheduler::Rows::Prompt { last: false, .. } => return Logits::None,
            _ => Logits::Last,
        };
        let sampling = &request.sampling;
        wanted(match sampling.plan() {
            SamplingPlan::TopK { k } => Draw {
                k: k.min(self.config.vocab as u32),
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                uniform: sample::uniform(sampling.seed, generated.len() as u64),
            },
            SamplingPlan::Greedy | SamplingPlan::Host => Draw::GREEDY,
        })
    }

    fn batch(&self, planned: &[Planned], draws: &[Logits]) -> Batch {
        let group = |(rows, logits): (&Planned, &Logits)| {
            let (class, table) = match &self.running[rows.sequence].phase {
                Phase::Prefilling(table) => (Class::Prompt, Some(table)),
                Phase::Decoding(table) => (Class::Decode, Some(table)),
                Phase::Waiting => (Class::Decode, None),
            };
            (class, rows.position, rows.slots.clone(), table.map_or(&[][..], |table| table.pages()), *logits)
        };
        let groups: Vec<Rows> = planned
            .iter()
            .zip(draws)
            .map(|(rows, logits)| {
                let (class, position, slots, pages, logits) = group((rows, logits));
                Rows { class, tokens: &rows.tokens, position, slots, pages, logits }
            })
            .collect();
        self.lay_out(&groups)
    }

    pub(super) fn lay_out(&self, groups: &[Rows]) -> Batch {
        let heads = self.model.heads();
        let tile_rows = attention::tile_rows(self.gpu.caps(), &heads, Class::Prompt);
        batch::build(groups, &heads, self.model.inv_freq(), tile_rows, self.step_buffer)
    }

    pub(super) fn record(&self, recording: &mut Recording, batch: &Batch, ending: Ending) {
        self.model.record(
            recording,
            &Work {
                spans: &batch.spans,
                logits: batch.logits.map(|span| (span, ending)),
                kv: self.kv.layers(),
                memory: &self.memory,
            },
        );
    }

    /// Publishes what was computed and hands out the new tokens.
    fn collect(&mut self, planned: Vec<Planned>, outcomes: Vec<Outcome>, events: &mut Vec<Event>) {
        let mut ended = Vec::new();
        for (rows, Outcome { chosen, logits, hidden }) in planned.into_iter().zip(outcomes) {
            let phase = std::mem::replace(&mut self.running[rows.sequence].phase, Phase::Waiting);
            let (Phase::Prefilling(mut table) | Phase::Decoding(mut table)) = phase else { continue };
            self.publish(&rows, &mut table, hidden);
            let sequence = &mut self.running[rows.sequence];
            for (position, logits) in (rows.position..).zip(logits.chunks_exact(self.config.vocab)) {
                events.push(Event::PromptLogits { sequence: sequence.id, position, logits: logits.to_vec() });
            }
            let Some(Chosen { token, logits, .. }) = chosen else {
                sequence.phase = Phase::Prefilling(table);
                continue;
            };
            sequence.phase = Phase::Decoding(table);
            let known = sequence.request.generated.get(sequence.generated.len());
            let token = known.copied().unwrap_or(token);
            let wanted = sequence.request.max_tokens > 0;
            let told = known.is_none();
            if let Some(logits) = logits.filter(|_| told) {
                events.push(Event::Logits { sequence: sequence.id, logits });
            }
            let reason = if wanted { sequence.push(token, self.context) } else { Some(FinishReason::Length) };
            if wanted && told && reason != Some(FinishReason::Stop) {
                events.push(Event::Token { sequence: sequence.id, token });
            }
            if let Some(reason) = reason {
                events.push(finished(sequence, reason));
                ended.push(rows.sequence);
            }
        }
        for index in ended.into_iter().rev() {
            let sequence = self.running.remove(index);
            self.release(sequence);
        }
    }

    /// Names what the rows wrote, here and to the tiers, and takes the measure of a prompt that ended.
    fn publish(&mut self, rows: &Planned, table: &mut BlockTable, hidden: Vec<(usize, Vec<f32>)>) {
        let Sequence { request, cache, admitted, .. } = &self.running[rows.sequence];
        let no_cache = request.no_cache;
        let producer = match rows.rows {
            scheduler::Rows::Prompt { last, .. } => {
                if let Some(admitted) = admitted.filter(|_| last && cache.sources.computed > 1) {
                    self.prefill.measure(cache.sources.computed as f64, admitted.elapsed().as_secs_f64() * 1e3);
                }
                Producer::Prefill
            }
            scheduler::Rows::Decode => Producer::Decode,
        };
        let before = table.written();
        self.cache.publish(table, &rows.tokens, producer);
        if !no_cache {
            self.queue_blocks(table, before);
        }
        for (end, hidden) in hidden {
            self.keep_breakpoint(table, end, hidden);
        }
    }

    /// The lengths of the prompt's beginnings that these rows end and whose last hidden state is worth keeping: the whole,
    /// and those that the request names.
    fn breakpoints_in(&self, rows: &Planned) -> Vec<usize> {
        let request = &self.running[rows.sequence].request;
        if request.no_cache || !matches!(rows.rows, scheduler::Rows::Prompt { .. }) {
            return Vec::new();
        }
        let inside = |end: &usize| (rows.position + 1..=rows.end()).contains(end);
        let mut ends: Vec<usize> =
            request.breakpoints.iter().copied().chain([request.tokens.len()]).filter(inside).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// A row of the residual stream.
    fn hidden_row(&self, row: usize) -> Slice {
        let bytes = 4 * self.config.hidden as u64;
        self.memory.hidden.slice(row as u64 * bytes, bytes)
    }

    pub(super) fn release(&mut self, sequence: Sequence) {
        if let Phase::Prefilling(mut table) | Phase::Decoding(mut table) = sequence.phase {
            self.cache.cancel(&mut table);
            self.cache.release(table);
        }
    }

    /// Grows the KV cache while `pages` free pages are lacking: twice as large each time, cached prefixes being dropped
    /// only once the largest size is reached or the GPU has no more memory.
    pub(super) async fn make_room(&mut self, pages: usize) -> Result<()> {
        let free = self.cache.available() - self.cache.cached();
        let wanted = (self.kv.pages() + pages.saturating_sub(free)).max(2 * self.kv.pages()).min(self.kv.limit());
        if free >= pages || wanted <= self.kv.pages() {
            return Ok(());
        }
        match self.kv.grow(&mut self.gpu, wanted).await {
            Ok(()) => {
                self.cache.grow(wanted);
                self.prepare();
                Ok(())
            }
            Err(Error::GpuMemory { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Makes the bind groups of every kind of step, so that steps make none.
    pub(super) fn prepare(&mut self) {
        let table = [0];
        // A long context takes other kernels than a short one.
        for position in [0, self.context.saturating_sub(4)] {
            for tokens in [&[0][..], &[0; 4]] {
                for class in [Class::Prompt, Class::Decode] {
                    for ending in [Ending::Greedy, Ending::Draw] {
                        let (slots, logits) = (vec![0], Logits::All(Draw::GREEDY));
                        let batch = self.lay_out(&[Rows { class, tokens, position, slots, pages: &table, logits }]);
                        let mut recording = Recording::new();
                        self.record(&mut recording, &batch, ending);
                        self.gpu.prepare(&recording);
                    }
                }
            }
        }
    }
}

fn finished(sequence: &Sequence, reason: FinishReason) -> Event {
    Event::Finished { sequence: sequence.id, reason, usage: sequence.usage(), cache: sequence.cache.clone() }
}
