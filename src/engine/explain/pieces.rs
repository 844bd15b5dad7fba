//! Two versions of a text, piece by piece: what they share, what moved, and what only one has.
//!
//! A text is taken apart as far as it differs: into blocks between blank lines, a block that differs into its lines, a line
//! into its sentences. A piece is never changed, so what is put together again in another order says the same. Cost: a diff
//! of the pieces on each level.

use std::collections::HashMap;
use std::ops::Range;

use super::align::{Step, align};
use super::layout::{Level, is_item, is_plain, may_be_sorted, spaced, unnumbered};

/// What two texts have in common, and what not.
#[derive(Default)]
pub(super) struct Parted {
    /// Pieces of both, as places in the first text, in its order.
    pub(super) common: Vec<Range<usize>>,
    /// Pieces that only one has, as places in each text.
    pub(super) own: [Vec<Range<usize>>; 2],
    /// In the order of the text.
    pub(super) changes: Vec<Change>,
    /// The second text numbers some common piece differently.
    pub(super) renumbered: bool,
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

/// Takes two texts apart.
pub(super) fn part(a: &str, b: &str) -> Parted {
    let mut parted = Parted::default();
    parted.part([a, b], [0..a.len(), 0..b.len()], Level::Block);
    parted.own.iter_mut().for_each(|own| own.sort_by_key(|piece| piece.start));
    // Two texts that have nothing in common are two versions of one.
    if parted.common.is_empty()
        && !parted.changes.iter().any(|change| matches!(change, Change::Moved(..) | Change::Other(..)))
        && parted.own.iter().all(|own| !own.is_empty())
    {
        parted.changes = vec![Change::Other(0..a.len(), 0..b.len())];
    }
    parted
}

impl Parted {
    fn part(&mut self, texts: [&str; 2], within: [Range<usize>; 2], level: Level) {
        let pieces = [0, 1].map(|side| level.pieces(texts[side], within[side].clone()));
        let text = |side: usize, at: usize| &texts[side][pieces[side][at].clone()];
        let unnumbered = |piece: &str| if level == Level::Sentence { spaced(piece) } else { unnumbered(piece) };
        let words = [0, 1].map(|side| (0..pieces[side].len()).map(|at| unnumbered(text(side, at))).collect::<Vec<_>>());
        let alike = |old: usize, new: usize, alone: bool| {
            let items = level == Level::Block || (is_item(text(0, old)) && is_item(text(1, new)));
            let lines = |text: &str| text.lines().map(spaced).collect::<Vec<_>>();
            let share = || lines(text(0, old)).iter().any(|line| line.len() > 3 && lines(text(1, new)).contains(line));
            likeness(text(0, old), text(1, new)) >= ALIKE || (alone && (!items || share()))
        };
        let alignment = align(&words[0], &words[1], &alike);
        let mut parting = alignment
            .moved
            .or_else(|| partly_the_same(&alignment.steps, |side, at| level == Level::Block || is_item(text(side, at))));
        let ordered = alignment.steps.iter().all(|step| matches!(step, Step::Same(..) | Step::Pair(..)));
        for step in alignment.steps {
            if !matches!(step, Step::Same(..))
                && let Some((old, new)) = parting.take()
            {
                let place = |side: usize, at: usize| pieces[side].get(at).or(pieces[side].last()).cloned();
                let places = place(0, old).zip(place(1, new));
                self.changes.extend(places.map(|(old, new)| Change::Moved(old, new)));
            }
            let [old, new] = step.indices();
            match (step, old.map(|at| pieces[0][at].clone()), new.map(|at| pieces[1][at].clone())) {
                (Step::Pair(..), Some(old), Some(new)) => self.pair(texts, old, new, level),
                (_, Some(old), Some(new)) => {
                    let versions = [&texts[0][old.clone()], &texts[1][new.clone()]];
                    self.renumbered |= spaced(versions[0]) != spaced(versions[1]);
                    match spaced(versions[0]) == spaced(versions[1]) {
                        true if versions[0] == versions[1] => {}
                        true => self.changes.push(Change::Spaced(old.clone(), new)),
                        // Numbers that follow from the order are no change of their own.
                        false if ordered => self.changes.push(Change::Other(old.clone(), new)),
                        false => {}
                    }
                    self.common.push(old);
                }
                (_, Some(old), None) => {
                    self.changes.push(Change::Gone(old.clone()));
                    self.own[0].push(old);
                }
                (_, None, new) => {
                    let new = new.unwrap_or_default();
                    self.changes.push(Change::New(new.clone()));
                    self.own[1].push(new);
                }
            }
        }
    }

    /// Two versions of a piece: parted further, where that leaves something in common. Both keep it as a whole where its parts
    /// would not say the same in another place.
    fn pair(&mut self, texts: [&str; 2], old: Range<usize>, new: Range<usize>, level: Level) {
        let versions = [&texts[0][old.clone()], &texts[1][new.clone()]];
        let lines = level == Level::Line && versions[0].contains('\n');
        if let Some(below) = if lines { Some(level) } else { level.below() } {
            let mut parted = Self::default();
            parted.part(texts, [old.clone(), new.clone()], below);
            let common: usize = parted.common.iter().map(Range::len).sum();
            if common >= if below == Level::Sentence { WORTH } else { 1 } {
                let moved = parted.changes.iter().any(|change| matches!(change, Change::Moved(..)));
                let whole = parted.own.iter().all(Vec::is_empty);
                let apart = match below {
                    Level::Sentence => !moved,
                    _ if whole => versions.iter().all(|text| may_be_sorted(text)),
                    _ => versions.iter().all(|text| is_plain(text)),
                };
                self.changes.append(&mut parted.changes);
                self.renumbered |= parted.renumbered;
                if apart {
                    self.common.append(&mut parted.common);
                    self.own.iter_mut().zip(parted.own).for_each(|(own, parts)| own.extend(parts));
                } else {
                    self.own[0].push(old);
                    self.own[1].push(new);
                }
                return;
            }
        }
        self.changes.push(Change::Other(old.clone(), new.clone()));
        self.own[0].push(old);
        self.own[1].push(new);
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

/// The pieces of `text` at these places one behind the other, as they stood: what stood beside each other keeps the white space
/// between it, and what stood on lines of its own stays so.
pub(super) fn join(text: &str, places: &[Range<usize>]) -> String {
    let mut joined = String::new();
    let mut last: Option<&Range<usize>> = None;
    for place in places {
        if let Some(last) = last {
            let before = &text[..place.start];
            let gap = &before[before.trim_end_matches(char::is_whitespace).len()..];
            let apart = last.end > place.start || text[last.end..place.start].contains('\n');
            joined += if apart && !gap.contains('\n') { "\n" } else { gap };
        }
        joined += &text[place.clone()];
        last = Some(place);
    }
    joined
}
