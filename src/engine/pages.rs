//! A page of KV as a blob's rows and back: pages are laid out for the GPU (`shaders/shared/page.wgsl`), blobs token by
//! token, so that a blob means the same to every adapter.
//!
//! A page of a layer is K `[kv_head, pair, token]`, then V `[kv_head, token, pair]`; a word is two neighbouring dims as
//! f16. A blob's layer is K `[token, kv_head, pair]`, then V in the same order.

use crate::{
    kernels::{Heads, PAGE},
    store::{self, Row},
};

/// A stored block is a page.
const _: () = assert!(store::BLOCK == PAGE);

/// The shape of one page over all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageLayout {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    /// Pairs of dims of a head.
    pub(crate) pairs: usize,
}

impl PageLayout {
    pub(crate) fn new(heads: &Heads, layers: usize) -> Self {
        Self { layers, kv_heads: heads.kv_heads, pairs: heads.head_dim / 2 }
    }

    /// Words of K or V of one token in one layer.
    fn row(&self) -> usize {
        self.kv_heads * self.pairs
    }

    /// Words of the page in one layer.
    pub(crate) fn layer_words(&self) -> usize {
        2 * self.row() * PAGE
    }

    /// Words of the page.
    pub(crate) fn words(&self) -> usize {
        self.layers * self.layer_words()
    }

    /// Bytes of one token's KV.
    pub(crate) fn token_bytes(&self) -> usize {
        self.layers * 2 * self.row() * 4
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        vec![Row { k: self.row() * 4, v: self.row() * 4 }; self.layers]
    }

    /// The first `tokens` tokens of a page, as a blob has them. `page`: `[layer, layer_words]`.
    pub(crate) fn to_blob(self, page: &[u32], tokens: usize) -> Vec<u8> {
        let mut words = Vec::with_capacity(self.layers * 2 * self.row() * tokens);
        for layer in page.chunks_exact(self.layer_words()) {
            let (k, v) = layer.split_at(self.row() * PAGE);
            for token in 0..tokens {
                words.extend((0..self.row()).map(|dim| k[dim * PAGE + token]));
            }
            for token in 0..tokens {
                words.extend((0..self.row()).map(|dim| v[self.v_word(dim, token)]));
            }
        }
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// A page whose first `tokens` tokens are those of a blob; zeros behind them.
    pub(crate) fn to_page(self, blob: &[u8], tokens: usize) -> Vec<u32> {
        let words: Vec<u32> = blob.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let mut page = vec![0; self.words()];
        let layers = page.chunks_exact_mut(self.layer_words()).zip(words.chunks_exact(2 * self.row() * tokens));
        for (layer, rows) in layers {
            let (k, v) = layer.split_at_mut(self.row() * PAGE);
            let (k_rows, v_rows) = rows.split_at(self.row() * tokens);
            for (token, row) in k_rows.chunks_exact(self.row()).enumerate() {
                row.iter().enumerate().for_each(|(dim, word)| k[dim * PAGE + token] = *word);
            }
            for (token, row) in v_rows.chunks_exact(self.row()).enumerate() {
                row.iter().enumerate().for_each(|(dim, word)| v[self.v_word(dim, token)] = *word);
            }
        }
        page
    }

    fn v_word(&self, dim: usize, token: usize) -> usize {
        (dim / self.pairs * PAGE + token) * self.pairs + dim % self.pairs
    }
}
