//! Two lists beside each other: what stays, what moved, what came and went.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use similar::DiffOp;
use similar::algorithms::{Capture, patience};

/// More items than this are not diffed: only the same beginning and end are found, and what moved.
const MOST: usize = 4_000;
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
    let mut left: HashMap<usize, Vec<usize>> = HashMap::new();
    for new in gaps.iter().flat_map(|gap| gap.1.clone()).rev() {
        left.entry(b[new]).or_default().push(new);
    }
    let mut place = vec![None; a.len()];
    let mut taken = vec![false; b.len()];
    for old in gaps.iter().flat_map(|gap| gap.0.clone()) {
        place[old] = left.get_mut(&a[old]).and_then(Vec::pop);
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
    if a.len().max(b.len()) > MOST {
        let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(a, b)| a == b).count();
        return vec![(start..a.len() - end, start..b.len() - end)];
    }
    let mut gaps: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let mut operations = Capture::new();
    let Ok(()) = patience::diff(&mut operations, a, 0..a.len(), b, 0..b.len());
    for operation in operations.into_ops() {
        let (_, old, new) = operation.as_tag_tuple();
        match gaps.last_mut() {
            _ if matches!(operation, DiffOp::Equal { .. }) => {}
            Some(last) if last.0.end == old.start && last.1.end == new.start => {
                (last.0.end, last.1.end) = (old.end, new.end);
            }
            _ => gaps.push((old, new)),
        }
    }
    gaps
}
