//! Which blocks of a prompt tiers have: whole ones, and the one that a prompt or an answer once ended in.
//!
//! Cost: two round trips to each tier.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::choice::Stored;
use crate::{
    kernels::PAGE,
    kv::{Key, Namespace, Tier},
    store::{Deadline, Tiers},
};

/// What tiers have of a prompt.
#[derive(Default)]
pub(super) struct Search {
    /// Without a gap.
    pub(crate) found: VecDeque<Found>,
    /// A tier did not say in time what it has.
    pub(crate) late: bool,
}

/// Where in a prompt a block that a tier has lies.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(crate) block: usize,
    pub(crate) key: Key,
    pub(crate) stored: Stored,
}

/// The blocks of `tokens` behind the first `known` tokens that tiers have. The last may be partial.
pub(super) async fn search(
    tiers: Rc<Tiers>,
    namespace: Namespace,
    tokens: Vec<u32>,
    known: usize,
    deadline: Deadline,
) -> Search {
    let keys: Vec<Key> = Key::chain(&namespace, &tokens).collect();
    let first = known / PAGE;
    let asked: Vec<_> = keys[first..].iter().map(|key| key.0).collect();
    let present = tiers.find(&asked, deadline).await;
    let size = |block: usize| (tokens.len() - block * PAGE).min(PAGE);
    let mut found: VecDeque<Found> = (first..keys.len())
        .zip(&present.tiers)
        .map_while(|(block, tier)| Some((block, (*tier)?)))
        .map(|(block, tier)| Found { block, key: keys[block], stored: Stored { tier, tokens: size(block) } })
        .collect();
    let mut late = present.late;
    let next = first + found.len();
    if next < keys.len() {
        let least = if next == first { known - first * PAGE + 1 } else { 1 };
        let parent = next.checked_sub(1).map_or(namespace.key(), |last| keys[last]);
        // Of all its tokens it has just been asked for.
        let lengths = least..size(next);
        let (partial, too_late) = partial(&tiers, &parent, next, &tokens[next * PAGE..], lengths, deadline).await;
        found.extend(partial);
        late |= too_late;
    }
    Search { found, late }
}

/// The longest beginning of a block, of so many of its `tokens`, that ends where a prompt or an answer once ended; and whether
/// a tier did not say in time what it has.
pub(super) async fn partial(
    tiers: &Tiers,
    parent: &Key,
    block: usize,
    tokens: &[u32],
    lengths: Range<usize>,
    deadline: Deadline,
) -> (Option<Found>, bool) {
    let lengths: Vec<usize> = lengths.rev().collect();
    let keys: Vec<Key> = lengths.iter().map(|&n| Key::block(parent, &tokens[..n])).collect();
    let present = tiers.find(&keys.iter().map(|key| key.0).collect::<Vec<_>>(), deadline).await;
    let longest = present.tiers.iter().position(Option::is_some);
    let found = longest.and_then(|at| {
        let stored = Stored { tier: present.tiers[at]?, tokens: lengths[at] };
        Some(Found { block, key: keys[at], stored })
    });
    (found, present.late)
}

pub(super) fn kind(tiers: &Tiers, index: usize) -> Tier {
    match tiers.stores().nth(index).map_or("", |store| store.name()) {
        "memory" => Tier::Memory,
        "disk" | "opfs" | "indexeddb" => Tier::Disk,
        "pack" => Tier::Pack,
        _ => Tier::Remote,
    }
}
