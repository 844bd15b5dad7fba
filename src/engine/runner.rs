//! Runs steps: the device, the model on it, their working memory, and the pages of the KV cache.
//!
//! It knows rows and pages, but neither requests nor reuse. A step is one host write and one submit, in which its
//! tokens are read back too. A step that draws nothing is not awaited, but at most [`IN_FLIGHT`] run at a time, so that
//! a request to stop waits for no more than these.

use std::{collections::VecDeque, time::Duration};

use web_time::Instant;

use super::{
    EngineOptions, Progress, Stage,
    batch::{self, Batch, Draw, Logits, Rows, Tiling},
    memory::{self, KvMemory},
    pace::Pace,
    pages::PageLayout,
    proof,
    stats::{Counters, Stats},
};
use crate::{
    error::{Error, Result},
    gpu::{
        AdapterInfo, Buffer, Caps, Gpu, Preset, Recording, Slice,
        profile::Timed,
        readback::{Reading, Staging},
        submit::Fence,
    },
    kernels::{
        Class, PAGE,
        attention::{self, cascade::Sharing},
        plan,
    },
    kv::PageCopy,
    model::{Activations, Config, Ending, Network, Uploader, Work},
    weights::Checkpoint,
};

/// Steps in flight on the GPU: the current one and the next, so that the GPU never waits for the host.
const IN_FLIGHT: usize = 2;

/// How long a device works before it is timed: a GPU raises its clocks only under load.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) struct Runner {
    /// The file or directory that the model was loaded from.
    pub(crate) name: String,
    pub(crate) gpu: Gpu,
    /// Notes on kernels that are not used.
    pub(crate) notes: Vec<String>,
    pub(crate) config: Config,
    /// Longest context of a sequence, in tokens.
    pub(crate) context: usize,
    pub(crate) max_sequences: usize,
    pub(crate) kv: KvMemory,
    pub(crate) pace: Pace,
    model: Network,
    memory: Activations,
    tiling: Tiling,
    step_buffer: Buffer,
    /// Used in turn: the readback of one step is in progress when the next is launched.
    stagings: [Staging; IN_FLIGHT],
    flying: VecDeque<Flight>,
    /// When the GPU was last known to have finished a step.
    landed: Instant,
    stats: Stats,
}

/// A step in flight.
struct Flight {
    fence: Fence,
    launched: Instant,
    /// Prompt tokens, if the step has nothing else.
    prompt: usize,
}

/// A step in flight, to be [finished](Runner::finish).
pub(super) struct Started {
    launched: Instant,
    /// Prompt tokens, if the step has nothing else.
    prompt: usize,
    /// The readback of its tokens, if it draws any.
    reading: Option<Reading>,
}

/// The results of a step.
#[derive(Default)]
pub(super) struct Ran {
    /// Drawn tokens by row of logits, in the order of the groups.
    pub(crate) drawn: Vec<u32>,
    /// The hidden states to keep, in the order of the groups.
    pub(crate) hidden: VecDeque<Vec<f32>>,
}

