//! `prefix explain` on requests: tools, dates, models and salts, through the program itself.

use std::path::{Path, PathBuf};

use headstart::kv::Owner;
use serde_json::{Value, json};

use super::table::{ROWS, Row};
use super::{Kind, LLAMA, QWEN, base, side};
use crate::cli::{file, headstart, json_of, stdout, str_of};
use crate::support::golden::folder;
use crate::support::model_path;

/// A directory with SmolLM2's tokenizer, the template given, and weights that nobody runs.
pub fn directory(kind: Kind) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let copy = |from: PathBuf| std::fs::copy(&from, directory.path().join(from.file_name().unwrap())).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        copy(folder("smollm2-hf").join(name));
    }
    copy(folder("tiny-odd-f16").join("model.safetensors"));
    file(&directory, "chat_template.jinja", if kind == Kind::Llama { LLAMA } else { QWEN });
    directory
}

pub struct Case {
    pub folder: tempfile::TempDir,
    models: Vec<PathBuf>,
}

impl Case {
    pub fn new(models: &[&Path]) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), models: models.iter().map(|model| model.to_path_buf()).collect() }
    }

    /// What the command says of two requests, as JSON and to a person.
    pub fn explain(&self, a: &Value, b: &Value) -> (Value, String) {
        let paths = [("a.json", a), ("b.json", b)].map(|(name, request)| file(&self.folder, name, request.to_string()));
        let mut command = headstart(&["prefix", "explain", str_of(&paths[0]), str_of(&paths[1])]);
        self.models.iter().for_each(|model| _ = command.arg("--model").arg(model));
        let said = stdout(&mut command).replace(&format!("{}/", self.folder.path().display()), "");
        (json_of(command.arg("--json")), said)
    }
}

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).expect(name)
}

#[test]
fn requests_are_told_apart_by_the_program_too() {
    let (llama, qwen, smollm) = (directory(Kind::Llama), directory(Kind::Qwen), model_path());
    let names = [
        ("a minute later", "1. message 0 (system): a changing value\n"),
        ("lines in another order", "1. message 0 (system): another order\n"),
        (
            "another salt",
            "1. the salt: another setting\n   a.json  -\n   b.json  \"reader-4711\"\n   Give both the same salt",
        ),
        (
            "the date of the template",
            "1. the date that the chat template writes: text of the chat template\n   a.json  \"Today Date: 23 Nov 2026\"\n",
        ),
        ("tools in another order", "1. tool 0 (mail): another order\n"),
        ("a tool less", "1. tool 0 (search): something dropped\n"),
        ("no tools", "1. the list of tools: something dropped\n   a.json  \"search, mail\"\n   b.json  -\n"),
        ("other arguments of a call", "1. message 2 (assistant): edited text\n"),
        ("a line break before the tools", "1. message 0 (system): white space\n"),
    ];
    for (name, expected) in names {
        let Row { kind, edit, owner, texts, change, .. } = row(name);
        let model = match kind {
            Kind::ChatMl => smollm.as_path(),
            Kind::Llama => llama.path(),
            Kind::Qwen => qwen.path(),
        };
        let (known, mut prompt) = (base(*kind), base(*kind));
        edit(&mut prompt);
        let (found, said) = Case::new(&[model]).explain(&known, &prompt);
        let divergence = &found["divergence"];
        let owner = serde_json::to_value(owner.owner()).unwrap();
        for (key, value) in owner.as_object().unwrap() {
            assert_eq!(&divergence[key], value, "{name}: {key}");
        }
        for (side, text) in ["known", "prompt"].into_iter().zip(texts) {
            assert!(divergence[side].as_str().unwrap().contains(text), "{name}: {divergence}");
        }
        assert_eq!(divergence["change"], serde_json::to_value(change).unwrap(), "{name}");
        assert_eq!(found["shared_tokens"], divergence["token"], "{name}");
        assert!(said.contains(expected), "{name}: {said}");
        // The tokens are those of the library.
        assert_eq!(found["tokens"]["prompt"], side(*kind, &prompt).1.tokens.len(), "{name}");
    }
}

#[test]
fn todays_date_is_told_before_it_costs_anything() {
    let llama = directory(Kind::Llama);
    let case = Case::new(&[llama.path()]);
    let mut request = base(Kind::Llama);
    let pinned = side(Kind::Llama, &request).1.dated().unwrap();
    let (found, said) = case.explain(&request, &request);
    assert_eq!((&found["divergence"], &found["date_token"]), (&Value::Null, &Value::Null));
    assert!(!said.contains("date"), "{said}");
    request["date"] = Value::Null;
    let (found, said) = case.explain(&request, &request);
    assert_eq!((&found["divergence"], &found["date_token"]), (&Value::Null, &json!(pinned)));
    assert!(said.contains(&format!("The chat template writes today's date at token {pinned}: ")), "{said}");
    assert!(said.ends_with("Pin it (--date, or \"date\" in the request).\n"), "{said}");
    // The day before yesterday in seconds, and in words.
    request["now"] = 1_795_392_000.into();
    let dated = json!({ "messages": request["messages"], "tools": request["tools"], "date": "2026-11-23" });
    assert_eq!(case.explain(&dated, &request).0["divergence"], Value::Null);
    // What a template asks for by name pins it as well.
    let named = json!({ "messages": request["messages"], "tools": request["tools"],
        "chat_template_kwargs": { "date_string": "23 Nov 2026" } });
    let (found, _) = case.explain(&dated, &named);
    assert_eq!((&found["divergence"], &found["date_token"]), (&Value::Null, &Value::Null));
}

