//! `headstart chat` in a pipe: what becomes part of a conversation, and its commands.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::cli::{headstart, json_of, str_of};
use crate::support::tiny_chat;

/// A tiny model, and a folder for what its chats save.
pub struct Tiny {
    pub model: tempfile::TempDir,
    pub home: tempfile::TempDir,
}

impl Tiny {
    pub fn new() -> Self {
        Self { model: tiny_chat::folder("tiny-odd-f16"), home: tempfile::tempdir().unwrap() }
    }

    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = headstart(&["chat", "-n", "2", "--model"]);
        command.arg(self.model.path()).args(flags);
        command
    }

    pub fn chat(&self, flags: &[&str], said: impl AsRef<[u8]>) -> Output {
        let mut command = self.command(flags);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(said.as_ref()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a chat that must succeed: the conversation saved to `saved.json`, standard output and standard error.
    fn saved(&self, flags: &[&str], said: &str) -> (Vec<(String, String)>, String, String) {
        self.ended(flags, said, 0)
    }

    /// The same for a chat that ends with this exit code.
    fn ended(&self, flags: &[&str], said: &str, code: i32) -> (Vec<(String, String)>, String, String) {
        let path = self.home.path().join("saved.json");
        let output = self.chat(flags, said.replace("SAVE", &format!("/save {}", path.display())));
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(output.status.code(), Some(code), "{err}");
        (messages(&path), out, err)
    }
}

/// Roles and contents of a saved conversation.
pub fn messages(path: &Path) -> Vec<(String, String)> {
    let saved: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |message: &Value, field: &str| message[field].as_str().unwrap().to_owned();
    saved.iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
}

pub fn roles(messages: &[(String, String)]) -> Vec<&str> {
    messages.iter().map(|(role, _)| role.as_str()).collect()
}

#[test]
fn a_chat_keeps_the_conversation() {
    let tiny = Tiny::new();
    let said = "Hello\nAnd \\\nagain\n/retry\nSAVE\n/clear\n/exit\nnever read\n";
    let (messages, ..) = tiny.saved(&["--system", "Be brief."], said);
    assert_eq!(roles(&messages), ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!(messages[3].1, "And \nagain");
    let saved = tiny.home.path().join("saved.json");
    let mut again = headstart(&["generate", "-n", "1", "--json", "--messages", str_of(&saved), "--model"]);
    assert!(json_of(again.arg(tiny.model.path()))["usage"]["prompt_tokens"].as_u64().unwrap() > 20);
}

#[test]
fn three_quotes_begin_and_end_a_message_of_several_lines() {
    let cases = [
        ("\"\"\"\none\n\n/two \\\nthree\n\"\"\"", "one\n\n/two \\\nthree"),
        ("\"\"\"one\ntwo\"\"\"  ", "one\ntwo"),
        ("\"\"\"/clear\"\"\"", "/clear"),
        ("said \"\"\"so", "said \"\"\"so"),
        ("/usr/bin/env is what?", "/usr/bin/env is what?"),
    ];
    let tiny = Tiny::new();
    let said: String = cases.iter().map(|(said, _)| format!("{said}\n")).collect();
    let (messages, ..) = tiny.saved(&[], &format!("{said}SAVE\n\"\"\"\nno end"));
    let users: Vec<&str> =
        messages.iter().filter(|(role, _)| role == "user").map(|(_, content)| content.as_str()).collect();
    assert_eq!(users, cases.map(|(_, message)| message));
}

#[test]
fn a_wrong_command_is_reported_and_the_chat_continues() {
    let tiny = Tiny::new();
    let wrong = [
        ("/frobnicate", "/frobnicate is not known; /help lists what is"),
        ("/exit now", "/exit takes nothing behind it; write /exit alone"),
        ("/bye bye", "/bye takes nothing behind it"),
        ("/retry", "/retry has no message to answer yet"),
        ("/cache", "/cache has no answer to tell about yet"),
        ("/save", "/save needs a file name"),
        ("/save /no/such/folder/file", "error: /no/such/folder: no such folder"),
        ("/load", "/load needs a model"),
        ("/load ./none.gguf", "error: ./none.gguf: no such file"),
        ("/set color blue", "error: set: color is not known; system, temperature, top_k"),
        ("/set temperature warm", "error: temperature: warm is not a number"),
        ("/set top_p 2", "error: top_p: 2 is not"),
        ("/set max-tokens 0", "error: max_tokens: 0 leaves no answer"),
        ("/set logit_bias 5", "error: logit_bias: use ID=VALUE"),
        ("/set logit_bias 5000=1", "error: logit_bias: token id 5000 is not in the vocabulary"),
        ("/set date tomorrow", "error: date: "),
        ("/set past_thinking perhaps", "error: past_thinking: "),
    ];
    let said: String = wrong.iter().map(|(command, _)| format!("{command}\n")).collect();
    let (messages, out, err) = tiny.ended(&[], &format!("{said}Hello\nSAVE\n"), 1);
    assert!(err.ends_with(&format!("\nerror: chat: {} commands were refused, see above\n", wrong.len())), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    for ((command, expected), line) in wrong.iter().zip(&lines) {
        assert!(line.starts_with(expected), "{command}: {line}");
    }
    assert_eq!(roles(&messages), ["user", "assistant"]);
    assert!(!out.contains("not known"), "{out}");
    for leaves in ["/bye", "/exit", "/quit"] {
        let (messages, ..) = tiny.saved(&[], &format!("SAVE\n{leaves}\nHello\nSAVE\n"));
        assert_eq!(messages.len(), 0, "{leaves}");
    }
    let output = tiny.chat(&[], b"/stats\n\xff\n");
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.ends_with("error: standard input: line 2: is not UTF-8; save the text as UTF-8\n"), "{err}");
}

#[test]
fn settings_change_and_are_shown() {
    let tiny = Tiny::new();
    let value = |out: &str, name: &str| {
        let row = out.lines().rev().find(|line| line.split_whitespace().next() == Some(name));
        row.unwrap_or_else(|| panic!("{name}: {out}")).split_whitespace().nth(1).unwrap().to_owned()
    };
    let flags = ["--temperature", "0.5", "--seed", "7"];
    let (_, out, _) = tiny.saved(&flags, "/set\nSAVE\n");
    let shown = [
        ("temperature", "0.5"),
        ("top_k", "off"),
        ("top_p", "1"),
        ("seed", "7"),
        ("max_tokens", "2"),
        ("exact", "false"),
    ];
    shown.iter().for_each(|(name, expected)| assert_eq!(value(&out, name), *expected, "{out}"));

    let changes = [
        ("temperature", "0.25"),
        ("top_k", "5"),
        ("top_p", "0.5"),
        ("min_p", "0.1"),
        ("repetition_penalty", "1.5"),
        ("presence_penalty", "-1"),
        ("frequency_penalty", "1"),
        ("logit_bias", "65=1"),
        ("seed", "9"),
        ("max_tokens", "5"),
        ("date", "2026-11-23"),
        ("past_thinking", "keep"),
        ("split_special_tokens", "true"),
        ("exact", "true"),
    ];
    let said: String = changes.iter().map(|(name, value)| format!("/set {name} {value}\n")).collect();
    let (messages, out, err) = tiny.saved(&flags, &format!("{said}/set stop \"x\\n\"\n/show\nHello\nSAVE\n"));
    changes.iter().for_each(|(name, expected)| assert_eq!(value(&out, name), *expected, "{out}"));
    assert_eq!(value(&out, "stop"), "\"x\\n\"");
    assert_eq!(value(&out, "model"), str_of(tiny.model.path()));
    assert_eq!(roles(&messages), ["user", "assistant"]);
    assert!(err.contains("[cut after 5 tokens: --max-tokens, or /set max_tokens]"), "{err}");

    // ollama's spelling; a name alone shows the setting; `default` resets it.
    let said = "/set parameter top-k 3\n/set top_k\n/set temperature default\n/set temperature\nSAVE\n";
    let (_, out, _) = tiny.saved(&flags, said);
    assert_eq!(
        (out.lines().count(), value(&out, "top_k"), value(&out, "temperature")),
        (4, "3".into(), "1".into()),
        "{out}"
    );

    // Settings apply to answers: the same seed gives the same answer.
    let answer = |seed: &str| {
        let said = format!("/set temperature 1.5\n/set max_tokens 8\n/set seed {seed}\nHello\nSAVE\n");
        tiny.saved(&[], &said).0[1].1.clone()
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
}

#[test]
fn the_system_text_changes_with_and_without_the_conversation() {
    let tiny = Tiny::new();
    let said = "/set system \"Be brief.\"\nHello\n/set system Be long.\n/show system\nSAVE\n";
    let (messages, out, _) = tiny.saved(&["--system", "Be odd."], said);
    assert_eq!(roles(&messages), ["system", "user", "assistant"]);
    assert_eq!(messages[0].1, "Be long.");
    assert!(out.lines().any(|line| line.starts_with("system ") && line.ends_with("  Be long.")), "{out}");
    assert_eq!(
        roles(&tiny.saved(&["--system", "Be odd."], "Hello\n/set system \"\"\nSAVE\n").0),
        ["user", "assistant"]
    );
    assert_eq!(roles(&tiny.saved(&[], "Hello\n/system Be brief.\nSAVE\n").0), ["system"]);
}

#[test]
fn another_model_continues_the_conversation() {
    let (tiny, other) = (Tiny::new(), tiny_chat::folder("tiny-qwen3-f16"));
    let said = format!("Hello\n/load {}\n/show\nAnd now?\n/cache\nSAVE\n", other.path().display());
    let (messages, out, err) = tiny.saved(&[], &said);
    assert_eq!(roles(&messages), ["user", "assistant", "user", "assistant"]);
    assert!(out.contains(&format!("model                 {} on ", other.path().display())), "{out}");
    assert!(err.contains("2 messages are kept"), "{err}");
    // One model cannot reuse the other's KV; loading the same model again can.
    assert!(out.contains(" are known for another model file"), "{out}");
    let said = format!("Hello\n/load {}\n/retry\nSAVE\n", tiny.model.path().display());
    let (_, _, err) = tiny.saved(&["--cache-salt", "own"], &said);
    let answers: Vec<&str> = err.lines().filter(|line| line.contains(" prompt tokens (")).collect();
    assert!(answers.len() == 2 && answers[0].contains("(0 cached)") && !answers[1].contains("(0 cached)"), "{err}");

    // A model that cannot run leaves the conversation as it was.
    let broken = tiny_chat::folder("tiny-qwen3-f16");
    let config = broken.path().join("config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    value["model_type"] = json!("novel");
    std::fs::write(config, value.to_string()).unwrap();
    let said = format!("Hello\n/load {}\n/retry\nSAVE\n", broken.path().display());
    let (messages, _, err) = tiny.ended(&[], &said, 1);
    assert_eq!(roles(&messages), ["user", "assistant"]);
    assert!(err.contains("novel") && err.ends_with("error: chat: 1 command was refused, see above\n"), "{err}");
}

#[test]
fn help_lists_every_command() {
    let (_, out, _) = Tiny::new().saved(&[], "/?\n/help\nSAVE\n");
    let commands = [
        "help", "?", "set", "show", "load", "clear", "drop", "system", "retry", "save", "stats", "cache", "bye",
        "exit", "quit",
    ];
    for command in commands {
        assert_eq!(out.matches(&format!("/{command}")).count() % 2, 0, "{command}: {out}");
        assert!(out.contains(&format!("/{command}")), "{command}: {out}");
    }
}
