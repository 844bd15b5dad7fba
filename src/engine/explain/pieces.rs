//! Parts two versions of a text into pieces: those that both have, those that moved, and those that only one has.
//!
//! A text is parted as far as it differs: into sections and blocks, a block that differs into its lines, a line into its
//! sentences. A piece is never changed, so the pieces say the same in another order. Cost: a diff of the pieces on each level.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::align::{Step, align};
use super::layout::{Hold, Level, hold, is_item, may_be_sorted, says_order, spaced, stands_alone, tag, unnumbered};
use super::spans::same;

/// A place in one of two texts.
pub(super) struct Piece {
    pub(super) side: usize,
    pub(super) place: Range<usize>,
}

/// Pieces that stay together and are not the same in both texts.
pub(super) struct Chunk {
    pieces: Vec<Piece>,
    /// Bytes at its beginning that both texts have.
    shared: usize,
}

/// What two texts have in common, and what not.
#[derive(Default)]
pub(super) struct Parted {
    /// Pieces of both, as places in the first text, in its order.
    pub(super) common: Vec<Range<usize>>,
    /// What else each text has; chunks that begin alike come first.
    pub(super) own: [Vec<Chunk>; 2],
    /// In the order of the text.
    pub(super) changes: Vec<Change>,
    /// Bytes of all pieces that both have, of which some may belong to chunks.
    matched: usize,
    /// The second text has pieces in another order.
    moved: bool,
}

/// A place where the two differ.
#[derive(Debug)]
pub(super) enum Change {
    /// One version of a piece gave way to another.
    Other(Range<usize>, Range<usize>),
    Gone(Range<usize>),
    New(Range<usize>),
    /// What the two have where their order first differs.
    Moved(Range<usize>, Range<usize>),
    Spaced(Range<usize>, Range<usize>),
}

/// Bytes of the other sentences of a line from which on a sentence leaves its line.
const WORTH: usize = 24;
/// The share of words in common from which on two pieces are versions of one.
pub(super) const ALIKE: f64 = 0.5;
/// How deep pieces are parted that lie in each other.
const DEEPEST: usize = 24;

/// Parts two texts.
pub(super) fn part(a: &str, b: &str) -> Parted {
    let mut parted = Parted::default();
    let places = [a, b].map(|text| 0..text.len());
    match [a, b].map(|text| text.trim().is_empty()) {
        [true, true] => {}
        [true, false] => parted.new_piece(places[1].clone()),
        [false, true] => parted.gone_piece(places[0].clone()),
        [false, false] => parted.pair([a, b], places, Level::Block, 0),
    }
    parted.own.iter_mut().for_each(|own| arrange(own));
    parted
}

/// Puts chunks that begin alike first, so that their beginnings are shared.
fn arrange(own: &mut [Chunk]) {
    own.sort_by_key(|chunk| (Reverse(chunk.shared), chunk.pieces[0].place.start));
}

impl Parted {
    /// Whether both texts have the same pieces.
    pub(super) fn is_whole(&self) -> bool {
        self.own.iter().all(Vec::is_empty)
    }

    /// Whether an order of the pieces lets both texts begin alike.
    pub(super) fn begins_alike(&self) -> bool {
        !self.common.is_empty() || self.own.iter().flatten().any(|chunk| chunk.shared > 0)
    }

    /// Whether what both have takes another order in one of them.
    pub(super) fn sorts(&self) -> bool {
        let kept = |at: usize| self.common.iter().any(|place| place.contains(&at));
        self.changes.iter().any(|change| matches!(change, Change::Moved(old, _) if kept(old.start)))
    }

    /// What both have.
    pub(super) fn common(&self, texts: [&str; 2]) -> String {
        match self.own[0].is_empty() {
            true => texts[0].to_owned(),
            false => join(texts, &mut self.common.iter().map(|place| (0, place, false))),
        }
    }

    /// What only this text has.
    pub(super) fn own(&self, texts: [&str; 2], side: usize) -> String {
        let pieces = self.own[side].iter().flat_map(|chunk| chunk.pieces.iter().enumerate());
        join(texts, &mut pieces.map(|(at, piece)| (piece.side, &piece.place, at == 0)))
    }

    fn keep_apart(&mut self, side: usize, place: Range<usize>) {
        self.own[side].push(Chunk { pieces: vec![Piece { side, place }], shared: 0 });
    }

    fn gone_piece(&mut self, old: Range<usize>) {
        self.changes.push(Change::Gone(old.clone()));
        self.keep_apart(0, old);
    }

    fn new_piece(&mut self, new: Range<usize>) {
        self.changes.push(Change::New(new.clone()));
        self.keep_apart(1, new);
    }

