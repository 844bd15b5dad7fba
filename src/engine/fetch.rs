//! What is asked of the tiers for a prompt: which of the blocks that they have are of use, and worth loading.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::{
    choice::{self, Stored},
    reuse::{Beginning, Reuse},
    search::{Found, Useful, kind},
};
use crate::{
    kv::{Choice, Key, Namespace},
    store::{Ahead, Deadline, Element, Family, Wanted},
};

/// Bytes of KV that are read at once; three times as much is held while blocks are read ahead.
const GROUP_BYTES: usize = 4 << 20;

impl Reuse {
    /// Leaves of what was found what is worth loading: the account of the decision by tier.
    pub(super) fn choose(&mut self, found: &mut VecDeque<Found>) -> Vec<Choice> {
        let Some(persistence) = &mut self.persistence else { return Vec::new() };
        let stored: Vec<Stored> = found.iter().map(|found| found.stored).collect();
        let bytes = self.layout.token_bytes() as f64;
        let count = choice::worthwhile(&stored, bytes, &self.prefill, &persistence.rates);
        let mut choices: Vec<Choice> = Vec::new();
        for (index, stored) in stored.iter().enumerate() {
            let (tier, load) = (kind(&persistence.tiers, stored.tier), index < count);
            let load_ms = persistence.rates[stored.tier].ms(stored.size as f64 * bytes);
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
        if let Some(declined) = stored.get(count) {
            persistence.rates[declined.tier].relent();
        }
        found.truncate(count);
        choices
    }

    /// Which blocks are of use.
    pub(super) fn useful(&self, exact: bool) -> Useful {
        Useful { exact, whole: self.has_state() }
    }

    pub(super) fn family(&self, namespace: &Namespace) -> Arc<Family> {
        let fields = namespace.fields().entries();
        Arc::new(Family {
            namespace: fields.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
            element: Element::F16,
            rows: self.layout.rows(),
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
    ) -> Option<Ahead> {
        let persistence = self.persistence.as_ref()?;
        let family = self.family(&beginning.namespace);
        let mut parent = before;
        let wanted = found.iter().map(|Found { key, tokens, .. }| {
            let parent = mem::replace(&mut parent, *key).0;
            Wanted { key: key.0, parent, tokens: tokens.clone(), family: family.clone() }
        });
        let (wanted, places) = (wanted.collect(), found.iter().map(|found| found.stored.tier).collect());
        let group = GROUP_BYTES / (self.layout.words() * 4);
        Some(Ahead::new(persistence.tiers.clone(), wanted, places, group, deadline))
    }
}
