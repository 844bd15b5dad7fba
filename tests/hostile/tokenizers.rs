//! Hostile tokenizer files: sound ones with a value changed; and steps, models and tokens that grow, loop or refer to what does
//! not exist.

use serde_json::{Map, Value, json};

use super::{Dice, Input, all};
use crate::text::golden;

/// Values that replace others.
fn values() -> Vec<Value> {
    let numbers = [0.0, -1.0, 1.0, 2.0, 255.0, 1e6, 4_194_304.0, 4_294_967_295.0, 4_294_967_296.0, 1e19, -1e308, 1e308];
    let texts = [
        "",
        " ",
        "a",
        "\u{0}",
        "▁",
        "é",
        "Ġ",
        "<0x00>",
        "<|endoftext|>",
        "BPE",
        "Unigram",
        "WordPiece",
        "WordLevel",
        "Sequence",
    ];
    let mut values: Vec<Value> = numbers.iter().map(|&number| json!(number)).collect();
    values.extend([0_i64, 1, -1, 1 << 22, i64::MAX].map(Value::from));
    values.extend(texts.map(Value::from));
    values.extend([Value::Null, true.into(), false.into(), json!([]), json!({}), json!([[]]), json!(u64::MAX)]);
    values.extend(["a".repeat(70_000), " ".repeat(300), "▁".repeat(3000)].map(Value::from));
    values
}

/// Steps that rewrite the text, each of which makes it longer.
fn steps(dice: &mut Dice) -> (&'static str, Value) {
    let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let level = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false });
    let space =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true });
    let count = dice.of(&[1, 3, 12, 40, 63, 64, 65, 500]);
    let many = |step: Value| Value::Array(vec![step; count]);
    let normalizers = |list: Value| ("normalizer", json!({ "type": "Sequence", "normalizers": list }));
    let cuts = |list: Value| ("pre_tokenizer", json!({ "type": "Sequence", "pretokenizers": list }));
    match dice.below(16) {
        0 => normalizers(many(replace("a", "aa"))),
        1 => normalizers(many(replace(" ", "  "))),
        2 => normalizers(many(replace("a", &"a".repeat(60_000)))),
        3 => normalizers(many(json!({ "type": "Prepend", "prepend": "▁".repeat(20_000) }))),
        4 => normalizers(many(json!({ "type": "ByteLevel" }))),
        5 => normalizers(many(
            json!({ "type": dice.of(&["NFKC", "NFKD", "NFC", "NFD", "Nmt", "Lowercase", "StripAccents"]) }),
        )),
        6 => normalizers(
            json!([replace("a", "\u{fdfa}"), { "type": "NFKC" }, replace("\u{644}", "a"), replace("a", "\u{fdfa}"), { "type": "NFKD" }]),
        ),
        7 => normalizers(many(json!({ "type": "Strip", "strip_left": true, "strip_right": dice.below(2) == 0 }))),
        8 => normalizers(
            json!([replace("a", ""), { "type": "Prepend", "prepend": "a" }, { "type": "Strip", "strip_left": true, "strip_right": true }]),
        ),
        9 => cuts(many(level)),
        10 => cuts(many(space(dice.of(&["always", "first", "never"])))),
        11 => cuts(
            json!([{ "type": "FixedLength", "length": dice.of(&[0_u64, 1, 2, u64::MAX]) }, space("always"), level]),
        ),
        12 => cuts(many(
            json!({ "type": dice.of(&["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts"]) }),
        )),
        13 => cuts(many(json!({ "type": "Punctuation", "behavior": dice.of(&["Removed", "Isolated", "Contiguous"]) }))),
        14 => cuts(
            json!([{ "type": "CharDelimiterSplit", "delimiter": dice.of(&["a", " ", "é", "", "ab"]) }, { "type": "Digits", "individual_digits": true }]),
        ),
        _ => (
            "normalizer",
            json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true }),
        ),
    }
}

fn added(dice: &mut Dice) -> Value {
    let mut flag = |odds: usize| dice.below(odds) == 0;
    let flags = [flag(2), flag(2), flag(3), flag(2), flag(2)];
    let content =
        dice.of(&["a", " ", "  ", "\n", "", "▁", "é", "aa", "hello", "<|im_start|>", "A", "\u{301}"]).to_string();
    json!({ "id": dice.of(&[0_u64, 1, 320, 321, 400, u64::from(u32::MAX)]), "content": content, "lstrip": flags[0], "rstrip": flags[1],
            "single_word": flags[2], "normalized": flags[3], "special": flags[4] })
}

fn unigram(dice: &mut Dice) -> Value {
    let mut vocab = Vec::new();
    for index in 0..1 + dice.below(40) {
        let piece = dice.of(&["", "a", "▁", "▁a", "<unk>", "<0x61>", "é", "ab"]);
        let piece = piece.to_owned() + &"a".repeat(dice.below(3) * index);
        vocab.push(json!([piece, dice.of(&[0.0, -1.0, -1e30, 1e30, -1e308, 1e308, 5e-324])]));
    }
    let unknown = dice.of(&[json!(0), json!(1), json!(u32::MAX), Value::Null]);
    json!({ "type": "Unigram", "unk_id": unknown, "byte_fallback": dice.below(2) == 0, "vocab": vocab })
}

