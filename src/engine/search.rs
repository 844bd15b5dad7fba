//! Finds the blocks of a prompt in the tiers: whole ones, the one that the prompt diverges from midway, and what became
//! of blocks that are gone.
//!
//! Cost: one round trip to each tier if the whole prompt is found. Otherwise one more for manifests, one to ask which
//! candidate continuations are present, one for a block that was kept and is gone, and one if the prompt is known only
//! with other settings.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::iter;
use std::rc::Rc;

use super::{choice::Stored, identity::siblings};
use crate::{
    kernels::PAGE,
    kv::{Key, Namespace, Reason, Tier},
    store::{Deadline, GROUP, Manifest, Noted, Producer, Tiers},
};

/// Most candidate continuations that are asked for: those that share most with the prompt.
const MOST_ASKED: usize = 16;

/// The blocks of a prompt in the tiers.
#[derive(Default)]
pub(super) struct Search {
    /// The blocks, without a gap.
    pub(crate) found: VecDeque<Found>,
    /// Whether a tier did not answer in time.
    pub(crate) late: bool,
    pub(crate) past: Past,
}

/// A block in a tier, and its place in the prompt.
#[derive(Clone)]
pub(super) struct Found {
    pub(crate) block: usize,
    pub(crate) key: Key,
    /// Its tokens, of which the prompt shares the first [`Stored::tokens`].
    pub(crate) tokens: Vec<u32>,
    pub(crate) stored: Stored,
    /// Whether layers with a window are skipped: the token after the last found block does not see this one.
    pub(crate) start: bool,
}

impl Found {
    /// The end of the part of the prompt that it covers.
    pub(crate) fn end(&self) -> usize {
        self.block * PAGE + self.stored.tokens
    }
}

/// What is known of tokens that are in no tier.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Past {
    /// Why the first of them is missing, and up to which token of the prompt they were once known. Blocks after a
    /// missing one cannot be used.
    pub(crate) reason: Option<(Reason, usize)>,
    /// The first token at which other tokens are known.
    pub(crate) parted: Option<usize>,
    /// The namespaces of other settings that know its first block, and up to which token they know it.
    pub(crate) elsewhere: Vec<(Namespace, usize)>,
}

/// Which blocks are useful.
#[derive(Debug, Clone, Copy)]
pub(super) struct Useful {
    /// Only blocks that prefill kernels wrote.
    pub(crate) exact: bool,
    /// Only blocks whose tokens are all in the prompt.
    pub(crate) whole: bool,
}

/// The blocks of `tokens` after the first `known` tokens that tiers have. The prompt may share only a part of the last
/// one, if that is useful.
pub(super) async fn search(
    tiers: Rc<Tiers>,
    namespace: Namespace,
    tokens: Vec<u32>,
    known: usize,
    useful: Useful,
    deadline: Deadline,
) -> Search {
    let keys: Vec<Key> = Key::chain(&namespace, &tokens).collect();
    let first = known / PAGE;
    let asked: Vec<_> = keys[first..].iter().map(|key| key.0).collect();
    let present = tiers.find(&asked, deadline).await;
    let own = |block: usize| tokens[block * PAGE..tokens.len().min((block + 1) * PAGE)].to_vec();
    let whole = |(block, tier)| {
        let tokens = own(block);
        let stored = Stored { tier, tokens: tokens.len(), size: tokens.len() };
        Found { block, key: keys[block], tokens, stored, start: false }
    };
    let places = (first..keys.len()).zip(&present.tiers);
    let mut found: VecDeque<Found> = places.map_while(|(block, tier)| Some((block, (*tier)?))).map(whole).collect();
    let mut late = present.late;
    let mut past = Past::default();
    let next = first + found.len();
    if next < keys.len() && !late {
        let before = |block: usize| block.checked_sub(1).map_or(namespace.key(), |last| keys[last]);
        let roots = (next / GROUP..=(keys.len() - 1) / GROUP).map(|group| before(group * GROUP));
        let others = if next == 0 { siblings(&namespace) } else { Vec::new() };
        let roots: Vec<Key> = roots.chain(others.iter().map(Namespace::key)).collect();
        let mut groups = Groups::read(tiers.clone(), tokens, useful, next / GROUP, &roots, deadline).await;
        let begun = groups.manifests.split_off(roots.len() - others.len());
        past = groups.past(next);
        past.elsewhere = groups.elsewhere(others, begun).await;
        if let Some((reason @ Reason::Evicted, _)) = &mut past.reason
            && tiers.is_anothers(&keys[next].0, deadline).await
        {
            *reason = Reason::AnotherUsers;
        }
        if deadline.passed() {
            return Search { found, late: true, past };
        }
        let least = if next == first { known - first * PAGE + 1 } else { 1 };
        let (partial, too_late) = groups.longest(&before(next), next, least).await;
        found.extend(partial);
        late |= too_late;
    }
    Search { found, late, past }
}

/// The manifests of consecutive groups of a prompt's blocks.
pub(super) struct Groups {
    tiers: Rc<Tiers>,
    prompt: Vec<u32>,
    useful: Useful,
    deadline: Deadline,
    first: usize,
    manifests: Vec<Manifest>,
}