#[cfg(unix)]
#[test]
fn models_of_other_providers_are_told_apart_by_name() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("headstart/models");
    std::fs::create_dir_all(&models).unwrap();
    std::os::unix::fs::symlink(model_path(), models.join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let told = |models: [&str; 2]| {
        let request = |model| json!({ "model": model, "messages": base(Kind::ChatMl)["messages"] });
        let paths = models.map(|model| file(&home, &format!("{model}.json"), request(model).to_string()));
        let mut command = headstart(&["prefix", "explain", str_of(&paths[0]), str_of(&paths[1]), "--json"]);
        let output =
            command.env("XDG_DATA_HOME", home.path()).env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(note.contains(&format!("{:?} is not on this machine", models[0])), "{note}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (found["shared_tokens"] == found["tokens"]["prompt"], found["divergences"][0].clone())
    };
    let (whole, first) = told(["gpt-4o", "gpt-4o"]);
    assert!(whole && first["kind"] == "none", "{first}");
    let (whole, first) = told(["gpt-4o", "gpt-4o-mini"]);
    assert!(!whole && first["kind"] == "settings", "{first}");
    assert_eq!((&first["line_a"], &first["line_b"]), (&json!("gpt-4o"), &json!("gpt-4o-mini")));
}

#[test]
fn another_model_file_is_another_namespace() {
    let (one, same, other) = (directory(Kind::Llama), directory(Kind::Llama), directory(Kind::Llama));
    let weights = other.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let request = base(Kind::Llama);
    let (found, said) = Case::new(&[one.path(), other.path()]).explain(&request, &request);
    let all = found["tokens"]["prompt"].as_u64().unwrap();
    let divergence = &found["divergence"];
    assert_eq!((&divergence["owner"], &divergence["field"]), (&json!("namespace"), &json!("weights")));
    assert_eq!(divergence["known"], str_of(one.path()));
    assert_eq!(divergence["prompt"], str_of(other.path()));
    assert_eq!((&found["shared_tokens"], &divergence["recoverable"]), (&json!(0), &json!(all)));
    let miss = &found["cache"]["misses"][0];
    assert_eq!((&miss["reason"], &miss["field"]), (&json!("namespace_changed"), &json!("weights")));
    assert!(said.starts_with(&format!("b.json shares 0 of {all} tokens (0 %) with a.json.\n")), "{said}");
    assert!(said.contains("1. the model file: another setting\n") && said.contains("Keep to one model file"), "{said}");
    // A copy is the same model; where it brings another template, that is what differs.
    let (found, _) = Case::new(&[one.path(), same.path()]).explain(&request, &request);
    assert_eq!(found["divergence"], Value::Null);
    file(&same, "chat_template.jinja", LLAMA.replace("Cutting Knowledge Date", "Knowledge Date"));
    let (found, said) = Case::new(&[one.path(), same.path()]).explain(&request, &request);
    assert_eq!(found["divergence"]["owner"], serde_json::to_value(Owner::Template { date: false }).unwrap()["owner"]);
    assert!(said.contains("1. the chat template: text of") && said.contains("Keep to one chat template."), "{said}");
    // The models that the requests name.
    let named = |model: &Path| {
        let mut request = request.clone();
        request["model"] = str_of(model).into();
        request
    };
    let (found, _) = Case::new(&[]).explain(&named(one.path()), &named(other.path()));
    assert_eq!(found["divergence"]["field"], "weights");
    let (found, _) = Case::new(&[one.path()]).explain(&named(one.path()), &named(other.path()));
    assert_eq!(found["divergence"], Value::Null, "--model is for both");
}

#[test]
fn a_wrong_request_is_named_by_file_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.json", base(Kind::ChatMl).to_string());
    let messages = json!([{ "role": "user", "content": "a" }]);
    let cases = [
        (json!({ "messages": messages, "tools": {} }), "tools"),
        (json!({ "messages": messages, "tools": ["search"] }), "tools"),
        (json!({ "messages": messages, "date": "tomorrow" }), "date"),
        (json!({ "messages": messages, "date": 5 }), "date"),
        (json!({ "messages": messages, "now": "tomorrow" }), "now"),
        (json!({ "messages": messages, "now": 5, "date": "2026-11-23" }), "now"),
        (json!({ "messages": messages, "cache_salt": 5 }), "cache_salt"),
        (json!({ "messages": messages, "model": 5 }), "model"),
        (json!({ "messages": messages, "chat_template_kwargs": [] }), "chat_template_kwargs"),
        (json!({ "tools": [] }), "messages"),
    ];
    for (request, field) in cases {
        let bad = file(&folder, "bad.json", request.to_string());
        let mut command = headstart(&["prefix", "explain", str_of(&good), str_of(&bad)]);
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.starts_with(&format!("error: {}: {field}: ", bad.display())), "{request}: {message}");
    }
    let mut three = headstart(&["prefix", "explain", str_of(&good), str_of(&good)]);
    let output = three.args(["-m", "a", "-m", "b", "-m", "c"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("model: give one"));
}
