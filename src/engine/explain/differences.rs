//! Lists the differences between two requests in order, each with its kind and its lines.

use std::ops::Range;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::kv::{DivergenceKind, Owner, PUT_BEHIND, PUT_LAST, SORT_KEYS, is_static, values_differ};
use crate::text::Message;

use super::align::{Alignment, Step, align};
use super::layout::{is_rule, spaced};
use super::pieces::Change;
use super::spans::same;
use super::turns::{Pair, Place, Turns, beside, text};

/// A place where two requests differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What kind of difference it is.
    pub kind: DivergenceKind,
    /// Whose text it is: of the second request, or of the first where only that has it.
    #[serde(serialize_with = "as_text")]
    pub owner: Owner,
    /// The index of that message; none where it is no message.
    pub message: Option<usize>,
    /// The line of the first request, or of a line with several sentences the one; empty where it has none.
    pub line_a: String,
    /// The same of the second request.
    pub line_b: String,
    /// What to do about it.
    pub advice: &'static str,
}

fn as_text<S: Serializer>(owner: &Owner, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(owner)
}

impl Difference {
    // Once in the page's download, and not where it is called.
    #[inline(never)]
    pub(super) fn new(kind: DivergenceKind, owner: Owner, lines: [&str; 2]) -> Self {
        let message = match owner {
            Owner::Message { message, .. } => Some(message),
            _ => None,
        };
        let [line_a, line_b] = lines.map(str::to_owned);
        Self { kind, message, line_a, line_b, advice: kind.advice(&owner), owner }
    }

    /// The keys of an object in another order.
    fn of_keys(owner: Owner, lines: [&str; 2]) -> Self {
        Self { advice: SORT_KEYS, ..Self::new(DivergenceKind::Reordered, owner, lines) }
    }
}

/// The differences between the messages of two conversations, in order, with the pair of messages each is in, if in one.
pub(super) fn of_messages(turns: &Turns) -> Vec<(Option<(usize, usize)>, Difference)> {
    let [a, b] = turns.messages;
    let owner = |side: usize, message: usize| {
        let role = turns.messages[side][message].role.clone();
        Owner::Message { message, role }
    };
    let mut found = Vec::new();
    let mut moved = turns.moved.filter(|_| turns.steps.iter().any(|step| matches!(step, Step::Moved(..))));
    let mut last = None;
    for step in &turns.steps {
        if let Some((_, new)) = moved.filter(|_| !matches!(step, Step::Same(..))) {
            // What each has in that place of the second.
            let new = new.min(b.len() - 1);
            let lines = [text(&a[new.min(a.len() - 1)]), text(&b[new])];
            let lines = [0, 1].map(|side| line(&lines[side], 0..0));
            found.push((None, Difference::new(DivergenceKind::Reordered, owner(1, new), lines)));
            moved = None;
        }
        match *step {
            Step::Same(old, new) | Step::Moved(old, new) => {
                let texts = [text(&a[old]), text(&b[new])];
                let calls = [calls(&a[old]), calls(&b[new])];
                if texts[0] != texts[1] {
                    let at = same(texts[0].chars(), texts[1].chars());
                    let lines = lines_at([&texts[0], &texts[1]], [at; 2]);
                    let spaces = Difference::new(DivergenceKind::Whitespace, owner(1, new), lines);
                    found.push((Some((old, new)), spaces));
                }
                // The keys of an object in another order.
                if calls[0] != calls[1] {
                    found.push((Some((old, new)), Difference::of_keys(owner(1, new), [&calls[0], &calls[1]])));
                }
            }
            Step::Pair(old, new) => {
                let pair = turns.pairs.iter().find(|pair| (pair.old, pair.new) == (old, new));
                let differences = pair.into_iter().flat_map(|pair| of_pair(turns, pair));
                found.extend(differences.map(|difference| (Some((old, new)), difference)));
            }
            // A run of messages that came or went is one difference.
            Step::Gone(old) if !matches!(last, Some(Step::Gone(before)) if before + 1 == old) => {
                let lines = [&text(&a[old]), ""].map(|text| line(text, 0..0).to_owned());
                let lines = [lines[0].as_str(), &lines[1]];
                found.push((None, Difference::new(DivergenceKind::Dropped, owner(0, old), lines)));
            }
            Step::New(new) if !matches!(last, Some(Step::New(before)) if before + 1 == new) => {
                let text = text(&b[new]);
                found.push((None, Difference::new(DivergenceKind::Added, owner(1, new), ["", line(&text, 0..0)])));
            }
            Step::Gone(_) | Step::New(_) => {}
        }
        last = Some(*step);
    }
    if let Some(pair) = turns.pairs.iter().find(|pair| pair.new == turns.tail && pair.place == Place::Question) {
        found.extend(of_pair(turns, pair).into_iter().map(|difference| (Some((pair.old, pair.new)), difference)));
    }
    found
}