impl Groups {
    /// `roots` are the keys at which the groups begin, from group `first` on.
    pub(crate) async fn read(
        tiers: Rc<Tiers>,
        prompt: Vec<u32>,
        useful: Useful,
        first: usize,
        roots: &[Key],
        deadline: Deadline,
    ) -> Self {
        let roots: Vec<_> = roots.iter().map(|root| root.0).collect();
        let manifests = tiers.manifests(&roots, deadline).await;
        Self { tiers, prompt, useful, deadline, first, manifests }
    }

    /// The blocks that were written at index `block`, after the prompt's blocks before it.
    fn behind(&self, block: usize) -> Vec<&Noted> {
        let group = block / GROUP;
        let manifest = group.checked_sub(self.first).and_then(|at| self.manifests.get(at));
        manifest.map_or(Vec::new(), |manifest| manifest.behind(&self.prompt[group * GROUP * PAGE..block * PAGE]))
    }

    /// The block after `parent` at index `block` that a tier has and that shares most tokens with the prompt, at least
    /// `least`; and whether a tier did not answer in time. If the manifest is lost, only a block that ends within the
    /// prompt can be found.
    pub(crate) async fn longest(&self, parent: &Key, block: usize, least: usize) -> (Option<Found>, bool) {
        let rest = &self.prompt[block * PAGE..];
        let known = self.behind(block);
        let Useful { exact, whole } = self.useful;
        let fits = |noted: &&&Noted| !exact || noted.producer == Producer::Prefill;
        let shares = known.iter().filter(fits).map(|noted| (common(&noted.tokens, rest), &noted.tokens[..]));
        let shares = shares.filter(|(shared, tokens)| *shared >= least && (!whole || *shared == tokens.len()));
        let mut shares: Vec<(usize, &[u32])> = shares.collect();
        shares.sort_by_key(|(shared, tokens)| (Reverse(*shared), tokens.len()));
        shares.truncate(MOST_ASKED);
        let ends = (least..=rest.len().min(PAGE)).map(|count| (count, &rest[..count]));
        shares.extend(ends.filter(|(_, tokens)| known.iter().all(|noted| noted.tokens != *tokens)));
        shares.sort_by_key(|(shared, tokens)| (Reverse(*shared), tokens.len()));
        let keys: Vec<Key> = shares.iter().map(|(_, tokens)| Key::block(parent, tokens)).collect();
        let present = self.tiers.find(&keys.iter().map(|key| key.0).collect::<Vec<_>>(), self.deadline).await;
        let longest = present.tiers.iter().position(Option::is_some);
        let found = longest.and_then(|at| {
            let (shared, tokens) = shares[at];
            let stored = Stored { tier: present.tiers[at]?, tokens: shared, size: tokens.len() };
            Some(Found { block, key: keys[at], tokens: tokens.to_vec(), stored, start: false })
        });
        (found, present.late)
    }

    /// What is known of the prompt from block `next` on.
    fn past(&self, next: usize) -> Past {
        let mut past = Past::default();
        for (block, rest) in self.prompt.chunks(PAGE).enumerate().skip(next) {
            let known = self.behind(block);
            let Some(shared) = known.iter().map(|noted| common(&noted.tokens, rest)).max() else { break };
            let mut nearest = known.iter().filter(|noted| common(&noted.tokens, rest) == shared);
            let end = block * PAGE + shared;
            if shared > 0 {
                let marked = self.useful.exact && nearest.clone().all(|noted| noted.producer == Producer::Decode);
                // A block that continues it was never useful here, present or not.
                let partial = self.useful.whole && nearest.clone().all(|noted| noted.tokens.len() > shared);
                let first = match nearest.clone().any(|noted| noted.kept) {
                    false => Reason::NotKept,
                    true if marked => Reason::DecodeWritten,
                    true if partial => Reason::NoState,
                    true => Reason::Evicted,
                };
                past.reason = Some((past.reason.map_or(first, |known| known.0), end));
            }
            if shared < PAGE {
                let goes_on = nearest.any(|noted| noted.tokens.len() > shared);
                past.parted = (end > 0 && shared < rest.len() && goes_on).then_some(end);
                break;
            }
        }
        past
    }

    /// Those of `others` in which the prompt's first block was kept, and up to which token the prompt is known there.
    /// `begun` has the manifests of their first groups.
    async fn elsewhere(&self, others: Vec<Namespace>, begun: Vec<Manifest>) -> Vec<(Namespace, usize)> {
        let Self { tiers, prompt, deadline, .. } = self;
        let useful = Useful { exact: false, whole: false };
        let is_first = |noted: &&Noted| noted.kept && prompt.get(..PAGE) == Some(&noted.tokens[..]);
        let mut known = Vec::new();
        for (other, manifest) in others.into_iter().zip(begun) {
            if manifest.behind(&[]).iter().any(is_first) {
                let keys = iter::once(other.key()).chain(Key::chain(&other, prompt));
                let roots: Vec<Key> = keys.step_by(GROUP).collect();
                let groups = Groups::read(tiers.clone(), prompt.clone(), useful, 0, &roots, *deadline).await;
                known.extend(groups.past(0).reason.map(|(_, end)| (other, end)));
            }
        }
        known
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

pub(super) fn kind(tiers: &Tiers, index: usize) -> Tier {
    match tiers.stores().nth(index).map_or("", |store| store.name()) {
        "memory" => Tier::Memory,
        "disk" | "opfs" | "indexeddb" => Tier::Disk,
        "pack" => Tier::Pack,
        _ => Tier::Remote,
    }
}
