//! Puts two requests in order so that they share the longest prefix that they can: static text first, variables last.
//!
//! Nothing that they say is lost or changed; only its place is. White space and the order of common text follow the first request.
//! Trials find the place that a template allows for variables: the one that shares the most tokens wins. Both requests stay as they
//! are where nothing is gained.

use serde_json::{Map, Value, json};

use crate::kv::{Owner, is_static, values_differ};

use super::align::Step;
use super::differences::align_tools;
use super::layout::{Level, differs_in_spaces_alone, is_item, is_plain, says_order, spaced, unnumbered};
use super::pieces::{Change, Parted};
use super::sentences::FULL_STOPS;
use super::turns::{Pair, Place, Turns, context, text};

/// Where the text that changes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variables {
    /// A second system message before the last question.
    BeforeQuestion,
    /// A second system message behind the first.
    BehindSystem,
    /// The end of the message that it is in.
    AtEnd,
    /// It stays.
    Stay,
}

impl Variables {
    /// The least change first, then as the advice has it.
    pub(super) const ALL: [Self; 4] = [Self::Stay, Self::BeforeQuestion, Self::BehindSystem, Self::AtEnd];
}

/// What was done to put two requests in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mending {
    /// What changes was put behind what stays the same.
    pub placed: bool,
    /// What both have was put in the same order.
    pub ordered: bool,
    /// What both say was given the same white space.
    pub spaced: bool,
    /// Both were given the same date.
    pub dated: bool,
}

/// Two requests in order.
pub(super) struct Mended {
    pub(super) requests: [Value; 2],
    pub(super) mending: Mending,
    /// The texts of each that have another place.
    pub(super) moved: [Vec<String>; 2],
}

/// The messages of a request, and those that move elsewhere.
struct Draft {
    messages: Vec<Value>,
    variables: Vec<Value>,
}

/// The two requests with what changes in the given place.
pub(super) fn mend(requests: [&Value; 2], turns: &Turns, variables: Variables) -> Mended {
    let mut moved: [Vec<String>; 2] = Default::default();
    let mut mending = Mending::default();
    let lists =
        requests.map(|request| request.get("messages").unwrap_or(request).as_array().cloned().unwrap_or_default());
    let mut drafts = lists.map(|messages| Draft { messages, variables: Vec::new() });
    // Indices of messages that leave their places.
    let mut out: [Vec<usize>; 2] = Default::default();
    let mut behind: [Vec<Value>; 2] = Default::default();
    let contexts = turns.messages.map(context);
    let is_system = |side: usize, at: usize| is_static(&turns.messages[side][at].role);
    for step in &turns.steps {
        match *step {
            Step::Same(old, new) | Step::Moved(old, new) => {
                let [first, second] = &mut drafts;
                let (from, to) = (&first.messages[old], &mut second.messages[new]);
                if is_respaced(turns, old, new) && [from, &*to].into_iter().all(is_text) {
                    to["content"] = from["content"].clone();
                    mending.spaced = true;
                }
                // Its arguments with their keys in the same order.
                if let Some(calls) = from.get("tool_calls").filter(|_| to.get("tool_calls").is_some()) {
                    mending.ordered |= are_written_apart(calls, &to["tool_calls"]);
                    to["tool_calls"] = calls.clone();
                }
            }
            Step::Gone(old) if is_system(0, old) && old > 0 => out[0].push(old),
            Step::New(new) if is_system(1, new) && new > 0 => out[1].push(new),
            _ => {}
        }
    }
    for pair in turns.pairs.iter().filter(|pair| is_mended(turns, pair)) {
        let places = [pair.old, pair.new];
        if ![0, 1].into_iter().all(|side| is_text(&drafts[side].messages[places[side]])) {
            continue;
        }
        let texts = [text(&turns.messages[0][pair.old]), text(&turns.messages[1][pair.new])];
        let texts = [&*texts[0], &*texts[1]];
        if let Some(sorted) = (pair.place == Place::Question).then(|| documents(texts)).flatten() {
            mending.ordered = true;
            for ((draft, at), content) in drafts.iter_mut().zip(places).zip(sorted) {
                set_text(&mut draft.messages[at], content);
            }
            continue;
        }
        if variables == Variables::Stay && pair.place == Place::Static && !pair.parted.is_whole() {
            continue;
        }
        let common = pair.parted.common(texts);
        mending.placed |= !pair.parted.is_whole() && !common.is_empty();
        mending.ordered |= pair.parted.sorts();
        mending.spaced |= pair.parted.changes.iter().any(|change| matches!(change, Change::Spaced(..)));
        for (side, at) in places.into_iter().enumerate() {
            let own = pair.parted.own(texts, side);
            let apart = pair.place == Place::Static && is_system(side, at) && variables != Variables::AtEnd;
            let kept = match (own.is_empty(), apart && !common.is_empty()) {
                (true, _) => common.clone(),
                (false, false) if common.is_empty() => own,
                (false, false) => format!("{}\n{own}", common.trim_end()),
                (false, true) => {
                    let message = &drafts[side].messages[at];
                    let mut variable = json!({ "role": message["role"], "content": message["content"] });
                    moved[side].push(own.clone());
                    set_text(&mut variable, own);
                    behind[side].push(variable);
                    common.trim_end().to_owned()
                }
            };
            set_text(&mut drafts[side].messages[at], kept);
        }
    }
    mending.ordered |= order(&mut drafts[1].messages, turns);
    for (side, draft) in drafts.iter_mut().enumerate() {
        if variables == Variables::Stay {
            continue;
        }
        let mut index = 0;
        draft.messages.retain(|message| {
            let keep = !out[side].contains(&index);
            if !keep {
                moved[side].extend(message["content"].as_str().map(str::to_owned));
                draft.variables.push(message.clone());
            }
            index += 1;
            keep
        });
        mending.placed |= !draft.variables.is_empty();
        draft.variables.append(&mut behind[side]);
        let asked = draft.messages.iter().rposition(|message| message["role"] == "user");
        let head = contexts[side].end - out[side].iter().filter(|&&at| at < contexts[side].end).count();
        let place = match variables {
            Variables::BeforeQuestion => asked.unwrap_or(draft.messages.len()),
            _ => head.min(draft.messages.len()),
        };
        draft.messages.splice(place..place, draft.variables.drain(..));
    }
    let [a, b] = drafts.map(|draft| draft.messages);
    let tools = tools(requests);
    mending.ordered |= requests
        .iter()
        .zip(&tools)
        .any(|(request, tools)| tools.as_ref().is_some_and(|tools| are_written_apart(&request["tools"], tools)));
    Mended { requests: [with(requests[0], a, &tools[0]), with(requests[1], b, &tools[1])], moved, mending }
}

