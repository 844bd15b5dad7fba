//! How a text is laid out: which of its parts belong together, and which may change their place and still say the same.

use std::collections::HashMap;
use std::ops::Range;

use crate::kv::label;

use super::sentences::{FULL_STOPS, connects, is_listed, sentences};
use super::whole::whole;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Level {
    /// Sections under headings, and blocks between blank lines.
    Block,
    /// Lists under a line that ends in a colon, elements, code, and lines.
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

    /// The places of the pieces of `text`, without the white space between them. Where one section, list or element is all of it,
    /// its pieces are the heading and what is under it.
    pub(super) fn pieces(self, text: &str, within: Range<usize>) -> Vec<Range<usize>> {
        match self {
            Self::Block => {
                let blocks = blocks(text, within);
                grouped(&blocks, true, &|at| section(text, &blocks[at..]))
            }
            Self::Line => {
                let (entries, groups) = groups(text, within);
                if groups.len() == 1 { entries } else { groups }
            }
            Self::Sentence => sentences(text, within),
        }
    }
}

/// How many blocks the section has that the first of these begins; 1 where that is no heading.
fn section(text: &str, blocks: &[Range<usize>]) -> usize {
    let rank = |block: &Range<usize>| rank(&text[block.clone()]);
    let Some(own) = rank(&blocks[0]) else { return 1 };
    let delimited = blocks[1..].iter().take_while(|block| is_delimited(&text[(*block).clone()])).count();
    if own == COLON && delimited > 0 {
        return 1 + delimited;
    }
    let is_listed = |block: &Range<usize>| own == COLON && is_item(&text[block.clone()]);
    let listed = blocks.get(1).is_some_and(is_listed);
    let next = blocks[1..]
        .iter()
        .position(|block| rank(block).is_some_and(|other| other <= own) || (listed && !is_listed(block)));
    next.map_or(blocks.len(), |count| count + 1)
}

/// Joins each piece with those behind it that belong to it: `count` gives the number of all from its index. With `open`, what
/// would hold everything is only its first piece.
fn grouped(pieces: &[Range<usize>], open: bool, count: &dyn Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut whole = Vec::new();
    let mut at = 0;
    while at < pieces.len() {
        let all = count(at);
        let all = if open && all == pieces.len() { 1 } else { all };
        whole.push(pieces[at].start..pieces[at + all - 1].end);
        at += all;
    }
    whole
}

/// What text is put between that stays as it is.
const FENCES: [&str; 3] = ["```", "~~~", "\"\"\""];
/// The rank of a line that ends in a colon, below that of all headings.
const COLON: usize = 7;

/// How high a heading stands, 1 the highest; none for what is no heading.
fn rank(block: &str) -> Option<usize> {
    let block = block.trim();
    let marks = block.len() - block.trim_start_matches('#').len();
    match block.contains('\n') {
        true => None,
        false if (1..COLON).contains(&marks) && block[marks..].starts_with(' ') => Some(marks),
        false => block.ends_with(':').then_some(COLON),
    }
}

/// What stands between blank lines; code between fences and elements as a whole, and headings with `#` by themselves.
fn blocks(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut headed = false;
    for line in lines(text, within) {
        let words = &text[line.clone()];
        let heading = words.starts_with('#') && rank(words).is_some();
        let blank = blocks.last().is_none_or(|last| text[last.end..line.start].matches('\n').count() > 1);
        match blocks.last_mut() {
            Some(last) if is_rule(&text[last.clone()]) || !(blank || heading || headed) => last.end = line.end,
            _ => blocks.push(line),
        }
        headed = heading;
    }
    blocks
}

/// Lines, and elements from their tag to where they are closed. What is one element as a whole is its lines, and the elements within.
fn lines(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let lines = whole_lines(text, within);
    let lengths = elements(text, &lines);
    grouped(&lines, true, &|at| lengths[at])
}

/// Lines, and as one line those that code, JSON or a quotation goes on in.
fn whole_lines(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut places = whole(&text[within.clone()]).into_iter().peekable();
    for line in written_lines(text, within.clone()) {
        while places.next_if(|place| within.start + place.end <= line.start).is_some() {}
        let goes_on = places.peek().is_some_and(|place| within.start + place.start < line.start);
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => last.end = line.end,
            None => lines.push(line),
        }
    }
    lines
}

