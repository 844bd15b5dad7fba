//! The kinds of differences between two prompts, and the advice for each. The command line, the package and the page take these words
//! from here.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::divergence::Owner;

/// Why two prompts do not share what follows a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DivergenceKind {
    /// A value that changes from request to request: a time, an identifier, a name.
    ChangingValue,
    /// The same lines, tools or messages in another order, or some of the same ones among others.
    Reordered,
    /// The later prompt lacks something.
    Dropped,
    /// Other words.
    Edited,
    /// The later prompt has something more, and not at its end.
    Added,
    /// White space only.
    Whitespace,
    /// Text that the chat template writes by itself, such as today's date.
    Template,
    /// Tools that the chat template does not show.
    ToolsIgnored,
    /// Another model, salt or setting.
    Settings,
    /// Nothing differs that could be mended.
    None,
}

use DivergenceKind::{
    Added, ChangingValue, Dropped, Edited, None as Nothing, Reordered, Settings, Template, ToolsIgnored, Whitespace,
};

impl fmt::Display for DivergenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChangingValue => "a changing value",
            Reordered => "another order",
            Dropped => "something dropped",
            Edited => "edited text",
            Added => "something added",
            Whitespace => "white space",
            Template => "text of the chat template",
            ToolsIgnored => "tools that are ignored",
            Settings => "another setting",
            Nothing => "nothing to mend",
        })
    }
}

/// What to do where a template writes the same messages in another way.
pub(crate) const MOVES_TEXT: &str = "The chat template writes the same messages in another way as the conversation grows; take a \
    model whose template leaves what it wrote in its place.";

/// What to do where the keys of an object stand in another order.
pub(crate) const SORT_KEYS: &str = "Write the keys of an object in one order, for example sorted.";
/// What to do about text within a message that only one of the two has.
pub(crate) const PUT_BEHIND: &str = "Put what both have first, in one order, and behind it what only one of them has.";
/// What to do about a value within the last message.
pub(crate) const PUT_LAST: &str = "Put what stays the same first in the message, and what changes last.";

/// Whether messages of this role are the static part of a conversation.
pub(crate) fn is_static(role: &str) -> bool {
    matches!(role, "system" | "developer")
}

impl DivergenceKind {
    /// What to do about a difference of this kind in what `owner` wrote: one sentence or two.
    pub fn advice(self, owner: &Owner) -> &'static str {
        let tools = matches!(owner, Owner::Tools { .. });
        let turn = matches!(owner, Owner::Message { role, .. } if !is_static(role));
        match (self, owner) {
            (ChangingValue, _) if tools => {
                "Keep values that change out of the tools and say them in a second system message: static first, variables last."
            }
            (ChangingValue, _) if turn => {
                "Leave a turn as it was sent, and say what changes in the last message: static first, variables last."
            }
            (ChangingValue, _) => {
                "Put what stays the same first and what changes last, in a second system message behind the static part."
            }
            (Reordered, _) if tools => "Give the tools in one order, those that every request has first.",
            (Reordered, _) => {
                "Keep one order: sort what both have, such as documents, put it first, and number it only then; what only one has goes \
                 behind it."
            }
            (Dropped | Added | Edited, _) if tools => {
                "Keep the tools the same in every request, and put those that change or come and go last."
            }
            (Dropped, _) if turn => {
                "All that follows a dropped turn is computed anew: keep old turns while the context has room, then drop many at once."
            }
            (Added, _) if turn => "All that follows an inserted turn is computed anew: add turns at the end.",
            (Edited, _) if turn => {
                "What a turn says differently is computed anew with all that follows; what stands before it is reused. There is nothing to \
                 mend."
            }
            (Dropped | Added, _) => {
                "Text that only some requests have goes last, in a second system message behind the static part."
            }
            (Edited, _) => {
                "Keep the static part the same to the letter; text that has to change goes last, in a second system message."
            }
            (Whitespace, _) => {
                "Write white space the same way every time: line ends, blank lines and trailing spaces are tokens too."
            }
            (Template, Owner::Template { date: true }) => {
                "Pin the date (\"date\" in the request); if the model must know the day, say it in a second system message."
            }
            (Template, _) => "Keep to one chat template.",
            (ToolsIgnored, Owner::Message { .. }) => {
                "The chat template does not show calls of tools, so the model knows of none: take a model whose template does, or \
                 say in the text of the message what was called."
            }
            (ToolsIgnored, _) => {
                "The chat template does not show tools, so the model knows of none: take a model whose template does, or describe \
                 them in the system message."
            }
            (Settings, Owner::Namespace { field: "weights" }) => {
                "Keep to one model file: no model can use another's KV."
            }
            (Settings, Owner::Namespace { field: "salt" }) => {
                "Give both the same salt, if they may share what was computed."
            }
            (Settings, _) => "Give both the same setting.",
            (Nothing, _) => "There is nothing to mend.",
        }
    }
}