/// Whether two values are written in other words or another order; what compares them knows no order of keys.
fn are_written_apart(a: &Value, b: &Value) -> bool {
    let written = [a, b].map(Value::to_string);
    written[0] != written[1]
}

/// Whether two messages say the same, but for white space that says nothing.
fn is_respaced(turns: &Turns, old: usize, new: usize) -> bool {
    let texts = [&turns.messages[0][old], &turns.messages[1][new]];
    texts[0].content != texts[1].content && differs_in_spaces_alone(&text(texts[0]), &text(texts[1]))
}

/// Whether the differing text of a message may change its place there. What was said in a past turn may not.
fn is_mended(turns: &Turns, pair: &Pair) -> bool {
    let messages = [&turns.messages[0][pair.old], &turns.messages[1][pair.new]];
    let Parted { common, changes, .. } = &pair.parted;
    let owner = Owner::Message { message: pair.new, role: messages[1].role.clone() };
    let texts = messages.map(text);
    let value = |change: &Change| match change {
        Change::Other(old, new) => values_differ([&texts[0][old.clone()], &texts[1][new.clone()]], &owner),
        _ => false,
    };
    let may = match pair.place {
        Place::Static => pair.parted.begins_alike(),
        Place::Past => false,
        Place::Question => {
            let values = texts.iter().all(|text| is_plain(text)) && changes.iter().all(value) && !common.is_empty();
            values || documents([&texts[0], &texts[1]]).is_some()
        }
    };
    may && messages[0].role == messages[1].role
}

/// Two questions with the documents that both have first, in the order of the first, then their own, and what is asked of them
/// last. None where they have none in common, where their order counts, or where a document has a number, which may be spoken of.
fn documents(texts: [&str; 2]) -> Option<[String; 2]> {
    let levels = [(Level::Block, "\n\n"), (Level::Line, "\n")];
    levels.into_iter().filter(|_| !texts.iter().any(|text| says_order(text))).find_map(|(level, gap)| {
        let pieces = texts.map(|text| {
            let places = level.pieces(text, 0..text.len());
            places.into_iter().map(|place| text[place].trim_end()).collect::<Vec<_>>()
        });
        let [a, b] = &pieces;
        let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(a, b)| a == b).count().max(1);
        let middle = [a, b].map(|list| list.get(head..list.len().checked_sub(tail)?));
        let [Some(a_own), Some(b_own)] = middle else { return None };
        let is_document = |piece: &&&str| is_item(piece) && unnumbered(piece) == spaced(piece);
        let all = [a_own, b_own].into_iter().flatten();
        let common: Vec<&str> = a_own.iter().filter(|piece| b_own.contains(piece)).copied().collect();
        if common.is_empty() || !all.clone().all(|piece| is_document(&piece)) {
            return None;
        }
        let sorted = [a, b].map(|list| {
            let (own, end) = list[head..].split_at(list.len() - head - tail);
            let own = own.iter().filter(|piece| !common.contains(piece));
            let all = list[..head].iter().chain(&common).chain(own).chain(end);
            all.copied().collect::<Vec<_>>().join(gap)
        });
        Some(sorted)
    })
}