/// Lines with their indentation, blank ones left out.
fn written_lines(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut at = within.start;
    for line in text[within].split_inclusive('\n') {
        let length = line.trim_end().len();
        if length > 0 {
            lines.push(at..at + length);
        }
        at += line.len();
    }
    lines
}

/// For each line, how many the element has that begins there; 1 where none begins or none is closed.
fn elements(text: &str, lines: &[Range<usize>]) -> Vec<usize> {
    let mut lengths = vec![1; lines.len()];
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut count: HashMap<&str, usize> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        let line = &text[line.clone()];
        if is_delimited(line) {
            continue;
        }
        let own = tag(line);
        for (place, _) in line.match_indices('<') {
            let mark = &line[place..];
            if let Some(name) = tag(mark).filter(|name| Some(*name) == own) {
                open.push((name, at));
                *count.entry(name).or_default() += 1;
            } else if let Some(name) = mark.strip_prefix("</").and_then(|rest| Some(rest.split_once('>')?.0)) {
                while count.get(name).is_some_and(|&count| count > 0)
                    && let Some((opened, start)) = open.pop()
                {
                    count.entry(opened).and_modify(|count| *count -= 1);
                    if opened == name {
                        lengths[start] = at + 1 - start;
                        break;
                    }
                }
            }
        }
    }
    lengths
}

/// The name of the tag that a text begins with.
pub(super) fn tag(text: &str) -> Option<&str> {
    let rest = text.trim_start().strip_prefix('<')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && !"_-:".contains(c)).unwrap_or(rest.len());
    (rest.starts_with(char::is_alphabetic) && rest[end..].starts_with(['>', ' '])).then_some(&rest[..end])
}

/// The entries of a text, and the groups that these form. An entry is a line with those that go on from it. A group is a list with
/// the line that introduces it, numbered steps, code, or lines that answer each other.
fn groups(text: &str, within: Range<usize>) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let lines = lines(text, within.clone());
    let line = |at: usize| &text[lines[at].clone()];
    let width = text[within].lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let goes_on = |first: usize, at: usize| {
        let deeper = indentation(line(at)) > indentation(line(first));
        let above = line(at - 1).lines().next_back().unwrap_or_default();
        deeper || connects(line(at)) || (!is_code(line(at)) && runs_on(above, line(at), width))
    };
    let entry = |at: usize| {
        // What separates belongs to what is behind it.
        let rules = (at..lines.len() - 1).take_while(|&at| is_rule(line(at))).count();
        1 + rules + (at + rules + 1..lines.len()).take_while(|&next| goes_on(at, next)).count()
    };
    let entries = match grouped(&lines, false, &entry) {
        // An item, and the list in it.
        single if single.len() == 1 && lines.len() > 1 && indentation(line(1)) > indentation(line(0)) => {
            [&lines[..1], &grouped(&lines[1..], false, &|at| entry(at + 1))].concat()
        }
        entries => entries,
    };
    let first = |at: usize| {
        let mut lines = text[entries[at].clone()].lines();
        lines.find(|line| !is_rule(line)).unwrap_or_default()
    };
    let repeated = repeated_label(&(0..entries.len()).map(first).collect::<Vec<_>>());
    let group = |at: usize| {
        let rest = at + 1..entries.len();
        let run = |is: &dyn Fn(&str) -> bool| rest.clone().take_while(|&next| is(first(next))).count();
        let delimited = rest.clone().take_while(|&next| is_delimited(&text[entries[next].clone()])).count();
        1 + match first(at) {
            _ if repeated == Some(at) => rest.len(),
            _ if delimited > 0 && introduces(text, &entries[at]) => delimited,
            line if is_step(line) => run(&is_step),
            line if line.ends_with(':') && rest.clone().next().is_some_and(|next| is_item(first(next))) => {
                run(&is_item)
            }
            line if line.ends_with(':') => run(&|line| !line.ends_with(':')),
            line if is_code(line) => run(&is_code),
            _ => 0,
        }
    };
    let groups = grouped(&entries, false, &group);
    (entries, groups)
}

