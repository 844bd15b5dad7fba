//! BOS before a text and EOS after it, if the model asks for them.

use headstart::model::language;
use headstart::text::Message;
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use super::{Model, id};
use crate::checkpoints::gguf::Meta;
use crate::cli::{json_of, refusal};
use crate::support::tiny_chat;

fn beginning() -> u32 {
    id("<|im_start|>")
}

#[test]
fn a_gguf_that_asks_for_bos_gets_it_once() {
    let model = Model::new().set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    let (bos, hi) = (beginning(), id("Hi"));
    assert_eq!(model.tokenize(&["-p", "Hi"]), [bos, hi]);
    assert_eq!(model.tokenize(&["-p", "<|im_start|>Hi"]), [bos, hi]);
    assert_eq!(model.tokenize(&["--no-bos", "-p", "Hi"]), [hi]);
    let prompt = |arguments: &[&str]| {
        let out = json_of(&mut model.run("generate", &[&["--no-cache", "-n", "1", "--json"], arguments].concat()));
        out["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!((prompt(&["--raw", "-p", "Hi"]), prompt(&["--raw", "--no-bos", "-p", "Hi"])), (2, 1));
    let score = |arguments: &[&str]| json_of(&mut model.run("score", &[&["--json", "-p", "Hi"], arguments].concat()));
    assert_eq!(score(&[])["token_ids"], json!([bos, hi]));
    assert_eq!(score(&[])["logprobs"].as_array().unwrap().len(), 1);
    assert_eq!(score(&["--no-bos"])["token_ids"], json!([hi]));
    // A chat template writes its own BOS.
    let plain = Model::new();
    let chat = |model: &Model| json_of(&mut model.run("generate", &["--no-cache", "-n", "1", "--json", "-p", "Hi"]));
    assert_eq!(chat(&model)["usage"], chat(&plain)["usage"]);
    assert_eq!(plain.tokenize(&["-p", "Hi"]), [hi]);
    assert!(refusal(&mut model.run("generate", &["--no-bos", "-p", "Hi"])).starts_with("no-bos: "));
}

#[test]
fn bos_and_eos_defaults_are_those_of_llama_cpp() {
    let (bos, hi, eos) = (beginning(), id("Hi"), id("<|im_end|>"));
    let both = Model::new()
        .set("tokenizer.ggml.add_bos_token", Meta::Bool(true))
        .set("tokenizer.ggml.add_eos_token", Meta::Bool(true));
    assert_eq!(both.tokenize(&["-p", "Hi"]), [bos, hi, eos]);
    assert_eq!(both.tokenize(&["-p", "Hi<|im_end|>"]), [bos, hi, eos]);
    for (pre, adds) in [("llama-bpe", true), ("tekken", true), ("qwen2", false), ("gpt-2", false)] {
        let model = Model::new().set("tokenizer.ggml.pre", pre);
        assert_eq!(model.tokenize(&["-p", "Hi"]).len(), 1 + usize::from(adds), "{pre}");
        let model = model.set("tokenizer.ggml.add_bos_token", Meta::Bool(false));
        assert_eq!(model.tokenize(&["-p", "Hi"]), [hi], "{pre}");
    }
    let nameless =
        Model::new().set("tokenizer.ggml.add_bos_token", Meta::Bool(true)).set("tokenizer.ggml.bos_token_id", u32::MAX);
    assert_eq!(nameless.tokenize(&["-p", "Hi"]), [hi], "there is no BOS to add");
}

#[test]
fn a_directory_follows_its_post_processor_unless_its_configuration_overrides_it() {
    let special = |name: &str, id: u32| json!({ name: { "id": name, "ids": [id], "tokens": [name] } });
    let piece = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let template = |single: Value| {
        let mut specials = special("<|im_start|>", 256);
        specials["<|im_end|>"] = special("<|im_end|>", 257)["<|im_end|>"].take();
        json!({ "type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": specials })
    };
    let bos = template(json!([piece("<|im_start|>"), text]));
    let both = template(json!([piece("<|im_start|>"), text, piece("<|im_end|>")]));
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let sequence = json!({ "type": "Sequence", "processors": [level, bos] });
    let roberta = json!({ "type": "RobertaProcessing", "cls": ["<|im_start|>", 256], "sep": ["<|im_end|>", 257],
                          "trim_offsets": true, "add_prefix_space": false });
    let encode = |processor: &Value, config: Value, text: &str| {
        let folder = tiny_chat::folder("tiny-odd-f16");
        let path = folder.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["post_processor"] = processor.clone();
        std::fs::write(path, json.to_string()).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let tokenizer = language::tokenizer(&block_on(Checkpoint::open(folder.path())).unwrap()).unwrap();
        assert_eq!(tokenizer.encode("a").unwrap(), [97]);
        tokenizer.encode_text(text).unwrap()
    };
    let named = |key: &str, adds: bool| json!({ key: adds, "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" } });
    let class = |name: &str| json!({ "tokenizer_class": name, "bos_token": "<|im_start|>" });
    for (processor, config, text, expected) in [
        (&Value::Null, json!({}), "a", vec![97]),
        (&bos, json!({}), "a", vec![256, 97]),
        (&bos, json!({}), "<|im_start|>a", vec![256, 97]),
        (&both, json!({}), "a", vec![256, 97, 257]),
        (&sequence, json!({}), "a", vec![256, 97]),
        (&roberta, json!({}), "a", vec![256, 97, 257]),
        (&level, json!({}), "a", vec![97]),
        (&Value::Null, named("add_bos_token", true), "a", vec![256, 97]),
        (&both, named("add_bos_token", false), "a", vec![97, 257]),
        (&bos, named("add_eos_token", true), "a", vec![256, 97, 257]),
        (&both, named("add_eos_token", false), "a", vec![256, 97]),
        (&Value::Null, json!({ "add_bos_token": true }), "a", vec![97]),
        (&Value::Null, class("LlamaTokenizerFast"), "a", vec![256, 97]),
        (&Value::Null, class("PreTrainedTokenizerFast"), "a", vec![97]),
    ] {
        assert_eq!(encode(processor, config.clone(), text), expected, "{processor} {config} {text}");
    }
}

#[test]
fn special_tokens_map_adds_what_the_configuration_lacks() {
    let folder = tiny_chat::folder("tiny-odd-f16");
    let write = |name: &str, value: &Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    let map = json!({ "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" }, "additional_special_tokens": [] });
    let template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
    let opened = |config: Option<Value>| {
        match config {
            Some(config) => write("tokenizer_config.json", &config),
            None => std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap(),
        }
        block_on(Checkpoint::open(folder.path())).unwrap()
    };
    let messages = [Message::new("user", "a")];
    let says = |config: Value| {
        let checkpoint = opened(Some(config));
        let text = language::template(&checkpoint).unwrap().render(&messages, None, false).unwrap();
        (text, language::tokenizer(&checkpoint).unwrap().encode_text("a").unwrap())
    };
    let config = json!({ "chat_template": template, "add_bos_token": true, "add_eos_token": true });
    assert_eq!(says(config.clone()), ("a".into(), vec![97]));
    write("special_tokens_map.json", &map);
    assert_eq!(says(config.clone()), ("<|im_start|>a<|im_end|>".into(), vec![256, 97, 257]));
    let mut other = config;
    other["bos_token"] = json!("<|im_end|>");
    other["eos_token"] = Value::Null;
    assert_eq!(says(other), ("<|im_end|>a".into(), vec![257, 97]), "the configuration has precedence");
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let text = language::template(&opened(None)).unwrap().render(&messages, None, false).unwrap();
    assert_eq!(text, "<|im_start|>a<|im_end|>");
}