fn of_pair(turns: &Turns, pair: &Pair) -> Vec<Difference> {
    let messages = [&turns.messages[0][pair.old], &turns.messages[1][pair.new]];
    let texts = messages.map(text);
    let owner = Owner::Message { message: pair.new, role: messages[1].role.clone() };
    let new = |kind, lines| Difference::new(kind, owner.clone(), lines);
    let mut found = Vec::new();
    if messages[0].role != messages[1].role {
        found.push(new(DivergenceKind::Edited, [&*messages[0].role, &*messages[1].role]));
    }
    let turn = !is_static(&messages[1].role);
    let sorted = pair.parted.changes.iter().any(|change| matches!(change, Change::Moved(..)));
    for change in &pair.parted.changes {
        let lines = |old: &Range<usize>, new: &Range<usize>| first_lines([&texts[0], &texts[1]], [old, new]);
        let (kind, lines) = match change {
            Change::Moved(old, new) => (DivergenceKind::Reordered, lines(old, new)),
            Change::Spaced(old, new) => {
                (DivergenceKind::Whitespace, lines_at([&texts[0], &texts[1]], [old.start, new.start]))
            }
            Change::Other(old, new) if is_rekeyed([&texts[0][old.clone()], &texts[1][new.clone()]]) => {
                found.push(Difference::of_keys(owner.clone(), lines(old, new)));
                continue;
            }
            Change::Other(old, new) => {
                let lines = lines(old, new);
                let value = values_differ(lines, &owner);
                (if value { DivergenceKind::ChangingValue } else { DivergenceKind::Edited }, lines)
            }
            Change::Gone(old) if pair.place == Place::Past => {
                (DivergenceKind::Edited, [line(&texts[0], old.clone()), ""])
            }
            Change::New(new) if pair.place == Place::Past => {
                (DivergenceKind::Edited, ["", line(&texts[1], new.clone())])
            }
            Change::Gone(old) => (DivergenceKind::Dropped, [line(&texts[0], old.clone()), ""]),
            Change::New(new) => (DivergenceKind::Added, ["", line(&texts[1], new.clone())]),
        };
        // Every question is another one, and may have other documents before what is asked of them.
        let ends = |side: usize, place: &Range<usize>| place.end >= texts[side].trim_end().len();
        let natural = pair.place == Place::Question
            && match change {
                Change::Gone(old) => !sorted || ends(0, old),
                Change::New(new) => !sorted || ends(1, new),
                _ => kind == DivergenceKind::Edited,
            };
        // All that follows an edit is computed anew, and white space is mended in the whole message.
        let once = pair.place == Place::Past || kind == DivergenceKind::Whitespace;
        let again = found
            .iter()
            .any(|other: &Difference| other.kind == kind && (once || [&*other.line_a, &*other.line_b] == lines));
        if !natural && !again {
            let difference = new(kind, lines);
            let advice = match kind {
                DivergenceKind::Dropped | DivergenceKind::Added if turn => PUT_BEHIND,
                DivergenceKind::ChangingValue if turn && pair.place == Place::Question => PUT_LAST,
                _ => difference.advice,
            };
            found.push(Difference { advice, ..difference });
        }
    }
    let (others, calls) = (messages.map(beside), messages.map(calls));
    if found.is_empty() && others[0] != others[1] {
        let lines = if calls[0] == calls[1] { &others } else { &calls };
        found.push(new(DivergenceKind::Edited, [&*lines[0], &*lines[1]]));
    }
    found
}

/// Whether two texts have the same JSON object with its keys in another order.
fn is_rekeyed(texts: [&str; 2]) -> bool {
    let parts = |text: &str| {
        let (start, end) = (text.find('{')?, text.rfind('}')? + 1);
        let value: Value = serde_json::from_str(text.get(start..end)?).ok()?;
        Some([spaced(&text[..start]), canonical(&value), spaced(&text[end..])])
    };
    let [a, b] = texts.map(parts);
    spaced(texts[0]) != spaced(texts[1]) && a.is_some() && a == b
}

/// The functions that a message calls, with their arguments.
pub(super) fn calls(message: &Message) -> String {
    message.tool_calls.iter().map(|call| call["function"].to_string()).collect::<Vec<_>>().join(", ")
}

