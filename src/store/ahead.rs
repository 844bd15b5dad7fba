//! Reading ahead: blocks in their order, the next ones on their way, and being verified, while the caller works on those
//! before.
//!
//! Invariants: at most [`IN_FLIGHT`] groups are on their way at a time, each of so many blocks as the caller allows; every
//! block is handed out once, in order, by [`Tiers::accept`]. A block that its tier does not have any more, or not whole, is
//! looked for in the tiers behind.
//!
//! Cost: one round trip for a group instead of one for a block, and the bytes of the groups.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use web_time::Instant;

use super::tiers::{Checked, check};
use super::{BoxFuture, Deadline, Key, Loaded, Missing, Tiers, Wanted};

/// Groups on their way, beside the one that is being handed out.
const IN_FLIGHT: usize = 2;
/// Bytes that are verified at once: handing them to a thread would take longer.
const LITTLE: usize = 64 << 10;

pub struct Ahead {
    tiers: Rc<Tiers>,
    wanted: Vec<Wanted>,
    /// The tier that has each of `wanted`, as [`Tiers::find`] said.
    places: Vec<usize>,
    group: usize,
    deadline: Deadline,
    /// How many of `wanted` have been asked for, and how many were handed out.
    asked: usize,
    given: usize,
    coming: VecDeque<Group>,
    /// What has come and was not handed out yet, with its tier and the time it took.
    ready: VecDeque<(usize, Checked, f64)>,
    /// When the last group had come.
    came: Instant,
}

struct Group {
    tier: usize,
    blocks: usize,
    asked: Instant,
    answer: Coming,
}

type Arrived = (Vec<Checked>, Instant);

enum Coming {
    Pending(BoxFuture<'static, Arrived>),
    Here(Arrived),
}

impl Ahead {
    /// `places`: the tier of each of `wanted`; `group`: how many blocks make a group, at least 1.
    pub fn new(tiers: Rc<Tiers>, wanted: Vec<Wanted>, places: Vec<usize>, group: usize, deadline: Deadline) -> Self {
        let (coming, ready, came) = (VecDeque::new(), VecDeque::new(), Instant::now());
        Self { tiers, wanted, places, group: group.max(1), deadline, asked: 0, given: 0, coming, ready, came }
    }

    /// The next block, or why no tier has it whole, in time; `None` behind the last.
    pub async fn next(&mut self) -> Option<Result<Loaded, Missing>> {
        let (tier, got, ms) = self.take().await?;
        let wanted = &self.wanted[self.given];
        self.given += 1;
        let missing = match self.tiers.accept(tier, got, &wanted.key, wanted.is_start(), ms, self.deadline).await {
            Ok(loaded) => return Some(Ok(loaded)),
            Err(missing) => missing,
        };
        let behind = self.tiers.load_from(tier + 1, &wanted.expected(&wanted.fields()), self.deadline).await;
        Some(behind.map_err(|further| missing.or(further)))
    }

    async fn take(&mut self) -> Option<(usize, Checked, f64)> {
        self.ask().await;
        if self.ready.is_empty() {
            let Group { tier, blocks, asked, answer } = self.coming.pop_front()?;
            let (mut values, came) = match answer {
                Coming::Here(arrived) => arrived,
                Coming::Pending(answer) => answer.await,
            };
            let ms = came.saturating_duration_since(asked.max(self.came)).as_secs_f64() * 1e3 / blocks as f64;
            self.came = came;
            self.ask().await;
            values.resize_with(blocks, || Checked::Absent);
            self.ready.extend(values.into_iter().map(|value| (tier, value, ms)));
        }
        self.ready.pop_front()
    }

    /// Sends for the next groups: a future that was asked once is under way.
    async fn ask(&mut self) {
        while self.coming.len() < IN_FLIGHT
            && let Some(&tier) = self.places.get(self.asked)
        {
            let start = self.wanted[self.asked].start;
            let open = self.places[self.asked..].iter().zip(&self.wanted[self.asked..]).take(self.group);
            let blocks = open.take_while(|(place, wanted)| **place == tier && wanted.start == start).count();
            let wanted = self.wanted[self.asked..self.asked + blocks].to_vec();
            self.asked += blocks;
            let mut answer = Box::pin(fetch(self.tiers.clone(), tier, wanted, self.deadline));
            let asked = Instant::now();
            let answer = match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
                Poll::Ready(arrived) => Coming::Here(arrived),
                Poll::Pending => Coming::Pending(answer),
            };
            self.coming.push_back(Group { tier, blocks, asked, answer });
        }
    }
}

/// What a tier says of some blocks, checked, and when that was known.
async fn fetch(tiers: Rc<Tiers>, tier: usize, wanted: Vec<Wanted>, deadline: Deadline) -> Arrived {
    let keys: Vec<Key> = wanted.iter().map(|wanted| wanted.key).collect();
    let most = wanted.iter().map(Wanted::bytes).max().unwrap_or(0);
    let got = tiers.bounded(tier, deadline, tiers.store(tier).get_many(&keys, most)).await;
    let values = match got {
        Ok(values) => values,
        // Each block of the group is missing for the same reason, of which one is told.
        Err(error) => return (vec![Checked::Failed(error)], Instant::now()),
    };
    let bytes: usize = values.iter().flatten().map(Vec::len).sum();
    let checked = move || {
        let fields = wanted.first().map(Wanted::fields).unwrap_or_default();
        let pairs = values.into_iter().zip(&wanted);
        let checked = pairs.map(|(bytes, wanted)| check(bytes, &wanted.expected(&fields))).collect();
        (checked, Instant::now())
    };
    if bytes <= LITTLE { checked() } else { tiers.worker().run(checked).await }
}
