//! Two versions of a text, piece by piece: what they share, what moved, and what only one has.
//!
//! A text is taken apart as far as it differs: into blocks between blank lines, a block that differs into its lines, a line
//! into its sentences. A piece is never changed, so what is put together again in another order says the same. Cost: a diff
//! of the pieces on each level.

use std::collections::HashMap;
use std::ops::Range;

use super::align::{Step, align};

/// What two texts have in common, and what not.
#[derive(Default)]
pub(super) struct Parted {
    /// Pieces of both, as places in the first text, in its order.
    pub(super) common: Vec<Range<usize>>,
    /// Pieces that only one has, as places in each text.
    pub(super) own: [Vec<Range<usize>>; 2],
    /// In the order of the text.
    pub(super) changes: Vec<Change>,
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

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Block,
    Line,
    Sentence,
}

impl Level {
    fn below(self) -> Option<Self> {
        match self {
            Self::Block => Some(Self::Line),
            Self::Line => Some(Self::Sentence),
            Self::Sentence => None,
        }
    }

    /// The places of the pieces of `text`, without the white space between them.
    fn pieces(self, text: &str, within: Range<usize>) -> Vec<Range<usize>> {
        let end = within.end;
        let mut pieces: Vec<Range<usize>> = Vec::new();
        match self {
            Self::Block => {
                let mut open = false;
                for line in Self::Line.pieces(text, within) {
                    let apart = pieces.last().is_none_or(|last| text[last.end..line.start].matches('\n').count() > 1);
                    match pieces.last_mut() {
                        Some(last) if open || !apart => last.end = line.end,
                        _ => pieces.push(line.clone()),
                    }
                    // Code between fences is one block.
                    open ^= text[line].trim_start().starts_with("```");
                }
            }
            Self::Line => {
                let mut at = within.start;
                for line in text[within].split_inclusive('\n') {
                    // The indentation is the line's, as in code.
                    let length = line.trim_end().len();
                    if length > 0 {
                        pieces.push(at..at + length);
                    }
                    at += line.len();
                }
                pieces = elements(text, pieces);
            }
            Self::Sentence => {
                let mut start = within.start;
                let spaces = text[within.clone()].match_indices(char::is_whitespace).map(|(at, _)| within.start + at);
                let ends = spaces.filter(|&at| text[within.start..at].ends_with(['.', '!', '?', '。'])).chain([end]);
                for at in ends {
                    let piece = &text[start..at];
                    let lead = piece.len() - piece.trim_start().len();
                    if start + lead < at {
                        pieces.push(start + lead..at);
                        start = at;
                    }
                }
            }
        }
        pieces
    }
}

/// Lines, but for those of an element from its tag to where it is closed, which are one piece. What is one element as a whole
/// is its lines, and the elements within.
fn elements(text: &str, lines: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let last =
            tag(&text[line.clone()]).and_then(|name| closed(text, &lines[at..], name)).map_or(at, |count| at + count);
        let whole = at == 0 && last + 1 == lines.len();
        let last = if whole { at } else { last };
        pieces.push(line.start..lines[last].end);
        at = last + 1;
    }
    pieces
}

/// The name of the tag that a line begins with.
fn tag(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('<')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && !"_-:".contains(c)).unwrap_or(rest.len());
    (rest.starts_with(char::is_alphabetic) && rest[end..].starts_with(['>', ' ', '/'])).then_some(&rest[..end])
}

/// How many lines behind the first an element of this name is closed in; none where it never is.
fn closed(text: &str, lines: &[Range<usize>], name: &str) -> Option<usize> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut depth = 0_usize;
    lines.iter().position(|line| {
        let line = &text[line.clone()];
        let opened =
            line.match_indices(&open).filter(|(at, _)| line[at + open.len()..].starts_with(['>', ' '])).count();
        depth = (depth + opened).saturating_sub(line.matches(&close).count());
        depth == 0
    })
}

/// Takes two texts apart.
pub(super) fn part(a: &str, b: &str) -> Parted {
    let mut parted = Parted::default();
    parted.part([a, b], [0..a.len(), 0..b.len()], Level::Block);
    parted.own.iter_mut().for_each(|own| own.sort_by_key(|piece| piece.start));
    // Two texts that have nothing in common are two versions of one.
    if parted.common.is_empty() && parted.own.iter().all(|own| !own.is_empty()) {
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
            likeness(text(0, old), text(1, new)) >= ALIKE || (alone && !items)
        };
        let alignment = align(&words[0], &words[1], alike);
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

    /// Two versions of a piece: parted further, where that leaves something in common.
    fn pair(&mut self, texts: [&str; 2], old: Range<usize>, new: Range<usize>, level: Level) {
        let lines = level == Level::Line && texts[0][old.clone()].contains('\n');
        if let Some(below) = if lines { Some(level) } else { level.below() } {
            let mut parted = Self::default();
            parted.part(texts, [old.clone(), new.clone()], below);
            let common: usize = parted.common.iter().map(Range::len).sum();
            if common >= if below == Level::Sentence { WORTH } else { 1 } {
                self.common.append(&mut parted.common);
                self.changes.append(&mut parted.changes);
                for (own, parts) in self.own.iter_mut().zip(parted.own) {
                    own.extend(parts);
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
    steps[first..].iter().any(|step| matches!(step, Step::Same(..))).then_some(())?;
    let next = |side: usize| steps[first..].iter().find_map(|step| step.indices()[side]);
    Some((next(0)?, next(1)?))
}

/// Whether a line is one of a list: with a bullet, a number, a tag, or the name of what it holds.
fn is_item(line: &str) -> bool {
    const NAMES: [&str; 10] =
        ["document", "doc", "source", "file", "passage", "chunk", "article", "page", "result", "context"];
    let line = line.trim_start();
    let first = line.split_whitespace().next().unwrap_or_default();
    let name = first.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
    let number = first.trim_matches(['[', ']', '(', ')', '.', ':', '#']);
    matches!(first, "-" | "*" | "•")
        || line.starts_with('<')
        || NAMES.contains(&name.as_str())
        || (number.len() < first.len() && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// The words of an item without the number that its place gives it, as `[2]`, `2.` and `Document 2:` do.
fn unnumbered(piece: &str) -> String {
    let words: Vec<&str> = piece.split_whitespace().collect();
    let is_number = |word: &str| {
        let digits = word.trim_matches(['[', ']', '(', ')', '.', ':', '#']);
        !digits.is_empty() && digits.len() <= 3 && digits.chars().all(|c| c.is_ascii_digit())
    };
    match words[..] {
        [first, ..] if is_item(first) && is_number(first) => words[1..].join(" "),
        [first, second, ..] if is_item(first) && is_number(second) => [&[first], &words[2..]].concat().join(" "),
        _ => words.join(" "),
    }
}

/// The words with one space between them.
pub(super) fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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
