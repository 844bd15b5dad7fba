//! GPU memory: the activations, made once, and the pages of the KV cache, which grow.

use super::{pages::PageLayout, request::MAX_BREAKPOINTS};
use crate::{
    error::Result,
    gpu::{
        AdapterKind, Buffer, Caps, Gpu, Recording,
        readback::{Reading, Staging},
    },
    kernels::{Class, PAGE, attention, linear, moe_group::tile_bytes, moe_route::choice_bytes, topk},
    kv::{PageCopy, PageId},
    model::{Activations, Config},
};

/// Sequences that run at once unless asked otherwise.
pub(crate) const MAX_SEQUENCES: usize = 16;
/// Tokens of KV cache at the start.
pub(crate) const INITIAL_TOKENS: usize = 1024;

/// Prompt tokens of a step: enough to keep the adapter busy, few enough that stopping is prompt.
pub(crate) fn default_chunk(caps: &Caps) -> usize {
    match caps.kind {
        AdapterKind::Cpu => 128,
        AdapterKind::Gpu => 512,
    }
}

/// Memory for steps of `rows` rows, `sequences` of which give logits.
pub(crate) async fn activations(
    gpu: &mut Gpu,
    config: &Config,
    context: usize,
    rows: usize,
    sequences: usize,
) -> Result<Activations> {
    let heads = config.heads();
    let fix = "lower --context, or free GPU memory";
    let row = |floats: usize| rows as u64 * (floats * 4) as u64;
    let experts = config.experts();
    let tokens = linear::choose_routed(gpu.caps(), Class::Prompt, rows).tokens;
    let lists = topk::list_bytes(config.vocab, sequences);
    Ok(Activations {
        hidden: gpu.alloc("activations", row(config.hidden), fix).await?,
        queries: gpu.alloc("activations", row(config.heads * config.head_dim), fix).await?,
        attended: gpu.alloc("activations", row(config.mixed()), fix).await?,
        partials: gpu.alloc("attention", attention::partial_bytes(&heads, sequences, context), fix).await?,
        inner: gpu.alloc("activations", row(config.widest()), fix).await?,
        given: gpu.alloc("activations", row(config.given()).max(4), fix).await?,
        scores: gpu.alloc("activations", row(experts.map_or(0, |experts| experts.count)).max(4), fix).await?,
        choices: gpu.alloc("activations", experts.map_or(4, |experts| choice_bytes(experts, rows)), fix).await?,
        tiles: gpu.alloc("activations", experts.map_or(4, |experts| tile_bytes(experts, rows, tokens)), fix).await?,
        logits: gpu.alloc("logits", sequences as u64 * (config.vocab * 4) as u64, fix).await?,
        lists: [gpu.alloc("sampling", lists[0], fix).await?, gpu.alloc("sampling", lists[1], fix).await?],
        drawn: gpu.alloc("sampling", drawn_bytes(config, sequences, sequences * (1 + MAX_BREAKPOINTS)), fix).await?,
    })
}

/// The head of the buffer of drawn tokens: a token for each of `sequences`, then the hidden states of `hidden` rows.
pub(crate) fn drawn_bytes(config: &Config, sequences: usize, hidden: usize) -> u64 {
    4 * (sequences as u64 + hidden as u64 * config.hidden as u64)
}

/// The pages of every layer: one buffer a layer, all of the same number of pages.
pub(crate) struct KvMemory {
    layers: Vec<Buffer>,
    /// Bytes of a page in each layer.
    page_bytes: Vec<u64>,
    pages: usize,
    limit: usize,
    /// One page, through which a page is copied within its buffer.
    scratch: Buffer,
    /// Where pages are gathered to be read; made when the first is.
    gather: Option<Buffer>,
    staging: Staging,
}

/// Bytes that one reading of pages gathers, unless one page is more.
const GATHER_BYTES: u64 = 4 << 20;

const FIX: &str = "lower --context, or free GPU memory";

