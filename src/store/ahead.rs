//! Reading ahead: blocks in their order, the next ones on their way while the caller works on those before.
//!
//! Invariants: at most [`IN_FLIGHT`] groups are on their way at a time, each of so many blocks as the caller allows; every
//! block is handed out once, in order, by [`Tiers::accept`], which verifies it. A block that its tier does not have any
//! more, or not whole, is looked for in the tiers behind.
//!
//! Cost: one round trip for a group instead of one for a block, and the bytes of the groups.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use web_time::Instant;

use super::{Answer, Deadline, Expected, Key, Loaded, StoreError, Tiers};

/// Groups on their way, beside the one that is being handed out.
const IN_FLIGHT: usize = 2;

/// What a tier said about one block.
type Value = Result<Option<Vec<u8>>, StoreError>;

pub struct Ahead<'a> {
    tiers: &'a Tiers,
    keys: &'a [Key],
    /// The tier that has each of `keys`, as [`Tiers::find`] said.
    places: &'a [usize],
    group: usize,
    deadline: Deadline,
    /// How many of `keys` have been asked for.
    asked: usize,
    coming: VecDeque<Group<'a>>,
    /// What has come and was not handed out yet, with its tier.
    ready: VecDeque<(usize, Value)>,
}

struct Group<'a> {
    tier: usize,
    blocks: usize,
    answer: Coming<'a>,
}

enum Coming<'a> {
    Pending(Answer<'a, Vec<Option<Vec<u8>>>>),
    Here(Result<Vec<Option<Vec<u8>>>, StoreError>),
}

impl<'a> Ahead<'a> {
    /// `group`: how many blocks make a group, at least 1.
    pub fn new(tiers: &'a Tiers, keys: &'a [Key], places: &'a [usize], group: usize, deadline: Deadline) -> Self {
        let (coming, ready) = (VecDeque::new(), VecDeque::new());
        Self { tiers, keys, places, group: group.max(1), deadline, asked: 0, coming, ready }
    }

    /// The next block, which must be the one expected. `None` where no tier has it whole, or none gives it in time: the
    /// counters of the tiers tell which.
    pub async fn next(&mut self, expected: &Expected<'_>) -> Option<Loaded> {
        let began = Instant::now();
        let (tier, got) = self.take().await?;
        match self.tiers.accept(tier, got, expected, began, self.deadline).await {
            Some(loaded) => Some(loaded),
            None => self.tiers.load_from(tier + 1, expected, self.deadline).await,
        }
    }

    async fn take(&mut self) -> Option<(usize, Value)> {
        self.ask().await;
        if self.ready.is_empty() {
            let Group { tier, blocks, answer } = self.coming.pop_front()?;
            let values = match answer {
                Coming::Here(values) => values,
                Coming::Pending(answer) => self.tiers.bounded(tier, self.deadline, answer).await,
            };
            self.ask().await;
            let mut values =
                values.map_or_else(|error| vec![Err(error)], |values| values.into_iter().map(Ok).collect());
            values.resize_with(blocks, || Ok(None));
            self.ready.extend(values.into_iter().map(|value| (tier, value)));
        }
        self.ready.pop_front()
    }

    /// Sends for the next groups: a future that was asked once is under way.
    async fn ask(&mut self) {
        while self.coming.len() < IN_FLIGHT
            && let Some(&tier) = self.places.get(self.asked)
        {
            let blocks = self.places[self.asked..].iter().take(self.group).take_while(|place| **place == tier).count();
            let keys = &self.keys[self.asked..self.asked + blocks];
            self.asked += blocks;
            let mut answer = self.tiers.store(tier).get_many(keys);
            let asked = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
            let answer = match asked {
                Poll::Ready(values) => Coming::Here(values),
                Poll::Pending => Coming::Pending(answer),
            };
            self.coming.push_back(Group { tier, blocks, answer });
        }
    }
}
