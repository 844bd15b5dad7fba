//! Ctrl-C while a command computes: it ends at the next step with the results so far.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{file, headstart, json_of, refusal, stdout, str_of, with_model};
use crate::support::odd::NAMES;
use crate::support::tiny_chat;

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// Waits until the process has installed a SIGINT handler, which means that its work has begun.
fn at_work(child: &mut Child) {
    let caught = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim).unwrap_or("0");
        u64::from_str_radix(mask, 16).unwrap() >> 1 & 1 == 1
    };
    while !caught(child.id()) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its work began");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The standard output of an interrupted command, which must exit with 130 and print one word on standard error.
fn ended(child: Child) -> String {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(130), "interrupted\n"));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn an_interrupted_generate_keeps_its_text_and_kv() {
    let home = tempfile::tempdir().unwrap();
    let prompt = ["-p", "Count from one to a thousand.", "--cache-dir", str_of(home.path())];
    let generate = |more: &[&str]| with_model("generate", &[&prompt[..], more].concat());
    // Too long to end before the signal.
    let mut child = start(generate(&["-n", "4000", "--logit-bias", "2=-100"]));
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    interrupt(&child);
    let text = ended(child);
    assert!(text.ends_with('\n') && text.len() < 4000, "{text}");
    let usage = &json_of(&mut generate(&["-n", "1", "--json"]))["usage"];
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]);
}

#[test]
fn an_interrupted_warm_keeps_its_kv() {
    let home = tempfile::tempdir().unwrap();
    let rules = "Answer in one sentence, and never in two. ".repeat(300);
    let asked = serde_json::json!([{ "role": "system", "content": rules }]).to_string();
    let conversation = file(&home, "rules.json", asked);
    let cache = home.path().join("cache");
    let mut command = headstart(&["prefix", "warm", str_of(&conversation), "--cache-dir", str_of(&cache), "--model"]);
    command.arg(crate::support::model_path());
    let mut child = start(command);
    at_work(&mut child);
    interrupt(&child);
    assert_eq!(ended(child), "");
    let kept = json_of(&mut headstart(&["prefix", "ls", "--json", "--cache-dir", str_of(&cache)]));
    let tokens = kept["prefixes"][0]["tokens"].as_u64().unwrap();
    assert!((16..3000).contains(&tokens), "{kept}");
}

#[test]
fn an_interrupted_score_prints_its_results() {
    let text = "Never in two. ".repeat(400);
    let mut child = start(with_model("score", &["-p", &text, "--json"]));
    at_work(&mut child);
    interrupt(&child);
    let found: Value = serde_json::from_str(&ended(child)).unwrap();
    let count = |field: &str| found[field].as_array().unwrap().len();
    assert!(count("token_ids") < 1000 && count("logprobs") == count("token_ids").saturating_sub(1), "{found}");
}

#[test]
fn bench_reports_its_results_when_its_time_is_up() {
    let (model, home) = (tiny_chat::folder(NAMES[0]), tempfile::tempdir().unwrap());
    let out = home.path().join("out");
    let flags = ["bench", "prefix", "--lengths", "64", "--runs", "1000000", "--seconds", "1", "--out", str_of(&out)];
    let said = stdout(headstart(&flags).arg("--model").arg(model.path()));
    let first = said.find("64 tokens  hit on disk").expect("rows of what was measured");
    assert!(first < said.find("Some was left out after 1 seconds; --seconds 0").unwrap(), "{said}");
    let json: Value = serde_json::from_slice(&std::fs::read(out.join("prefix.json")).unwrap()).unwrap();
    assert_eq!(json["is_cut"], true);
    // A later run may replace the results of an earlier one, and nothing else.
    let again = || refusal(&mut headstart(&["bench", "prefix", "--out", str_of(&out), "--model", "./none.gguf"]));
    assert!(again().starts_with("./none.gguf: "));
    std::fs::write(out.join("prefix.json"), "{\"mine\": true}").unwrap();
    let problem = format!("out: {} is there already, and of no earlier run", out.join("prefix.json").display());
    assert!(again().starts_with(&problem), "{}", again());
    std::fs::remove_file(out.join("prefix.json")).unwrap();
    assert!(again().contains("prefix.csv is there already, and of no earlier run: name another folder"), "{}", again());
}

#[test]
fn an_interrupted_bench_leaves_no_folder_behind() {
    let (model, home) = (tiny_chat::folder(NAMES[0]), tempfile::tempdir().unwrap());
    let out = home.path().join("out");
    let flags = ["bench", "prefix", "--lengths", "64", "--prompt", "64", "--runs", "1000", "--out", str_of(&out)];
    let mut command = headstart(&flags);
    command.arg("--model").arg(model.path()).env("TMPDIR", home.path());
    let mut child = start(command);
    at_work(&mut child);
    interrupt(&child);
    ended(child);
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["out"], "its temporary folder is removed");
}
