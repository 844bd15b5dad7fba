//! Where the time of one step goes, kernel by kernel.

use super::{
    Engine,
    batch::{Logits, Rows},
};
use crate::{
    error::Result,
    gpu::{Recording, profile::Sample},
    kernels::{Class, PAGE},
    kv::{AdmitOptions, Producer},
    model::Ending,
};

impl Engine {
    /// Runs one step of `rows` rows that follow `position` tokens, each command by itself. `decode`: as one decoding
    /// sequence (`rows` is 1), else as a part of a prompt.
    pub async fn profile(&mut self, decode: bool, position: usize, rows: usize) -> Result<Vec<Sample>> {
        let rows = if decode { 1 } else { rows.min(self.chunk) };
        let tokens = vec![0; rows];
        self.make_room((position + rows).div_ceil(PAGE)).await?;
        let options = AdmitOptions { max: Some(0), ..Default::default() };
        let full = |_| crate::error::Error::Gpu { problem: "the KV cache is full".into() };
        let mut table =
            self.cache.admit(&self.namespace, &vec![0; position + rows], &options).map_err(|_| full(()))?.table;
        if position > 0 {
            self.cache.append(&mut table, position).map_err(|_| full(()))?;
            self.cache.publish(&mut table, &vec![0; position], Producer::Decode);
        }
        let slots = self.cache.append(&mut table, rows).map_err(|_| full(()))?;
        let class = if decode { Class::Decode } else { Class::Prompt };
        let logits = Logits::Last(super::batch::Draw::GREEDY);
        let batch = self.lay_out(&[Rows { class, tokens: &tokens, position, slots, pages: table.pages(), logits }]);
        self.gpu.write(self.step_buffer, 0, &batch.words);
        let mut recording = Recording::new();
        self.record(&mut recording, &batch, Ending::Greedy);
        let samples = self.gpu.profile(&recording);
        self.cache.cancel(&mut table);
        self.cache.release(table);
        self.cache.clear();
        samples
    }
}
