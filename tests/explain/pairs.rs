//! Pairs of requests as people send them: the kinds of what differs, in order, and both put in order, which then share exactly
//! what was promised and have lost no word.

use headstart::engine::{
    explain::{Comparison, Side},
    language::Language,
};
use headstart::kv::{DivergenceKind, Fields, Namespace};
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use super::Kind::{self, ChatMl, Llama, Qwen};
use super::faces::{Case, directory};
use super::message;
use super::pair_table::{LAST, PAIRS, RULES};
use super::prompt_table::PROMPTS;
use crate::cli::{file, headstart, json_of, stdout, str_of};
use crate::support::model_path;

fn namespace(request: &Value) -> Namespace {
    let field = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    Namespace::new(Fields { weights: field("model"), salt: field("cache_salt"), ..Fields::default() })
}

/// The first request computed, the second compared with it.
pub fn compare(language: &Language, requests: &[Value; 2]) -> Comparison {
    let [known, prompt] = requests.each_ref().map(|request| {
        let request_of = if request.is_array() { &Value::Null } else { request };
        Side::new(language, namespace(request_of), request, Some(1_795_392_000)).unwrap()
    });
    Comparison::new(&known, &prompt).unwrap()
}

pub fn text(message: &Value) -> String {
    match &message["content"] {
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n"),
        content => content.as_str().unwrap().to_owned(),
    }
}

/// Where no spaces stand between sentences, their ends part them.
fn words_of(message: &Value) -> Vec<String> {
    text(message)
        .split_whitespace()
        .flat_map(|word| word.split_inclusive(['。', '！', '？']))
        .map(str::to_owned)
        .collect()
}

fn words(request: &Value) -> Vec<String> {
    let messages = request.get("messages").unwrap_or(request).as_array().unwrap();
    let mut words: Vec<String> = messages.iter().flat_map(words_of).collect();
    words.sort();
    words
}

#[test]
fn every_kind_is_told_and_what_is_promised_is_kept() {
    let folders = [Llama, Qwen].map(directory);
    let language = |kind: Kind| {
        let path = match kind {
            ChatMl => model_path(),
            Llama => folders[0].path().to_path_buf(),
            Qwen => folders[1].path().to_path_buf(),
        };
        Language::open(&block_on(Checkpoint::open(&path)).unwrap()).unwrap()
    };
    let languages = [ChatMl, Llama, Qwen].map(language);
    assert!(PAIRS.len() >= 24);
    let mut wrong = Vec::new();
    for pair in PAIRS.iter().chain(PROMPTS) {
        let language = &languages[pair.kind as usize];
        let requests = (pair.requests)();
        let comparison = compare(language, &requests);
        let found: Vec<(String, Option<usize>)> = comparison
            .differences
            .iter()
            .map(|found| (serde_json::to_value(found.kind).unwrap().as_str().unwrap().to_owned(), found.message))
            .collect();
        let expected: Vec<_> = pair.found.iter().map(|(kind, message)| ((*kind).to_owned(), *message)).collect();
        let shared = comparison.explanation.shared;
        if found != expected || (comparison.fixed > shared) != pair.mends {
            wrong.push(format!(
                "{}: {found:?}, {shared} → {}\n{:#?}",
                pair.name, comparison.fixed, comparison.differences
            ));
        }
        let mended = compare(language, &comparison.requests);
        assert_eq!(mended.explanation.shared, comparison.fixed, "{}: the number promised", pair.name);
        for (given, mended) in requests.iter().zip(&comparison.requests) {
            assert_eq!(words(given), words(mended), "{}", pair.name);
        }
        assert_eq!(comparison.fixed == shared, comparison.requests == requests, "{}: changed for nothing", pair.name);
        for (given, mended) in requests.iter().zip(&comparison.requests) {
            let (given, mended) = (turns(given), turns(mended));
            let roles = |turns: &[(String, Vec<String>)]| turns.iter().map(|turn| turn.0.clone()).collect::<Vec<_>>();
            assert_eq!(roles(&given), roles(&mended), "{}: who speaks when", pair.name);
            let past = given.len() - 1;
            assert_eq!(given[..past], mended[..past], "{}: what was said", pair.name);
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), PAIRS.len(), wrong.join("\n"));
}

