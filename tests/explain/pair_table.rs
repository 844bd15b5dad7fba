//! Pairs of requests as people send them, and what is to be found in each.

use serde_json::{Value, json};

use super::{Kind, message, tool};

/// A part of a page, so that a number cannot be right by chance.
pub const RULES: &str = "Answer in full sentences and never guess.\nName the shelf of every book that you speak of, and say when it \
                     is lent.\nBooks in the cellar are fetched within the hour, so tell the reader to wait in the hall.";
const WHALES: &str =
    "Document: Whales\nThe blue whale is the largest animal that ever lived; it eats krill, four tons of it a day.";
const SHIPS: &str =
    "Document: Ships\nA full-rigged ship has three masts or more, all of them with square sails on their yards.";
const BREAD: &str =
    "Document: Bread\nSourdough rises by wild yeast and by bacteria that give it its taste and keep it fresh.";
const STARS: &str =
    "Document: Stars\nThe light of the nearest star but the sun takes a little more than four years to us.";
const ASKED: &str = "On which shelf does the book on whales stand?";
const TOLD: &str = "It stands on shelf twelve; one of the two copies is there at the moment.";
const THEN: &str = "Please put it aside for me until Friday, and tell me about the one on ships.";
const ANSWERED: &str = "It is put aside until Friday. The one on ships is lent until the ninth.";
pub const LAST: &str = "Who has it?";

pub struct PairOf {
    pub name: &'static str,
    pub kind: Kind,
    /// Of each difference: its kind, and the message it is in.
    pub found: &'static [(&'static str, Option<usize>)],
    /// Whether order gains tokens.
    pub mends: bool,
    pub requests: fn() -> [Value; 2],
}

fn system(text: &str) -> Value {
    message("system", text)
}

fn user(text: &str) -> Value {
    message("user", text)
}

fn assistant(text: &str) -> Value {
    message("assistant", text)
}

/// A conversation of three questions behind a system text.
fn talk(system_text: &str) -> Vec<Value> {
    vec![system(system_text), user(ASKED), assistant(TOLD), user(THEN), assistant(ANSWERED), user(LAST)]
}

/// The same conversation behind two system texts.
fn texts(a: &str, b: &str) -> [Value; 2] {
    [talk(a), talk(b)].map(Value::from)
}

/// A conversation, and the same after `edit`.
fn edited(edit: impl Fn(&mut Vec<Value>)) -> [Value; 2] {
    let (a, mut b) = (talk(RULES), talk(RULES));
    edit(&mut b);
    [a.into(), b.into()]
}

fn documents(a: &[&str], b: &[&str]) -> [Value; 2] {
    [a, b].map(|list| json!([system(RULES), user(&format!("{}\n\nWhat eats krill?", list.join("\n\n")))]))
}

fn with_tools(a: &[&str], b: &[&str]) -> [Value; 2] {
    let list = |names: &[&str]| {
        names.iter().map(|name| tool(name, &format!("Does what the {name} of a library does."))).collect()
    };
    [a, b].map(|names| {
        let tools: Vec<Value> = list(names);
        json!({ "messages": talk(RULES), "tools": tools, "date": "2026-11-23" })
    })
}

fn dated(a: &str, b: &str) -> [Value; 2] {
    [a, b].map(|date| json!({ "messages": talk(RULES), "date": date }))
}

use Kind::{ChatMl, Llama, Qwen};

