//! One step: admit, plan, launch, collect.

use web_time::Instant;

use super::{
    Engine,
    batch::{self, Batch, Draw, Logits, Rows},
    explain, memory,
    request::{Event, FinishReason},
    scheduler::{self, Ready},
    sequence::{Phase, Sequence},
};
use crate::{
    error::{Error, Result},
    gpu::{Recording, Slice},
    kernels::{Class, PAGE, attention},
    kv::{BlockTable, Producer},
    model::{Ending, Work},
    sample::{self, SamplingPlan},
};

/// A sequence's new token, and the logits it was chosen from where the request wants them.
struct Chosen {
    token: u32,
    logits: Option<Vec<f32>>,
    /// Of the prompt's last token, where it was computed and is to be kept.
    hidden: Option<Vec<f32>>,
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

impl Engine {
    /// Computes the next rows of every sequence that is ready; the events that follow. Empty when idle, or when only
    /// prompts moved on.
    pub async fn step(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if self.waiting.is_empty() && !self.running.iter().any(|s| matches!(s.phase, Phase::Prefilling(_))) {
            self.persist_some().await?;
        }
        self.admit(&mut events).await?;
        let planned = self.plan(&mut events).await?;
        if planned.is_empty() {
            return Ok(events);
        }
        let tokens = self.launch(&planned).await?;
        self.collect(planned, tokens, &mut events);
        Ok(events)
    }

