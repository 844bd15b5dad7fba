//! The table: what was changed, whose it is, the text on both sides, the kind, and whether mending it pays.

use headstart::engine::explain;
use headstart::kv::{Change, Owner};
use serde_json::{Value, json};

use super::Kind::{ChatMl, Llama, Qwen};
use super::{Kind, base, message, report, side, tokenizer, tool};

pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub edit: fn(&mut Value),
    pub owner: Whose,
    /// What the known text and the prompt's hold.
    pub texts: [&'static str; 2],
    pub change: Change,
    pub recovers: bool,
    /// Whether the prompt alone tells the same, when of the known one only the tokens are left.
    pub live: bool,
}

pub enum Whose {
    Message(usize, &'static str),
    Tool(usize, &'static str),
    Tools,
    Date,
    Namespace(&'static str),
}
use Whose::{Date, Message, Namespace, Tool, Tools};

impl Whose {
    pub fn owner(&self) -> Owner {
        match *self {
            Message(message, role) => Owner::Message { message, role: role.into() },
            Tool(tool, name) => Owner::Tools { tool: Some(tool), name: Some(name.into()) },
            Tools => Owner::Tools { tool: None, name: None },
            Date => Owner::Template { date: true },
            Namespace(field) => Owner::Namespace { field },
        }
    }
}

fn replace(request: &mut Value, message: usize, from: &str, to: &str) {
    let content = &mut request["messages"][message]["content"];
    let text = content.as_str().unwrap();
    assert!(text.contains(from), "{text}");
    *content = text.replacen(from, to, 1).into();
}

fn list<'a>(request: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    request[key].as_array_mut().unwrap()
}

/// The system text with its last two lines in the other order.
fn swap_lines(request: &mut Value) {
    let content = &mut request["messages"][0]["content"];
    let mut lines: Vec<&str> = content.as_str().unwrap().lines().collect();
    let last = lines.len() - 1;
    lines.swap(last - 1, last);
    *content = lines.join("\n").into();
}

const fn row(
    name: &'static str,
    kind: Kind,
    owner: Whose,
    texts: [&'static str; 2],
    change: Change,
    recovers: bool,
    edit: fn(&mut Value),
) -> Row {
    Row { name, kind, edit, owner, texts, change, recovers, live: true }
}

/// A row whose owner or kind is seen only with both conversations at hand.
const fn both(row: Row) -> Row {
    Row { live: false, ..row }
}

use Change::{Number, Order, Text, Whitespace};

pub const ROWS: &[Row] = &[
    row("a minute later", ChatMl, Message(0, "system"), ["5", "6"], Number, true, |r| replace(r, 0, "10:35", "10:36")),
    row("a day later", ChatMl, Message(0, "system"), ["3", "4"], Number, true, |r| replace(r, 0, "11-23", "11-24")),
    row("another user id", ChatMl, Message(0, "system"), ["4711", "8205"], Number, true, |r| {
        replace(r, 0, "4711", "8205")
    }),
    row("a longer user id", ChatMl, Message(0, "system"), ["", "9"], Number, true, |r| replace(r, 0, "4711", "47119")),
    row("another user name", ChatMl, Message(0, "system"), ["Ada", "Grace"], Text, true, |r| {
        replace(r, 0, "Ada", "Grace")
    }),
    row("a sentence in front", ChatMl, Message(0, "system"), ["You", "Be kind."], Text, true, |r| {
        replace(r, 0, "You are", "Be kind. You are");
    }),
    row("a space behind the system text", ChatMl, Message(0, "system"), ["", " "], Whitespace, true, |r| {
        replace(r, 0, "anybody else.", "anybody else. ");
    }),
    row("a line break behind the system text", ChatMl, Message(0, "system"), ["", "\n"], Whitespace, true, |r| {
        replace(r, 0, "anybody else.", "anybody else.\n");
    }),
    row("two spaces in the system text", ChatMl, Message(0, "system"), ["", " "], Whitespace, true, |r| {
        replace(r, 0, "never guess", "never  guess");
    }),
    row("Windows line ends", ChatMl, Message(0, "system"), ["", "\r"], Whitespace, true, |r| {
        replace(r, 0, "4711.\n", "4711.\r\n");
    }),
    row("a space behind a question", ChatMl, Message(1, "user"), ["", " "], Whitespace, true, |r| {
        replace(r, 1, "🐋", "🐋 ")
    }),
    row("another emoji", ChatMl, Message(1, "user"), ["🐋", "🐳"], Text, false, |r| replace(r, 1, "🐋", "🐳")),
    row("lines in another order", ChatMl, Message(0, "system"), ["", "Readers"], Order, true, swap_lines),
    row("questions in another order", ChatMl, Message(1, "user"), ["On which", "Please"], Order, true, |r| {
        list(r, "messages").swap(1, 3);
    }),
    row("an edited question", ChatMl, Message(1, "user"), ["whales", "sharks"], Text, false, |r| {
        replace(r, 1, "whales", "sharks");
    }),
    row("another answer", ChatMl, Message(2, "assistant"), ["there", "lent"], Text, false, |r| {
        replace(r, 2, "is there", "is lent");
    }),
    row("another last question", ChatMl, Message(3, "user"), ["Please", "Keep"], Text, false, |r| {
        replace(r, 3, "Please put", "Keep");
    }),
    row("a message more", ChatMl, Message(1, "user"), ["", "Good morning"], Text, false, |r| {
        list(r, "messages").insert(1, message("user", "Good morning to you, and to all the other clerks here!"));
    }),
    row("the oldest turn dropped", ChatMl, Message(1, "user"), ["On which", "Please"], Text, false, |r| {
        list(r, "messages").drain(1..3);
    }),
    row("another role", ChatMl, Message(2, "user"), ["assistant", "user"], Text, false, |r| {
        r["messages"][2]["role"] = "user".into();
    }),
    both(row("no system text", ChatMl, Message(0, "system"), ["the clerk", "AI assistant"], Text, true, |r| {
        list(r, "messages").remove(0);
    })),
    row("another model file", ChatMl, Namespace("weights"), ["one.gguf", "two.gguf"], Text, true, |r| {
        r["model"] = "two.gguf".into();
    }),
    row("another salt", ChatMl, Namespace("salt"), ["", "reader-4711"], Text, true, |r| {
        r["cache_salt"] = "reader-4711".into();
    }),
    row("the date of the template", Llama, Date, ["3", "4"], Number, true, |r| r["date"] = "2026-11-24".into()),
    row("the tenth day after", Llama, Date, ["23 Nov", "03 Dec"], Number, true, |r| r["date"] = "2026-12-03".into()),
    row("the month of the template", Llama, Date, ["Nov", "Dec"], Text, true, |r| r["date"] = "2026-12-23".into()),
    row("the year of the template", Llama, Date, ["6", "7"], Number, true, |r| r["date"] = "2027-11-23".into()),
    row("a time in the system text", Llama, Message(0, "system"), ["5", "6"], Number, true, |r| {
        replace(r, 0, "10:35", "10:36");
    }),
    row("tools in another order", Llama, Tool(0, "mail"), ["search", "mail"], Order, true, |r| {
        list(r, "tools").swap(0, 1);
    }),
    row("a tool in front", Llama, Tool(0, "calendar"), ["search", "calendar"], Text, true, |r| {
        list(r, "tools").insert(0, tool("calendar", "Says on which days the library is open."));
    }),
    row("a tool behind", Llama, Tool(2, "calendar"), ["On which", "\"type\": \"function\""], Text, true, |r| {
        list(r, "tools").push(tool("calendar", "Says on which days the library is open."));
    }),
    both(row("a tool less", Llama, Tool(0, "search"), ["search", "mail"], Text, true, |r| {
        list(r, "tools").remove(0);
    })),
    row("another description", Llama, Tool(1, "mail"), ["letter", "message"], Text, true, |r| {
        r["tools"][1]["function"]["description"] =
            "Sends a message to a reader, whose address it looks up by itself.".into();
    }),
    row("another limit", Llama, Tool(0, "search"), ["1", "2"], Number, true, |r| {
        r["tools"][0]["function"]["parameters"]["properties"]["limit"]["maximum"] = 20.into();
    }),
    both(row("the keys of a tool in another order", Llama, Tool(1, "mail"), ["name", ""], Order, true, |r| {
        let function = r["tools"][1]["function"].as_object_mut().unwrap();
        let name = function.shift_remove("name").unwrap();
        function.insert("name".into(), name);
    })),
    both(row("no tools", Llama, Tools, ["Environment", ""], Text, true, |r| r["tools"] = Value::Null)),
    row("other arguments of a call", Llama, Message(2, "assistant"), ["whales", "sharks"], Text, false, |r| {
        r["messages"][2]["tool_calls"][0]["function"]["arguments"]["query"] = "sharks".into();
    }),
    row("another result of a tool", Llama, Message(3, "tool"), ["2", "4"], Number, false, |r| {
        replace(r, 3, "shelf 12", "shelf 14");
    }),
    row("a time before the tools", Qwen, Message(0, "system"), ["5", "6"], Number, true, |r| {
        replace(r, 0, "10:35", "10:36");
    }),
    row("a line break before the tools", Qwen, Message(0, "system"), ["\n", "\n\n"], Whitespace, true, |r| {
        replace(r, 0, "anybody else.", "anybody else.\n");
    }),
    row("more text before the tools", Qwen, Message(0, "system"), ["", "Be kind."], Text, true, |r| {
        replace(r, 0, "anybody else.", "anybody else. Be kind.");
    }),
    row("tools in another order behind", Qwen, Tool(0, "mail"), ["search", "mail"], Order, true, |r| {
        list(r, "tools").swap(0, 1);
    }),
    both(row("no tools behind", Qwen, Tools, ["# Tools", "<|im_end|>"], Text, true, |r| r["tools"] = json!([]))),
];

#[test]
fn the_right_owner_and_text_are_named() {
    assert!(ROWS.len() >= 24);
    let mut wrong = Vec::new();
    for row in ROWS {
        let known = side(row.kind, &base(row.kind));
        let mut request = base(row.kind);
        (row.edit)(&mut request);
        let prompt = side(row.kind, &request);
        let found = explain::explain((&known.0, &known.1), (&prompt.0, &prompt.1), tokenizer());
        let reason = match row.owner {
            Namespace("salt") => "salt",
            Namespace(_) => "namespace_changed",
            _ => "diverged",
        };
        let report_json = serde_json::to_value(&found.report).unwrap();
        let told = &report_json["misses"][0]["reason"];
        let Some(divergence) = &found.divergence else {
            wrong.push(format!("{}: no divergence", row.name));
            continue;
        };
        let right = divergence.owner == row.owner.owner()
            && divergence.known.contains(row.texts[0])
            && divergence.prompt.contains(row.texts[1])
            && (divergence.change, divergence.recoverable >= 16) == (row.change, row.recovers)
            && (told, found.shared) == (&json!(reason), divergence.token);
        if !right {
            wrong.push(format!("{}: {told} {divergence:?}", row.name));
        }

        // The same from the cache's side, which has no messages of the known prompt.
        let report = report((&known.0, &known.1.tokens), (&prompt.0, &prompt.1.tokens));
        assert_eq!(
            (&report.misses, report.first_divergent),
            (&found.report.misses, found.report.first_divergent),
            "{}",
            row.name
        );
        let live = prompt.1.divergence(&report, tokenizer());
        if let Namespace(_) = row.owner {
            assert_eq!(live, None, "{}: nothing parts, it is not looked for here", row.name);
            continue;
        }
        let Some(live) = live else {
            wrong.push(format!("{}: the cache sees no divergence", row.name));
            continue;
        };
        let texts = |found: &headstart::kv::Divergence| {
            (found.token, found.shared.clone(), found.known.clone(), found.prompt.clone())
        };
        let same = texts(&live) == texts(divergence) && row.live == (live == *divergence);
        if !same {
            wrong.push(format!("{}, live: {live:?}\n    {divergence:?}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
