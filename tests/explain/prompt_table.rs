//! Prompts as applications have them, with lists, sections, elements and parts, and what is to be found in each pair.

use serde_json::{Value, json};

use super::Kind::{ChatMl, Llama};
use super::message;
use super::pair_table::{LAST, PairOf};

/// Rules as most prompts have them, in the same block as what stands before them.
const LIST: &str = "- Answer in full sentences, and never guess.\n- Name the shelf of every book that you speak of.\n\
                    - Fetch books from the cellar within the hour.\n- Keep the answer under a hundred words.";
const RETURNS: &str = "Books come back within four weeks, and later ones cost a penny a day.";
const LENDING: &str = "A reader has up to ten books at home, and none of the reading room.";
const PRINTS: &str = "Maps and prints are looked at in the hall, on the long table by the window.";
const VISITS: &str = "Classes come on Thursdays and are led through the stacks by the clerk.";

fn systems(a: &str, b: &str) -> [Value; 2] {
    [a, b].map(|text| json!([message("system", text), message("user", LAST)]))
}

fn filled(text: &str, a: &str, b: &str) -> [Value; 2] {
    systems(&text.replace("{}", a).replace("{list}", LIST), &text.replace("{}", b).replace("{list}", LIST))
}

/// Sections under one title.
fn titled(list: [(&str, &str); 3]) -> String {
    let sections = list.map(|(title, text)| format!("## {title}\n{text}"));
    format!("You are the clerk.\n\n# The house\n\n{}", sections.join("\n\n"))
}