pub const PAIRS: &[PairOf] = &[
    PairOf {
        name: "a time in the first line",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || texts(&format!("It is 2026-11-23 10:35.\n{RULES}"), &format!("It is 2026-11-23 10:36.\n{RULES}")),
    },
    PairOf {
        name: "a time in a paragraph",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || {
            let text = |time: &str| {
                format!(
                    "You are the clerk of a library, and kind to everybody who asks. It is {time} now. {}",
                    RULES.replace('\n', " ")
                )
            };
            texts(&text("10:35"), &text("10:36"))
        },
    },
    PairOf {
        name: "an identifier",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || {
            let text = |id: &str| format!("Session: {id}\n{RULES}");
            texts(&text("3f9a1c7e-02bb-4d11-9a53-77d1"), &text("b8e001fa-99c4-41f7-8d21-3c0e"))
        },
    },
    PairOf {
        name: "a name",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || {
            let text = |name: &str| format!("The reader is {name}.\n{RULES}");
            texts(&text("Ada Lovelace"), &text("Grace Hopper"))
        },
    },
    PairOf {
        name: "two values",
        kind: ChatMl,
        mends: true,
        found: &[("changing_value", Some(0)), ("changing_value", Some(0))],
        requests: || {
            let text = |time: &str, id: &str| {
                format!("Time: {time}\n{RULES}\nReader: {id}\nBe brief, and never speak of the cellar.")
            };
            texts(&text("10:35", "4711"), &text("10:36", "8205"))
        },
    },
    PairOf {
        name: "a value behind all",
        kind: ChatMl,
        found: &[("changing_value", Some(1))],
        mends: false,
        requests: || [4711, 8205].map(|id| json!([system(RULES), system(&format!("Reader: {id}")), user(ASKED)])),
    },
    PairOf {
        name: "a stamp on a turn",
        kind: ChatMl,
        found: &[("changing_value", Some(1))],
        mends: false,
        requests: || {
            edited(|b| b[1]["content"] = format!("[2026-11-23T10:35:07] {ASKED}").into()).map(|mut side| {
                if side[1]["content"] == ASKED {
                    side[1]["content"] = format!("[2026-11-22T09:12:44] {ASKED}").into();
                }
                side
            })
        },
    },
    PairOf {
        name: "a line more",
        kind: ChatMl,
        found: &[("added", Some(0))],
        mends: true,
        requests: || texts(RULES, &format!("Today the hall is closed.\n{RULES}")),
    },
    PairOf {
        name: "a line less",
        kind: ChatMl,
        found: &[("dropped", Some(0))],
        mends: true,
        requests: || texts(&format!("Today the hall is closed.\n{RULES}"), RULES),
    },
    PairOf {
        name: "other rules",
        kind: ChatMl,
        found: &[("edited", Some(0))],
        mends: true,
        requests: || texts(RULES, &RULES.replace("never guess", "say so where you guess")),
    },
    PairOf {
        name: "another prompt",
        kind: ChatMl,
        found: &[("edited", Some(0))],
        mends: false,
        requests: || texts(RULES, "Sail the ship over the ocean like a captain would, and talk as captains do."),
    },
    PairOf {
        name: "lines in another order",
        kind: ChatMl,
        found: &[("reordered", Some(0))],
        mends: true,
        requests: || {
            let lines: Vec<&str> = RULES.lines().collect();
            texts(RULES, &[lines[2], lines[0], lines[1]].join("\n"))
        },
    },
    PairOf {
        name: "documents in another order",
        kind: ChatMl,
        found: &[("reordered", Some(1))],
        mends: true,
        requests: || documents(&[WHALES, SHIPS, BREAD], &[BREAD, WHALES, SHIPS]),
    },
    PairOf {
        name: "documents that are partly different",
        kind: ChatMl,
        mends: true,
        found: &[("reordered", Some(1)), ("dropped", Some(1)), ("added", Some(1))],
        requests: || documents(&[WHALES, SHIPS, BREAD], &[SHIPS, STARS, BREAD]),
    },
    PairOf {
        name: "documents that are partly different, in another order",
        kind: ChatMl,
        mends: true,
        found: &[("reordered", Some(1)), ("added", Some(1)), ("dropped", Some(1))],
        requests: || documents(&[WHALES, SHIPS, BREAD], &[STARS, BREAD, WHALES]),
    },
    PairOf {
        name: "numbered documents in another order",
        kind: ChatMl,
        found: &[("reordered", Some(0))],
        mends: false,
        requests: || {
            let list = |texts: [&str; 3]| {
                let numbered = texts.iter().enumerate().map(|(at, text)| format!("[{}] {text}", at + 1));
                numbered.collect::<Vec<_>>().join("\n")
            };
            let lines: Vec<&str> = RULES.lines().collect();
            texts(&list([lines[0], lines[1], lines[2]]), &list([lines[2], lines[0], lines[1]]))
        },
    },
    PairOf {
        name: "documents in tags",
        kind: ChatMl,
        found: &[("reordered", Some(0)), ("added", Some(0)), ("dropped", Some(0))],
        mends: true,
        requests: || {
            let tagged = |texts: [&str; 3]| {
                let tags = texts.map(|text| format!("<document>\n{text}\n</document>"));
                format!("Answer from these:\n<documents>\n{}\n</documents>\nBe brief.", tags.join("\n"))
            };
            texts(&tagged([WHALES, SHIPS, BREAD]), &tagged([STARS, BREAD, WHALES]))
        },
    },
    PairOf {
        name: "two long lines behind the same one",
        kind: ChatMl,
        found: &[("edited", Some(0))],
        mends: true,
        requests: || {
            let text = |rule: &str| format!("{}\n{rule}", RULES.lines().next().unwrap());
            texts(
                &text("Every book that is older than a hundred years stays in the reading room."),
                &text("Nobody learns here what another reader has at home, not even by name."),
            )
        },
    },
    PairOf {
        name: "nothing but other documents",
        kind: ChatMl,
        found: &[("none", None)],
        mends: false,
        requests: || documents(&[WHALES], &[STARS]),
    },
    PairOf {
        name: "an edited question and its answer",
        kind: ChatMl,
        found: &[("edited", Some(1)), ("edited", Some(2))],
        mends: false,
        requests: || {
            edited(|b| {
                b[1]["content"] = "How tall is the oldest tree of the park behind the hall?".into();
                b[2]["content"] = "Forty metres.".into();
            })
        },
    },
    PairOf {
        name: "a message for each document",
        kind: ChatMl,
        found: &[("reordered", Some(1))],
        mends: true,
        requests: || {
            [[WHALES, SHIPS, BREAD], [BREAD, WHALES, SHIPS]]
                .map(|list| json!([system(RULES), system(list[0]), system(list[1]), system(list[2]), user(ASKED)]))
        },
    },
    PairOf {
        name: "a note before the turns",
        kind: ChatMl,
        found: &[("added", Some(1))],
        mends: true,
        requests: || edited(|b| b.insert(1, system("The reader asked for larger letters."))),
    },
    PairOf {
        name: "the oldest turn dropped",
        kind: ChatMl,
        found: &[("dropped", Some(1))],
        mends: false,
        requests: || edited(|b| _ = b.drain(1..3)),
    },
    PairOf {
        name: "the system text dropped",
        kind: ChatMl,
        found: &[("dropped", Some(0))],
        mends: false,
        requests: || edited(|b| _ = b.remove(0)),
    },
    PairOf {
        name: "a turn more in between",
        kind: ChatMl,
        found: &[("added", Some(1))],
        mends: false,
        requests: || {
            edited(|b| _ = b.splice(1..1, [user("Good morning to all of you!"), assistant("Good morning.")]).count())
        },
    },
    PairOf {
        name: "an edited question",
        kind: ChatMl,
        found: &[("edited", Some(1))],
        mends: false,
        requests: || edited(|b| b[1]["content"] = ASKED.replace("whales", "sharks").into()),
    },
    PairOf {
        name: "other numbers in an old question",
        kind: ChatMl,
        found: &[("edited", Some(1))],
        mends: false,
        requests: || {
            ["What are 12 and 7?", "What are 12 and 8?"]
                .map(|asked| json!([system(RULES), user(asked), assistant("A sum."), user(LAST)]))
        },
    },
    PairOf {
        name: "an edited answer",
        kind: ChatMl,
        found: &[("edited", Some(2))],
        mends: false,
        requests: || edited(|b| b[2]["content"] = TOLD.replace("is there", "is lent").into()),
    },
    PairOf {
        name: "another role",
        kind: ChatMl,
        found: &[("edited", Some(2))],
        mends: false,
        requests: || edited(|b| b[2]["role"] = "user".into()),
    },
    PairOf {
        name: "turns in another order",
        kind: ChatMl,
        found: &[("reordered", Some(1))],
        mends: false,
        requests: || edited(|b| b.swap(1, 3)),
    },
    PairOf {
        name: "a space behind the rules",
        kind: ChatMl,
        found: &[("whitespace", Some(0))],
        mends: true,
        requests: || texts(RULES, &format!("{RULES} ")),
    },
    PairOf {
        name: "Windows line ends",
        kind: ChatMl,
        found: &[("whitespace", Some(0))],
        mends: true,
        requests: || texts(RULES, &RULES.replace('\n', "\r\n")),
    },
    PairOf {
        name: "two spaces in an old question",
        kind: ChatMl,
        found: &[("whitespace", Some(1))],
        mends: true,
        requests: || edited(|b| b[1]["content"] = ASKED.replace("the book", "the  book").into()),
    },
    PairOf {
        name: "white space and a value",
        kind: ChatMl,
        mends: true,
        found: &[("changing_value", Some(0)), ("whitespace", Some(1))],
        requests: || {
            let [mut a, mut b] = texts(&format!("Time: 10:35\n{RULES}"), &format!("Time: 10:36\n{RULES}"));
            (a[1]["content"], b[1]["content"]) = (format!("{ASKED}\n").into(), ASKED.into());
            [a, b]
        },
    },
    PairOf {
        name: "the date of the template",
        kind: Llama,
        found: &[("template", None)],
        mends: true,
        requests: || dated("2026-11-23", "2026-11-24"),
    },
    PairOf {
        name: "tools in another order",
        kind: Llama,
        found: &[("reordered", None)],
        mends: true,
        requests: || with_tools(&["search", "mail", "fetch"], &["fetch", "search", "mail"]),
    },
    PairOf {
        name: "a tool in front",
        kind: Qwen,
        found: &[("added", None)],
        mends: true,
        requests: || with_tools(&["search", "mail"], &["fetch", "search", "mail"]),
    },
    PairOf {
        name: "other tools",
        kind: Qwen,
        found: &[("dropped", None), ("added", None)],
        mends: true,
        requests: || with_tools(&["search", "mail"], &["mail", "fetch"]),
    },
    PairOf {
        name: "a value before the tools",
        kind: Qwen,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || {
            let [mut a, mut b] = with_tools(&["search", "mail"], &["search", "mail"]);
            for (side, time) in [(&mut a, "10:35"), (&mut b, "10:36")] {
                side["messages"][0]["content"] = format!("Time: {time}\n{RULES}").into();
            }
            [a, b]
        },
    },
    PairOf {
        name: "no tools",
        kind: Llama,
        found: &[("dropped", None)],
        mends: false,
        requests: || {
            let [a, mut b] = with_tools(&["search"], &["search"]);
            b.as_object_mut().unwrap().shift_remove("tools");
            [a, b]
        },
    },
    PairOf {
        name: "tools that nobody sees",
        kind: ChatMl,
        found: &[("tools_ignored", None)],
        mends: false,
        requests: || with_tools(&["search"], &["mail"]),
    },
    PairOf {
        name: "another model",
        kind: ChatMl,
        found: &[("settings", None)],
        mends: false,
        requests: || ["one.gguf", "two.gguf"].map(|model| json!({ "model": model, "messages": talk(RULES) })),
    },
    PairOf {
        name: "another salt",
        kind: ChatMl,
        found: &[("settings", None)],
        mends: false,
        requests: || ["", "reader-4711"].map(|salt| json!({ "cache_salt": salt, "messages": talk(RULES) })),
    },
    PairOf { name: "the same", kind: ChatMl, found: &[("none", None)], mends: false, requests: || texts(RULES, RULES) },
    PairOf {
        name: "the next turn",
        kind: ChatMl,
        found: &[("none", None)],
        mends: false,
        requests: || edited(|b| b.extend([assistant("Captain Ahab."), user("Since when?")])),
    },
    PairOf {
        name: "another question",
        kind: ChatMl,
        found: &[("none", None)],
        mends: false,
        requests: || edited(|b| b[5]["content"] = "Is it heavy?".into()),
    },
    PairOf {
        name: "another conversation",
        kind: ChatMl,
        found: &[("none", None)],
        mends: false,
        requests: || {
            let other =
                [system(RULES), user("Where is the map of the coast?"), assistant("In the hall."), user("Which way?")];
            [talk(RULES).into(), other.to_vec().into()]
        },
    },
];
