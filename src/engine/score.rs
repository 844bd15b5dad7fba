//! Logits of every position of a text.

use super::{
    Engine,
    batch::{Draw, Logits, Rows},
};
use crate::{
    error::{Error, Result},
    gpu::Recording,
    kernels::{Class, PAGE},
    kv::{AdmitOptions, BlockTable, Producer},
    model::Ending,
};

impl Engine {
    /// Computes `tokens` as a prompt and gives the logits `[vocab]` of each position, in order, to `each`.
    ///
    /// Reuses nothing that was computed before.
    ///
    /// # Errors
    /// [`Error::Request`] when there are no tokens, more than the context holds, or ids outside the vocabulary;
    /// [`Error::Logits`] where some are not finite.
    pub async fn score(&mut self, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let fail = |problem: String| Err(Error::Request { field: "prompt", problem });
        if tokens.is_empty() {
            return fail("is empty; give at least one token".into());
        }
        if tokens.len() > self.context {
            return fail(format!("has {} tokens and the context holds {}", tokens.len(), self.context));
        }
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= self.config.vocab) {
            return fail(format!("token id {id} is outside the vocabulary of {}", self.config.vocab));
        }
        self.make_room(tokens.len().div_ceil(PAGE)).await?;
        let options = AdmitOptions { max: Some(0), ..Default::default() };
        let Ok(admission) = self.cache.admit(&self.namespace, tokens, &options) else {
            return Err(Error::GpuMemory {
                what: format!("the KV cache of {} tokens", tokens.len()),
                needed: tokens.len().div_ceil(PAGE) as u64,
                available: self.cache.available() as u64,
                fix: "shorten the text",
            });
        };
        let mut table = admission.table;
        let outcome = self.score_rows(&mut table, tokens, each).await;
        self.cache.cancel(&mut table);
        self.cache.release(table);
        outcome
    }

    async fn score_rows(
        &mut self,
        table: &mut BlockTable,
        tokens: &[u32],
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let chunk = self.chunk.min(self.max_sequences);
        let row = self.config.vocab * 4;
        for (index, rows) in tokens.chunks(chunk).enumerate() {
            let position = index * chunk;
            let slots = self.cache.append(table, rows.len()).map_err(|_| Error::GpuMemory {
                what: "the KV cache".into(),
                needed: 1,
                available: 0,
                fix: "shorten the text",
            })?;
            let (class, logits) = (Class::Prompt, Logits::All(Draw::GREEDY));
            let group = Rows { class, tokens: rows, position, slots, pages: table.pages(), logits };
            let batch = self.lay_out(&[group]);
            self.gpu.write(self.step_buffer, 0, &batch.words);
            let mut recording = Recording::new();
            self.record(&mut recording, &batch, Ending::Logits);
            let logits = self.memory.logits.slice(0, (rows.len() * row) as u64);
            let words = self.gpu.submit_and_read(&recording, logits, &self.staging).await?;
            self.cache.publish(table, rows, Producer::Prefill);
            let floats: &[f32] = bytemuck::cast_slice(&words);
            for (offset, logits) in floats.chunks(self.config.vocab).enumerate() {
                let position = position + offset;
                if !logits.iter().all(|logit| logit.is_finite()) {
                    return Err(Error::Logits { model: self.name.clone(), position });
                }
                each(position, logits);
            }
        }
        Ok(())
    }
}