    fn part(&mut self, texts: [&str; 2], within: [Range<usize>; 2], level: Level, depth: usize) {
        let pieces = [0, 1].map(|side| level.pieces(texts[side], within[side].clone()));
        let text = |side: usize, at: usize| &texts[side][pieces[side][at].clone()];
        let unnumbered = |piece: &str| if level == Level::Sentence { spaced(piece) } else { unnumbered(piece) };
        let words = [0, 1].map(|side| (0..pieces[side].len()).map(|at| unnumbered(text(side, at))).collect::<Vec<_>>());
        let alike = |old: usize, new: usize, alone: bool| {
            let items = level == Level::Block || (is_item(text(0, old)) && is_item(text(1, new)));
            let lines = |text: &str| text.lines().map(spaced).filter(|line| line.len() > 3).collect::<HashSet<_>>();
            let share = || !lines(text(0, old)).is_disjoint(&lines(text(1, new)));
            let named = || {
                tag(text(0, old)).is_some_and(|name| tag(text(1, new)) == Some(name) && !text(0, old).contains('\n'))
            };
            likeness(text(0, old), text(1, new)) >= ALIKE || (alone && (!items || named() || share()))
        };
        let alignment = align(&words[0], &words[1], &alike);
        let mut parting = alignment
            .moved
            .or_else(|| partly_the_same(&alignment.steps, |side, at| level == Level::Block || is_item(text(side, at))));
        let ordered = alignment.steps.iter().all(|step| matches!(step, Step::Same(..) | Step::Pair(..)));
        let is_renumbered = |step: &Step| match *step {
            Step::Same(old, new) | Step::Moved(old, new) => spaced(text(0, old)) != spaced(text(1, new)),
            _ => false,
        };
        let renumbered = alignment.steps.iter().any(is_renumbered);
        let gap = |side: usize, at: usize| {
            let start = at.checked_sub(1).map_or(within[side].start, |before| pieces[side][before].end);
            start..pieces[side].get(at).map_or(within[side].end, |piece| piece.start)
        };
        let mut next = Some([0, 0]);
        for step in alignment.steps {
            if !matches!(step, Step::Same(..))
                && let Some((old, new)) = parting.take()
            {
                let place = |side: usize, at: usize| pieces[side].get(at).or(pieces[side].last()).cloned();
                let places = place(0, old).zip(place(1, new));
                self.moved = true;
                self.changes.extend(places.map(|(old, new)| Change::Moved(old, new)));
            }
            let indices = step.indices();
            let [old, new] = [0, 1].map(|side| indices[side].map(|at| pieces[side][at].clone()));
            if let [Some(old), Some(new)] = indices
                && next == Some([old, new])
            {
                self.space(texts, [gap(0, old), gap(1, new)]);
            }
            next = indices[0].zip(indices[1]).map(|(old, new)| [old + 1, new + 1]);
            match (old, new) {
                (Some(old), Some(new)) if matches!(step, Step::Pair(..)) => self.pair(texts, [old, new], level, depth),
                (Some(old), Some(new)) => {
                    let versions = [&texts[0][old.clone()], &texts[1][new.clone()]];
                    self.matched += old.len();
                    match spaced(versions[0]) == spaced(versions[1]) {
                        true => self.space(texts, [old.clone(), new.clone()]),
                        // Numbers that follow from the order are no change of their own.
                        false if ordered => self.changes.push(Change::Other(old.clone(), new.clone())),
                        false => {}
                    }
                    // A number may be spoken of, so what has one keeps its place among the others.
                    if renumbered && unnumbered(versions[0]) != spaced(versions[0]) {
                        self.keep_apart(0, old);
                        self.keep_apart(1, new);
                    } else {
                        self.common.push(old);
                    }
                }
                (Some(old), None) => self.gone_piece(old),
                (None, new) => self.new_piece(new.unwrap_or_default()),
            }
        }
        if next == Some([pieces[0].len(), pieces[1].len()]) {
            self.space(texts, [gap(0, pieces[0].len()), gap(1, pieces[1].len())]);
        }
    }

    /// Tells where the white space of two places of the same words differs.
    fn space(&mut self, texts: [&str; 2], places: [Range<usize>; 2]) {
        let [old, new] = [0, 1].map(|side| &texts[side][places[side].clone()]);
        if old != new {
            let at = same(old.chars(), new.chars());
            let [old, new] = places.map(|place| place.start + at..place.start + at);
            self.changes.push(Change::Spaced(old, new));
        }
    }