    /// Starts waiting sequences while there is room, with what the cache has of their prompts.
    async fn admit(&mut self, events: &mut Vec<Event>) -> Result<()> {
        while self.running.len() < self.max_sequences
            && let Some(mut sequence) = self.waiting.pop_front()
        {
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
                    self.waiting.push_front(sequence);
                    break;
                }
                Err(_) => events.push(finished(&sequence, FinishReason::Context)),
            }
        }
        Ok(())
    }

    /// Chooses the rows of the step and takes their slots. A sequence that can have none ends when nothing else runs.
    async fn plan(&mut self, events: &mut Vec<Event>) -> Result<Vec<Planned>> {
        let ready: Vec<Ready> = self
            .running
            .iter()
            .map(|sequence| match &sequence.phase {
                Phase::Prefilling(table) => Ready::Prompt(sequence.request.tokens.len() - table.len()),
                Phase::Waiting | Phase::Decoding(_) => Ready::Decode,
            })
            .collect();
        let rows = scheduler::plan(&ready, self.chunk);
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

    /// Runs the rows; the new token of each row that wanted one.
    async fn launch(&mut self, planned: &[Planned]) -> Result<Vec<Option<Chosen>>> {
        let draws: Vec<Logits> = planned.iter().map(|rows| self.logits(rows)).collect();
        let batch = self.batch(planned, &draws);
        self.gpu.write(self.step_buffer, 0, &batch.words);
        let greedy = draws.iter().all(|logits| !matches!(logits, Logits::Last(draw) if draw.k > 1));
        let ending = if greedy { Ending::Greedy } else { Ending::Draw };
        let before = self.gpu.tally();
        for (rows, &row) in planned.iter().zip(&batch.last_rows) {
            if let Some(hidden) = self.running[rows.sequence].hidden.take() {
                self.gpu.write(self.memory.hidden, self.hidden_row(row).offset, bytemuck::cast_slice(&hidden));
            }
        }
        let mut recording = Recording::new();
        self.record(&mut recording, &batch, ending);
        let Some(span) = batch.logits else {
            self.gpu.submit(&recording)?;
            return Ok(planned.iter().map(|_| None).collect());
        };
        let kept: Vec<usize> = (0..planned.len()).filter(|&index| self.ends_new_prompt(&planned[index])).collect();
        for (index, &ending) in kept.iter().enumerate() {
            let from = self.hidden_row(batch.last_rows[ending]);
            let at = memory::drawn_bytes(&self.config, self.max_sequences, index);
            recording.copy(from, self.memory.drawn.slice(at, from.size));
        }
        let read = match kept.len() {
            0 => 4 * span.rows as u64,
            hidden => memory::drawn_bytes(&self.config, self.max_sequences, hidden),
        };
        let drawn = self.gpu.submit_and_read(&recording, self.memory.drawn.slice(0, read), &self.staging).await?;
        if planned.iter().all(|rows| matches!(rows.rows, scheduler::Rows::Decode)) {
            self.stats.decoded(span.rows, before, self.gpu.tally());
        }
        let mut hidden = drawn.get(self.max_sequences..).unwrap_or_default().chunks_exact(self.config.hidden);

        let mut rows = 0..;
        let order: Vec<Option<usize>> =
            draws.iter().map(|logits| (*logits != Logits::None).then(|| rows.next()).flatten()).collect();
        let mut tokens = Vec::with_capacity(planned.len());
        for ((index, rows), row) in planned.iter().enumerate().zip(order) {
            let Some(row) = row else {
                tokens.push(None);
                continue;
            };
            let mut chosen = self.draw(rows.sequence, row, drawn[row]).await?;
            if kept.contains(&index) {
                chosen.hidden = hidden.next().map(|words| words.iter().map(|&word| f32::from_bits(word)).collect());
            }
            tokens.push(Some(chosen));
        }
        Ok(tokens)
    }

    /// The token of `sequence`, whose logits are row `row`: the GPU's choice, or the host's where only it can choose.
    async fn draw(&mut self, sequence: usize, row: usize, drawn: u32) -> Result<Chosen> {
        let Sequence { request, generated, .. } = &self.running[sequence];
        let on_host = request.sampling.plan() == SamplingPlan::Host;
        if !on_host && !request.logits {
            return Ok(Chosen { token: drawn, logits: None, hidden: None });
        }
        let bytes = (self.config.vocab * 4) as u64;
        let slice = self.memory.logits.slice(row as u64 * bytes, bytes);
        let words = self.gpu.submit_and_read(&Recording::new(), slice, &self.staging).await?;
        let mut values: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        let logits = request.logits.then(|| values.clone());
        let token = match on_host {
            true => sample::sample(&mut values, &request.sampling, &request.tokens, generated),
            false => drawn,
        };
        Ok(Chosen { token, logits, hidden: None })
    }

    fn logits(&self, rows: &Planned) -> Logits {
        if let scheduler::Rows::Prompt { last: false, .. } = rows.rows {
            return Logits::None;
        }
        let Sequence { request, generated, .. } = &self.running[rows.sequence];
        let sampling = &request.sampling;
        Logits::Last(match sampling.plan() {
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
    fn collect(&mut self, planned: Vec<Planned>, chosen: Vec<Option<Chosen>>, events: &mut Vec<Event>) {
        let mut ended = Vec::new();
        for (rows, mut chosen) in planned.into_iter().zip(chosen) {
            let phase = std::mem::replace(&mut self.running[rows.sequence].phase, Phase::Waiting);
            let (Phase::Prefilling(mut table) | Phase::Decoding(mut table)) = phase else { continue };
            let hidden = chosen.as_mut().and_then(|chosen| chosen.hidden.take());
            self.publish(&rows, &mut table, hidden);
            let sequence = &mut self.running[rows.sequence];
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
    fn publish(&mut self, rows: &Planned, table: &mut BlockTable, hidden: Option<Vec<f32>>) {
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
        if let Some(hidden) = hidden {
            self.keep_breakpoint(table, hidden);
        }
    }

    /// Whether a prompt was computed to its end by these rows, so that its last hidden state is worth keeping.
    fn ends_new_prompt(&self, rows: &Planned) -> bool {
        let ends = matches!(rows.rows, scheduler::Rows::Prompt { last: true, .. });
        ends && !rows.tokens.is_empty() && !self.running[rows.sequence].request.no_cache
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
                        let (slots, logits) = (vec![0], Logits::All);
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