/// Whether a message has nothing but text: parts of other keys are left as they are.
fn is_text(message: &Value) -> bool {
    let is_plain =
        |part: &Value| part.as_object().is_some_and(|part| part.keys().all(|key| key == "type" || key == "text"));
    match &message["content"] {
        Value::Array(parts) => parts.iter().all(is_plain),
        content => content.is_string(),
    }
}

/// Gives a message another text, as a string or as a part, as it has it.
fn set_text(message: &mut Value, text: String) {
    message["content"] =
        if message["content"].is_array() { json!([{ "type": "text", "text": text }]) } else { text.into() };
}

/// Puts the messages before the first question that both have into the order of the first conversation, in the places that they
/// take in the second: whether that is another order. What was said by turns stays as it was said.
fn order(messages: &mut [Value], turns: &Turns) -> bool {
    let ends = turns.messages.map(|messages| context(messages).end);
    let both = turns.steps.iter().filter_map(|step| match step.indices() {
        [Some(old), Some(new)] if old < ends[0] && new < ends[1] => Some(new),
        _ => None,
    });
    let both: Vec<usize> = both.collect();
    let mut places = both.clone();
    places.sort_unstable();
    let ordered: Vec<Value> = both.iter().map(|&at| messages[at].clone()).collect();
    let moves = both != places;
    for (place, message) in places.into_iter().zip(ordered) {
        messages[place] = message;
    }
    moves
}

/// The tools of both: what both have first, in the order and with the keys of the first request, then what differs.
fn tools(requests: [&Value; 2]) -> [Option<Value>; 2] {
    let lists = requests.map(|request| request.get("tools").and_then(Value::as_array));
    let [Some(old), Some(new)] = lists else { return [None, None] };
    let alignment = align_tools([old, new]);
    let same = |step: &Step| matches!(step, Step::Same(..) | Step::Moved(..));
    let mut lists: [Vec<Value>; 2] = Default::default();
    for at in alignment.steps.iter().filter(|step| same(step)).filter_map(|step| step.indices()[0]) {
        lists.iter_mut().for_each(|list| list.push(old[at].clone()));
    }
    for step in alignment.steps.iter().filter(|step| !same(step)) {
        let [before, after] = step.indices();
        lists[0].extend(before.map(|at| old[at].clone()));
        lists[1].extend(after.map(|at| new[at].clone()));
    }
    lists.map(|list| Some(list.into()))
}

/// The request with other messages and tools.
fn with(request: &Value, messages: Vec<Value>, tools: &Option<Value>) -> Value {
    let Value::Object(fields) = request else { return messages.into() };
    let mut fields: Map<String, Value> = fields.clone();
    fields.insert("messages".into(), messages.into());
    if let Some(tools) = tools {
        fields.insert("tools".into(), tools.clone());
    }
    fields.into()
}

/// Gives both requests one date: the first one's, or where it has none the second one's. Whether they had two.
pub(super) fn pin_date(requests: &mut [Value; 2]) -> bool {
    const NAMES: [&str; 2] = ["date", "now"];
    let given = |request: &Value| {
        let value = |name: &&'static str| Some((*name, request.get(*name).filter(|value| !value.is_null())?.clone()));
        NAMES.iter().find_map(value)
    };
    let dates = requests.each_ref().map(given);
    let differ = dates[0] != dates[1];
    let Some((name, date)) = dates.into_iter().flatten().next() else { return false };
    for request in requests {
        if let Value::Array(messages) = request {
            *request = json!({ "messages": messages });
        }
        if let Value::Object(fields) = request {
            NAMES.iter().for_each(|name| _ = fields.shift_remove(*name));
            fields.insert(name.into(), date.clone());
        }
    }
    differ
}

/// Whether two requests say the same words, in whatever order.
pub(super) fn says_the_same(a: &Value, b: &Value) -> bool {
    let words = |request: &Value| {
        let messages = request.get("messages").unwrap_or(request).as_array().cloned().unwrap_or_default();
        let mut words: Vec<String> = messages.iter().flat_map(|message| words_of(&message["content"])).collect();
        words.sort_unstable();
        words
    };
    words(a) == words(b)
}

fn words_of(content: &Value) -> Vec<String> {
    match content {
        Value::String(text) => {
            let words = text.split_inclusive(|c: char| c.is_whitespace() || FULL_STOPS.contains(&c)).map(str::trim);
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        }
        Value::Array(parts) => parts.iter().flat_map(|part| words_of(&part["text"])).collect(),
        _ => Vec::new(),
    }
}
