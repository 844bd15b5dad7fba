//! The tokenizer of a GGUF file: the reference ids, every way of cutting, and bad metadata.

use headstart::text::{GgufVocab, Tokenizer};
use proptest::prelude::*;

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

#[test]
fn each_kind_of_cutting_gives_the_ids_of_hugging_face() {
    let golden = golden("tokens.json");
    let text = golden["text"].as_str().unwrap();
    let kinds = golden["kinds"].as_object().unwrap();
    assert!(kinds.len() >= 12);
    for (kind, expected) in kinds {
        let tokenizer = Tokenizer::from_gguf(&GgufVocab { pre: Some(kind.clone()), ..vocab() }).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids(expected), "{kind}");
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

/// Every byte a token, and two merges.
fn tiny() -> GgufVocab {
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
    let t = Tokenizer::from_gguf(&tiny()).unwrap();
    let ids = t.encode("<s>abc  <tool>").unwrap();
    assert_eq!(ids, [258, 257, 260, 259]);
    assert_eq!((t.decode(&ids, true).as_str(), t.decode(&ids, false).as_str()), ("abc  <tool>", "<s>abc  <tool>"));
    let untyped = Tokenizer::from_gguf(&GgufVocab { token_types: Vec::new(), ..tiny() }).unwrap();
    assert_eq!(untyped.encode("<s>abc").unwrap(), [258, 257], "bos is special where no types are given");
    assert!(untyped.encode("<tool>").unwrap().len() > 1);
}

#[test]
fn bad_metadata_is_a_sentence_that_names_the_key() {
    let refuses = |change: &dyn Fn(&mut GgufVocab), about: &[&str]| {
        let mut vocab = tiny();
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
            for tokenizer in [tokenizer(), &Tokenizer::from_gguf(&tiny()).unwrap()] {
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
