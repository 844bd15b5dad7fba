//! Where KV blobs are kept beyond the GPU: the file of a block, the stores, and the cost of faults.

mod ahead;
mod background;
mod blob;
mod bounds;
mod breaker;
mod chains;
mod damage;
pub mod faults;
mod hostile;
mod manifest;
mod model;
#[cfg(unix)]
mod mutants;
mod pack;
mod pack_hostile;
mod pins;
#[cfg(unix)]
mod private;
#[cfg(unix)]
mod seal;
mod tiers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headstart::store::{Blob, Clock, Element, Expected, Producer, Row, StoreKey};
use pollster::block_on;

pub const NAMESPACE: [(&str, &str); 3] = [("weights", "w1"), ("rope", "{\"base\":10000}"), ("salt", "")];
pub const ROWS: [Row; 2] = [Row { k: 8, v: 4 }, Row { k: 6, v: 2 }];
pub const HIDDEN: usize = 3;

/// A clock that stands still until it is advanced.
#[derive(Clone, Default)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    pub fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn clock(&self) -> Clock {
        let time = self.clone();
        Arc::new(move || time.now())
    }
}

pub fn key(n: u8) -> StoreKey {
    std::array::from_fn(|i| n.wrapping_mul(31).wrapping_add(i as u8))
}

/// Bytes of f16 numbers that are neither infinite nor NaN.
pub fn halves(bytes: impl Iterator<Item = usize>) -> Vec<u8> {
    bytes.enumerate().map(|(i, byte)| byte as u8 & [0xff, 0xbb][i % 2]).collect()
}

/// A block of `n` tokens, with different bytes at every position.
pub fn blob(n: usize, hidden: bool) -> Blob {
    let bytes: usize = ROWS.iter().map(|row| row.k + row.v).sum();
    Blob {
        key: key(1),
        parent: key(2),
        tokens: (0..n as u32).map(|i| 7 + 1000 * i).collect(),
        namespace: NAMESPACE.iter().map(|(tag, value)| (tag.to_string(), value.to_string())).collect(),
        producer: Producer::Prefill,
        last_hidden: hidden.then(|| vec![0.5, -1.25, 3.0e-8]),
        element: Element::F16,
        rows: ROWS.to_vec(),
        windows: 0,
        kv: halves((0..n * bytes).map(|i| i * 37 + 11)),
        state: Vec::new(),
    }
}

/// The expectation with which `blob` is requested.
pub fn expected(blob: &Blob) -> Expected<'_> {
    Expected {
        key: blob.key,
        parent: blob.parent,
        tokens: &blob.tokens,
        namespace: &NAMESPACE,
        element: Element::F16,
        rows: &ROWS,
        windows: 0,
        start: false,
        hidden: HIDDEN,
        state: 0,
    }
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    block_on(future)
}