/// Who spoke, but for the system, and in what words.
fn turns(request: &Value) -> Vec<(String, Vec<String>)> {
    let messages = request.get("messages").unwrap_or(request).as_array().unwrap();
    let turns = messages.iter().filter(|message| message["role"] != "system");
    turns.map(|message| (message["role"].as_str().unwrap().to_owned(), words_of(message))).collect()
}

/// Texts whose parts say something else in another place: as system texts before the same rules, and as what is asked.
const HELD_TOGETHER: &[[&str; 2]] = &[
    [
        "Examples:\nQ: I love it\nA: positive\nQ: I hate it\nA: negative",
        "Examples:\nQ: It stinks\nA: negative\nQ: I love it\nA: positive",
    ],
    [
        "<doc id=\"1\">\nwhales eat krill\n</doc>\n<doc id=\"2\">\nships have masts\n</doc>",
        "<doc id=\"1\">\nships have masts\n</doc>\n<doc id=\"2\">\nwhales eat krill\n</doc>",
    ],
    [
        "Config:\n{\n  \"user\": \"ada\",\n  \"lang\": \"en\"\n}",
        "Config:\n{\n  \"user\": \"bob\",\n  \"lang\": \"en\"\n}",
    ],
    [
        "```sql\nCREATE TABLE a (\n  id INT,\n  name TEXT\n);\n```",
        "```sql\nCREATE TABLE a (\n  id INT,\n  title TEXT\n);\n```",
    ],
    ["| name | age |\n|---|---|\n| Ada | 36 |", "| name | age |\n|---|---|\n| Ada | 37 |"],
    ["1. Open the valve.\n2. Light the burner.", "1. Light the burner.\n2. Open the valve."],
    ["Current time:\n10:35", "Current time:\n10:36"],
    [
        "Do in this order:\n- Mix flour\n- Add water\n- Bake it",
        "Do in this order:\n- Bake it\n- Mix flour\n- Add water",
    ],
    ["Schritte:\n- Gruß an Ada\n- Frage\n- Antwort", "Schritte:\n- Gruß an Eve\n- Frage\n- Antwort"],
    ["- First mix flour\n- Add water\n- Then bake it", "- Add water\n- First mix flour\n- Then bake it"],
    [
        "[1] whales eat krill\n[2] ships have masts\n\nTranslate [1].",
        "[1] ships have masts\n[2] whales eat krill\n\nTranslate [1].",
    ],
    ["Sort these lines:\nship\nbread\nwhale", "Sort these lines:\nbread\nwhale\nship"],
    [
        "Ada gave Bob a red book yesterday. Bob gave Ada a blue book today. Who gave first?",
        "Bob gave Ada a blue book today. Ada gave Bob a red book yesterday. Who gave first?",
    ],
];

#[test]
fn what_says_something_else_in_another_place_stays_together() {
    let language = Language::open(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap();
    for pair in HELD_TOGETHER {
        let system = pair.map(|text| json!([message("system", &format!("{RULES}\n\n{text}")), message("user", LAST)]));
        let asked = pair.map(|text| json!([message("system", RULES), message("user", text)]));
        for requests in [system, asked] {
            let comparison = compare(&language, &requests);
            for (mended, text) in comparison.requests.iter().zip(pair) {
                let contents = mended.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap());
                let whole = contents.collect::<Vec<_>>().join("\n\n");
                for block in text.split("\n\n").filter(|block| !block.starts_with('#')) {
                    assert!(whole.contains(block), "{block:?} was taken apart: {whole:?}");
                }
            }
            for found in comparison.differences.iter().filter(|found| found.kind != DivergenceKind::None) {
                assert_ne!(found.line_a, found.line_b, "{pair:?}");
            }
        }
    }
}

