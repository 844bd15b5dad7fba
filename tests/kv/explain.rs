//! The explainer names the right message and text on mutated conversations.

use std::collections::HashMap;

use headstart::kv::{Change, Divergence, Owner, Rendered, Span, compare};

/// A tokenizer for tests: words with the space before them, digits one by one, everything else by character.
#[derive(Default)]
struct Words {
    ids: HashMap<String, u32>,
    pieces: Vec<String>,
}

impl Words {
    fn encode(&mut self, text: &str) -> Vec<u32> {
        let mut pieces: Vec<String> = Vec::new();
        for c in text.chars() {
            match pieces.last_mut() {
                Some(piece)
                    if c.is_alphabetic() && piece.ends_with(|last: char| last.is_alphabetic() || last == ' ') =>
                {
                    piece.push(c);
                }
                _ => pieces.push(c.into()),
            }
        }
        pieces.into_iter().map(|piece| self.id(piece)).collect()
    }

    fn id(&mut self, piece: String) -> u32 {
        let next = self.pieces.len() as u32;
        *self.ids.entry(piece.clone()).or_insert_with(|| {
            self.pieces.push(piece);
            next
        })
    }

    fn decode(&self, tokens: &[u32]) -> String {
        tokens.iter().map(|&token| self.pieces[token as usize].as_str()).collect()
    }

    fn render(&mut self, preamble: &str, messages: &[(&str, String)]) -> (Vec<u32>, Vec<Span>) {
        let mut tokens = self.encode(preamble);
        let mut spans = Vec::new();
        for (index, (role, text)) in messages.iter().enumerate() {
            let begin = tokens.len();
            tokens.extend(self.encode(&format!("<{role}>{text}")));
            tokens.push(self.id("<end>".into()));
            spans.push(Span { owner: owner(index, role), tokens: begin..tokens.len(), text: text.clone() });
        }
        (tokens, spans)
    }
}