    /// Two versions of a piece: parted further, where that leaves something in common.
    fn pair(&mut self, texts: [&str; 2], places: [Range<usize>; 2], level: Level, depth: usize) {
        let versions = [0, 1].map(|side| &texts[side][places[side].clone()]);
        let holds_others = versions.iter().any(|text| level.pieces(text, 0..text.len()).len() > 1);
        let below = if holds_others { Some(level) } else { level.below() };
        let mut inner = Self::default();
        if let Some(below) = below.filter(|_| depth < DEEPEST) {
            inner.part(texts, places.clone(), below, depth + 1);
        }
        let [old, new] = places;
        if inner.matched < if below == Some(Level::Sentence) { WORTH } else { 1 } {
            self.changes.push(Change::Other(old.clone(), new.clone()));
            self.keep_apart(0, old);
            self.keep_apart(1, new);
            return;
        }
        let hold = inner.hold(texts, below.unwrap_or(level), [&old, &new]);
        self.matched += inner.matched;
        self.changes.append(&mut inner.changes);
        let stands = |chunk: &Chunk| {
            chunk.pieces.first().is_some_and(|piece| stands_alone(&texts[piece.side][piece.place.clone()]))
        };
        let leaves = match hold {
            Hold::Free => true,
            Hold::Section => depth == 0 || inner.own.iter().flatten().all(stands),
            Hold::List => depth == 0,
            Hold::Element | Hold::Fixed => false,
        };
        if hold == Hold::Fixed {
            self.keep_apart(0, old);
            self.keep_apart(1, new);
        } else if leaves || inner.is_whole() {
            self.common.append(&mut inner.common);
            self.own.iter_mut().zip(inner.own).for_each(|(own, parts)| own.extend(parts));
        } else {
            let closing = inner.common.split_off(inner.common.len() - usize::from(hold == Hold::Element));
            let shared = inner.common.iter().map(Range::len).sum();
            let both = |places: &[Range<usize>]| {
                places.iter().map(|place| Piece { side: 0, place: place.clone() }).collect::<Vec<_>>()
            };
            for (own, mut parts) in self.own.iter_mut().zip(inner.own) {
                arrange(&mut parts);
                let parts = parts.into_iter().flat_map(|chunk| chunk.pieces);
                let pieces = both(&inner.common).into_iter().chain(parts).chain(both(&closing)).collect();
                own.push(Chunk { pieces, shared });
            }
        }
    }

    /// How the pieces of two versions of a text hold together.
    fn hold(&self, texts: [&str; 2], level: Level, places: [&Range<usize>; 2]) -> Hold {
        let versions = [0, 1].map(|side| &texts[side][places[side].clone()]);
        let [hold, other] = versions.map(|text| hold(text, level));
        let sorted = !self.moved
            || level == Level::Block
            || (level == Level::Line && versions.iter().all(|text| may_be_sorted(text)));
        let headed = hold == Hold::Free || self.common.first().is_some_and(|first| first.start == places[0].start);
        let closed = hold != Hold::Element
            || (self.common.len() > 1 && self.common.last().is_some_and(|last| last.end == places[0].end));
        let ordered = (hold != Hold::Free || self.moved) && versions.iter().any(|text| says_order(text));
        if hold == other && sorted && headed && closed && !ordered { hold } else { Hold::Fixed }
    }
}

/// Where sorting puts what both have first: each has items that the other lacks, and more of both follow. `is_item` says of a
/// piece by its side and index whether it stands for itself, as a document does.
fn partly_the_same(steps: &[Step], is_item: impl Fn(usize, usize) -> bool) -> Option<(usize, usize)> {
    let gone = steps.iter().position(|step| matches!(*step, Step::Gone(old) if is_item(0, old)))?;
    let new = steps.iter().position(|step| matches!(*step, Step::New(new) if is_item(1, new)))?;
    let first = gone.min(new);
    // What both end with is asked of the items, and none of them.
    steps[first..steps.len() - 1].iter().any(|step| matches!(step, Step::Same(..))).then_some(())?;
    let next = |side: usize| steps[first..].iter().find_map(|step| step.indices()[side]);
    Some((next(0)?, next(1)?))
}

/// The share of words that two texts have in common, numbers all alike.
pub(super) fn likeness(a: &str, b: &str) -> f64 {
    let word =
        |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "0".to_owned() } else { word.to_lowercase() };
    let words = |text: &str| text.split_whitespace().map(word).collect::<Vec<_>>();
    let (a, b) = (words(a), words(b));
    let most = a.len().max(b.len());
    let mut count: HashMap<String, usize> = HashMap::new();
    a.into_iter().for_each(|word| *count.entry(word).or_default() += 1);
    let common = b.into_iter().filter(|word| {
        count.get_mut(word).is_some_and(|left| {
            *left > 0 && {
                *left -= 1;
                true
            }
        })
    });
    common.count() as f64 / most.max(1) as f64
}

/// The pieces at these places one behind the other, each with its text and whether it begins a chunk. Pieces that stood beside each
/// other keep the white space between them, and pieces on lines of their own stay there.
fn join(texts: [&str; 2], places: &mut dyn Iterator<Item = (usize, &Range<usize>, bool)>) -> String {
    let mut joined = String::new();
    let mut last: Option<(usize, usize)> = None;
    let breaks = |gap: &&str| gap.matches('\n').count();
    for (side, place, begins) in places {
        let above = &texts[side][..place.start];
        let above = &above[above.trim_end().len()..];
        let below = |side: usize, at: usize| {
            let below = &texts[side][at..];
            &below[..below.len() - below.trim_start().len()]
        };
        if let Some((other, end)) = last {
            let gaps = [below(other, end), below(side, place.end), above];
            joined += match other == side && end <= place.start {
                true if !texts[side][end..place.start].contains('\n') => above,
                true => [gaps[0], above].into_iter().max_by_key(breaks).unwrap_or_default(),
                false if begins => "\n\n",
                false => gaps.into_iter().filter(|gap| breaks(gap) > 0).min_by_key(breaks).unwrap_or("\n"),
            };
        }
        joined += &texts[side][place.clone()];
        last = Some((side, place.end));
    }
    joined
}
