//! The contents of the directory: listed, removed, pinned.

use std::process::Command;

use headstart::store::{Blob, Element, FilesystemConfig, FilesystemStore, Producer, Store, system_clock};
use pollster::block_on;
use serde_json::{Value, json};

use super::{BLOCK, Home, RULES, SHIP, WHALE, asked, files, length, reused, shared};
use crate::cli::{json_of, refusal, stdout, str_of};

const TINY: &str = "tiny-odd-f16";

/// Generates an answer and returns how many tokens of prompt and answer are kept. The last token of an answer that reached its
/// length limit was never computed.
fn generate(home: &Home, question: &str) -> usize {
    let answer = json_of(&mut home.generate(question));
    let cut = usize::from(answer["finish_reason"] == "length");
    let count = |name: &str| answer["usage"][name].as_u64().unwrap() as usize;
    count("prompt_tokens") + count("completion_tokens") - cut
}

fn prefix(home: &Home, arguments: &[&str]) -> Command {
    home.run(&[&["prefix"], arguments].concat())
}

/// The listed prefix with this many tokens.
fn of_length(listed: &Value, tokens: usize) -> Value {
    let all = listed["prefixes"].as_array().unwrap();
    all.iter().find(|prefix| prefix["tokens"] == json!(tokens)).unwrap_or_else(|| panic!("{listed}")).clone()
}

#[test]
fn kept_prefixes_are_listed() {
    let home = Home::new(TINY);
    let nothing = home.ls();
    assert_eq!((&nothing["prefixes"], &nothing["pins"], &nothing["bytes"]), (&json!([]), &json!([]), &json!(0)));
    assert!(!home.dir().exists(), "listing creates nothing");
    let kept = generate(&home, WHALE);
    json_of(home.generate(SHIP).args(["--cache-ttl", "2h", "--cache-salt", "mine"]));
    let listed = home.ls();
    assert_eq!((&listed["damaged"], listed["prefixes"].as_array().unwrap().len()), (&json!(0), 2));
    let whale = of_length(&listed, kept);
    let ship = listed["prefixes"].as_array().unwrap().iter().find(|prefix| **prefix != whale).unwrap();
    for (key, value) in [
        ("salted", json!(false)),
        ("expires", Value::Null),
        ("complete", json!(true)),
        ("last_hidden", json!(false)),
        ("pins", json!([])),
        ("quantized", Value::Null),
        ("blocks", json!(kept.div_ceil(BLOCK))),
    ] {
        assert_eq!(whale[key], value, "{key}: {whale}");
    }
    assert_eq!(ship["salted"], true);
    assert!(ship["expires"].as_str().unwrap() > ship["used"].as_str().unwrap(), "{ship}");
    let end = whale["text"].as_str().unwrap();
    assert!(end.starts_with('…') && end.contains("of the whale"), "{whale}");
    assert!(whale["bytes"].as_u64().unwrap() >= listed["bytes"].as_u64().unwrap() / 2);
    let said = stdout(&mut prefix(&home, &["ls"]));
    let line = said.lines().find(|line| line.starts_with(whale["id"].as_str().unwrap())).unwrap();
    let folder = home.model.path().file_name().unwrap().to_str().unwrap();
    assert!(line.contains(folder) && line.contains("…"), "{said}");
    assert!(said.contains("expires in 1h, salted"), "{said}");
    // Without the model's files, the listing shows their digest.
    std::fs::remove_file(home.model.path().join("tokenizer.json")).unwrap();
    let unknown = of_length(&home.ls(), kept);
    assert_eq!((&unknown["text"], &unknown["model"]), (&Value::Null, &Value::Null));
    assert!(stdout(&mut prefix(&home, &["ls"])).contains(&unknown["weights"].as_str().unwrap()[..12]));
}

