//! Healing: what decode kernels wrote, computed again as a cold prefill computes it, when there is nothing else to do.
//!
//! A conversation's answers are decoded, and so their KV is marked and left out of exact reuse. Computed again, it replaces
//! the marked, in pages and in the tiers. A request that comes interrupts it; what was healed by then stays so.
//!
//! Cost: one prefill of the sequence from its first marked token on.

use super::{Engine, Event, Request};
use crate::error::Result;

/// Sequences that are remembered to be healed, the last ended first.
const MOST: usize = 32;

/// A sequence of which decode kernels wrote a part.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(crate) salt: String,
    pub(crate) tokens: Vec<u32>,
    /// Where its prompt ended, whose last hidden state is kept too.
    pub(crate) prompt: usize,
}

/// Sequences to be healed; one that another goes on from is a part of that.
#[derive(Debug, Default)]
pub(super) struct Ill(Vec<Decoded>);

impl Ill {
    pub(crate) fn push(&mut self, decoded: Decoded) {
        let begins = |other: &Decoded| other.salt == decoded.salt && decoded.tokens.starts_with(&other.tokens);
        self.0.retain(|other| !begins(other));
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(decoded);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Engine {
    /// Computes a little of what decoding wrote anew, for when nothing runs and something may come: whether more waits.
    ///
    /// # Errors
    /// What the GPU reports.
    pub(crate) async fn heal_some(&mut self) -> Result<bool> {
        if self.has_requests() {
            return Ok(false);
        }
        if self.healing.is_none() {
            let Some(Decoded { salt, tokens, prompt }) = self.reuse.decoded.0.pop() else { return Ok(false) };
            let breakpoints = vec![prompt];
            let request = Request { tokens, cache_salt: salt, exact: true, breakpoints, ..Request::default() };
            self.healing = Some(self.submit(request)?);
        }
        let events = match self.advance().await {
            Ok(events) => events,
            Err(error) => {
                self.healing.take().into_iter().for_each(|id| self.cancel(id));
                return Err(error);
            }
        };
        if events.iter().any(|event| matches!(event, Event::Finished { .. })) {
            self.healing = None;
        }
        Ok(self.healing.is_some() || !self.reuse.decoded.0.is_empty())
    }

    /// Computes all that decoding wrote anew. For when nothing runs.
    ///
    /// # Errors
    /// As [`Engine::heal_some`].
    #[doc(hidden)]
    pub async fn heal(&mut self) -> Result<()> {
        while self.heal_some().await? {}
        Ok(())
    }

    /// Makes way for a request.
    pub(super) fn interrupt_healing(&mut self) {
        let Some(id) = self.healing.take() else { return };
        let at = self.waiting.iter().chain(&self.running).find(|sequence| sequence.id == id);
        if let Some(Request { tokens, cache_salt, breakpoints, .. }) = at.map(|sequence| &sequence.request) {
            let decoded = Decoded { salt: cache_salt.clone(), tokens: tokens.clone(), prompt: breakpoints[0] };
            self.reuse.decoded.push(decoded);
        }
        self.cancel(id);
    }
}
