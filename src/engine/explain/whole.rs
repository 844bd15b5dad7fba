//! What no piece of a text ends in: code, JSON, quotations, brackets, emphasis, and elements on one line. Cost: O(length).

use std::ops::Range;

use super::layout::tag;

/// What opens, what may close it, and whether both stand at the edges of words.
type Pair = (&'static str, &'static [&'static str], bool);

/// Where nothing closes them, the rest of the line stays as it is.
const QUOTES: [Pair; 11] = [
    ("\"", &["\""], true),
    ("“", &["”"], false),
    ("„", &["“", "”"], false),
    ("«", &["»"], false),
    ("»", &["«"], false),
    ("‹", &["›"], false),
    ("「", &["」"], false),
    ("『", &["』"], false),
    ("《", &["》"], false),
    ("‘", &["’"], true),
    ("‚", &["‘", "’"], true),
];
/// Where nothing closes them they are no marks of this kind, but apostrophes, bullets and the like.
const EMPHASES: [Pair; 5] =
    [("**", &["**"], true), ("__", &["__"], true), ("*", &["*"], true), ("_", &["_"], true), ("'", &["'"], true)];
const BRACKETS: [(char, char); 6] = [('(', ')'), ('[', ']'), ('{', '}'), ('（', '）'), ('【', '】'), ('〈', '〉')];
/// How many open brackets are searched for the one that is closed, and how many bytes of a line for the end of an element.
const DEEPEST: usize = 64;
const LONGEST: usize = 4096;

/// The places of a text that stay as they are, in order. What nothing closes goes on to the end of its line; code between fences, to
/// the end of the text.
pub(super) fn whole(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut lacking: Vec<&str> = Vec::new();
    let (mut at, mut paragraph) = (0, 0);
    while let Some(mark) = text[at..].chars().next() {
        if at >= paragraph {
            paragraph = at + paragraph_of(&text[at..]);
            lacking.clear();
            // Only JSON and code go on behind a blank line.
            let goes_on = |closer: char| "]}".contains(closer);
            open.iter().filter(|open| !goes_on(open.0)).for_each(|open| leave_line(text, open.1, &mut found));
            open.retain(|open| goes_on(open.0));
        }
        let (before, rest) = (&text[..at], &text[at..paragraph]);
        let starts = before.is_empty() || before.ends_with('\n');
        let end = at + mark.len_utf8();
        if mark.is_alphanumeric() || (mark.is_whitespace() && !starts) {
            at = end;
            continue;
        }
        let code = starts.then(|| fenced(&text[at..])).flatten();
        match code.or_else(|| quoted(before, [rest, &text[at..]], &mut lacking)).or_else(|| element(rest)) {
            Some(length) => {
                add(&mut found, at..at + length);
                at += length;
                continue;
            }
            None => at = end,
        }
        if let Some((_, closer)) = BRACKETS.iter().find(|pair| pair.0 == mark) {
            open.push((*closer, end - mark.len_utf8()));
        } else if let Some(depth) = open.iter().rev().take(DEEPEST).position(|(closer, _)| *closer == mark) {
            let start = open[open.len() - 1 - depth].1;
            open.truncate(open.len() - 1 - depth);
            add(&mut found, start..end);
        }
    }
    open.iter().for_each(|open| leave_line(text, open.1, &mut found));
    found
}

/// Leaves the rest of the line as it is in which a bracket opens that nothing closes.
fn leave_line(text: &str, start: usize, found: &mut Vec<Range<usize>>) {
    // The rest of a line covers what opens in it.
    let covered = found.partition_point(|place| place.end <= start);
    if found.get(covered).is_none_or(|place| place.start > start) {
        add(found, start..start + line(&text[start..]).len());
    }
}

/// Adds a place to those that are in order, as one with those that it has something in common with.
fn add(found: &mut Vec<Range<usize>>, mut place: Range<usize>) {
    let first = found.partition_point(|other| other.end <= place.start);
    let last = found.partition_point(|other| other.start < place.end);
    if first < last {
        place = place.start.min(found[first].start)..place.end.max(found[last - 1].end);
        found.drain(first..last);
    }
    found.insert(first, place);
}

/// Bytes of the quotation or code that a text begins with, to the end of its paragraph and to its own, and of the rest of the line
/// where nothing closes it. None where it begins with none; `lacking` collects what closes nowhere in the paragraph.
fn quoted(before: &str, [rest, all]: [&str; 2], lacking: &mut Vec<&str>) -> Option<usize> {
    const TEXT: &str = "\"\"\"";
    if rest.starts_with(TEXT) {
        return closed(all, (TEXT, &[TEXT], false)).or(Some(line(rest).len()));
    }
    let ticks = &rest[..rest.len() - rest.trim_start_matches('`').len()];
    if !ticks.is_empty() {
        return closed(rest, (ticks, &[ticks], false)).or(Some(line(rest).len()));
    }
    let opens = |pair: &&Pair| {
        let inner = before.ends_with(char::is_alphanumeric)
            || rest.get(pair.0.len()..).is_some_and(|rest| rest.starts_with(char::is_whitespace));
        rest.starts_with(pair.0) && !(pair.2 && inner) && !lacking.contains(&pair.0)
    };
    let pair = QUOTES.iter().chain(&EMPHASES).find(opens)?;
    closed(rest, *pair).or_else(|| {
        lacking.push(pair.0);
        QUOTES.contains(pair).then(|| line(rest).len())
    })
}

/// Bytes from what opens at the beginning of a text to what closes it.
fn closed(text: &str, (opens, closers, edge): (&str, &[&str], bool)) -> Option<usize> {
    let inner = &text[opens.len()..];
    let closes = |closer: &&str| {
        let mut ends = inner.match_indices(*closer);
        ends.find(|(at, closer)| {
            let (before, behind) = (&inner[..*at], &inner[at + closer.len()..]);
            let spaced = edge && *closer != "\"" && before.ends_with(char::is_whitespace);
            !(before.ends_with('\\') || spaced || (edge && behind.starts_with(char::is_alphanumeric)))
        })
        .map(|(at, closer)| opens.len() + at + closer.len())
    };
    closers.iter().filter_map(closes).min()
}

/// Bytes of the element that a line begins with and closes.
fn element(text: &str) -> Option<usize> {
    let name = text.starts_with('<').then(|| tag(text)).flatten()?;
    let line = line(&text[..text.floor_char_boundary(LONGEST)]);
    let end = format!("</{name}>");
    Some(line.find(&end)? + end.len())
}

/// Bytes of the code between fences that a text begins with, fences included.
fn fenced(text: &str) -> Option<usize> {
    let first = line(text);
    let fence = first.trim_start();
    let mark = fence.chars().next().filter(|mark| "`~".contains(*mark))?;
    let info = fence.trim_start_matches(mark);
    let length = fence.len() - info.len();
    if length < 3 || info.contains('`') {
        return None;
    }
    let mut at = (first.len() + 1).min(text.len());
    for line in text[at..].split_inclusive('\n') {
        let closes = line.trim();
        if closes.len() >= length && closes.chars().all(|c| c == mark) {
            return Some(at + line.trim_end().len());
        }
        at += line.len();
    }
    Some(text.trim_end().len())
}

fn line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// Bytes up to the first blank line behind one with words.
fn paragraph_of(text: &str) -> usize {
    let (mut end, mut words) = (0, false);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if blank && words {
            break;
        }
        words |= !blank;
        end += line.len();
    }
    end
}
