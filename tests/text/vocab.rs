//! The tokenizer of a GGUF file: the reference ids, every pre-tokenizer, and bad metadata.

use std::collections::BTreeSet;

use headstart::text::{GgufVocab, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

use super::model::{metadata, tokenizer, vocab};
use super::{golden, ids};

#[test]
fn every_reference_prompt_has_the_reference_ids() {
    let golden = golden("golden.json");
    let prompts = golden["prompts"].as_object().unwrap();
    assert!(prompts.len() >= 6);
    for (name, prompt) in prompts {
        let text = prompt["text"].as_str().unwrap();
        assert_eq!(tokenizer().encode(text).unwrap(), ids(&prompt["ids"]), "{name}");
        assert_eq!(tokenizer().decode(&ids(&prompt["ids"]), false), text, "{name}");
        let greedy = tokenizer().decode(&ids(&prompt["greedy32"]), false);
        assert_eq!(greedy, prompt["greedy_text"].as_str().unwrap(), "{name}");
    }
}

/// A vocabulary from the keys of a GGUF file.
fn of_keys(keys: &Value) -> GgufVocab {
    let list = |name: &str| keys[name].as_array().cloned().unwrap_or_default();
    let strings = |name: &str| list(name).iter().map(|text| text.as_str().unwrap().into()).collect();
    let id = |name: &str| keys[name].as_u64().map(|id| id as u32);
    GgufVocab {
        file: "golden.gguf".into(),
        model: keys["model"].as_str().unwrap_or("gpt2").into(),
        pre: keys["pre"].as_str().map(str::to_owned),
        tokens: strings("tokens"),
        token_types: list("token_type").iter().map(|kind| kind.as_i64().unwrap() as i32).collect(),
        scores: list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        add_space_prefix: keys["add_space_prefix"].as_bool(),
        ..GgufVocab::default()
    }
}

#[test]
fn every_pre_tokenizer_gives_the_ids_of_hugging_face() {
    let tokens = golden("tokens.json");
    let (text, kinds) = (tokens["text"].as_str().unwrap(), &tokens["kinds"]);
    let vocab = of_keys(kinds);
    let mut held = BTreeSet::new();
    for row in kinds["rows"].as_array().unwrap() {
        for name in row["names"].as_array().unwrap() {
            let name = name.as_str().unwrap().to_owned();
            let tokenizer = Tokenizer::from_gguf(&GgufVocab { pre: Some(name.clone()), ..vocab.clone() }).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&row["ids"]), "{name}");
            held.insert(name);
        }
    }
    // The kinds whose tokens are spelt as text.
    let gemma = golden("vocabularies/gemma-4.json");
    for name in ["gemma4", "granite-embed-multi-311m", "sarvam-moe"] {
        let vocab = GgufVocab { model: "gpt2".into(), pre: Some(name.into()), ..of_keys(&gemma["vocabulary"]) };
        let tokenizer = Tokenizer::from_gguf(&vocab).unwrap();
        for line in gemma["lines"].as_array().unwrap() {
            assert_eq!(tokenizer.encode(line[0].as_str().unwrap()).unwrap(), ids(&line[1]), "{name} {line}");
        }
        held.insert(name.into());
    }
    let unknown = GgufVocab { pre: Some("none".into()), ..vocab_of_bytes() };
    let message = Tokenizer::from_gguf(&unknown).unwrap_err().to_string();
    let known = message.split_once("a kind among ").unwrap().1.split(", ").map(str::to_owned).collect();
    assert_eq!(held, known, "every kind must be tested");
}

#[test]
fn vocabularies_of_known_models_give_the_ids_of_hugging_face() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vocabularies");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    assert!(names.len() >= 14);
    for name in names {
        let golden = golden(&format!("vocabularies/{name}"));
        let tokenizer = Tokenizer::from_gguf(&of_keys(&golden["vocabulary"])).unwrap();
        for line in golden["lines"].as_array().unwrap() {
            let (text, expected) = (line[0].as_str().unwrap(), ids(&line[1]));
            assert_eq!(tokenizer.encode(text).unwrap(), expected, "{name} {text:?}");
        }
    }
}

#[test]
fn special_tokens_in_the_text_are_parsed_and_none_is_added() {
    let t = tokenizer();
    assert!(t.encode("").unwrap().is_empty());
    assert_eq!(t.encode("<|im_start|><|im_end|>").unwrap(), [1, 2]);
    assert_eq!(t.encode("<|im_start").unwrap().iter().filter(|&&id| t.is_special(id)).count(), 0);
    let ids = t.encode(" a<|im_end|> b").unwrap();
    assert_eq!((t.decode(&ids, false).as_str(), t.decode(&ids, true).as_str()), (" a<|im_end|> b", " a b"));
}

#[test]
fn tokens_are_known_by_name_and_by_bytes() {
    let t = tokenizer();
    assert_eq!(t.vocab_size(), 49152);
    assert_eq!(t.id("<|im_end|>"), Some(2));
    assert!(t.is_special(2) && !t.is_special(504) && !t.is_special(99_999));
    let id = t.id("Ġthe").unwrap();
    assert_eq!((t.token(id).as_deref(), t.token_bytes(id)), (Some("Ġthe"), Some(&b" the"[..])));
    assert_eq!((t.token(99_999), t.token_bytes(99_999), t.id("no such token")), (None, None, None));
    assert_eq!(t.decode(&[99_999, id, 99_999], false), " the");
    let specials = vocab().specials();
    assert_eq!((specials.get("bos_token"), specials.get("eos_token")), (Some("<|im_start|>"), Some("<|im_end|>")));
    assert_eq!((specials.get("unk_token"), specials.get("pad_token")), (Some("<|endoftext|>"), Some("<|im_end|>")));
    assert!(metadata().contains_key("tokenizer.chat_template"));
}