impl Runner {
    /// Opens the GPU and puts the model on it.
    pub(crate) async fn load(
        checkpoint: &Checkpoint,
        options: &EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        if let Some(format) = options.quantize.filter(|format| !format.quantizes()) {
            let problem = format!("{format} is only read; take one that 32-bit weights can be put into");
            return Err(Error::Request { field: "quantize", problem });
        }
        let config = Config::from_checkpoint(checkpoint)?;
        let context = context(&config, options)?;
        let config = config.for_context(context).with_kv(options.kv);
        config.check_tensors(checkpoint)?;
        let instance = options.instance.clone().unwrap_or_default();
        let (mut gpu, notes) = proof::open(&instance, Preset::chosen(options.kernels)?, config.heads()).await?;
        let caps = gpu.caps().clone();
        let most = options.chunk.unwrap_or(plan::chunk(&caps)).clamp(1, context);
        let pace = if options.chunk.is_some() { Pace::fixed(most) } else { Pace::measured(most) };
        let max_sequences = options.max_sequences.unwrap_or(memory::MAX_SEQUENCES).max(1);

        let mut weights = |done, total| progress(Progress { stage: Stage::Weights, done, total });
        let mut uploader = Uploader::new(&mut gpu, checkpoint, &config, options.quantize, &mut weights);
        let model = Network::place(&mut uploader, context, &caps).await?;
        // The driver compiles while buffers are allocated and weights are read.
        let compilation = uploader.gpu.start_compiling(&model.kernels());

        let rows = most + max_sequences;
        let memory = memory::activations(uploader.gpu, &config, context, rows, max_sequences).await?;
        let bytes = batch::capacity(model.angles().len(), rows, max_sequences, context);
        let step_buffer = uploader.gpu.alloc("the step buffer", bytes, "lower --context").await?;
        let tokens = options.kv_tokens.unwrap_or(memory::INITIAL_TOKENS).min(context);
        let most = context.next_multiple_of(PAGE).saturating_mul(max_sequences);
        let most = options.kv_limit.map_or(most, |limit| limit.min(most));
        let kv = KvMemory::new(uploader.gpu, &PageLayout::new(&config), tokens, most).await?;

        uploader.fill().await?;
        let mut shaders = |done: usize, total: usize| {
            progress(Progress { stage: Stage::Shaders, done: done as u64, total: total as u64 })
        };
        gpu.finish_compiling(compilation, &mut shaders).await?;

        let stats = Stats::new(model.weight_bytes());
        let heads = config.heads();
        let rows = attention::tile_rows(&caps, &heads, Class::Prompt);
        let tiling = Tiling { rows, sharing: Sharing::of(&heads, &caps, context) };
        let mut runner = Self {
            name: checkpoint.name.clone(),
            gpu,
            notes,
            config,
            context,
            max_sequences,
            kv,
            pace,
            model,
            memory,
            tiling,
            step_buffer,
            stagings: Default::default(),
            flying: VecDeque::new(),
            landed: Instant::now(),
            stats,
        };
        runner.prepare();
        Ok(runner)
    }

    pub(crate) fn adapter(&self) -> &AdapterInfo {
        self.gpu.info()
    }

    pub(crate) fn caps(&self) -> &Caps {
        self.gpu.caps()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.stats.counters()
    }

