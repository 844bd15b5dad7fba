//! Which tokens end an answer, depending on what the files name.

use headstart::model::Config;
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use super::{CHATML, Model, greeting, id, run};
use crate::checkpoints::{gguf::Meta, safetensors as st, tiny};
use crate::cli::{refusal, stdout};

#[test]
fn the_templates_end_of_turn_token_ends_an_answer() {
    // The model's answer is followed by a token that no file names.
    let long = Model::new().answer(&["-p", "hello"]);
    assert_eq!(long[..5], [greeting(), vec![id("<|turn|>"), id("so")]].concat(), "nothing ends it: {long:?}");
    let behind_every = CHATML.replace("<|im_end|>", "<|turn|>");
    let between = "{% for m in messages %}{{ m.role }}\n{{ m.content }}{% if not loop.last %} <|turn|>{% endif %}{{ '\\n' }}{% endfor %}";
    let with_eos = CHATML.replace("'<|im_end|>", "eos_token + '");
    for (template, eos) in [(&behind_every[..], "<|none|>"), (between, "<|none|>"), (&with_eos, "<|turn|>")] {
        let model = Model::new().set("tokenizer.chat_template", template).set("tokenizer.ggml.eos_token_id", id(eos));
        assert_eq!(model.answer(&["-p", "hello"]), greeting(), "{template}");
        assert_eq!(model.answer(&["--raw", "-p", "hello\n"]), greeting(), "{template}");
    }
    let chat = Model::new().set("tokenizer.chat_template", &behind_every[..]);
    let messages = chat.write("chat.txt", "hello\n");
    let mut command = run("chat", &chat.path(), &["--no-cache", "-n", "8"]);
    command.stdin(std::fs::File::open(messages).unwrap());
    assert_eq!(stdout(&mut command).trim(), "Hi there!");
}

#[test]
fn every_token_that_a_gguf_names_ends_an_answer() {
    for name in ["eos", "eot", "eom"] {
        let model = Model::new().set(&format!("tokenizer.ggml.{name}_token_id"), id("<|turn|>"));
        assert_eq!(model.answer(&["-p", "hello"]), greeting(), "{name}");
    }
    let list = Meta::I32s(vec![-1, id("<|none|>") as i32, id("<|turn|>") as i32]);
    assert_eq!(Model::new().set("tokenizer.ggml.eos_token_id", list).answer(&["-p", "hello"]), greeting());
}

#[test]
fn a_well_known_end_of_turn_needs_no_name() {
    for name in ["<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"] {
        let mut model = Model::new();
        let mut tokens = super::tokens();
        tokens[id("<|turn|>") as usize] = name.into();
        model.file.set("tokenizer.ggml.tokens", Meta::Strings(tokens));
        assert_eq!(model.answer(&["-p", "hello"]), greeting(), "{name}");
    }
}

#[test]
fn the_files_of_a_directory_are_combined() {
    let added = |id: u32, content: &str| json!({ "id": id, "content": content, "special": true });
    let tokenizer = json!({ "added_tokens": [
        added(3, "<a>"), added(4, "<b>"), added(5, "<turn>"), added(6, "<|im_end|>"), added(77, "<|eot_id|>") ] });
    let stops = |generation: Value, config: Value, tokenizer_config: Value| {
        let mut files = tiny::directory(&tiny::config());
        let mut own = tiny::config_json(&tiny::config());
        own["eos_token_id"] = config;
        for (name, json) in [
            ("config.json", own),
            ("generation_config.json", json!({ "eos_token_id": generation })),
            ("tokenizer_config.json", tokenizer_config),
            ("tokenizer.json", tokenizer.clone()),
        ] {
            files.insert(name.into(), json.to_string().into_bytes());
        }
        let checkpoint = block_on(Checkpoint::safetensors("dir", st::sources(&files))).unwrap();
        let described = Config::described(&checkpoint).unwrap().stop_tokens;
        assert!(!described.contains(&5), "a description renders no template: {described:?}");
        Config::from_checkpoint(&checkpoint).unwrap().stop_tokens
    };
    // 77 is outside the vocabulary of 40.
    assert_eq!(stops(json!([9, 8]), json!(7), json!({})), [9, 8, 7, 6]);
    assert_eq!(stops(json!(-1), json!([4294967295u32, 2, 40]), json!({ "eos_token": "<a>" })), [2, 3, 6]);
    assert_eq!(stops(Value::Null, Value::Null, json!({ "eos_token": { "content": "<b>" } })), [4, 6]);
    assert_eq!(stops(Value::Null, Value::Null, json!({ "eos_token": ["<b>", { "content": "<a>" }] })), [4, 3, 6]);
    let template = "{% for m in messages %}{{ m.content }}<turn>{% endfor %}";
    assert_eq!(stops(json!(2), json!(2), json!({ "chat_template": template })), [2, 5, 6]);
}