/// Whether an entry tells what is between the delimiters of the next: it ends in a colon, or is a line of one sentence.
fn introduces(text: &str, entry: &Range<usize>) -> bool {
    let line = &text[entry.clone()];
    let one = || !line.contains('\n') && !is_item(line) && !is_code(line) && sentences(text, entry.clone()).len() == 1;
    line.ends_with(':') || (!line.trim_start().starts_with('#') && one())
}

/// Whether a text says that its order counts: its heading does, or a line begins with a word for its place.
pub(super) fn says_order(text: &str) -> bool {
    const HEADS: &str = " order steps sequence procedure rank ranked ranking priority priorities reihenfolge schritte ablauf ordre \
        étapes orden pasos ordine passi ";
    const PLACES: &str = " first firstly second secondly third thirdly then next finally lastly step zuerst dann danach schließlich \
        schritt puis ensuite enfin étape primero luego paso poi infine passo ";
    let says = |list: &str, line: &str, most: usize| {
        let words = line.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        words.take(most).any(|word| is_listed(list, word))
    };
    let head = text.lines().next().unwrap_or_default();
    let heads = rank(head).is_some() && (says(HEADS, head, usize::MAX) || says(PLACES, head, usize::MAX));
    heads || text.lines().any(|line| says(PLACES, line, 1))
}

/// Whether a line is nothing but a separator, as `---` is.
pub(super) fn is_rule(line: &str) -> bool {
    let line = line.trim().as_bytes();
    line.len() > 2 && b"-*_=~#".contains(&line[0]) && line.iter().all(|mark| *mark == line[0])
}

/// Whether a piece is code between fences, a JSON value, a quotation on lines of its own or a table.
fn is_delimited(piece: &str) -> bool {
    let piece = piece.trim();
    let is_within = |open: char, close: char| piece.starts_with(open) && piece.ends_with(close);
    FENCES.iter().any(|fence| piece.starts_with(fence))
        || is_within('{', '}')
        || (is_within('[', ']') && !is_item(piece))
        || piece.lines().all(|line| line.trim_start().starts_with('|'))
}

/// Whether a line goes on in the next: it ends in no sentence, and it has the width of the text or the next begins small.
fn runs_on(line: &str, next: &str, width: usize) -> bool {
    let line = line.trim_end();
    let ended = line.ends_with(['.', '!', '?', ':', ')', '"', '”', '>', '|']) || line.ends_with(FULL_STOPS);
    let word = next.split_whitespace().next().map_or(0, |word| word.chars().count());
    let length = line.chars().count();
    let full = width > 48 && length + word >= width;
    let small = 2 * length > width && next.trim_start().starts_with(char::is_lowercase);
    !ended && !is_item(next) && !next.trim_start().starts_with(['#', '>']) && (full || small)
}

/// What may be done with the parts of a piece.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Hold {
    /// Each may leave it.
    Free,
    /// Sentences, and sections of their own, may leave the section. The rest stays under its heading: what changes goes last there.
    Section,
    /// They stay in their list: what changes goes last there.
    List,
    /// They stay in their element: what changes goes last there, before what closes it.
    Element,
    /// They stay as they are.
    Fixed,
}

/// How the pieces of this level hold together that a text has.
pub(super) fn hold(text: &str, level: Level) -> Hold {
    let all = 0..text.len();
    let lines = whole_lines(text, all.clone());
    if level != Level::Sentence && lines.len() > 1 && elements(text, &lines)[0] == lines.len() {
        return Hold::Element;
    }
    match level {
        Level::Sentence => Hold::Free,
        Level::Block => {
            let blocks = blocks(text, all);
            let one = blocks.len() > 1 && section(text, &blocks) == blocks.len();
            match one && text.trim_start().starts_with('#') {
                true => Hold::Section,
                false if one && is_delimited(&text[blocks[1].clone()]) => Hold::Fixed,
                false if one => Hold::List,
                false => Hold::Free,
            }
        }
        Level::Line => {
            let (entries, groups) = groups(text, all);
            let first = |entry: &Range<usize>| text[entry.clone()].lines().next().unwrap_or_default().trim_end();
            let firsts: Vec<&str> = entries.iter().map(first).collect();
            match &firsts[..] {
                [first, items @ ..] if groups.len() == 1 && !items.is_empty() => {
                    let is_bullet = |line: &&str| is_item(line) && !is_code(line) && !is_step(line);
                    let heads = first.ends_with(':') || is_bullet(first);
                    let held = heads && items.iter().all(is_bullet) && repeated_label(items).is_none();
                    if held { Hold::List } else { Hold::Fixed }
                }
                [line] if is_code(line) => Hold::Fixed,
                _ => Hold::Free,
            }
        }
    }
}