/// A vocabulary of every byte, and two merges.
fn vocab_of_bytes() -> GgufVocab {
    let printable = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff);
    let mut tokens: Vec<String> = printable.chain(0x100..=0x143).map(|c| char::from_u32(c).unwrap().into()).collect();
    assert_eq!(tokens.len(), 256);
    tokens.extend(["ab", "abc", "<s>", "<tool>", "  "].map(String::from));
    GgufVocab {
        file: "tiny.gguf".into(),
        model: "gpt2".into(),
        token_types: [vec![1; 258], vec![3, 4, 4]].concat(),
        merges: vec!["a b".into(), "ab c".into()],
        bos: Some(258),
        tokens,
        ..GgufVocab::default()
    }
}

#[test]
fn control_and_user_defined_tokens_are_added_tokens() {
    let t = Tokenizer::from_gguf(&vocab_of_bytes()).unwrap();
    let ids = t.encode("<s>abc  <tool>").unwrap();
    assert_eq!(ids, [258, 257, 260, 259]);
    assert_eq!((t.decode(&ids, true).as_str(), t.decode(&ids, false).as_str()), ("abc  <tool>", "<s>abc  <tool>"));
    let untyped = Tokenizer::from_gguf(&GgufVocab { token_types: Vec::new(), ..vocab_of_bytes() }).unwrap();
    assert_eq!(untyped.encode("<s>abc").unwrap(), [258, 257], "bos is special if no types are given");
    assert!(untyped.encode("<tool>").unwrap().len() > 1);
}

#[test]
fn bad_metadata_is_a_sentence_that_names_the_key() {
    let refuses = |change: &dyn Fn(&mut GgufVocab), about: &[&str]| {
        let mut vocab = vocab_of_bytes();
        change(&mut vocab);
        let message = Tokenizer::from_gguf(&vocab).unwrap_err().to_string();
        for part in about.iter().chain(&["tiny.gguf"]) {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    };
    for (model, kind) in [("bert", "(WordPiece)"), ("t5", "(Unigram)"), ("rwkv", "(RWKV's trie)"), ("novel", "gpt2")] {
        refuses(&|v| v.model = model.into(), &["tokenizer.ggml.model", &format!("{model:?}"), kind, "llama"]);
    }
    refuses(&|v| v.pre = Some("qwen9".into()), &["tokenizer.ggml.pre", "\"qwen9\"", "smollm"]);
    refuses(&|v| v.tokens.clear(), &["tokenizer.ggml.tokens", "0 tokens"]);
    refuses(&|v| v.tokens[7] = "ab".into(), &["tokenizer.ggml.tokens[256]", "\"ab\"", "twice"]);
    refuses(&|v| v.tokens[7] = "x".repeat(70_000), &["tokenizer.ggml.tokens[7]", "70000 bytes"]);
    refuses(&|v| v.token_types.truncate(9), &["tokenizer.ggml.token_type", "9 types"]);
    refuses(&|v| v.token_types[3] = 77, &["tokenizer.ggml.token_type[3]", "77"]);
    refuses(&|v| v.merges[1] = "abc".into(), &["tokenizer.ggml.merges[1]", "\"abc\""]);
    refuses(&|v| v.merges[1] = "ab  c".into(), &["tokenizer.ggml.merges[1]"]);
    refuses(&|v| v.merges[1] = "ab ab".into(), &["tokenizer.ggml.merges[1]", "\"abab\""]);
    refuses(&|v| v.merges[0] = "a zz".into(), &["tokenizer.ggml.merges[0]", "\"zz\""]);
    refuses(&|v| v.merges.clear(), &["tokenizer.ggml.merges", "lacks its merges", "\"ab\""]);
}

proptest! {
    #[test]
    fn text_survives_the_round_trip(text in any::<String>(), spaced in "[ \\t\\r\\n0-9a-z'é中🎉\u{200d}]{0,60}") {
        for text in [text, spaced] {
            for tokenizer in [tokenizer(), &Tokenizer::from_gguf(&vocab_of_bytes()).unwrap()] {
                prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap(), false), text.as_str());
            }
        }
    }
}

#[test]
fn every_token_knows_its_bytes() {
    let golden = golden("golden.json");
    for prompt in golden["prompts"].as_object().unwrap().values() {
        let text = prompt["text"].as_str().unwrap();
        let (ids, offsets) = tokenizer().encode_with_offsets(text).unwrap();
        assert_eq!(ids, tokenizer().encode(text).unwrap());
        assert_eq!(offsets.len(), ids.len());
        let mut end = 0;
        for (id, bytes) in ids.iter().zip(offsets) {
            assert!(bytes.start <= end && bytes.end >= end, "{bytes:?} after {end}");
            end = bytes.end;
            let (own, whole) = (tokenizer().token_bytes(*id).unwrap(), text[bytes.clone()].as_bytes());
            assert!(whole.windows(own.len()).any(|part| part == own), "{whole:?} holds {own:?}");
        }
        assert_eq!(end, text.len());
    }
}
