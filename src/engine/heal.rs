//! Healing: when idle, KV that decode kernels wrote is computed again as a cold prefill would compute it.
//!
//! The answers of a conversation are decoded, so their KV is marked and excluded from exact reuse. The recomputed KV
//! replaces the marked one, in pages and in the tiers. A new request interrupts healing; what was healed by then stays
//! healed.
//!
//! Cost: one prefill of the sequence from its first marked token on.

use super::{Engine, Event, Request};
use crate::error::Result;

/// Most sequences that are queued for healing, the last ended first.
const MOST: usize = 32;

/// A sequence that decode kernels wrote in part.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(crate) salt: String,
    pub(crate) tokens: Vec<u32>,
    /// The length of its prompt, whose last hidden state is kept too.
    pub(crate) prompt: usize,
}

/// Sequences to heal. A sequence that another continues is covered by that one.
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
    /// Recomputes some of the KV that decoding wrote, and returns whether more waits. Call it when nothing runs and a
    /// request may come.
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

    /// Recomputes all KV that decoding wrote. Call it when nothing runs.
    ///
    /// # Errors
    /// As [`Engine::heal_some`].
    #[doc(hidden)]
    pub async fn heal(&mut self) -> Result<()> {
        while self.heal_some().await? {}
        Ok(())
    }

    /// Stops healing in favour of a request.
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
