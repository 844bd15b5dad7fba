//! Pairs of requests as people send them: the kinds of what differs, in order, and both put in order, which then share exactly
//! what was promised and have lost no word.

use headstart::engine::{
    explain::{Comparison, Side},
    language::Language,
};
use headstart::kv::{Fields, Namespace};
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use super::Kind::{self, ChatMl, Llama, Qwen};
use super::faces::{Case, directory};
use super::pair_table::{LAST, PAIRS, RULES};
use crate::cli::{file, headstart, json_of, stdout, str_of};
use crate::support::model_path;

fn namespace(request: &Value) -> Namespace {
    let field = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    Namespace::new(Fields { weights: field("model"), salt: field("cache_salt"), ..Fields::default() })
}

/// The first request computed, the second compared with it.
fn compare(language: &Language, requests: &[Value; 2]) -> Comparison {
    let [known, prompt] = requests.each_ref().map(|request| {
        let request_of = if request.is_array() { &Value::Null } else { request };
        Side::new(language, namespace(request_of), request, Some(1_795_392_000)).unwrap()
    });
    Comparison::new(&known, &prompt).unwrap()
}

fn words(request: &Value) -> Vec<String> {
    let messages = request.get("messages").unwrap_or(request).as_array().unwrap();
    let mut words: Vec<String> = messages
        .iter()
        .flat_map(|message| message["content"].as_str().unwrap().split_whitespace().map(str::to_owned))
        .collect();
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
    for pair in PAIRS {
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
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), PAIRS.len(), wrong.join("\n"));
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