/// The differences between two lists of tools that a template shows.
pub(super) fn of_tools(lists: [&[Value]; 2]) -> Vec<Difference> {
    let texts = lists.map(|list| list.iter().map(Value::to_string).collect::<Vec<_>>());
    let sorted = lists.map(|list| list.iter().map(canonical).collect::<Vec<_>>());
    let names = lists.map(|list| list.iter().map(name).collect::<Vec<_>>());
    let owner = |side: usize, tool: usize| Owner::Tools { tool: Some(tool), name: names[side][tool].clone() };
    let new = |kind, owner, old: Option<usize>, new: Option<usize>| {
        let line = |side: usize, at: Option<usize>| at.map_or("", |at| texts[side][at].as_str());
        Difference::new(kind, owner, [line(0, old), line(1, new)])
    };
    let mut found = Vec::new();
    let alignment = align_tools(lists);
    let mut moved = alignment.moved;
    for step in alignment.steps {
        if let Some((old, other)) = moved.filter(|_| !matches!(step, Step::Same(..))) {
            let (old, other) = (old.min(lists[0].len() - 1), other.min(lists[1].len() - 1));
            found.push(new(DivergenceKind::Reordered, owner(1, other), Some(old), Some(other)));
            moved = None;
        }
        match step {
            // The keys of an object in another order.
            Step::Same(old, other) | Step::Moved(old, other) if texts[0][old] != texts[1][other] => {
                found.push(Difference::of_keys(owner(1, other), [&texts[0][old], &texts[1][other]]));
            }
            Step::Same(..) | Step::Moved(..) => {}
            Step::Pair(old, other) => {
                let words = [&sorted[0][old], &sorted[1][other]].map(|text| apart(text));
                let value = values_differ([&words[0], &words[1]], &owner(1, other));
                let kind = if value { DivergenceKind::ChangingValue } else { DivergenceKind::Edited };
                found.push(new(kind, owner(1, other), Some(old), Some(other)));
            }
            Step::Gone(old) => found.push(new(DivergenceKind::Dropped, owner(0, old), Some(old), None)),
            Step::New(other) => found.push(new(DivergenceKind::Added, owner(1, other), None, Some(other))),
        }
    }
    found
}

/// Which tools are the same, and which have the same name.
pub(super) fn align_tools(lists: [&[Value]; 2]) -> Alignment {
    let sorted = lists.map(|list| list.iter().map(canonical).collect::<Vec<_>>());
    align(&sorted[0], &sorted[1], &|old, new, _| {
        let name = [name(&lists[0][old]), name(&lists[1][new])];
        name[0].is_some() && name[0] == name[1]
    })
}

/// The name of its function.
pub(super) fn name(tool: &Value) -> Option<String> {
    tool["function"]["name"].as_str().or(tool["name"].as_str()).map(str::to_owned)
}

/// The same text for the same value, in whatever order its keys stand.
pub(super) fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(fields.into_iter().collect())
            }
            Value::Array(list) => list.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

/// JSON without its punctuation.
fn apart(json: &str) -> String {
    json.replace(['"', ',', '{', '}', '[', ']'], " ")
}

/// The lines in which white space differs from these places on; with the white space behind them where that alone differs.
fn lines_at(texts: [&str; 2], places: [usize; 2]) -> [&str; 2] {
    let here = [0, 1].map(|side| line(texts[side], places[side]..places[side]));
    if here[0] != here[1] && here.iter().all(|line| !line.trim().is_empty()) {
        return here;
    }
    let starts = [0, 1].map(|side| texts[side][..places[side]].trim_end().len());
    let above = [0, 1].map(|side| line(texts[side], starts[side]..starts[side]));
    if above[0] != above[1] {
        return above;
    }
    [0, 1].map(|side| {
        let text = texts[side];
        let start = text[..starts[side]].rfind('\n').map_or(0, |at| at + 1);
        let behind = &text[starts[side]..];
        &text[start..text.len() - behind.trim_start().len()]
    })
}

/// The first lines that differ of two places.
fn first_lines<'a>(texts: [&'a str; 2], places: [&Range<usize>; 2]) -> [&'a str; 2] {
    let [a, b] = [0, 1].map(|side| &texts[side][places[side].clone()]);
    let respaced = spaced(a) == spaced(b);
    let lines = a.split_inclusive('\n').zip(b.split_inclusive('\n'));
    let same = lines.take_while(|(a, b)| if respaced { a == b } else { spaced(a) == spaced(b) });
    let skip = same.fold([0, 0], |skip, (a, b)| [skip[0] + a.len(), skip[1] + b.len()]);
    [0, 1].map(|side| {
        let Range { start, end } = *places[side];
        line(texts[side], (start + skip[side]).min(end)..end)
    })
}

/// The whole line that a place begins in, or the place itself where it is a sentence among others; of an element, the first line
/// behind its tags.
fn line(text: &str, place: Range<usize>) -> &str {
    let start = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
    let behind = text[place.end..].split('\n').next().unwrap_or_default();
    let own = &text[place.clone()];
    let alone = text[start..place.start].trim().is_empty() && behind.trim().is_empty();
    if !(alone || own.is_empty() || own.contains('\n')) {
        return own;
    }
    let is_tag = |line: &&str| {
        is_rule(line) || (line.trim().starts_with('<') && line.trim().find('>') == Some(line.trim().len() - 1))
    };
    let within =
        text[start..place.end.max(start)].split('\n').take_while(is_tag).map(|line| line.len() + 1).sum::<usize>();
    let start = if start + within < place.end { start + within } else { start };
    text[start..].split('\n').next().unwrap_or_default()
}
