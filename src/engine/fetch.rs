//! Which of the tiers' blocks are useful for a prompt and worth loading.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::{
    choice::{self, Stored},
    reuse::{Beginning, Reuse},
    search::{Found, Useful, kind},
};
use crate::{
    kv::{Choice, Key, Namespace, is_unseen},
    store::{Ahead, Deadline, Family, Producer, Unpack, Wanted},
};

/// The part of a verified block that is kept: its page in the GPU's layout.
pub(super) struct Page {
    pub(crate) producer: Producer,
    pub(crate) last_hidden: Option<Vec<f32>>,
    pub(crate) words: Vec<u32>,
}

/// Bytes of KV that are read at once. Reading ahead holds three times as much.
const GROUP_BYTES: usize = 4 << 20;

impl Reuse {
    /// Reduces `found` to the blocks worth loading. Returns the decision by tier.
    pub(super) fn choose(&mut self, found: &mut VecDeque<Found>, exact: bool) -> Vec<Choice> {
        self.omit_windows(found, exact);
        let stored: Vec<(Stored, f64)> = found.iter().map(|found| (found.stored, self.load_bytes(found))).collect();
        let Some(persistence) = &mut self.persistence else { return Vec::new() };
        let count = choice::worthwhile(&stored, &self.prefill, &persistence.rates);
        let mut choices: Vec<Choice> = Vec::new();
        for (index, (stored, bytes)) in stored.iter().enumerate() {
            let (tier, load) = (kind(&persistence.tiers, stored.tier), index < count);
            let load_ms = persistence.rates[stored.tier].ms(*bytes);
            let prefill_ms = self.prefill.ms(stored.tokens as f64);
            match choices.last_mut().filter(|choice| choice.tier == tier && choice.load == load) {
                Some(choice) => {
                    choice.tokens += stored.tokens;
                    choice.load_ms = choice.load_ms.zip(load_ms).map(|(a, b)| a + b);
                    choice.prefill_ms = choice.prefill_ms.zip(prefill_ms).map(|(a, b)| a + b);
                }
                None => choices.push(Choice { tier, tokens: stored.tokens, load, load_ms, prefill_ms }),
            }
        }
        if let Some((declined, _)) = stored.get(count) {
            persistence.rates[declined.tier].relent();
        }
        found.truncate(count);
        self.omit_windows(found, exact);
        choices
    }

    /// Skips layers with a window in blocks that the token after the last one does not see. With `exact` nothing is
    /// skipped, since some blocks may yet be rejected.
    fn omit_windows(&self, found: &mut VecDeque<Found>, exact: bool) {
        let Some((window, last)) = self.layout.window().zip(found.back()) else { return };
        // The last token itself may have to be computed.
        let end = last.end() - 1;
        for found in found.iter_mut() {
            found.start = !exact && is_unseen(found.block, window, end);
        }
    }

    /// Approximate bytes to load for a block.
    pub(super) fn load_bytes(&self, found: &Found) -> f64 {
        let token = if found.start { self.layout.start_bytes() } else { self.layout.token_bytes() };
        (found.stored.size * token) as f64
    }

    /// Which blocks are useful.
    pub(super) fn useful(&self, exact: bool) -> Useful {
        Useful { exact, whole: self.has_state() }
    }

    pub(super) fn family(&self, namespace: &Namespace) -> Arc<Family> {
        let fields = namespace.fields().entries();
        Arc::new(Family {
            namespace: fields.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
            element: self.layout.element(),
            rows: self.layout.rows(),
            windows: self.layout.windows(),
            hidden: self.hidden,
            state: self.layout.state(),
        })
    }

    pub(super) fn fetch(
        &self,
        beginning: &Beginning,
        found: &VecDeque<Found>,
        before: Key,
        deadline: Deadline,
    ) -> Option<Ahead<Page>> {
        let persistence = self.persistence.as_ref()?;
        let family = self.family(&beginning.namespace);
        let mut parent = before;
        let wanted = found.iter().map(|Found { key, tokens, start, .. }| {
            let parent = mem::replace(&mut parent, *key).0;
            Wanted { key: key.0, parent, tokens: tokens.clone(), start: *start, family: family.clone() }
        });
        let (wanted, places) = (wanted.collect(), found.iter().map(|found| found.stored.tier).collect());
        let group = GROUP_BYTES / (self.layout.words() * 4);
        Some(Ahead::new(persistence.tiers.clone(), wanted, places, group, deadline, self.unpack()))
    }

    /// Converts blocks into pages.
    pub(super) fn unpack(&self) -> Unpack<Page> {
        let layout = self.layout.clone();
        Arc::new(move |blob| {
            let words = layout.to_page(blob.kv, &blob.state, blob.tokens.len());
            Page { producer: blob.producer, last_hidden: blob.last_hidden, words }
        })
    }
}
