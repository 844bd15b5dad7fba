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
        let request = Request { tokens: tokens.to_vec(), no_cache: true, prompt_logits: true, ..Request::default() };
        let sequence = self.submit(request)?;
        while self.is_busy() {
            let events = match self.step().await {
                Ok(events) => events,
                Err(error) => {
                    self.cancel(sequence);
                    return Err(error);
                }
            };
            for event in events {
                match event {
                    Event::PromptLogits { position, logits, .. } => each(position, &logits),
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
