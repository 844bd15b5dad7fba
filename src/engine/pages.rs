//! Converts between pages and the parts of blobs. Pages have the GPU's layout (`shaders/shared/page.wgsl`,
//! `shaders/short_conv.wgsl`). Blobs are ordered token by token, so that they mean the same to every adapter.
//!
//! A page of an attention layer is K `[kv_head, word, token]`, then V `[kv_head, token, word]`, with the words of a head as
//! [`KvFormat`] has them. In a blob it is K `[token, kv_head, word]`, then V in the same order. A page of a layer with a
//! state is the state after the last token written to it, and the same in a blob.

use std::sync::Arc;

use crate::{
    kernels::{KvFormat, PAGE, short_conv},
    model::{Config, MixerSpec},
    store::{self, Element, Row},
};

/// A stored block has the size of a page.
const _: () = assert!(store::BLOCK == PAGE);

/// The content of a layer's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Keys and values: `row` words of each for a token, `head` words of each head.
    Kv { row: usize, head: usize, windowed: bool },
    /// A state of so many f32 words, whatever the number of tokens.
    State(usize),
}

impl Kept {
    fn words(self) -> usize {
        match self {
            Self::Kv { row, .. } => 2 * row * PAGE,
            Self::State(words) => words,
        }
    }

    fn is_windowed(self) -> bool {
        matches!(self, Self::Kv { windowed: true, .. })
    }
}

/// The shape of one page over all layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageLayout {
    /// The content by layer.
    kept: Arc<[Kept]>,
    /// The widest window in tokens, if any layer has one that is shorter than the context.
    window: Option<usize>,
    format: KvFormat,
    head_dim: usize,
}

/// A page as parts of a blob.
pub(super) struct Parts {
    /// K, then V, for every attention layer.
    pub(crate) kv: Vec<u8>,
    /// The states of all other layers.
    pub(crate) state: Vec<f32>,
}

impl PageLayout {
    pub(crate) fn new(config: &Config) -> Self {
        let (heads, format, head_dim) = (config.heads(), config.kv, config.head_dim);
        let (row, head) = (heads.row_words(), format.words(head_dim));
        let kept = config.layers.iter().map(|layer| match layer.mixer {
            MixerSpec::Attention => Kept::Kv { row, head, windowed: layer.scores.window.is_some() },
            MixerSpec::ShortConv { taps } => Kept::State(short_conv::page_words(config.hidden, taps)),
        });
        let windows = config.layers.iter().filter_map(|layer| layer.scores.window);
        Self { kept: kept.collect(), window: windows.max(), format, head_dim }
    }

    /// As the field.
    pub(crate) fn window(&self) -> Option<usize> {
        self.window
    }

    /// Words of the page in each layer.
    pub(crate) fn layers(&self) -> impl Iterator<Item = usize> + '_ {
        self.kept.iter().map(|kept| kept.words())
    }

    /// Words of the page.
    pub(crate) fn words(&self) -> usize {
        self.layers().sum()
    }

    /// Bytes of one token's KV, and of its share of a full page's state.
    pub(crate) fn token_bytes(&self) -> usize {
        4 * self.words() / PAGE
    }

    /// The same, for the layers before those with a window.
    pub(crate) fn start_bytes(&self) -> usize {
        self.token_bytes() - self.windowed().map(|kept| 4 * kept.words() / PAGE).sum::<usize>()
    }

    /// The type of a blob's elements.
    pub(crate) fn element(&self) -> Element {
        match self.format {
            KvFormat::F16 => Element::F16,
            KvFormat::Q8 => Element::U8,
        }
    }

    /// The numbers of rows of a blob.
    pub(crate) fn floats(&self, rows: &[u8]) -> Vec<f32> {
        self.format.floats(self.head_dim, rows)
    }

    /// The rows in the order of a blob.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |(kept, _): (Kept, usize)| match kept {
            Kept::Kv { row, .. } => Some(Row { k: row * 4, v: row * 4 }),
            Kept::State(_) => None,
        };
        self.ordered().filter_map(row).collect()
    }

    /// How many of the rows, the last, are of layers with a window.
    pub(crate) fn windows(&self) -> usize {
        self.windowed().count()
    }

    fn windowed(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().filter(|kept| kept.is_windowed())
    }

    /// The contents of layers in the order of a blob, layers with a window last, each with its offset in a page.
    fn ordered(&self) -> impl Iterator<Item = (Kept, usize)> {
        let places = self.kept.iter().scan(0, |end, kept| {
            let begin = *end;
            *end += kept.words();
            Some((*kept, begin))
        });
        let windowed = |wanted: bool| places.clone().filter(move |(kept, _)| kept.is_windowed() == wanted);
        windowed(false).chain(windowed(true))
    }

    /// Words of state in a page.
    pub(crate) fn state(&self) -> usize {
        let state = |kept: &Kept| if let Kept::State(words) = kept { *words } else { 0 };
        self.kept.iter().map(state).sum()
    }

    /// The first `tokens` tokens of a page as parts of a blob. `page` is `[layer, words of the layer]`.
    pub(super) fn to_blob(&self, page: &[u32], tokens: usize) -> Parts {
        let (mut words, mut state) = (Vec::with_capacity(self.words()), Vec::new());
        for (kept, place) in self.ordered() {
            let layer = &page[place..place + kept.words()];
            let Kept::Kv { row, head, .. } = kept else {
                state.extend(layer.iter().map(|&word| f32::from_bits(word)));
                continue;
            };
            let (k, v) = layer.split_at(row * PAGE);
            for token in 0..tokens {
                words.extend((0..row).map(|word| k[word * PAGE + token]));
            }
            for token in 0..tokens {
                words.extend((0..row).map(|word| v[v_word(head, word, token)]));
            }
        }
        Parts { kv: words.into_iter().flat_map(u32::to_le_bytes).collect(), state }
    }

    /// A page whose first `tokens` tokens come from a blob with this KV and state. The rest is zeros, and so are layers
    /// with a window if only the start of the blob is given.
    pub(super) fn to_page(&self, mut kv: &[u8], mut state: &[f32], tokens: usize) -> Vec<u32> {
        let mut page = vec![0; self.words()];
        for (kept, place) in self.ordered() {
            let layer = &mut page[place..place + kept.words()];
            let Kept::Kv { row, head, .. } = kept else {
                let (own, rest) = state.split_at(layer.len());
                layer.iter_mut().zip(own).for_each(|(word, value)| *word = value.to_bits());
                state = rest;
                continue;
            };
            let Some((rows, rest)) = kv.split_at_checked(8 * row * tokens) else { break };
            kv = rest;
            let (k, v) = layer.split_at_mut(row * PAGE);
            let (k_rows, v_rows) = rows.split_at(4 * row * tokens);
            let k_rows = k_rows.as_chunks::<4>().0;
            for (word, k) in k.chunks_exact_mut(PAGE).enumerate() {
                let column = k_rows[word..].iter().step_by(row);
                k.iter_mut().zip(column).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
            }
            for (token, row) in v_rows.chunks_exact(4 * row).enumerate() {
                for (index, own) in row.chunks_exact(4 * head).enumerate() {
                    let begin = v_word(head, index * head, token);
                    let place = v[begin..begin + head].iter_mut();
                    place.zip(own.as_chunks().0).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
                }
            }
        }
        page
    }
}

/// The place of word `word` of a token's row, where a head has `head` words.
fn v_word(head: usize, word: usize, token: usize) -> usize {
    (word / head * PAGE + token) * head + word % head
}