/// Texts before the same last block, and what they are once they are mended: a message for each text.
const MENDED: &[[&[&str]; 3]] = &[
    [
        &["Never do this:\n- lend books to children under 6\n- shout\nDo this:\n- greet everybody"],
        &["Never do this:\n- lend books to children under 8\n- shout\nDo this:\n- greet everybody"],
        &["Do this:\n- greet everybody\n\n{}", "Never do this:\n- shout\n- lend books to children under 6"],
    ],
    [
        &["# Ada\n\n- age: 36\n- books: 4\n\n# Rules\n\nBe kind."],
        &["# Ada\n\n- age: 37\n- books: 4\n\n# Rules\n\nBe kind."],
        &["# Rules\n\nBe kind.\n\n{}", "# Ada\n\n- books: 4\n- age: 36"],
    ],
    [
        &["<facts>\nIt is 10:35.\nThe hall is open.\n</facts>"],
        &["<facts>\nIt is 10:36.\nThe hall is open.\n</facts>"],
        &["{}", "<facts>\nThe hall is open.\nIt is 10:35.\n</facts>"],
    ],
    [
        &["The reader lives in the old town and\nreads in the hall on most days; she\nis called Ada. She is old."],
        &["The reader lives in the old town and\nreads in the hall on most days; she\nis called Eve. She is old."],
        &[
            "{}",
            "The reader lives in the old town and\nreads in the hall on most days; she\nis called Ada. She is old.",
        ],
    ],
];

