//! Two steps in flight: while the GPU decodes one, the next is launched behind it, whose tokens are what that one draws. So
//! neither the host's work on a step nor the way back of its tokens leaves the GPU without work.
//!
//! What is known beforehand of the next step is all but its tokens, and those stay on the GPU. It changes no bit. Where a
//! sequence ends unforeseen, its row of the step ahead is lost: its slot was never published, and whoever is given the
//! page writes behind it.

use super::{
    Engine, Request,
    scheduler::Rows,
    sequence::{Phase, Sequence},
    step::{Launched, Planned},
};
use crate::{
    error::Result,
    kernels::{PAGE, embed},
    sample::SamplingPlan,
};

impl Engine {
    /// The step that was launched ahead, if any sequence still wants it.
    pub(super) fn take_ahead(&mut self) -> Option<Launched> {
        let ahead = self.ahead.take()?;
        ahead.planned.iter().any(|rows| self.position(rows.sequence).is_some()).then_some(ahead)
    }

    /// Launches the step that follows `launched`, where all sequences decode in that one and need nothing of it but the
    /// tokens that the GPU draws, and where nobody waits to begin.
    pub(super) async fn launch_ahead(&mut self, launched: &Launched) -> Result<Option<Launched>> {
        // A state is behind the last token that was computed: a row that is lost would have moved it on.
        let begins = !self.waiting.is_empty() && self.running.len() < self.runner.max_sequences;
        if begins || self.reuse.has_state() {
            return Ok(None);
        }
        let mut following = Vec::with_capacity(self.running.len());
        for (at, sequence) in self.running.iter().enumerate().filter(|(_, sequence)| !sequence.is_held) {
            let of = |rows: &Planned| rows.sequence == sequence.id && rows.rows == Rows::Decode;
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
            planned.push(Planned { sequence: *id, rows: Rows::Decode, position, tokens: vec![token], slots });
        }
        let launched = self.launch(planned).await?;
        self.runner.count_ahead();
        Ok(Some(launched))
    }
}

fn draws_on_gpu(request: &Request) -> bool {
    request.sampling.plan() != SamplingPlan::Host && !request.logits
}