type Message = (&'static str, String);

fn owner(message: usize, role: &str) -> Owner {
    Owner::Message { message, role: role.into() }
}

/// Forty words that occur nowhere else.
fn rules() -> String {
    "answer briefly and politely, never guess, cite the manual by its chapter, prefer short words to long ones, ask \
     back when a question can be read in two ways, and tell the customer what will happen next and who will do it"
        .into()
}

fn tool(name: &str, what: &str) -> String {
    format!(
        "{{name: {name}, use: {what} without asking the person again, returns: a list of rows with key and value}}\n"
    )
}

fn conversation() -> Vec<Message> {
    let (search, mail) = (tool("search", "finds pages"), tool("mail", "sends letters"));
    vec![
        ("system", format!("Time 10:35 user 4711\nYou are a helpful clerk: {}", rules())),
        ("system", format!("Tools:\n{search}{mail}")),
        ("user", "Where is my parcel?".into()),
        ("assistant", "It left the depot this morning.".into()),
        ("user", "When will it arrive?".into()),
    ]
}

fn explain(before: (&str, &[Message]), after: (&str, &[Message])) -> Option<Divergence> {
    let mut words = Words::default();
    let (old, old_spans) = words.render(before.0, before.1);
    let (new, new_spans) = words.render(after.0, after.1);
    let rendered = |tokens, spans| Rendered { tokens, spans };
    let found = compare(rendered(&old, &old_spans), rendered(&new, &new_spans), |tokens| words.decode(tokens));
    if let Some(found) = &found {
        assert_eq!(old[..found.token], new[..found.token]);
        assert_ne!(old[found.token], new[found.token]);
        assert!(found.recoverable <= new.len() - found.token);
    }
    found
}

/// A change to the conversation: the message that owns it, its kind, whether a page or more can be recovered.
struct Case {
    name: &'static str,
    message: usize,
    change: Change,
    /// What is known and what the prompt has.
    texts: [&'static str; 2],
    recovers: bool,
    edit: fn(&mut Vec<Message>),
}

fn replace(messages: &mut [Message], index: usize, from: &str, to: &str) {
    assert!(messages[index].1.contains(from), "{from}");
    messages[index].1 = messages[index].1.replacen(from, to, 1);
}

const fn case(
    name: &'static str,
    message: usize,
    change: Change,
    texts: [&'static str; 2],
    recovers: bool,
    edit: fn(&mut Vec<Message>),
) -> Case {
    Case { name, message, change, texts, recovers, edit }
}

const CASES: &[Case] = &[
    case("minutes", 0, Change::Number, ["5", "6"], true, |m| replace(m, 0, "10:35", "10:36")),
    case("hours", 0, Change::Number, ["0", "1"], true, |m| replace(m, 0, "10:35", "11:35")),
    case("user id", 0, Change::Number, ["11", "22"], true, |m| replace(m, 0, "4711", "4722")),
    case("longer user id", 0, Change::Number, ["", "8"], true, |m| replace(m, 0, "4711", "47118")),
    case("user name", 0, Change::Text, [" user", " guest"], true, |m| replace(m, 0, "user 4711", "guest 4711")),
    case("new sentence in front", 0, Change::Text, ["You", "Be quick. You"], true, |m| {
        replace(m, 0, "You are", "Be quick. You are")
    }),
    case("sentence taken out", 0, Change::Text, [" never guess,", ""], true, |m| replace(m, 0, " never guess,", "")),
    case("two spaces", 0, Change::Whitespace, ["", " "], true, |m| replace(m, 0, "You are", "You  are")),
    case("space at the end", 0, Change::Whitespace, ["", " "], true, |m| m[0].1.push(' ')),
    case("line end at the end", 1, Change::Whitespace, ["", "\n"], true, |m| m[1].1.push('\n')),
    case("no line end at the end", 1, Change::Whitespace, ["\n", ""], true, |m| {
        m[1].1.pop();
    }),
    case("space at the end of a question", 2, Change::Whitespace, ["", " "], true, |m| m[2].1.push(' ')),
    case(
        "tools in another order",
        1,
        Change::Order,
        [" search, use: finds pages", " mail, use: sends letters"],
        true,
        |m| m[1].1 = format!("Tools:\n{}{}", tool("mail", "sends letters"), tool("search", "finds pages")),
    ),
    case("a tool more", 1, Change::Text, [" search, use: finds pages", " calendar, use: shows days"], true, |m| {
        m[1].1 = format!(
            "Tools:\n{}{}{}",
            tool("calendar", "shows days"),
            tool("search", "finds pages"),
            tool("mail", "sends letters")
        )
    }),
    case("a tool less", 1, Change::Text, [" search, use: finds pages", " mail, use: sends letters"], true, |m| {
        m[1].1 = format!("Tools:\n{}", tool("mail", "sends letters"))
    }),
    case("a tool renamed", 1, Change::Text, [" mail", " post"], true, |m| replace(m, 1, "name: mail", "name: post")),
    case(
        "messages swapped",
        0,
        Change::Order,
        ["Time 10:35 user 471", "Tools:\n{name: search, use: finds pages"],
        true,
        |m| m.swap(0, 1),
    ),
    case("edited question", 2, Change::Text, [" my parcel", " the letter"], false, |m| {
        replace(m, 2, "my parcel", "the letter")
    }),
    case("other answer", 3, Change::Text, [" this morning", " at noon"], false, |m| {
        replace(m, 3, "this morning", "at noon")
    }),
    case("other last question", 4, Change::Text, ["When", "How"], false, |m| replace(m, 4, "When", "How")),
    case("answer regenerated with a number", 3, Change::Number, [" the depot", " depot 9"], false, |m| {
        replace(m, 3, "the depot", "depot 9")
    }),
    case(
        "first question dropped",
        2,
        Change::Text,
        ["Where is my parcel?<end><assistant>It left the depot this morning.<end><user>", ""],
        false,
        |m| {
            m.drain(2..4);
        },
    ),
    case("role changed", 1, Change::Text, ["system", "tool"], false, |m| m[1].0 = "tool"),
];

#[test]
fn the_owner_and_the_text_of_every_mutation_are_named() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|case| {
            let before = conversation();
            let mut after = before.clone();
            (case.edit)(&mut after);
            let found = explain(("", &before), ("", &after)).expect(case.name);
            let right = found.owner == owner(case.message, after[case.message].0)
                && found.change == case.change
                && [&found.known, &found.prompt] == case.texts
                && (found.recoverable >= 16) == case.recovers;
            (!right).then(|| format!("{}: {found:?}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CASES.len() >= 20);
}

#[test]
fn a_date_from_the_template_belongs_to_no_message() {
    let messages = conversation();
    let found = explain(("Today is May 23.\n", &messages), ("Today is May 24.\n", &messages)).expect("a difference");
    assert_eq!((&found.owner, found.change), (&Owner::Template { date: false }, Change::Number));
    assert_eq!((found.known.as_str(), found.prompt.as_str(), found.shared.as_str()), ("3", "4", "Today is May 2"));
    let line = found.to_string();
    assert!(line.starts_with("the chat template differs at token") && line.contains("could then be reused."), "{line}");
}

#[test]
fn a_timestamp_costs_exactly_what_follows_it() {
    let before = conversation();
    let mut after = before.clone();
    replace(&mut after, 0, "10:35", "10:36");
    let mut words = Words::default();
    let total = words.render("", &after).0.len();
    let found = explain(("", &before), ("", &after)).expect("a difference");
    assert_eq!(found.recoverable, total - found.token - 1);
}

#[test]
fn a_longer_conversation_does_not_part() {
    let messages = conversation();
    assert_eq!(explain(("", &messages[..3]), ("", &messages)), None);
    assert_eq!(explain(("", &messages), ("", &messages[..3])), None);
    assert_eq!(explain(("", &messages), ("", &messages)), None);
}

#[test]
fn other_conversations_recover_nothing() {
    let found = explain(
        ("", &[("user", "Tell me of the sea and its many fish that swim about in it day and night".into())]),
        ("", &[("user", "Write a long poem on cold snow over some quiet hill far off in that north land".into())]),
    );
    assert_eq!(found.expect("a difference").recoverable, 0);
}

/// Tokens whose text is given, without spans.
fn pieces(old: &[&str], new: &[&str]) -> Option<Divergence> {
    let mut all: Vec<&str> = [old, new].concat();
    all.sort_unstable();
    all.dedup();
    let ids = |pieces: &[&str]| -> Vec<u32> {
        pieces.iter().map(|piece| all.binary_search(piece).expect("a piece") as u32).collect()
    };
    let text = |tokens: &[u32]| tokens.iter().map(|&token| all[token as usize]).collect();
    let (old, new) = (ids(old), ids(new));
    compare(Rendered { tokens: &old, spans: &[] }, Rendered { tokens: &new, spans: &[] }, text)
}

#[test]
fn only_the_same_text_is_a_matter_of_tokens() {
    let change = |old: &[&str], new: &[&str]| pieces(old, new).map(|found| found.change);
    let same = Some(Change::Tokenization);
    assert_eq!(change(&["a", "bc", "d"], &["a", "b", "c", "d"]), same);
    assert_eq!(change(&["a", "b", "c", "d"], &["a", "bc", "d"]), same);
    assert_eq!(change(&["a", "bc"], &["a", "b", "c", "d"]), same, "one ends there");
    assert_eq!(change(&["xy", "z", "!"], &["x", "yz", "!"]), same);
    // They meet in the text, and then the text is another: that is why the tokens before it are.
    assert_eq!(change(&["xy", "z", "p"], &["x", "yz", "q"]), Some(Change::Text));
    assert_eq!(change(&["a", "bc", "d"], &["a", "b", "x", "d"]), Some(Change::Text));
    assert_eq!(change(&["bc"], &["b"]), Some(Change::Text));
    assert_eq!(change(&["a", " ", " b"], &["a", "  ", "b"]), same);
    assert_eq!(change(&["a", " ", "b"], &["a", "  ", "b"]), Some(Change::Whitespace));
}

#[test]
fn whatever_parts_the_first_token_and_the_texts_are_told() {
    let mut rng = super::world::Rng(11);
    let alphabet = ["a", "b", "ab", " ", "  ", "1", "\n", "ba", "c"];
    for _ in 0..20_000 {
        let mut side = || -> Vec<&str> { (0..1 + rng.below(40)).map(|_| alphabet[rng.below(9)]).collect() };
        let (old, mut new) = (side(), side());
        let shared = old.len().min(new.len()) / 2;
        new[..shared].copy_from_slice(&old[..shared]);
        let first = old.iter().zip(&new).position(|(old, new)| old != new);
        let found = pieces(&old, &new);
        assert_eq!(found.as_ref().map(|found| found.token), first);
        let Some(found) = found else { continue };
        assert!(new[found.token..].concat().starts_with(&found.prompt), "{found:?}");
        assert!(old[found.token..].concat().starts_with(&found.known), "{found:?}");
        assert!(new[..found.token].concat().ends_with(&found.shared), "{found:?}");
        assert!(found.recoverable <= new.len() - found.token);
        assert_eq!(found.change == Change::Tokenization, found.known == found.prompt, "{found:?}");
    }
}
