//! Logits of every position of a text.

use super::{Engine, Event, FinishReason, Request};
use crate::error::{Error, Result};

impl Engine {
    /// Computes `tokens` as a prompt and gives the logits `[vocab]` of each position, in order, to `each`. For when nothing
    /// runs.
    ///
    /// Reuses nothing that was computed before.
    ///
    /// # Errors
    /// [`Error::Request`] when there are no tokens, more than the context holds, or ids outside the vocabulary, or while
    /// requests are under way; [`Error::Logits`] where some are not finite.
    pub async fn score(&mut self, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let fail = |problem: &str| Error::Request { field: "prompt", problem: problem.into() };
        if self.is_busy() {
            return Err(fail("cannot be scored while requests are under way; score it when they have ended"));
        }
        self.submit(Request { tokens: tokens.to_vec(), no_cache: true, prompt_logits: true, ..Request::default() })?;
        while self.is_busy() {
            for event in self.step().await? {
                match event {
                    Event::PromptLogits { position, logits, sequence } => {
                        if !logits.iter().all(|logit| logit.is_finite()) {
                            self.cancel(sequence);
                            return Err(Error::Logits { model: self.runner.name.clone(), position });
                        }
                        each(position, &logits);
                    }
                    Event::Finished { reason: FinishReason::Context, .. } => {
                        return Err(fail("takes more memory than the GPU has for it; shorten the text"));
                    }
                    Event::Finished { .. } | Event::Token { .. } | Event::Logits { .. } => {}
                }
            }
        }
        Ok(())
    }
}