/// Whether two lines of this owner differ in values alone. Of a text that every request has: words with digits, names, what stands
/// behind the same label, and a word where a sentence has a value. Of a tool: dates, clocks and identifiers. Of a turn, where most
/// numbers are what somebody said: dates and identifiers, and clocks behind a label or in a line that begins with a mark.
pub(crate) fn values_differ(lines: [&str; 2], owner: &Owner) -> bool {
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = [missing(&words[0], &words[1]), missing(&words[1], &words[0])];
    if own.iter().all(Vec::is_empty) {
        return false;
    }
    let labels = lines.map(|line| label(line).or_else(|| element(line)));
    let labelled = labels[0].is_some() && labels[0] == labels[1];
    let all = |is: fn(&str) -> bool| own.iter().flatten().all(|word| is(word));
    match owner {
        Owner::Tools { .. } => return all(|word| is_stamp(word) || is_clock(word)),
        Owner::Message { role, .. } if !is_static(role) => {
            let marked = lines.iter().all(|line| line.trim_start().starts_with(['[', '(']));
            return all(is_stamp)
                || (marked && all(|word| is_stamp(word) || is_clock(word)))
                || (labelled && all(has_digit) && labels[0].is_some_and(names_a_stamp));
        }
        _ => {}
    }
    let few = own.iter().all(|own| own.len() <= 4) && own.iter().flatten().any(|word| has_digit(word));
    labelled
        || few
        || all(|word| has_digit(word) || is_name(word))
        || fills_a_place([&words[0], &words[1]])
        || is_named(lines, &own)
}

/// The tag, where a line is one element.
fn element(line: &str) -> Option<&str> {
    let (tag, rest) = line.trim().strip_prefix('<')?.split_once('>')?;
    let inner = rest.strip_suffix('>')?.strip_suffix(tag)?.strip_suffix("</")?;
    (!inner.contains('<')).then_some(tag)
}

/// Whether lines that differ in words without capitals have a word for a day, a time or a name.
fn is_named(lines: [&str; 2], own: &[Vec<String>; 2]) -> bool {
    const NOUNS: &str = "今日 今天 現在 现在 本日 曜日 星期 名前 名字 氏名 姓名 ユーザー 利用者 お客様 用户 用戶 客户 客戶 오늘 지금 이름 사용자 고객 आज \
        नाम उपयोगकर्ता ग्राहक اليوم الآن اسم المستخدم العميل امروز نام آج היום שם";
    let plain = |word: &String| !word.contains(|c: char| c.is_lowercase() || c.is_uppercase());
    own.iter().all(|own| own.len() <= 4 && own.iter().all(plain))
        && NOUNS.split(' ').any(|noun| lines.iter().all(|line| line.contains(noun)))
}

/// The words that another line has not, the first of a line in small letters: it has a capital anyway.
fn missing(words: &[&str], other: &[&str]) -> Vec<String> {
    let mut left: HashMap<&str, usize> = HashMap::new();
    other.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut own = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match left.get_mut(word).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => own.push(if at == 0 { word.to_lowercase() } else { (*word).to_owned() }),
        }
    }
    own
}

/// Whether one word stands for another where a sentence has a value: last behind `for`, `is` and the like, or first before `is`.
fn fills_a_place([a, b]: [&[&str]; 2]) -> bool {
    const IS: [&str; 7] = ["is", "was", "has", "ist", "est", "es", "è"];
    const BEFORE: [&str; 16] = [
        "for", "by", "from", "at", "in", "to", "with", "named", "called", "user", "für", "von", "pour", "de", "para",
        "per",
    ];
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (Some(word), Some(other)) = (a.get(start), b.get(start)) else { return false };
    let (rest, same) = (&a[start + 1..], a[start + 1..] == b[start + 1..]);
    let ends = |word: &str| rest.is_empty() || word.ends_with([',', '.', ';', ':', '!', '?', ')']);
    let links = |word: &&str| IS.contains(word) || BEFORE.contains(word);
    let last = a[..start].last().is_some_and(links) && ends(word) && ends(other);
    same && (last || (start == 0 && rest.first().is_some_and(|next| IS.contains(next))))
}

fn has_digit(word: &str) -> bool {
    word.contains(char::is_numeric)
}

fn is_name(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    word.starts_with(char::is_uppercase) || word.contains(['@', '/', '_'])
}

/// A date in digits, or an identifier: at least eight digits, or hexadecimal ones.
fn is_stamp(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let hexadecimal = word.chars().filter(char::is_ascii_hexdigit).count();
    let marks = |mark: char| word.chars().filter(|&c| c == mark).count();
    digits >= 8 || (digits >= 2 && hexadecimal >= 12) || (digits >= 6 && marks('-').max(marks('/')) == 2)
}

/// As `10:35` or `10:35:07`.
fn is_clock(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_digit());
    word.contains(':') && word.chars().all(|c| c.is_ascii_digit() || c == ':')
}

/// What stands before the colon, or the equals sign, of a line that has a value.
pub(crate) fn label(line: &str) -> Option<&str> {
    let (label, value) = line.split_once([':', '='])?;
    let is_word = |c: char| c.is_alphanumeric() || " _-*#[(\"'".contains(c);
    let fits = label.len() <= 32 && label.split_whitespace().count() <= 4 && label.chars().all(is_word);
    let begins = label.contains(char::is_alphabetic) && !value.trim().is_empty();
    // A time is no label: `It is 10:35`.
    (fits && begins && !label.ends_with(|c: char| c.is_ascii_digit())).then_some(label)
}

fn names_a_stamp(label: &str) -> bool {
    let label = label.to_lowercase();
    ["time", "date", "now", "today", "id", "session", "request", "clock"].iter().any(|name| label.contains(name))
}