    /// Launches `groups` (prompt rows before decode rows) behind the steps in flight. Waits for the GPU only if
    /// [`IN_FLIGHT`] steps that draw nothing are in flight.
    pub(crate) async fn start(&mut self, groups: &[Rows<'_>]) -> Result<Started> {
        let batch = self.lay_out(groups);
        let greedy = groups.iter().all(|group| group.logits.draw().is_none_or(|draw| draw.k <= 1));
        let ending = if greedy { Ending::Greedy } else { Ending::Draw };
        let before = self.gpu.tally();
        self.make_way(IN_FLIGHT - 1).await?;
        self.gpu.write(self.step_buffer, 0, &batch.words);
        for (group, &row) in groups.iter().zip(&batch.last_rows) {
            if let Some(hidden) = group.hidden {
                self.gpu.write(self.memory.hidden, self.hidden_row(row).offset, bytemuck::cast_slice(hidden));
            }
        }
        let mut recording = Recording::new();
        self.record(&mut recording, &batch, ending);
        let first_row = |group: &Rows, last: usize| last + 1 - group.tokens.len().max(1);
        let ends = groups.iter().zip(&batch.last_rows);
        let kept = ends.flat_map(|(group, &last)| group.keep.iter().map(move |row| first_row(group, last) + row));
        let mut count = 0;
        for row in kept {
            let (from, at) = (self.hidden_row(row), memory::drawn_bytes(&self.config, self.max_sequences, count));
            recording.copy(from, self.memory.drawn.slice(at, from.size));
            count += 1;
        }
        let drawn_rows = batch.logits.map_or(0, |span| span.rows);
        let only = |class| groups.iter().all(|group| group.class == class);
        let prompt = if only(Class::Prompt) { groups.iter().map(|group| group.tokens.len()).sum() } else { 0 };
        let launched = Instant::now();
        let read = match count {
            0 if drawn_rows == 0 => {
                let fence = self.gpu.submit_fenced(&recording)?;
                self.flying.push_back(Flight { fence, launched, prompt });
                return Ok(Started { launched, prompt, reading: None });
            }
            0 => 4 * drawn_rows as u64,
            hidden => memory::drawn_bytes(&self.config, self.max_sequences, hidden),
        };
        self.stagings.rotate_left(1);
        let drawn = self.memory.drawn.slice(0, read);
        let reading = self.gpu.start_reading(&recording, drawn, &self.stagings[0]).await?;
        if only(Class::Decode) {
            self.stats.decoded(drawn_rows, before, self.gpu.tally());
        }
        Ok(Started { launched, prompt, reading: Some(reading) })
    }

    /// Waits for a step that reads something back, and for no later one. Steps end in the order in which they started.
    pub(crate) async fn finish(&mut self, Started { launched, prompt, reading }: Started) -> Result<Ran> {
        let Some(reading) = reading else { return Ok(Ran::default()) };
        let drawn = self.gpu.finish_reading(reading).await?;
        self.make_way(0).await?;
        self.land(launched, prompt);
        let hidden = drawn.get(self.max_sequences..).unwrap_or_default().chunks_exact(self.config.hidden);
        let floats = |words: &[u32]| words.iter().map(|&word| f32::from_bits(word)).collect();
        Ok(Ran { hidden: hidden.map(floats).collect(), drawn })
    }

    /// Counts the last started step as one that was launched ahead.
    pub(crate) fn count_ahead(&mut self) {
        self.stats.ahead();
    }

    /// Waits until at most `most` steps are in flight.
    async fn make_way(&mut self, most: usize) -> Result<()> {
        while self.flying.len() > most
            && let Some(Flight { fence, launched, prompt }) = self.flying.pop_front()
        {
            self.gpu.reach(fence).await?;
            self.land(launched, prompt);
        }
        Ok(())
    }

    /// Measures a finished step.
    fn land(&mut self, launched: Instant, prompt: usize) {
        let now = Instant::now();
        let began = launched.max(self.landed);
        self.landed = now;
        self.pace.measure(prompt, (now - began).as_secs_f64() * 1e3);
    }

    /// The logits of `rows` rows of the step that ran, `[rows, vocab]`.
    pub(crate) async fn read_logits(&mut self, first: usize, rows: usize) -> Result<Vec<f32>> {
        let bytes = (self.config.vocab * 4) as u64;
        let slice = self.memory.logits.slice(first as u64 * bytes, rows as u64 * bytes);
        let words = self.gpu.submit_and_read(&Recording::new(), slice, &self.stagings[0]).await?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    /// Times `groups` `runs` times, after warm-up runs that cover one-time costs and raise the device's clocks, and
    /// measures the device's copy rate.
    pub(crate) async fn profile(&mut self, groups: &[Rows<'_>], runs: usize) -> Result<(Vec<Timed>, Option<f64>)> {
        let batch = self.lay_out(groups);
        self.gpu.write(self.step_buffer, 0, &batch.words);
        let mut recording = Recording::new();
        self.record(&mut recording, &batch, Ending::Greedy);
        let began = Instant::now();
        self.gpu.profile(&recording).await?;
        while began.elapsed() < WARM_UP {
            let fence = self.gpu.submit_fenced(&recording)?;
            self.gpu.reach(fence).await?;
        }
        let mut measured = Vec::with_capacity(runs);
        for _ in 0..runs {
            measured.push(self.gpu.profile(&recording).await?);
        }
        // A step begins with the embedding of tokens, which may be repeated.
        let copy_rate = match recording.dispatches().next() {
            Some(embed) => match self.gpu.copy_rate(embed).await {
                // The times are useful without it.
                Err(Error::GpuMemory { .. }) => None,
                other => other?,
            },
            None => None,
        };
        Ok((measured, copy_rate))
    }

    /// The host's cost of a step of `groups`: its number of dispatches, and the mean time of `times` runs to lay it
    /// out, record and encode it.
    pub(crate) fn rehearse(&mut self, groups: &[Rows], times: u32) -> Result<(usize, Duration)> {
        let (mut dispatches, began) = (0, Instant::now());
        for _ in 0..times {
            let batch = self.lay_out(groups);
            let mut recording = Recording::new();
            self.record(&mut recording, &batch, Ending::Greedy);
            dispatches = recording.dispatches().count();
            self.gpu.rehearse(&recording)?;
        }
        Ok((dispatches, began.elapsed() / times))
    }

    /// Copies a page immediately, since the pages may grow before the next step.
    pub(crate) fn copy(&mut self, copy: PageCopy) -> Result<()> {
        self.place_pages()?;
        let mut recording = Recording::new();
        self.kv.copy(&mut recording, copy);
        self.gpu.submit(&recording)
    }

    /// Puts the pages that have arrived from stores in their places.
    pub(crate) fn place_pages(&mut self) -> Result<()> {
        self.kv.place(&mut self.gpu)
    }

    /// Grows to `pages` pages. False if the GPU has no memory for them.
    pub(crate) async fn grow(&mut self, pages: usize) -> Result<bool> {
        match self.kv.grow(&mut self.gpu, pages).await {
            Ok(()) => {
                self.prepare();
                Ok(true)
            }
            Err(Error::GpuMemory { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn lay_out(&self, groups: &[Rows]) -> Batch {
        batch::build(groups, self.model.angles(), self.tiling, self.step_buffer)
    }

    fn record(&self, recording: &mut Recording, batch: &Batch, ending: Ending) {
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

    /// A row of the residual stream.
    fn hidden_row(&self, row: usize) -> Slice {
        let bytes = 4 * self.config.hidden as u64;
        self.memory.hidden.slice(row as u64 * bytes, bytes)
    }

    /// Creates the bind groups of every kind of step, so that steps create none.
    fn prepare(&mut self) {
        let pages = [0];
        // A long context uses other kernels than a short one.
        for position in [0, self.context.saturating_sub(4)] {
            for tokens in [&[0][..], &[0; 4]] {
                for class in [Class::Prompt, Class::Decode] {
                    for ending in [Ending::Greedy, Ending::Draw] {
                        let logits = Logits::All(Draw::GREEDY);
                        let rows = Rows { slots: &[0], ..Rows::new(class, tokens, position, &pages, logits) };
                        let batch = self.lay_out(&[rows]);
                        self.prepare_for(&batch, ending);
                    }
                }
            }
        }
        // And so do sequences that share pages.
        if let Some(sharing) = self.tiling.sharing {
            let pages = vec![0; self.context.div_ceil(PAGE)];
            let row = Rows::new(Class::Decode, &[0], self.context - 1, &pages, Logits::None);
            let rows = vec![Rows { slots: &[0], ..row }; sharing.rows];
            let tiling = Tiling { sharing: Some(Sharing { least_groups: 1, ..sharing }), ..self.tiling };
            let batch = batch::build(&rows, self.model.angles(), tiling, self.step_buffer);
            self.prepare_for(&batch, Ending::Greedy);
        }
    }

    fn prepare_for(&mut self, batch: &Batch, ending: Ending) {
        let mut recording = Recording::new();
        self.record(&mut recording, batch, ending);
        self.gpu.prepare(&recording);
    }
}

fn context(config: &Config, options: &EngineOptions) -> Result<usize> {
    match options.context {
        None => Ok(config.context),
        Some(0) => Err(Error::Request { field: "context", problem: "must be at least 1 token".into() }),
        Some(wanted) if wanted > config.context => Err(Error::Request {
            field: "context",
            problem: format!("{wanted} tokens are more than the {} the model was made for", config.context),
        }),
        Some(wanted) => Ok(wanted),
    }
}
