//! How a text is laid out: what holds together, and what may change its place and still say the same.

use std::collections::HashSet;
use std::ops::Range;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Level {
    Block,
    Line,
    Sentence,
}

impl Level {
    pub(super) fn below(self) -> Option<Self> {
        match self {
            Self::Block => Some(Self::Line),
            Self::Line => Some(Self::Sentence),
            Self::Sentence => None,
        }
    }

    /// The places of the pieces of `text`, without the white space between them.
    pub(super) fn pieces(self, text: &str, within: Range<usize>) -> Vec<Range<usize>> {
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
                    // Code between fences is one block, and a heading belongs to what follows.
                    open ^= text[line].trim_start().starts_with("```");
                }
                pieces = with_headings(text, pieces);
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

/// Blocks, each heading with the block behind it.
fn with_headings(text: &str, blocks: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let is_heading = |block: &Range<usize>| {
        let block = text[block.clone()].trim();
        !block.contains('\n') && (block.starts_with('#') || block.ends_with(':'))
    };
    let mut whole: Vec<Range<usize>> = Vec::new();
    for block in blocks {
        match whole.last_mut().filter(|last| is_heading(last)) {
            Some(last) => last.end = block.end,
            None => whole.push(block),
        }
    }
    whole
}

/// Whether every line says something by itself: no lists, headings, tables, markup or code, and no sentence that goes on in the
/// next line.
pub(super) fn is_plain(text: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(1);
    !repeats_a_label(&lines)
        && lines.iter().enumerate().all(|(index, line)| {
            let ends = line.ends_with(['.', '!', '?', ')', '"', '。']) || label(line).is_some() || index == last;
            ends && !is_item(line) && !is_code(line) && !line.ends_with(':') && !line.starts_with(['#', '>'])
        })
}

/// Whether its lines may stand in another order: plain ones, and those of one list without numbers.
pub(super) fn may_be_sorted(text: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let list = &lines[usize::from(lines.first().is_some_and(|line| line.ends_with(':')))..];
    let is_one = |line: &&str| is_item(line) && !is_code(line) && spaced(line) == unnumbered(line);
    is_plain(text) || (!repeats_a_label(list) && list.iter().all(is_one))
}

/// Whether two texts of the same words have the same indentation, and no code between fences.
pub(super) fn differs_in_spaces_alone(a: &str, b: &str) -> bool {
    let indentation = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| line.len() - line.trim_start().len()).collect::<Vec<_>>()
    };
    let same_lines = indentation(a) == indentation(b);
    spaced(a) == spaced(b) && !a.contains("```") && (same_lines || indentation(a).iter().all(|&indent| indent == 0))
}

fn is_code(line: &str) -> bool {
    line.starts_with([' ', '\t', '|', '{', '}', '[', ']', '`', '+']) && !is_item(line)
        || line.ends_with(['{', '}', '[', ']', ';', '|', ',', '('])
        || line.contains("```")
}

/// Whether lines belong to each other by turns, as questions and answers do.
fn repeats_a_label(lines: &[&str]) -> bool {
    let mut seen = HashSet::new();
    lines.iter().filter_map(|line| label(line)).any(|label| !seen.insert(label))
}

/// What stands before a colon, of up to three words without digits.
fn label(line: &str) -> Option<&str> {
    let (label, value) = line.split_once(':')?;
    let fits = label.split_whitespace().count() <= 3 && !label.contains(|c: char| c.is_ascii_digit());
    (fits && !value.trim().is_empty()).then_some(label)
}

/// Whether a line is one of a list: with a bullet, a number, a tag, or the name of what it holds.
pub(super) fn is_item(line: &str) -> bool {
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
pub(super) fn unnumbered(piece: &str) -> String {
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
