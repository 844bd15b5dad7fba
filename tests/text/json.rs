//! tokenizer.json files: byte-level, SentencePiece-style and Metaspace, and files that are not what they claim.

use headstart::text::{TokenStream, Tokenizer};
use serde_json::{Value, json};

use super::{golden, ids};

fn file(name: &str) -> Value {
    golden("tokens.json")["files"][name]["tokenizer"].clone()
}

fn read(json: &Value) -> headstart::error::Result<Tokenizer> {
    Tokenizer::from_json(json.to_string().as_bytes(), "tokenizer.json")
}

pub fn llama_like() -> Tokenizer {
    read(&file("llama_like")).unwrap()
}

#[test]
fn ids_and_text_are_those_of_hugging_face() {
    for (name, file) in golden("tokens.json")["files"].as_object().unwrap() {
        let tokenizer = read(&file["tokenizer"]).unwrap();
        for sample in file["samples"].as_array().unwrap() {
            let expected = ids(&sample["ids"]);
            assert_eq!(tokenizer.encode(sample["text"].as_str().unwrap()).unwrap(), expected, "{name} {sample}");
            assert_eq!(tokenizer.decode(&expected, false), sample["kept"].as_str().unwrap(), "{name} {sample}");
            assert_eq!(tokenizer.decode(&expected, true), sample["skipped"].as_str().unwrap(), "{name} {sample}");
            let mut stream = TokenStream::new(&tokenizer);
            let mut text: String = expected.iter().filter_map(|&id| stream.push(id)).collect();
            text.extend(stream.finish());
            assert_eq!(text, sample["skipped"].as_str().unwrap(), "{name} {sample}");
        }
    }
}

#[test]
fn post_processor_truncation_padding_and_dropout_change_nothing() {
    let mut json = file("byte_bpe");
    assert!(json["post_processor"].is_object() && json["truncation"].is_object() && json["padding"].is_object());
    let text = "Hello there, the cat sat on the mat.";
    let ids = read(&json).unwrap().encode(text).unwrap();
    assert!(ids.len() > 4);
    json["model"]["dropout"] = json!(0.9);
    let without_merges = read(&json).unwrap();
    assert_eq!(without_merges.encode(text).unwrap(), ids);
    assert_eq!(without_merges.decode(&ids, false), text);
}

#[test]
fn bytes_of_tokens_are_what_they_add_to_the_text() {
    let t = llama_like();
    let bytes = |token: &str| t.token_bytes(t.id(token).unwrap()).unwrap().to_vec();
    assert_eq!(bytes("▁the"), b" the");
    assert_eq!(bytes("<0xE4>"), [0xe4]);
    assert_eq!(bytes("<s>"), b"<s>");
}

#[test]
fn a_bad_file_is_a_sentence_that_names_it_and_the_field() {
    let refuses = |change: &dyn Fn(&mut Value), about: &[&str]| {
        let mut json = file("byte_bpe");
        change(&mut json);
        let message = read(&json).unwrap_err().to_string();
        for part in about.iter().chain(&["tokenizer.json"]) {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    };
    refuses(&|j| j["model"]["merges"][3] = json!(["zz", "q"]), &["model.merges[3]", "zz"]);
    refuses(&|j| j["model"]["merges"][3] = json!(["the", "the"]), &["model.merges[3]"]);
    refuses(&|j| j["model"]["merges"][3] = json!("nospace"), &["model.merges[3]", "nospace"]);
    refuses(&|j| j["model"]["vocab"]["a"] = json!(4_000_000_000u32), &["model.vocab.a", "4000000000"]);
    refuses(&|j| j["model"]["vocab"]["a"] = json!(-1), &["model.vocab.a"]);
    refuses(&|j| j["added_tokens"][0]["id"] = json!(77), &["added_tokens[0].id", "77"]);
    refuses(&|j| j["model"] = json!({"type": "Novel"}), &["tokenizer"]);
    refuses(&|j| j["decoder"] = Value::Null, &["decoder null"]);
    refuses(&|j| j["decoder"] = json!({"type": "CTC"}), &["decoder CTC"]);
    refuses(&|j| *j = json!([1, 2]), &["tokenizer.json"]);
    for bytes in [&b"{"[..], b"", b"\xff\xfe", b"null", b"3"] {
        let message = Tokenizer::from_json(bytes, "tokenizer.json").unwrap_err().to_string();
        assert!(message.contains("tokenizer.json"), "{message}");
    }
}