/// Whether a piece says the same outside of its section: sentences, and what has a heading of its own.
pub(super) fn stands_alone(piece: &str) -> bool {
    let first = piece.lines().next().unwrap_or_default().trim_end();
    rank(first).is_some() || is_plain(piece)
}

/// Whether every line says something by itself: no lists, headings, tables, markup or code, and no sentence that goes on in the
/// next line.
pub(super) fn is_plain(text: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(1);
    repeated_label(&lines).is_none()
        && lines.iter().enumerate().all(|(index, line)| {
            let ends = line.ends_with(['.', '!', '?', ')', '"'])
                || line.ends_with(FULL_STOPS)
                || label(line).is_some()
                || index == last;
            ends && !is_item(line) && !is_code(line) && !line.ends_with(':') && !line.starts_with([' ', '\t', '#', '>'])
        })
}

/// Whether its lines may stand in another order: plain ones, and those of one list without numbers.
pub(super) fn may_be_sorted(text: &str) -> bool {
    let pieces = Level::Line.pieces(text, 0..text.len());
    let lines: Vec<&str> =
        pieces.iter().map(|piece| text[piece.clone()].lines().next().unwrap_or_default().trim_end()).collect();
    let list = match &lines[..] {
        [_, list @ .., _] if hold(text, Level::Line) == Hold::Element => list,
        [first, list @ ..] if first.ends_with(':') => list,
        lines => lines,
    };
    let is_numbered = |line: &str| match tag(line) {
        Some(_) => line.split('>').next().is_some_and(|tag| tag.contains(|c: char| c.is_ascii_digit())),
        None => spaced(line) != unnumbered(line),
    };
    let is_one = |line: &&str| is_item(line) && !is_code(line) && !is_numbered(line);
    is_plain(text) || (repeated_label(list).is_none() && list.iter().all(is_one))
}

/// Whether two texts of the same words have the same indentation, and no code between fences.
pub(super) fn differs_in_spaces_alone(a: &str, b: &str) -> bool {
    let indentations = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(indentation).collect::<Vec<_>>()
    };
    let own = [a, b].map(indentations);
    spaced(a) == spaced(b)
        && !FENCES.iter().any(|fence| a.contains(fence))
        && (own[0] == own[1] || own[0].iter().all(|&indent| indent == 0))
}

pub(super) fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a line is of a table, of code or of data: it begins or ends with a mark of these.
pub(super) fn is_code(line: &str) -> bool {
    let line = line.trim();
    let closes = |mark: char, open: char| line.ends_with(mark) && !(label(line).is_some() && line.contains(open));
    !is_item(line) && line.starts_with(['|', '{', '}', ']', '`', '+'])
        || line.ends_with(['{', '[', ';', '|', ',', '('])
        || closes('}', '{')
        || closes(']', '[')
        || line.contains("```")
}

/// The first line with a label that occurs again, as in questions and answers that belong to each other by turns.
fn repeated_label(lines: &[&str]) -> Option<usize> {
    let mut seen = HashMap::new();
    let labels = lines.iter().enumerate().filter_map(|(at, line)| Some((at, label(line)?)));
    labels.filter_map(|(at, label)| seen.insert(label, at)).min()
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

/// Whether a line is a step of a sequence, as `2.` and `2)` are, and no text that is spoken of by its number.
fn is_step(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    is_item(line) && first.starts_with(|c: char| c.is_ascii_digit())
}

/// The words of an item without what its place gives it: a separator before it, and a number, as `[2]`, `2.` and `Document 2:` do.
pub(super) fn unnumbered(piece: &str) -> String {
    let mut words: Vec<&str> = piece.split_whitespace().collect();
    if words.len() > 1 && is_rule(words[0]) {
        words.remove(0);
    }
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
// Once in the page's download, and not where it is called.
#[inline(never)]
pub(super) fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