#[test]
fn removing_a_prefix_keeps_what_others_share() {
    let home = Home::new(TINY);
    let kept = generate(&home, WHALE);
    generate(&home, SHIP);
    let whale = of_length(&home.ls(), kept)["id"].as_str().unwrap().to_owned();
    let said = stdout(&mut prefix(&home, &["rm", &whale[..10]]));
    assert!(said.starts_with(&whale), "{said}");
    let left = home.ls();
    assert_eq!(left["prefixes"].as_array().unwrap().len(), 1);
    reused(&json_of(home.generate(SHIP).arg("--exact")), &[("disk", length(&asked(SHIP)))]);
    let common = shared(&asked(WHALE), &asked(SHIP));
    reused(&json_of(&mut home.generate(WHALE)), &[("disk", common)]);
    for (id, problem) in [("nothing", "no prefix is called nothing"), ("", "is empty")] {
        let message = refusal(&mut prefix(&home, &["rm", id]));
        assert!(message.starts_with("id: ") && message.contains(problem), "{message}");
    }
    // An ambiguous digit: of 19 prefixes at least two share their first hex digit.
    for index in 0..17 {
        generate(&home, &format!("{index} things?"));
    }
    let ids: Vec<String> = home.ls()["prefixes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|prefix| prefix["id"].as_str().unwrap().to_owned())
        .collect();
    let twice = ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    assert!(refusal(&mut prefix(&home, &["rm", &twice[..1]])).contains("give more digits"));

    json_of(home.generate(SHIP).args(["--cache-salt", "mine"]));
    stdout(&mut prefix(&home, &["rm", "--all"]));
    assert_eq!(home.ls()["prefixes"], json!([]));
    assert!(files(&home.dir(), ".safetensors").is_empty());
    reused(&json_of(&mut home.generate(WHALE)), &[]);
}

/// Also if no block is left, since a manifest reveals tokens.
#[test]
fn removing_all_leaves_no_manifest() {
    let home = Home::new(TINY);
    json_of(home.generate(WHALE).args(["--cache-budget", "1"]));
    assert_eq!(home.ls()["prefixes"], json!([]));
    assert_eq!(files(&home.dir(), ".manifest").len(), 1);
    stdout(&mut prefix(&home, &["rm", "--all"]));
    assert!(files(&home.dir(), ".manifest").is_empty());
    // Removing the last block also removes what is remembered of others.
    let kept = generate(&home, WHALE);
    let id = of_length(&home.ls(), kept)["id"].as_str().unwrap().to_owned();
    json_of(home.generate(SHIP).args(["--cache-budget", "1"]));
    assert!(!files(&home.dir(), ".manifest").is_empty());
    for prefix_left in home.ls()["prefixes"].as_array().unwrap() {
        stdout(&mut prefix(&home, &["rm", prefix_left["id"].as_str().unwrap()]));
    }
    assert!(files(&home.dir(), ".manifest").is_empty(), "{id}");
}

#[test]
fn a_pin_keeps_its_blocks() {
    let home = Home::new(TINY);
    let system = home.file("system.json", &asked(WHALE)[..1]);
    let pin = |name: &str| home.with_model(&["prefix", "pin", str_of(&system), "--name", name]);
    // Pinned before there is anything to keep.
    let said = stdout(&mut pin("rules"));
    assert!(said.starts_with("rules  pinned, 0 of "), "{said}");
    let warmed = json_of(home.with_model(&["prefix", "warm", str_of(&system), "--cache-ttl", "1ms"]).arg("--json"));
    let id = warmed["id"].as_str().unwrap();
    let listed = home.ls();
    let blocks = warmed["blocks"].as_u64().unwrap();
    assert_eq!(listed["prefixes"][0]["pins"], json!(["rules"]));
    assert_eq!(listed["prefixes"][0]["pinned_blocks"], json!(blocks));
    assert_eq!((&listed["pins"][0]["blocks"], &listed["pins"][0]["missing"]), (&json!(blocks), &json!(0)));
    assert!(stdout(&mut prefix(&home, &["ls"])).contains("pinned as rules"));
    // Neither expiry, nor other prefixes, nor a mistaken `rm` removes it.
    let tokens = warmed["tokens"].as_u64().unwrap() as usize;
    let budget = (2 * listed["bytes"].as_u64().unwrap() + 16384).to_string();
    for index in 0..3 {
        let question = format!("{index} things, which?");
        reused(&json_of(home.generate(&question).args(["--cache-budget", &budget])), &[("disk", tokens)]);
    }
    let message = refusal(&mut prefix(&home, &["rm", id]));
    assert!(message.contains("pinned as rules"), "{message}");
    // Pinned by its ID too, and more than once.
    assert!(stdout(&mut prefix(&home, &["pin", id, "--name", "again"])).starts_with("again  pinned, "));
    stdout(&mut prefix(&home, &["unpin", "again"]));
    stdout(&mut prefix(&home, &["unpin", "rules"]));
    assert_eq!(home.ls()["pins"], json!([]));
    assert!(refusal(&mut prefix(&home, &["unpin", "rules"])).contains("no pin \"rules\""));
    reused(&json_of(&mut home.generate(RULES)), &[]);
}

#[test]
fn pins_have_names_and_a_share() {
    let home = Home::new(TINY);
    let system = home.file("system.json", &asked(WHALE)[..1]);
    json_of(home.with_model(&["prefix", "warm", str_of(&system)]).arg("--json"));
    let pin = |flags: &[&str]| {
        let mut command = home.with_model(&["prefix", "pin", str_of(&system)]);
        command.args(flags);
        command
    };
    let message = refusal(&mut pin(&["--name", "No Name"]));
    assert!(message.contains("\"No Name\"") && message.contains("a name is"), "{message}");
    let message = refusal(&mut pin(&["--name", "rules", "--cache-budget", "64KiB"]));
    assert!(message.contains("bytes would be pinned") && message.contains("more room"), "{message}");
    let message = refusal(&mut prefix(&home, &["pin", "absent.json", "--name", "rules"]));
    assert!(message.contains("absent.json is neither a file") && message.contains("prefix ls"), "{message}");
    assert_eq!(home.ls()["pins"], json!([]));

    // A name that goes to another prefix says so, and once more to the same one says nothing.
    let first = home.ls()["prefixes"][0]["id"].as_str().unwrap().to_owned();
    assert!(stdout(&mut pin(&["--name", "rules"])).ends_with(" blocks are stored\n"));
    assert!(stdout(&mut pin(&["--name", "rules"])).ends_with(" blocks are stored\n"));
    let other = home.file("other.json", &asked(SHIP));
    let moved = stdout(&mut home.with_model(&["prefix", "pin", str_of(&other), "--name", "rules"]));
    assert!(moved.contains(&format!("moved from {first}, which is no longer pinned so")), "{moved}");
}

/// Forged blocks that each claim to belong to another model.
#[test]
fn a_listing_reports_what_it_leaves_out() {
    let home = Home::new(TINY);
    generate(&home, WHALE);
    assert_eq!(home.ls()["left_out"], 0);
    let disk = FilesystemStore::new(home.dir(), FilesystemConfig::default(), system_clock());
    for n in 0..80 {
        let key = [n; 32];
        let forged = Blob {
            key,
            parent: [200; 32],
            tokens: vec![1],
            namespace: [("weights".to_owned(), format!("{n:02}").repeat(120_000))].into(),
            producer: Producer::Prefill,
            last_hidden: None,
            element: Element::F16,
            rows: Vec::new(),
            windows: 0,
            kv: Vec::new(),
            state: Vec::new(),
        };
        block_on(disk.put(&key, &forged.encode().into(), None)).unwrap();
    }
    let left_out = home.ls()["left_out"].as_u64().unwrap();
    assert!((1..80).contains(&left_out), "{left_out}");
    let output = prefix(&home, &["ls"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{left_out} blocks that were used longest ago are left out")), "{said}");
}
