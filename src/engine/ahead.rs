//! Two steps in flight: while the GPU decodes one, the next is launched behind it and takes the tokens that the first
//! draws. So the GPU does not idle during the host's work on a step or the readback of its tokens.
//!
//! Everything about the next step is known in advance except its tokens, and those stay on the GPU. Results do not
//! change by a bit. If a sequence ends unexpectedly, its row of the step ahead is discarded: its slot was never
//! published, and the page's next user writes after it.

use super::{
    Engine, Request,
    scheduler::Scheduled,
    sequence::{Phase, Sequence},
    step::{Launched, Planned},
};
use crate::{
    error::Result,
    kernels::{PAGE, embed},
    sample::SamplingPlan,
};

impl Engine {
    /// The step that was launched ahead, if any sequence still needs it.
    pub(super) fn take_ahead(&mut self) -> Option<Launched> {
        let ahead = self.ahead.take()?;
        ahead.planned.iter().any(|rows| self.position(rows.sequence).is_some()).then_some(ahead)
    }

    /// Launches the step after `launched`, provided that all sequences decode in `launched`, need only the tokens that
    /// the GPU draws, and no sequence waits to begin.
    pub(super) async fn launch_ahead(&mut self, launched: &Launched) -> Result<Option<Launched>> {
        // A state belongs to the last computed token, and a discarded row would have advanced it.
        let begins = !self.waiting.is_empty() && self.running.len() < self.runner.max_sequences;
        if begins || self.reuse.has_state() {
            return Ok(None);
        }
        let mut following = Vec::with_capacity(self.running.len());
        for (at, sequence) in self.running.iter().enumerate().filter(|(_, sequence)| !sequence.is_held) {
            let of = |rows: &Planned| rows.sequence == sequence.id && rows.rows == Scheduled::Decode;
            let row = launched.planned.iter().position(of).filter(|_| draws_on_gpu(&sequence.request));
            let (Some(row), Phase::Decoding(table)) = (row, &sequence.phase) else { return Ok(None) };
            let position = table.len();
            let answered = position - sequence.request.tokens.len();
            if answered + 1 < sequence.request.max_tokens && position + 1 < self.context() {
                let token = sequence.generated.get(answered).copied().unwrap_or(embed::drawn(row));
                following.push((at, position, token));
            }
        }
        let pages = following.iter().filter(|(_, position, _)| position % PAGE == 0).count();
        self.make_room(pages).await?;
        if following.is_empty() || self.reuse.cache.available() < pages {
            return Ok(None);
        }
        let mut planned = Vec::with_capacity(following.len());
        for (at, position, token) in following {
            let Sequence { id, phase, .. } = &mut self.running[at];
            let Phase::Decoding(table) = phase else { continue };
            let Ok(slots) = self.reuse.cache.append(table, 1) else { continue };
            planned.push(Planned { sequence: *id, rows: Scheduled::Decode, position, tokens: vec![token], slots });
        }
        let launched = self.launch(planned).await?;
        self.runner.count_ahead();
        Ok(Some(launched))
    }
}

fn draws_on_gpu(request: &Request) -> bool {
    request.sampling.plan() != SamplingPlan::Host && !request.logits
}