fn words(dice: &mut Dice) -> Value {
    let mut vocab = Map::new();
    for id in 0..1 + dice.below(8) {
        vocab.insert(dice.of(&["", "##", "a", "é"]).to_owned() + &"a".repeat(id), json!(id));
    }
    json!({
        "type": dice.of(&["WordPiece", "WordLevel", "BPE"]),
        "unk_token": dice.of(&["a", "[UNK]", ""]),
        "continuing_subword_prefix": dice.of(&["##", "", "é", "aaaa"]),
        "max_input_chars_per_word": dice.of(&[0, 1, 100, 1000, 1_000_000]),
        "end_of_word_suffix": dice.of(&[Value::Null, json!("</w>"), json!("")]),
        "merges": [],
        "vocab": vocab,
    })
}

/// A random place within a value.
fn place<'a>(value: &'a mut Value, dice: &mut Dice) -> &'a mut Value {
    let stay = dice.below(5) == 0;
    let inside = match value {
        Value::Array(list) => list.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if inside == 0 || stay {
        return value;
    }
    let index = dice.below(inside);
    match value {
        Value::Array(list) => place(&mut list[index], dice),
        Value::Object(fields) => place(fields.values_mut().nth(index).unwrap(), dice),
        _ => unreachable!("it has values inside"),
    }
}

fn cases(seed: u64, length: usize) -> Vec<Input> {
    let mut dice = Dice(seed);
    let (values, golden) = (values(), golden("tokens.json"));
    let names: Vec<&String> = golden["files"].as_object().unwrap().keys().collect();
    let case = |_| {
        let mut json = golden["files"][dice.of(&names).as_str()]["tokenizer"].clone();
        for _ in 0..=dice.below(2) {
            match dice.below(8) {
                0 | 1 => {
                    let (name, steps) = steps(&mut dice);
                    json[name] = steps;
                }
                2 => json["model"] = unigram(&mut dice),
                3 => json["model"] = words(&mut dice),
                4 => {
                    if let Some(tokens) = json["added_tokens"].as_array_mut() {
                        tokens.extend((0..dice.of(&[1, 3])).map(|_| added(&mut dice)));
                    }
                }
                _ => {
                    let field =
                        dice.of(&["normalizer", "pre_tokenizer", "decoder", "model", "added_tokens", "post_processor"]);
                    *place(&mut json[field], &mut dice) = dice.of(&values).clone();
                }
            }
        }
        let text = dice.of(&["a", "a ", " ", "hello ", "é", "\u{fdfa}", "1", "\n"]);
        Input::Json { file: json.to_string(), text: text.repeat(length / text.len()) }
    };
    (0..300).map(case).collect()
}

fn gguf_cases(seed: u64, length: usize) -> Vec<Input> {
    let mut dice = Dice(seed ^ 0x6f);
    let case = |_| {
        let count = 1 + dice.below(40);
        let token = |dice: &mut Dice| {
            let token =
                dice.of(&["a", "b", "▁", "Ġ", "<s>", "</s>", "<0x61>", "<unk>", "é", "<|im_end|>", "", " ", "[", "Ã"]);
            token.repeat(1 + dice.below(3))
        };
        let tokens: Vec<String> = (0..count).map(|_| token(&mut dice)).collect();
        let numbers = |dice: &mut Dice| if dice.below(4) == 0 { dice.below(50) } else { count };
        let types = (0..numbers(&mut dice)).map(|_| dice.of(&[1, 1, 1, 2, 3, 4, 5, 6, 0, 7, i32::MIN])).collect();
        let scores = (0..numbers(&mut dice))
            .map(|_| dice.of(&[0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38]).to_bits())
            .collect();
        let merge =
            |dice: &mut Dice| format!("{}{}{}", dice.of(&tokens), dice.of(&[" ", " ", "", "  "]), dice.of(&tokens));
        let merges = (0..dice.below(6)).map(|_| merge(&mut dice)).collect();
        let text = dice.of(&["a", "ab ", " ", "é", "<s>", "<|im_end|>"]);
        Input::Gguf {
            model: (dice.of(&["gpt2", "llama", "llama", "gemma4", "bert", ""])).to_owned(),
            pre: dice
                .of(&[None, Some("default"), Some("llama-bpe"), Some("afmoe"), Some("superbpe"), Some("?")])
                .map(str::to_owned),
            tokens: tokens.clone(),
            types,
            scores,
            merges,
            text: text.repeat(length / text.len()),
        }
    };
    (0..150).map(case).collect()
}

#[test]
fn tokenizer_files_are_read_or_refused() {
    all("hostile::tokenizers::tokenizer_files_are_read_or_refused", cases);
}

#[test]
fn vocabularies_of_gguf_files_are_read_or_refused() {
    all("hostile::tokenizers::vocabularies_of_gguf_files_are_read_or_refused", gguf_cases);
}