impl KvMemory {
    /// Room for `tokens` tokens now and for `most` at most.
    pub(crate) async fn new(gpu: &mut Gpu, layout: &PageLayout, tokens: usize, most: usize) -> Result<Self> {
        let page_bytes: Vec<u64> = layout.layers().map(|words| 4 * words as u64).collect();
        let largest = page_bytes.iter().copied().max().unwrap_or(4);
        let bound = gpu.caps().max_binding.min(gpu.caps().max_buffer) / largest;
        let limit = most.div_ceil(PAGE).min(usize::try_from(bound).unwrap_or(usize::MAX)).max(1);
        let pages = tokens.div_ceil(PAGE).clamp(1, limit);
        let mut buffers = Vec::with_capacity(page_bytes.len());
        for bytes in &page_bytes {
            buffers.push(gpu.alloc("the KV cache", bytes * pages as u64, FIX).await?);
        }
        let scratch = gpu.alloc("the KV cache", largest, FIX).await?;
        Ok(Self { layers: buffers, page_bytes, pages, limit, scratch, gather: None, staging: Staging::default() })
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Most pages there can ever be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn layers(&self) -> &[Buffer] {
        &self.layers
    }

    /// Grows to `pages` pages, layer by layer on the GPU, so that the peak is one layer more. A failure leaves what was
    /// there as it was.
    pub(crate) async fn grow(&mut self, gpu: &mut Gpu, pages: usize) -> Result<()> {
        for (layer, page) in self.layers.iter_mut().zip(&self.page_bytes) {
            let larger = gpu.alloc("a larger KV cache", page * pages as u64, FIX).await?;
            let mut copy = Recording::new();
            let bytes = page * self.pages as u64;
            copy.copy(layer.slice(0, bytes), larger.slice(0, bytes));
            gpu.submit(&copy)?;
            gpu.flush()?;
            gpu.free(std::mem::replace(layer, larger));
        }
        self.pages = pages;
        Ok(())
    }

    /// Most pages that one [`read`](Self::read) takes.
    pub(crate) fn most_read(&self) -> usize {
        (GATHER_BYTES / self.page_bytes.iter().sum::<u64>()).max(1) as usize
    }

    /// The words of `pages` (at most [`most_read`](Self::most_read)), `[page, layer, words of a page]`, in one submit.
    pub(crate) async fn read(&mut self, gpu: &mut Gpu, pages: &[PageId]) -> Result<Vec<u32>> {
        let reading = self.start_reading(gpu, pages).await?;
        gpu.finish_reading(reading).await
    }

    /// Sends for what [`read`](Self::read) gives. One reading ends before the next begins.
    pub(crate) async fn start_reading(&mut self, gpu: &mut Gpu, pages: &[PageId]) -> Result<Reading> {
        let page: u64 = self.page_bytes.iter().sum();
        let gather = match self.gather {
            Some(gather) => gather,
            None => gpu.alloc("reading the KV cache", page * self.most_read() as u64, FIX).await?,
        };
        self.gather = Some(gather);
        let mut recording = Recording::new();
        let mut at = 0;
        for page in pages {
            for (layer, &bytes) in self.layers.iter().zip(&self.page_bytes) {
                recording.copy(layer.slice(u64::from(*page) * bytes, bytes), gather.slice(at, bytes));
                at += bytes;
            }
        }
        gpu.start_reading(&recording, gather.slice(0, page * pages.len() as u64), &self.staging).await
    }

    /// Writes a whole page, `[layer, words of a page]`, before the next submit.
    pub(crate) fn write(&self, gpu: &mut Gpu, page: PageId, mut words: &[u32]) {
        for (layer, bytes) in self.layers.iter().zip(&self.page_bytes) {
            let (own, rest) = words.split_at((bytes / 4) as usize);
            gpu.write(*layer, u64::from(page) * bytes, own);
            words = rest;
        }
    }

    /// Appends the copy of one page to another.
    pub(crate) fn copy(&self, recording: &mut Recording, copy: PageCopy) {
        for (layer, &bytes) in self.layers.iter().zip(&self.page_bytes) {
            let page = |page: u32| layer.slice(u64::from(page) * bytes, bytes);
            let scratch = self.scratch.slice(0, bytes);
            recording.copy(page(copy.from), scratch);
            recording.copy(scratch, page(copy.to));
        }
    }
}
