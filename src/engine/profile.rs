//! Where the time of one step goes, kernel by kernel.

use super::{
    Engine,
    batch::{Draw, Logits, Rows},
};
use crate::{
    error::{Error, Result},
    gpu::profile::Sample,
    kernels::{Class, PAGE},
    kv::{AdmitOptions, Producer},
};

impl Engine {
    /// Runs one step of `rows` rows that follow `position` tokens, each command by itself. `decode`: as one decoding
    /// sequence (`rows` is 1), else as a part of a prompt.
    #[doc(hidden)]
    pub async fn profile(&mut self, decode: bool, position: usize, rows: usize) -> Result<Vec<Sample>> {
        let rows = if decode { 1 } else { rows.min(self.chunk()) };
        let tokens = vec![0; position + rows];
        self.make_room(tokens.len().div_ceil(PAGE)).await?;
        let full = |_| Error::Gpu { problem: "the KV cache is full".into() };
        let options = AdmitOptions { max: Some(0), ..Default::default() };
        let namespace = self.namespace("");
        let cache = &mut self.reuse.cache;
        let mut table = cache.admit(&namespace, &tokens, &options).map_err(full)?.table;
        let slots = cache.append(&mut table, tokens.len()).map_err(full)?;
        cache.publish(&mut table, &tokens[..position], Producer::Decode);
        let class = if decode { Class::Decode } else { Class::Prompt };
        let (logits, rows) = (Logits::Last(Draw::GREEDY), &tokens[position..]);
        let group = Rows { slots: &slots[position..], ..Rows::new(class, rows, position, table.pages(), logits) };
        let samples = self.runner.profile(&[group]);
        self.reuse.cache.cancel(&mut table);
        self.reuse.cache.release(table);
        self.reuse.cache.clear();
        samples
    }
}
