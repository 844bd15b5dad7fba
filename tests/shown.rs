//! How text from outside is shown: names in files, messages of templates and servers, paths. None of it reaches a terminal as a
//! control character, reverses a line or adds one.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use headstart::{PackError, StoreError};
use serde_json::Value;

use crate::checkpoints::gguf::Meta;
use crate::cli::{headstart, json_of, str_of};
use crate::inputs::{Model, run};
use crate::support::tiny_chat;

/// Sets the window's title, clears the screen, reverses the text that follows, ends the line and forges an error.
const HOSTILE: &str = "h\u{1b}]0;owned\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{2028}\r\nerror: forged";

fn is_harmful(c: char) -> bool {
    c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// All output of a run, which must contain `part` with its control characters as escapes.
#[track_caller]
fn harmless(command: &mut Command, part: &str) -> String {
    let Output { stdout, stderr, .. } = command.output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    let found: Vec<char> = said.chars().filter(|&c| is_harmful(c) && c != '\n').collect();
    assert!(found.is_empty(), "{found:?} in {said:?}");
    assert!(!said.lines().any(|line| line.starts_with("error: forged")), "an extra line: {said}");
    assert!(said.contains(part), "{part} is not in {said}");
    said
}

/// The program's escapes for it; in an error message the line end is a space.
const TITLE: &str = r"h\u{1b}]0;owned\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{2028}\r";
/// JSON's escapes for it.
const JSON: &str = r"]0;owned\u0007\u009b2J\u007f\u202e\u2066\u2028\r\nerror: forged";

#[test]
fn a_files_metadata_is_shown_escaped() {
    let info = |model: &Model, json: &[&str]| {
        let mut command = headstart(&["models", "info"]);
        command.arg(model.path()).args(json);
        command
    };
    let named = Model::new().set("general.name", HOSTILE).set("tokenizer.ggml.pre", HOSTILE);
    let said = harmless(&mut info(&named, &[]), &format!("name          {TITLE}\\nerror: forged\n"));
    assert!(said.contains(&format!("tokenizer     gpt2 ({TITLE}\\n")), "{said}");
    harmless(&mut info(&named, &["--json"]), JSON);
    assert_eq!(json_of(&mut info(&named, &["--json"]))["name"], HOSTILE, "the same text");
    let unknown = Model::new().set("general.architecture", HOSTILE);
    harmless(&mut info(&unknown, &[]), TITLE);
    for model in [named, unknown] {
        harmless(&mut model.run("generate", &["--no-cache", "-p", "a"]), TITLE);
    }
    let mut odd = Model::new();
    odd.file.tensor_mut("output.weight").name = HOSTILE.into();
    odd.file.tensor_mut(HOSTILE).kind = 4_711;
    harmless(&mut info(&odd, &[]), "4711");
    let words = Meta::Strings(vec![HOSTILE.into()]);
    harmless(&mut Model::new().set("tokenizer.ggml.merges", words).run("tokenize", &["-p", "a"]), "error: ");
}

#[test]
fn a_templates_message_is_shown_escaped() {
    let raised = serde_json::to_string(HOSTILE).unwrap();
    for template in [
        format!("{{{{ raise_exception({raised}) }}}}"),
        format!("{{{{ messages | {HOSTILE} }}}}"),
        format!("{{% include {raised} %}}"),
    ] {
        let model = Model::new().set("tokenizer.chat_template", &template[..]);
        harmless(&mut model.run("generate", &["--no-cache", "-p", "a"]), "error: chat template: ");
    }
    let model = Model::new().set("tokenizer.chat_template", &format!("{{{{ raise_exception({raised}) }}}}")[..]);
    harmless(&mut model.run("generate", &["--no-cache", "-p", "a"]), &format!("{TITLE} error: forged"));
}

#[test]
fn a_file_name_is_shown_escaped() {
    let name = format!("{}.gguf", HOSTILE.replace('/', ""));
    let model = Model::new();
    let path = model.write(&name, model.file.build());
    // A file that was written just now could be written again within the same timestamp, so its name is not remembered.
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = ["--cache-dir", str_of(folder.path())];
    harmless(headstart(&["models", "info"]).arg(&path), &format!("path          {}", model.folder.path().display()));
    assert!(run("generate", &path, &["-p", "Hi", "-n", "1"]).args(cache).output().unwrap().status.success());
    harmless(headstart(&["prefix", "ls"]).args(cache), &format!("{TITLE}\\nerror: forged.gguf"));
    harmless(headstart(&["prefix", "ls", "--json"]).args(cache), JSON);
    let missing = model.folder.path().join(format!("no{name}"));
    harmless(&mut run("generate", &missing, &["-p", "Hi"]), TITLE);
    harmless(headstart(&["prefix", "import"]).arg(&path), TITLE);
    harmless(headstart(&["prefix", "explain"]).args([&path, &path]), TITLE);
    let pack = headstart(&["prefix", "explain"]).args([&path; 3]).output().unwrap();
    assert_eq!(pack.status.code(), Some(2));
    harmless(headstart(&["prefix", "explain"]).args([&path; 3]), TITLE);
    let listed = tempfile::tempdir().unwrap();
    let models = listed.path().join("headstart/models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::copy(&path, models.join(&name)).unwrap();
    let mut ls = headstart(&["models", "ls"]);
    ls.env("XDG_DATA_HOME", listed.path()).env("HF_HUB_CACHE", listed.path());
    harmless(&mut ls, &format!("{TITLE}\\nerror: forged.gguf"));
    harmless(ls.arg("--json"), JSON);
    // In a pipe the path is printed as it is.
    let told = headstart(&["models", "path"]).arg(&path).output().unwrap();
    assert_eq!(String::from_utf8(told.stdout).unwrap(), format!("{}\n", path.display()));
}

#[test]
fn a_servers_message_is_shown_escaped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let text = HOSTILE.replace("\r\n", " ");
                while client.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ = write!(client, "-ERR {text}\r\n");
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new();
    for json in [&[][..], &["--json"]] {
        let mut command = model.run("generate", &["-p", "Hi", "-n", "1", "--kv-store-trust", "--kv-store", &url]);
        harmless(command.arg("--cache-dir").arg(folder.path()).args(json), "]0;owned");
    }
}

/// Control bytes that a model generates: unchanged in a pipe, escaped at a terminal.
#[cfg(target_os = "linux")]
#[test]
fn what_a_store_or_a_pack_says_is_only_read() {
    let text = "a\x1b[2Jb\u{202e}c\nd";
    let problem = || text.to_owned();
    let errors: [&dyn std::error::Error; 8] = [
        &StoreError::Io { path: text.into(), source: std::io::Error::other(text) },
        &StoreError::Pin { name: problem(), problem: problem() },
        &StoreError::Secret { path: text.into(), problem: problem() },
        &StoreError::Backend { store: "redis", problem: problem() },
        &StoreError::Refused { store: "redis", problem: problem() },
        &StoreError::Url { url: problem(), problem: problem() },
        &PackError::Read { problem: problem() },
        &PackError::Layout { what: problem(), theirs: problem(), ours: problem() },
    ];
    for error in errors {
        let shown = error.to_string();
        assert!(shown.contains("\\u{1b}[2Jb\\u{202e}c\\nd"), "{shown}");
        assert!(!shown.chars().any(|c| is_harmful(c) || c == '\n'), "{shown:?}");
    }
}

#[test]
fn a_models_output_cannot_move_the_cursor() {
    let folder = tiny_chat::folder("tiny-odd-f16");
    let flags = ["-p", "a", "-n", "2", "--no-cache", "--logit-bias", "27=100"];
    let mut piped = run("generate", folder.path(), &flags);
    assert_eq!(piped.output().unwrap().stdout, b"\x1b\x1b\n");
    assert_eq!(json_of(piped.arg("--json"))["text"], Value::from("\u{1b}\u{1b}"));
    let generate = run("generate", folder.path(), &flags);
    let words = std::iter::once(generate.get_program()).chain(generate.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("{} 2>/dev/null", words.join(" ")), "/dev/null"]);
    terminal.envs(generate.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let shown = terminal.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), "\\u{1b}\\u{1b}\r\n");
}