pub const PROMPTS: &[PairOf] = &[
    PairOf {
        name: "a date in a block with a list",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("You are the clerk.\nToday is {}.\n{list}", "2026-11-23", "2026-11-24"),
    },
    PairOf {
        name: "a name in small letters",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("This conversation is for {}.\nYou are the clerk.\n{list}", "ada", "grace"),
    },
    PairOf {
        name: "a value at the beginning of a line",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("You are the clerk.\n{} °C is the temperature of the hall.\n{list}", "21", "19"),
    },
    PairOf {
        name: "flags as JSON",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("You are the clerk.\nFlags: {\"maps\": {}, \"prints\": true}\n{list}", "true", "false"),
    },
    PairOf {
        name: "a tone for each reader",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("You are the clerk.\nTone: {}\n{list}", "formal", "casual"),
    },
    PairOf {
        name: "a rule in other words",
        kind: ChatMl,
        found: &[("edited", Some(0))],
        mends: true,
        requests: || {
            filled(
                "You are the clerk.\n{}\n{list}",
                "Always show how you found it.",
                "Be brief, and give no reasons at all.",
            )
        },
    },
    PairOf {
        name: "a line less before a list",
        kind: ChatMl,
        found: &[("dropped", Some(0))],
        mends: true,
        requests: || filled("You are the clerk.{}\n{list}", "\nReader: ada", ""),
    },
    PairOf {
        name: "a value in a list under a line",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("Rules:\n- The hall closes at {}.\n{list}\n\nYou are the clerk.", "18:00", "19:30"),
    },
    PairOf {
        name: "a section that changes",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("# Reader\n\n- age: {}\n- books: 4\n\n# Rules\n\n{list}", "36", "37"),
    },
    PairOf {
        name: "sections in another order",
        kind: ChatMl,
        found: &[("reordered", Some(0))],
        mends: true,
        requests: || {
            let [a, b, c] = [("Returns", RETURNS), ("Lending", LENDING), ("Prints", PRINTS)];
            systems(&titled([a, b, c]), &titled([c, a, b]))
        },
    },
    PairOf {
        name: "sections that are partly different",
        kind: ChatMl,
        found: &[("reordered", Some(0)), ("dropped", Some(0)), ("added", Some(0))],
        mends: true,
        requests: || {
            let [a, b, c] = [("Returns", RETURNS), ("Lending", LENDING), ("Prints", PRINTS)];
            systems(&titled([a, b, c]), &titled([("Visits", VISITS), b, c]))
        },
    },
    PairOf {
        name: "paragraphs in another order",
        kind: ChatMl,
        found: &[("reordered", Some(0))],
        mends: true,
        requests: || {
            let text = |list: [&str; 4]| format!("Context:\n\n{}\n\nAnswer from it alone.\n{LIST}", list.join("\n\n"));
            systems(&text([RETURNS, LENDING, PRINTS, VISITS]), &text([VISITS, LENDING, RETURNS, PRINTS]))
        },
    },
    PairOf {
        name: "elements of which one differs",
        kind: ChatMl,
        found: &[("edited", Some(0)), ("edited", Some(0))],
        mends: true,
        requests: || {
            let text = |list: [(&str, &str); 3]| {
                let elements = list.map(|(name, text)| format!("<document source=\"{name}\">\n{text}\n</document>"));
                format!("{LIST}\n\n{}", elements.join("\n"))
            };
            let [b, c] = [("lending", LENDING), ("prints", PRINTS)];
            systems(&text([("returns", RETURNS), b, c]), &text([("visits", VISITS), b, c]))
        },
    },
    PairOf {
        name: "numbers that move, and a value before them",
        kind: ChatMl,
        found: &[("changing_value", Some(0)), ("reordered", Some(0)), ("added", Some(0)), ("dropped", Some(0))],
        mends: true,
        requests: || {
            let text = |time: &str, list: [&str; 3]| {
                let list = [1, 2, 3].map(|number| format!("[{number}] {}", list[number - 1]));
                format!("Time: {time}\nYou are the clerk.\n{LIST}\n\nSources:\n{}", list.join("\n"))
            };
            systems(&text("10:35", [RETURNS, LENDING, PRINTS]), &text("10:36", [VISITS, RETURNS, LENDING]))
        },
    },
    PairOf {
        name: "two spaces beside a value",
        kind: ChatMl,
        found: &[("changing_value", Some(0)), ("whitespace", Some(0))],
        mends: true,
        requests: || {
            let [a, b] = filled("Today is {}.\nYou are the clerk.\n{list}", "2026-11-23", "2026-11-24");
            let spaced = b.to_string().replace("the clerk", "the  clerk");
            [a, serde_json::from_str(&spaced).unwrap()]
        },
    },
    PairOf {
        name: "a blank line more beside a value",
        kind: ChatMl,
        found: &[("changing_value", Some(0)), ("whitespace", Some(0))],
        mends: true,
        requests: || {
            systems(
                &format!("Today is 2026-11-23.\n\nYou are the clerk.\n\n{LIST}"),
                &format!("Today is 2026-11-24.\n\nYou are the clerk.\n\n\n{LIST}"),
            )
        },
    },
    PairOf {
        name: "the keys of JSON in another order",
        kind: ChatMl,
        found: &[("reordered", Some(0))],
        mends: true,
        requests: || {
            let [a, b] = [r#"{"name": "Ada", "since": 2019}"#, r#"{"since": 2019, "name": "Ada"}"#];
            filled("The reader:\n{}\nYou are the clerk.\n{list}", a, b)
        },
    },
    PairOf {
        name: "documents between separators",
        kind: ChatMl,
        found: &[("reordered", Some(1))],
        mends: false,
        requests: || {
            [[RETURNS, LENDING, PRINTS], [PRINTS, RETURNS, LENDING]].map(|list| {
                let asked = format!("Documents:\n{}\n\nQuestion: May I lend it?", list.join("\n---\n"));
                json!([message("system", LIST), message("user", &asked)])
            })
        },
    },
    PairOf {
        name: "articles between separators",
        kind: ChatMl,
        found: &[("reordered", Some(1))],
        mends: false,
        requests: || {
            let [a, b, c] =
                [(12, RETURNS), (31, LENDING), (7, PRINTS)].map(|(at, text)| format!("Article {at}: {text}"));
            [[&a, &b, &c], [&c, &a, &b]].map(|list| {
                let list = list.map(String::as_str).join("\n---\n");
                json!([
                    message("system", LIST),
                    message("user", &format!("Documents:\n{list}\n\nQuestion: May I lend it?"))
                ])
            })
        },
    },
    PairOf {
        name: "a list whose order counts, before the rules",
        kind: ChatMl,
        found: &[("reordered", Some(0))],
        mends: true,
        requests: || {
            let text = |list: [&str; 3]| {
                format!("Do in this order:\n- {}\n{}", list.join("\n- "), [RETURNS, LENDING].join(" "))
            };
            systems(&text(["Mix flour", "Add water", "Bake it"]), &text(["Bake it", "Mix flour", "Add water"]))
        },
    },
    PairOf {
        name: "a document less between separators",
        kind: ChatMl,
        found: &[("dropped", Some(0))],
        mends: true,
        requests: || {
            let text = |list: &[&str]| format!("Documents:\n{}\n\n{LIST}", list.join("\n---\n"));
            systems(&text(&[RETURNS, LENDING, PRINTS]), &text(&[RETURNS, PRINTS]))
        },
    },
    PairOf {
        name: "a value in an element on one line",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("<reader>\n<name>{}</name>\n<plan>L</plan>\n</reader>\n\n{list}", "Ada", "Grace"),
    },
    PairOf {
        name: "a value behind the rules, and another question",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: false,
        requests: || {
            [("Ada", "Where is it?"), ("Grace", "How long may I keep the book on ships?")].map(|(name, asked)| {
                json!([message("system", &format!("{LIST}\nThe reader is {name}.")), message("user", asked)])
            })
        },
    },
    PairOf {
        name: "a day in Japanese",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("今日は{}曜日です。図書館の案内係として答えてください。\n{list}", "月", "火"),
    },
    PairOf {
        name: "a name in Chinese",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("用户的名字是{}。请用完整的句子回答。\n{list}", "李明", "王芳"),
    },
    PairOf {
        name: "a day in Hindi",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || filled("आज {} है। संक्षेप में उत्तर दें।\n{list}", "सोमवार", "मंगलवार"),
    },
    PairOf {
        name: "a day and a name in Arabic",
        kind: ChatMl,
        found: &[("changing_value", Some(0)), ("changing_value", Some(0))],
        mends: true,
        requests: || {
            let text = |day: &str, name: &str| {
                format!("اليوم هو {day} نوفمبر. اسم العميل {name}. أجب باختصار وباللغة العربية.\n{LIST}")
            };
            systems(&text("الاثنين ٢٣", "أحمد"), &text("الثلاثاء ٢٤", "فاطمة"))
        },
    },
    PairOf {
        name: "a rule in Japanese in other words",
        kind: ChatMl,
        found: &[("edited", Some(0))],
        mends: true,
        requests: || {
            filled("日本語で{}答えてください。図書館の案内係として話してください。\n{list}", "簡潔に", "丁寧に")
        },
    },
    PairOf {
        name: "a text in parts",
        kind: ChatMl,
        found: &[("changing_value", Some(0))],
        mends: true,
        requests: || {
            filled("Today is {}.\nYou are the clerk.\n{list}", "2026-11-23", "2026-11-24").map(|mut request| {
                let text = request[0]["content"].take();
                request[0]["content"] = json!([{ "type": "text", "text": text }]);
                request
            })
        },
    },
    PairOf {
        name: "the keys of a call in another order",
        kind: Llama,
        found: &[("reordered", Some(2))],
        mends: true,
        requests: || {
            [r#"{"query":"whales","limit":3}"#, r#"{"limit":3,"query":"whales"}"#].map(|arguments| {
                let call = json!({ "id": "c1", "type": "function", "function": { "name": "search", "arguments": arguments } });
                json!({ "date": "2026-11-23", "messages": [message("system", LIST), message("user", "Which shelf?"),
                    { "role": "assistant", "content": "", "tool_calls": [call] }, message("tool", RETURNS), message("user", LAST)] })
            })
        },
    },
];
