//! tokenizer.json files: byte-level, SentencePiece-style and Metaspace, and invalid files.

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
fn a_tokens_bytes_are_what_it_adds_to_the_text() {
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

#[test]
fn steps_that_would_crash_the_library_are_refused_when_read() {
    let within = |name: &str, steps: Value| {
        let mut json = file("byte_bpe");
        json[name] = steps;
        read(&json)
    };
    let refused = |name: &str, step: Value, field: &str| {
        let list = format!("{name}s").replace('_', "");
        for (steps, field) in [
            (step.clone(), format!("{name}.{field}")),
            (json!({ "type": "Sequence", list: [step] }), format!("[0].{field}")),
        ] {
            let message = within(name, steps).unwrap_err().to_string();
            assert!(message.contains("tokenizer.json") && message.contains(&field), "{message} does not say {field}");
        }
    };
    refused("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 }), "length");
    refused("normalizer", json!({ "type": "Prepend", "prepend": "" }), "prepend");
    let replace = |pattern: Value| json!({ "type": "Replace", "pattern": pattern, "content": "x" });
    refused("normalizer", replace(json!({ "String": "" })), "pattern");
    for nothing in ["", "a*", "$", "\\b", "(?=q)", "(?<=é)", "a|"] {
        refused("normalizer", replace(json!({ "Regex": nothing })), "pattern.Regex");
    }
    let map = |characters: Value| json!({ "type": "Precompiled", "precompiled_charsmap": characters });
    for broken in ["", "A", "AAAA", "AQAAAA==", "BAAAAA==", "BAAAAAAAAAA=", "BAAAAP////8="] {
        refused("normalizer", map(json!(broken)), "precompiled_charsmap");
    }
    refused("normalizer", map(Value::Null), "precompiled_charsmap");
    let sound = within("normalizer", replace(json!({ "Regex": "[aeiou]+" }))).unwrap();
    assert_eq!(sound.decode(&sound.encode("hello").unwrap(), false), "hxllx");
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let one = json!({ "type": "FixedLength", "length": 1 });
    let sound = within("pre_tokenizer", json!({ "type": "Sequence", "pretokenizers": [one, level] })).unwrap();
    assert_eq!(sound.encode("hello").unwrap().len(), 5);
}

/// SentencePiece's map of one letter to a text: the root, the letter's unit and the leaf, each in its own block.
fn map_of(letter: u8, leaf: u32, texts: &[u8]) -> Value {
    let mut units = [0u32; 3 * 256];
    units[0] = 256 << 10;
    let at = 256 ^ u32::from(letter);
    units[at as usize] = (at ^ 512) << 10 | 0x100 | u32::from(letter);
    units[512] = 0x8000_0000 | leaf;
    let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(texts);
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let base64 = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().chain(&[0; 2]).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        [0, 1, 2, 3].map(|at| if at <= chunk.len() { alphabet[bits >> (18 - 6 * at) & 63] } else { '=' })
    });
    json!({ "type": "Precompiled", "precompiled_charsmap": base64.collect::<String>() })
}

#[test]
fn a_valid_character_map_is_applied() {
    let with = |map: Value| {
        let mut json = file("byte_bpe");
        json["normalizer"] = map;
        read(&json)
    };
    let sound = with(map_of(b'l', 2, b"a\0\xc3\xa9\0")).unwrap();
    assert_eq!(sound.decode(&sound.encode("hello").unwrap(), false), "heééo");
    for (leaf, texts) in [(3, &b"a\0\xc3\xa9\0"[..]), (6, b"a\0\xc3\xa9\0"), (0, b"\xff"), (0x7fff_ffff, b"a\0")] {
        let message = with(map_of(b'l', leaf, texts)).unwrap_err().to_string();
        assert!(message.contains("normalizer.precompiled_charsmap"), "{message}");
    }
}
