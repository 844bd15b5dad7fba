//! Reading ahead: blocks come in order, and the next ones are fetched and verified while the caller works on those
//! before.
//!
//! Invariants: at most [`IN_FLIGHT`] groups are being fetched at a time, and the caller bounds the blocks of a group.
//! Every block is handed out once, in order, by [`Tiers::accept`]. A block that its tier has lost or damaged is looked
//! for in the tiers behind it.
//!
//! Cost: one round trip a group instead of one a block, and memory for the bytes of the groups.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use web_time::Instant;

use super::tiers::Checked;
use super::{Blob, BoxFuture, Deadline, Loaded, Missing, StoreKey, Tiers, Wanted};

/// Groups being fetched, besides the one that is being handed out.
const IN_FLIGHT: usize = 2;

/// Converts a verified block into what the caller keeps, on the thread that verified it.
pub type Unpack<T> = Arc<dyn Fn(Blob<&[u8]>) -> T + Send + Sync>;

pub struct Ahead<T> {
    tiers: Rc<Tiers>,
    wanted: Vec<Wanted>,
    /// The tier that has each of `wanted`, as [`Tiers::find`] said.
    places: Vec<usize>,
    group: usize,
    deadline: Deadline,
    unpack: Unpack<T>,
    /// How many of `wanted` have been asked for, and how many were handed out.
    asked: usize,
    given: usize,
    coming: VecDeque<Group<T>>,
    /// Blocks that have arrived and were not handed out yet, each with its tier and how long it took.
    ready: VecDeque<(usize, Checked<T>, f64)>,
    /// When the last group arrived.
    came: Instant,
}

struct Group<T> {
    tier: usize,
    blocks: usize,
    asked: Instant,
    answer: Coming<T>,
}

type Arrived<T> = (Vec<Checked<T>>, Instant);

enum Coming<T> {
    Pending(BoxFuture<'static, Arrived<T>>),
    Here(Arrived<T>),
}

impl<T: Send + 'static> Ahead<T> {
    /// `places`: the tier of each of `wanted`; `group`: how many blocks make a group, at least 1.
    pub fn new(
        tiers: Rc<Tiers>,
        wanted: Vec<Wanted>,
        places: Vec<usize>,
        group: usize,
        deadline: Deadline,
        unpack: Unpack<T>,
    ) -> Self {
        let (group, coming, ready, came) = (group.max(1), VecDeque::new(), VecDeque::new(), Instant::now());
        Self { tiers, wanted, places, group, deadline, unpack, asked: 0, given: 0, coming, ready, came }
    }

    /// The next block, or why no tier delivered it intact in time; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Loaded<T>, Missing>> {
        let (tier, got, ms) = self.take().await?;
        let wanted = &self.wanted[self.given];
        self.given += 1;
        let missing = match self.tiers.accept(tier, got, wanted, ms, self.deadline).await {
            Ok(loaded) => return Some(Ok(loaded)),
            Err(missing) => missing,
        };
        let behind = self.tiers.load_from(tier + 1, wanted, &self.unpack, self.deadline).await;
        Some(behind.map_err(|further| missing.or(further)))
    }

    async fn take(&mut self) -> Option<(usize, Checked<T>, f64)> {
        self.ask().await;
        if self.ready.is_empty() {
            poll_fn(|context| {
                self.advance(context);
                let waits = self.coming.front().is_some_and(|group| matches!(group.answer, Coming::Pending(_)));
                if waits { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            let Group { tier, blocks, asked, answer: Coming::Here((mut values, came)) } = self.coming.pop_front()?
            else {
                return None;
            };
            let ms = came.saturating_duration_since(asked.max(self.came)).as_secs_f64() * 1e3 / blocks as f64;
            self.came = came;
            self.ask().await;
            values.resize_with(blocks, || Checked::Absent);
            self.ready.extend(values.into_iter().map(|value| (tier, value, ms)));
        }
        self.ready.pop_front()
    }

    /// Starts fetching the next groups: polling a future once sets it going.
    async fn ask(&mut self) {
        while self.coming.len() < IN_FLIGHT
            && let Some(&tier) = self.places.get(self.asked)
        {
            let start = self.wanted[self.asked].start;
            let open = self.places[self.asked..].iter().zip(&self.wanted[self.asked..]).take(self.group);
            let blocks = open.take_while(|(place, wanted)| **place == tier && wanted.start == start).count();
            let wanted = self.wanted[self.asked..self.asked + blocks].to_vec();
            self.asked += blocks;
            let answer = Box::pin(fetch(self.tiers.clone(), tier, wanted, self.deadline, self.unpack.clone()));
            self.coming.push_back(Group { tier, blocks, asked: Instant::now(), answer: Coming::Pending(answer) });
        }
        poll_fn(|context| {
            self.advance(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Hands every group that has been read to verification at once, whether or not those before it were handed out.
    fn advance(&mut self, context: &mut Context) {
        for Group { answer, .. } in &mut self.coming {
            if let Coming::Pending(pending) = answer
                && let Poll::Ready(arrived) = pending.as_mut().poll(context)
            {
                *answer = Coming::Here(arrived);
            }
        }
    }
}

/// What a tier returned for some blocks, verified beside the engine's thread, and when the results were known.
async fn fetch<T: Send + 'static>(
    tiers: Rc<Tiers>,
    tier: usize,
    wanted: Vec<Wanted>,
    deadline: Deadline,
    unpack: Unpack<T>,
) -> Arrived<T> {
    let keys: Vec<StoreKey> = wanted.iter().map(|wanted| wanted.key).collect();
    let most = wanted.iter().map(Wanted::bytes).max().unwrap_or(0);
    let got = tiers.bounded(tier, deadline, tiers.store(tier).get_many(&keys, most)).await;
    match got {
        Ok(values) => (tiers.check_all(values, wanted, &unpack).await, Instant::now()),
        // All blocks of the group are missing for the same reason, so one report is enough.
        Err(error) => (vec![Checked::Failed(error)], Instant::now()),
    }
}