#[test]
fn a_special_token_given_as_stop_string_stops_there() {
    for stop in ["<|turn|>", "<|turn|>\n", "\n<|turn|>"] {
        assert_eq!(Model::new().answer(&["-p", "hello", "--stop", stop]), greeting(), "{stop:?}");
    }
    let other = Model::new().answer(&["-p", "hello", "--stop", "<|odd|>"]);
    assert_eq!(other.len(), 8, "that token is never generated: {other:?}");
    let message = refusal(&mut Model::new().run("generate", &["--no-cache", "-p", "hello", "--stop", "so<|turn|>"]));
    assert!(message.starts_with("stop: stop[0] has text before the special token <|turn|>"), "{message}");
}

#[test]
fn an_id_without_a_token_counts_as_none() {
    for wrong in [Meta::U32(u32::MAX), Meta::I32(-1), Meta::U32(4000), Meta::U64(1 << 40)] {
        let mut model = Model::new().set("tokenizer.ggml.eot_token_id", id("<|turn|>"));
        let copy = |wrong: &Meta| match *wrong {
            Meta::U32(x) => Meta::U32(x),
            Meta::I32(x) => Meta::I32(x),
            Meta::U64(x) => Meta::U64(x),
            _ => unreachable!(),
        };
        for key in ["padding", "unknown", "eos", "bos", "seperator", "mask", "eom"] {
            model.file.set(&format!("tokenizer.ggml.{key}_token_id"), copy(&wrong));
        }
        assert_eq!(model.answer(&["-p", "hello"]), greeting());
    }
    let json = |key: &str, value: Value| {
        let mut config = tiny::config_json(&tiny::config());
        config[key] = value;
        let mut files = tiny::directory(&tiny::config());
        files.insert("config.json".into(), config.to_string().into_bytes());
        Config::from_checkpoint(&block_on(Checkpoint::safetensors("dir", st::sources(&files))).unwrap()).unwrap()
    };
    for value in [json!(-1), json!(40), json!(4294967296u64)] {
        assert_eq!(json("bos_token_id", value.clone()).bos, None);
        assert_eq!(json("eos_token_id", value.clone()).stop_tokens, [0u32; 0]);
        json("pad_token_id", value);
    }
    assert_eq!(json("eos_token_id", json!(2)).stop_tokens, [2]);
}

#[test]
fn an_empty_token_counts_as_none() {
    let mut tokens = super::tokens();
    tokens[id("<|odd|>") as usize] = String::new();
    tokens[id("<|none|>") as usize] = String::new();
    let model = Model::new()
        .set("tokenizer.ggml.tokens", Meta::Strings(tokens))
        .set("tokenizer.ggml.eos_token_id", id("<|turn|>"));
    assert_eq!(model.answer(&["-p", "hello"]), greeting());
    assert_eq!(model.tokenize(&["-p", "Hi there!"]), greeting());
}
