//! GPU memory: the activations, allocated once, and the pages of the KV cache, which grow.

use std::{collections::BTreeMap, mem};

use super::{pages::PageLayout, request::MAX_BREAKPOINTS};
use crate::{
    error::Result,
    gpu::{
        Buffer, Gpu, Numerics, Recording,
        readback::{Reading, Staging},
        upload::Uploads,
    },
    kernels::{Class, PAGE, attention, moe_group::tile_bytes, moe_route::choice_bytes, plan, topk},
    kv::{PageCopy, PageId},
    model::{Activations, Config},
};

/// Default number of sequences that run at once.
pub(crate) const MAX_SEQUENCES: usize = 16;
/// Tokens of KV cache at start.
pub(crate) const INITIAL_TOKENS: usize = 1024;

/// Allocates memory for steps of `rows` rows, of which `sequences` give logits.
pub(crate) async fn activations(
    gpu: &mut Gpu,
    config: &Config,
    context: usize,
    rows: usize,
    sequences: usize,
) -> Result<Activations> {
    let (heads, kind) = (config.heads(), gpu.caps().kind);
    let fix = "lower --context, or free GPU memory";
    let row = |floats: usize| rows as u64 * (floats * 4) as u64;
    let experts = config.experts();
    let tokens = *plan::expert_tile(gpu.caps(), Class::Prompt).at(rows);
    let columns = config.hidden.max(config.mixed()).max(config.widest());
    let rounded = if gpu.caps().numerics() == Numerics::F32 { 4 } else { row(columns) / 2 };
    let lists = topk::list_bytes(config.vocab, sequences);
    Ok(Activations {
        hidden: gpu.alloc("activations", row(config.hidden), fix).await?,
        rounded: gpu.alloc("activations", rounded, fix).await?,
        queries: gpu.alloc("activations", row(config.heads * config.head_dim), fix).await?,
        attended: gpu.alloc("activations", row(config.mixed()), fix).await?,
        partials: gpu.alloc("attention", attention::partial_bytes(kind, &heads, sequences, context), fix).await?,
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

/// Bytes of the buffer of drawn tokens: a token for each of `sequences`, followed by the hidden states of `hidden`
/// rows.
pub(crate) fn drawn_bytes(config: &Config, sequences: usize, hidden: usize) -> u64 {
    4 * (sequences as u64 + hidden as u64 * config.hidden as u64)
}

/// The pages of every layer: one buffer a layer, all with the same number of pages.
pub(crate) struct KvMemory {
    layers: Vec<Buffer>,
    /// Bytes of a page in each layer.
    page_bytes: Vec<u64>,
    pages: usize,
    limit: usize,
    /// A scratch page, through which a page is copied within its buffer.
    scratch: Buffer,
    /// Pages that are being read back, one behind the other.
    exchange: Buffer,
    staging: Staging,
    uploads: Uploads,
    /// Pages that have arrived and are not placed yet: `[layer, words of a page]`.
    coming: BTreeMap<PageId, Vec<u32>>,
    placed: Placed,
}

/// The cost of placing pages from stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    pub pages: usize,
    /// Placements, each with one submit.
    pub uploads: usize,
    /// Copies on the GPU.
    pub copies: usize,
}

/// Bytes of pages that are read or written at once, unless a single page is larger.
const EXCHANGE_BYTES: u64 = 4 << 20;

const FIX: &str = "lower --context, or free GPU memory";

impl KvMemory {
    /// Allocates room for `tokens` tokens, which may grow to `most`.
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
        let page: u64 = page_bytes.iter().sum();
        let exchange = gpu.alloc("the KV cache", page * at_once(page), FIX).await?;
        let (staging, uploads) = (Staging::default(), Uploads::default());
        let (coming, placed) = (BTreeMap::new(), Placed::default());
        Ok(Self { layers: buffers, page_bytes, pages, limit, scratch, exchange, staging, uploads, coming, placed })
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// The largest possible number of pages.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn layers(&self) -> &[Buffer] {
        &self.layers
    }

    /// Grows to `pages` pages, layer by layer on the GPU, so that the peak is only one layer more. If it fails, nothing
    /// has changed.
    pub(crate) async fn grow(&mut self, gpu: &mut Gpu, pages: usize) -> Result<()> {
        for (layer, page) in self.layers.iter_mut().zip(&self.page_bytes) {
            let larger = gpu.alloc("a larger KV cache", page * pages as u64, FIX).await?;
            let mut copy = Recording::new();
            let bytes = page * self.pages as u64;
            copy.copy(layer.slice(0, bytes), larger.slice(0, bytes));
            gpu.submit(&copy)?;
            gpu.flush()?;
            gpu.free(mem::replace(layer, larger));
        }
        self.pages = pages;
        Ok(())
    }

    /// The cost of placing all pages so far.
    pub(crate) fn placed(&self) -> Placed {
        self.placed
    }

    /// Most pages that one [`read`](Self::read) takes.
    pub(crate) fn most_read(&self) -> usize {
        at_once(self.page_bytes.iter().sum()) as usize
    }

    /// The words of `pages` (at most [`most_read`](Self::most_read)), `[page, layer, words of a page]`, in one submit.
    pub(crate) async fn read(&mut self, gpu: &mut Gpu, pages: &[PageId]) -> Result<Vec<u32>> {
        let reading = self.start_reading(gpu, pages).await?;
        gpu.finish_reading(reading).await
    }

    /// Starts what [`read`](Self::read) does. One reading must end before the next begins.
    pub(crate) async fn start_reading(&mut self, gpu: &mut Gpu, pages: &[PageId]) -> Result<Reading> {
        let page: u64 = self.page_bytes.iter().sum();
        let mut recording = Recording::new();
        let mut at = 0;
        for page in pages {
            for (layer, &bytes) in self.layers.iter().zip(&self.page_bytes) {
                recording.copy(layer.slice(u64::from(*page) * bytes, bytes), self.exchange.slice(at, bytes));
                at += bytes;
            }
        }
        gpu.start_reading(&recording, self.exchange.slice(0, page * pages.len() as u64), &self.staging).await
    }

    /// Accepts a whole page, `[layer, words of a page]`. [`place`](Self::place) puts it in its place.
    pub(crate) fn write(&mut self, gpu: &mut Gpu, page: PageId, words: Vec<u32>) -> Result<()> {
        self.coming.insert(page, words);
        if self.coming.len() < self.most_read() { Ok(()) } else { self.place(gpu) }
    }

    /// Puts the pages that have arrived in their places, with one upload, one submit, and for each layer one copy a run
    /// of consecutive pages.
    pub(crate) fn place(&mut self, gpu: &mut Gpu) -> Result<()> {
        let coming = mem::take(&mut self.coming);
        if coming.is_empty() {
            return Ok(());
        }
        let ids: Vec<PageId> = coming.keys().copied().collect();
        let (mut parts, mut targets) = (Vec::with_capacity(coming.len() * self.layers.len()), Vec::new());
        let mut begin = 0;
        for (layer, &bytes) in self.layers.iter().zip(&self.page_bytes) {
            let words = (bytes / 4) as usize;
            parts.extend(coming.values().map(|page| &page[begin..begin + words]));
            begin += words;
            let runs = ids.chunk_by(|page, next| page + 1 == *next);
            targets.extend(runs.map(|run| layer.slice(u64::from(run[0]) * bytes, run.len() as u64 * bytes)));
        }
        self.placed.pages += coming.len();
        self.placed.uploads += 1;
        self.placed.copies += targets.len();
        gpu.upload(&mut self.uploads, &parts, &targets)
    }

    /// Appends a copy of one page to another.
    pub(crate) fn copy(&self, recording: &mut Recording, copy: PageCopy) {
        for (layer, &bytes) in self.layers.iter().zip(&self.page_bytes) {
            let page = |page: u32| layer.slice(u64::from(page) * bytes, bytes);
            let scratch = self.scratch.slice(0, bytes);
            recording.copy(page(copy.from), scratch);
            recording.copy(scratch, page(copy.to));
        }
    }
}

/// How many pages of this size are read or written at once.
fn at_once(page_bytes: u64) -> u64 {
    (EXCHANGE_BYTES / page_bytes).max(1)
}
