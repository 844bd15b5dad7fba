//! Where a sentence ends: only where that is sure, since what is cut elsewhere means something else. The rules are those of UAX #29
//! with the usual exceptions for abbreviations, initials and numbers; what stays whole is never cut.

use std::ops::Range;

use crate::kv::label;

use super::layout::{indentation, is_code, is_item};
use super::whole::whole;

/// The marks that end a sentence wherever they stand, and need no space behind them.
pub(super) const FULL_STOPS: &[char] = &['。', '！', '？', '｡', '．', '।', '॥', '؟', '۔', '։', '።', '။'];
/// What may stand between the mark and the space.
const CLOSERS: &[char] = &[')', ']', '}', '"', '\'', '”', '’', '»', '›', '」', '』', '》', '）', '】', '*', '_'];
/// What a sentence may begin with, beside letters and what has no letters.
const OPENERS: &str = "\"'“„«‹‘‚([{<`*_#@¿¡「『《（【〈";

/// Abbreviations with vowels, in small letters; those without, and single letters, are known by that.
const ABBREVIATIONS: &str = " prof rev hon gov gen col capt sen rep pres vol fig figs no nos sec ed eds inc co corp dept est approx \
    ave apt al etc ca incl excl esp min max avg ext tel univ oct okt jan feb apr aug sep sept dec dez nov mar mär jun jul art app ref \
    orig abs abt anm aufl ausg dipl ev evtl geb gest ing inkl exkl mio od sog std usf usw vers frl av env réf tél éd ex chap mme \
    mmes mlle cie janv févr avr juil déc sra sres ud uds avda pág págs núm ej cap dra dña aprox sig sigg dott ssa avv pag pagg ecc ";
/// Words that go on with what stands before them.
const CONNECTIVES: &str = " then afterwards they their them he his she her so but and or however therefore otherwise instead also \
    thus hence dann danach anschließend aber und oder sonst deshalb daher außerdem puis ensuite mais et ou donc sinon luego después \
    pero y o además poi dopo ma e oppure quindi inoltre ";

/// The sentences of a text, without the white space between them; the text itself where it is no prose.
pub(super) fn sentences(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let (line, offset) = (&text[within.clone()], within.start);
    let mut pieces = Vec::new();
    if !is_prose(line) {
        pieces.push(within);
        return pieces;
    }
    let mut whole = whole(line).into_iter().peekable();
    let mut start = line.len() - line.trim_start().len();
    let mut next = start;
    for (at, mark) in line.char_indices() {
        while whole.next_if(|place| place.end <= at).is_some() {}
        if at < next || whole.peek().is_some_and(|place| place.start <= at) {
            continue;
        }
        let behind = line[at..].trim_start_matches(is_mark).trim_start_matches(CLOSERS);
        let end = line.len() - behind.len();
        if is_mark(mark) && ends(&line[start..at], &line[at..end], behind) {
            pieces.push(offset + start..offset + end);
            start = line.len() - behind.trim_start().len();
        }
        next = end.max(start);
    }
    let end = line.trim_end().len();
    if start < end {
        pieces.push(offset + start..offset + end);
    }
    pieces
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…') || FULL_STOPS.contains(&c)
}

/// Whether its lines are no items, headings, quotations or code.
fn is_prose(text: &str) -> bool {
    let first = indentation(text);
    text.lines().all(|line| {
        let words = line.trim();
        let code = is_code(words) && !words.ends_with(',') && !words.starts_with('`');
        !(code || is_item(words) || words.starts_with(['#', '>']) || words.contains("```") || indentation(line) > first)
    })
}

/// Whether a sentence ends at these marks, with `behind` behind them.
fn ends(sentence: &str, marks: &str, behind: &str) -> bool {
    if marks.starts_with(FULL_STOPS) {
        return !(marks.starts_with('．') && behind.starts_with(char::is_numeric));
    }
    let next = behind.trim_start();
    let Some(first) = next.chars().next() else { return true };
    let begins = match first {
        _ if next.len() == behind.len() => false,
        _ if first.is_alphabetic() => !first.is_lowercase(),
        _ if first.is_numeric() => !marks.starts_with('.'),
        _ => OPENERS.contains(first) || matches!(first, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..),
    };
    // What follows a label may be of it too, unless that is a number or the like.
    let labelled = || {
        label(&sentence[..sentence.floor_char_boundary(64)]).is_some_and(|label| {
            let value = &sentence[label.len() + 1..];
            value.split_whitespace().nth(3).is_some() || !value.contains(char::is_numeric)
        })
    };
    let ended = || match marks.trim_end_matches(CLOSERS) {
        "." => !is_cut_short(sentence),
        marks => !marks.contains(['.', '…']),
    };
    begins && !connects(next) && ended() && !labelled()
}

/// Whether a text goes on with what stands before it.
pub(super) fn connects(text: &str) -> bool {
    let word = text.trim_start().split(|c: char| !c.is_alphabetic()).next();
    word.is_some_and(|word| is_listed(CONNECTIVES, word))
}

/// Whether a text may end in an abbreviation, an initial or a number, or is nothing but a word.
fn is_cut_short(text: &str) -> bool {
    const VOWELS: [char; 6] = ['a', 'e', 'i', 'o', 'u', 'y'];
    let word = text.split_whitespace().next_back().unwrap_or_default();
    let last =
        word.trim_end_matches(|c: char| !c.is_alphanumeric()).rsplit(['.', '\'', '’']).next().unwrap_or_default();
    let last = last.trim_matches(|c: char| !c.is_alphanumeric());
    let small = last.to_lowercase();
    let cased = last.contains(|c: char| c.is_lowercase() || c.is_uppercase());
    let length = last.chars().count();
    let roman = length < 6 && last.chars().all(|c| "IVXLCDM".contains(c));
    match last {
        "" => word.is_empty(),
        _ if last.chars().all(char::is_numeric) => length < 4,
        _ if !last.chars().all(char::is_alphabetic) => false,
        _ => {
            cased
                && (length == 1
                    || roman
                    || word.len() == text.trim_start().len()
                    || (last.is_ascii() && !small.contains(VOWELS))
                    || is_listed(ABBREVIATIONS, &small))
        }
    }
}

/// Whether a list of words in small letters, with spaces around each, has this word.
pub(super) fn is_listed(list: &str, word: &str) -> bool {
    !word.is_empty() && list.contains(&format!(" {} ", word.to_lowercase()))
}