#[test]
fn what_changes_stays_under_its_heading_and_goes_last_there() {
    let language = Language::open(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap();
    for [a, b, mended] in MENDED {
        let requests =
            [a, b].map(|texts| json!([message("system", &format!("{}\n\n{RULES}", texts[0])), message("user", LAST)]));
        let comparison = compare(&language, &requests);
        let found: Vec<String> = comparison.requests[0].as_array().unwrap().iter().map(text).collect();
        let mut expected: Vec<String> = mended.iter().map(|text| text.replace("{}", RULES)).collect();
        expected.push(LAST.to_owned());
        assert_eq!(found, expected);
    }
}

#[test]
fn white_space_calls_and_what_a_template_moves_are_told_by_their_lines() {
    let llama = directory(Llama);
    let language = Language::open(&block_on(Checkpoint::open(llama.path())).unwrap()).unwrap();
    let first = |name: &str, language: &Language| {
        let pair = PAIRS.iter().chain(PROMPTS).find(|pair| pair.name == name).expect(name);
        let found = compare(language, &(pair.requests)()).differences.pop().unwrap();
        [found.line_a, found.line_b]
    };
    let calls = first("the keys of a call in another order", &language);
    let arguments = [r#"{"query":"whales","limit":3}"#, r#"{"limit":3,"query":"whales"}"#];
    assert_eq!(calls, arguments.map(|arguments| format!(r#"{{"name":"search","arguments":{arguments}}}"#)));
    let smollm = Language::open(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap();
    let spaces = first("a blank line more beside a value", &smollm);
    assert_eq!(spaces, ["You are the clerk.\n\n", "You are the clerk.\n\n\n"]);
    // SmolLM2's template shows no calls.
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "search", "arguments": {} } });
    let called = json!([message("user", "Which shelf?"), { "role": "assistant", "content": "One.", "tool_calls": [call] },
        message("user", LAST)]);
    let found = compare(&smollm, &[called.clone(), called]).differences;
    assert_eq!((found[0].kind, found[0].message), (DivergenceKind::ToolsIgnored, Some(1)));
    assert!(found[0].advice.contains("calls of tools"), "{found:?}");
}

#[test]
fn a_template_that_moves_a_text_is_named() {
    // As Mistral's templates do: the system text stands before the last question.
    const MOVES: &str = "{% for message in messages %}{% if message.role == 'user' %}[INST] \
        {% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}\
        {{ message.content }}[/INST]{% elif message.role == 'assistant' %} {{ message.content }}<|im_end|>{% endif %}{% endfor %}";
    let folder = directory(Qwen);
    file(&folder, "chat_template.jinja", MOVES);
    let language = Language::open(&block_on(Checkpoint::open(folder.path())).unwrap()).unwrap();
    let talk = [
        message("system", "Be kind."),
        message("user", "Where?"),
        message("assistant", "Here."),
        message("user", LAST),
    ];
    let comparison = compare(&language, &[talk[..2].into(), talk.to_vec().into()]);
    let [found] = &comparison.differences[..] else { panic!("{:?}", comparison.differences) };
    assert_eq!((found.kind, found.message), (DivergenceKind::Template, None));
    assert!(found.line_a.contains("Be kind.") && !found.line_b.contains(LAST), "{found:?}");
    assert!(found.advice.contains("as the conversation grows"), "{found:?}");
}

#[test]
fn what_was_said_by_turns_stays_as_it_was_said() {
    let language = Language::open(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap();
    let talk = |said: &[&str]| -> Value {
        let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
        let turns = said.iter().enumerate().map(|(index, text)| message(role(index), text));
        [message("system", RULES)].into_iter().chain(turns).collect()
    };
    let pairs = [
        [talk(&["Is it lent?", "Yes.", "Is it old?"]), talk(&["Is it old?", "No.", "Is it lent?"])],
        [
            talk(&["Where is it?", "In the hall.", "Thanks", "You are welcome.", "And the ship book?"]),
            talk(&["Thanks", "For what?", "Where is it?", "In the hall.", "Which hall?"]),
        ],
        [
            json!([
                message("user", "I am Ada."),
                message("user", "Where is it?"),
                message("assistant", "Hall."),
                message("user", "Ok?")
            ]),
            json!([message("user", "Where is it?"), message("assistant", "Hall."), message("user", "Ok?")]),
        ],
    ];
    for requests in pairs {
        let comparison = compare(&language, &requests);
        assert_eq!(comparison.requests, requests, "{:?}", comparison.differences);
        assert_eq!(comparison.fixed, comparison.explanation.shared);
    }
}

#[test]
fn the_program_writes_both_mended_and_keeps_its_promise() {
    let smollm = model_path();
    let case = Case::new(&[&smollm]);
    let pair = PAIRS.iter().find(|pair| pair.name == "two values").unwrap();
    let [a, b] = (pair.requests)();
    let paths = [("a.json", &a), ("b.json", &b)].map(|(name, request)| file(&case.folder, name, request.to_string()));
    let mended = case.folder.path().join("mended");
    let explain = |paths: [&str; 2]| {
        let mut command = headstart(&["prefix", "explain", paths[0], paths[1], "--model"]);
        command.arg(&smollm);
        command
    };
    let given = [str_of(&paths[0]), str_of(&paths[1])];
    let said = stdout(explain(given).arg("--fix").arg(&mended));
    let found = json_of(explain(given).arg("--json"));
    assert_eq!(found["divergences"][0]["line_a"], "Time: 10:35");
    assert_eq!(found["divergences"][1]["line_b"], "Reader: 8205");
    let advice = found["divergences"][0]["advice"].as_str().unwrap();
    assert!(said.contains("1. message 0 (system): a changing value\n") && said.contains(advice), "{said}");
    let promised = &found["fixed_shared_tokens"];
    assert!(said.contains(&format!("Static first, variables last: {} then shares {promised} of ", given[1])), "{said}");
    let [a_mended, b_mended] = ["a.json", "b.json"].map(|name| mended.join(name));
    assert!(said.ends_with(&format!("Written: {} and {}\n", a_mended.display(), b_mended.display())), "{said}");
    let again = json_of(explain([str_of(&a_mended), str_of(&b_mended)]).arg("--json"));
    assert_eq!((&again["shared_tokens"], &again["fixed_shared_tokens"]), (promised, promised));
    assert!(promised.as_u64() > found["shared_tokens"].as_u64());
    let messages: Value = serde_json::from_str(&std::fs::read_to_string(&b_mended).unwrap()).unwrap();
    assert_eq!(messages[0]["content"], format!("{RULES}\nBe brief, and never speak of the cellar."));
    assert_eq!(messages[5], json!({ "role": "system", "content": "Time: 10:36\nReader: 8205" }));
    assert_eq!(messages[6]["content"], LAST);
    // Neither of the given files is written over.
    let output = explain(given).arg("--fix").arg(case.folder.path()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("error: fix: ") && message.contains("is one of the conversations"), "{message}");
    assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), a.to_string());
}
