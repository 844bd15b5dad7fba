//! Aligns two lists: which items stay, which moved, which came and which went. Cost: O(n log n).

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// How often the items between two anchors are searched for anchors of their own.
const DEEPEST: usize = 16;
/// How many unmatched items are searched for a version of one.
const NEAR: usize = 16;

/// An item of one list, or of both, by its indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Same(usize, usize),
    /// The same in another order.
    Moved(usize, usize),
    /// Two versions of one.
    Pair(usize, usize),
    Gone(usize),
    New(usize),
}

impl Step {
    /// Its index in each list.
    pub(super) fn indices(self) -> [Option<usize>; 2] {
        match self {
            Self::Same(old, new) | Self::Moved(old, new) | Self::Pair(old, new) => [Some(old), Some(new)],
            Self::Gone(old) => [Some(old), None],
            Self::New(new) => [None, Some(new)],
        }
    }
}

pub(super) struct Alignment {
    /// In the order of the first list; what only the second has follows what stands before it there.
    pub(super) steps: Vec<Step>,
    /// Where the order first differs, in each list.
    pub(super) moved: Option<(usize, usize)>,
}

/// Aligns two lists. `alike` tells whether an item of each is a version of the other, from their indices and from whether both
/// lists have the same number of unmatched items between the same neighbours.
pub(super) fn align(a: &[String], b: &[String], alike: &dyn Fn(usize, usize, bool) -> bool) -> Alignment {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let [a, b] = [a, b].map(|list| {
        let name = |item| {
            let next = names.len();
            *names.entry(item).or_insert(next)
        };
        list.iter().map(String::as_str).map(name).collect::<Vec<usize>>()
    });
    let gaps = gaps(&a, &b);
    let mut left = vec![Vec::new(); names.len()];
    for new in gaps.iter().flat_map(|gap| gap.1.clone()).rev() {
        left[b[new]].push(new);
    }
    let mut place = vec![None; a.len()];
    let mut taken = vec![false; b.len()];
    for old in gaps.iter().flat_map(|gap| gap.0.clone()) {
        place[old] = left[a[old]].pop();
        place[old].into_iter().for_each(|new| taken[new] = true);
    }
    let (mut steps, mut moved, mut at) = (Vec::new(), None, [0, 0]);
    for (old, new) in gaps {
        steps.extend((at[0]..old.start).zip(at[1]..).map(|(old, new)| Step::Same(old, new)));
        at = [old.end, new.end];
        let first = |range: &Range<usize>, is: &dyn Fn(usize) -> bool| range.clone().find(|&item| is(item));
        let first = (first(&old, &|old| place[old].is_some()), first(&new, &|new| taken[new]));
        if moved.is_none() && first != (None, None) {
            moved = Some((first.0.unwrap_or(old.start), first.1.unwrap_or(new.start)));
        }
        let mut open: VecDeque<usize> = new.filter(|&new| !taken[new]).collect();
        let alone = open.len() == old.clone().filter(|&old| place[old].is_none()).count();
        for old in old {
            let pair = || open.iter().take(NEAR).position(|&new| alike(old, new, alone));
            match place[old].map_or_else(|| Err(pair()), Ok) {
                Ok(new) => steps.push(Step::Moved(old, new)),
                Err(Some(pair)) => {
                    steps.extend(open.drain(..pair).map(Step::New));
                    steps.extend(open.pop_front().map(|new| Step::Pair(old, new)));
                }
                Err(None) => steps.push(Step::Gone(old)),
            }
        }
        steps.extend(open.into_iter().map(Step::New));
    }
    steps.extend((at[0]..a.len()).zip(at[1]..).map(|(old, new)| Step::Same(old, new)));
    Alignment { steps, moved }
}

/// The ranges of both lists between which everything is the same and in the same order.
fn gaps(a: &[usize], b: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut kept = Vec::new();
    keep([a, b], [0..a.len(), 0..b.len()], 0, &mut kept);
    let (mut gaps, mut at) = (Vec::new(), (0, 0));
    for (old, new) in kept.into_iter().chain([(a.len(), b.len())]) {
        if (old, new) != at {
            gaps.push((at.0..old, at.1..new));
        }
        at = (old + 1, new + 1);
    }
    gaps
}

/// Adds equal items of two ranges, by their indices, in an order that both have: a patience diff.
fn keep(lists: [&[usize]; 2], [mut old, mut new]: [Range<usize>; 2], depth: usize, kept: &mut Vec<(usize, usize)>) {
    let same = |old: usize, new: usize| lists[0][old] == lists[1][new];
    while !old.is_empty() && !new.is_empty() && same(old.start, new.start) {
        kept.push((old.start, new.start));
        (old.start, new.start) = (old.start + 1, new.start + 1);
    }
    let ends = [old.end, new.end];
    while !old.is_empty() && !new.is_empty() && same(old.end - 1, new.end - 1) {
        (old.end, new.end) = (old.end - 1, new.end - 1);
    }
    let tail = (old.end..ends[0]).zip(new.end..ends[1]);
    if !old.is_empty() && !new.is_empty() {
        let anchors = anchors(lists, [old.clone(), new.clone()]);
        if depth == DEEPEST || anchors.is_empty() {
            kept.extend(anchors);
        } else {
            let mut at = [old.start, new.start];
            for (next, other) in anchors.into_iter().chain([(old.end, new.end)]) {
                keep(lists, [at[0]..next, at[1]..other], depth + 1, kept);
                if next < old.end {
                    kept.push((next, other));
                }
                at = [next + 1, other + 1];
            }
        }
    }
    kept.extend(tail);
}

/// The most items that stand in the same order in both ranges, of those that each has once; of all, the first with the first and so
/// on, where there are none of these.
fn anchors(lists: [&[usize]; 2], [old, new]: [Range<usize>; 2]) -> Vec<(usize, usize)> {
    let mut places: HashMap<usize, [VecDeque<usize>; 2]> = HashMap::new();
    for (side, range) in [old.clone(), new].into_iter().enumerate() {
        range.for_each(|at| places.entry(lists[side][at]).or_default()[side].push_back(at));
    }
    let once = |places: &[VecDeque<usize>; 2]| places.iter().all(|places| places.len() == 1);
    let any = places.values().any(once);
    let mut pairs = Vec::new();
    for old in old {
        let Some(places) = places.get_mut(&lists[0][old]).filter(|places| !any || once(places)) else { continue };
        pairs.extend(places[1].pop_front().map(|new| (old, new)));
    }
    // For each length, the pair that begins the chain of that length latest; and the pair behind each.
    let (mut begins, mut behind) = (Vec::<usize>::new(), vec![None; pairs.len()]);
    for (at, pair) in pairs.iter().enumerate().rev() {
        let length = begins.partition_point(|&begin| pairs[begin].1 > pair.1);
        behind[at] = length.checked_sub(1).map(|length| begins[length]);
        match begins.get_mut(length) {
            Some(begin) => *begin = at,
            None => begins.push(at),
        }
    }
    std::iter::successors(begins.last().copied(), |&at| behind[at]).map(|at| pairs[at]).collect()
}
