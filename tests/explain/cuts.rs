//! Where a text may be cut: what changes leaves it as a whole sentence, line or block, or not at all.

use headstart::engine::language::Language;
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::json;

use super::message;
use super::pair_table::LAST;
use super::pairs::{compare, text};
use crate::support::model_path;

/// What stands behind the text that changes, as every request has it.
const ENGLISH: &str =
    "You are the clerk of a library. Answer in full sentences. Never guess, and name the shelf of every book.";
const GERMAN: &str = "Du bist ein Helfer. Antworte kurz und auf Deutsch. Nenne immer den Artikel, und erfinde nichts.";
const JAPANESE: &str = "あなたは図書館の案内係です。必ず完全な文で答えてください。推測で答えないでください。";
const CHINESE: &str = "你是图书馆的助手。请用完整的句子回答。不要猜测，也不要编造。";
const HINDI: &str = "आप एक विनम्र सहायक हैं। संक्षेप में उत्तर दें। कुछ भी न गढ़ें।";
const URDU: &str = "آپ ایک شائستہ مددگار ہیں۔ مختصر جواب دیں۔ کچھ بھی نہ گھڑیں۔";

/// A text with a place for a value, two values, what is between it and the rules behind it, and these. The text moves as a whole.
const MOVED: &[(&str, [&str; 2], &str, &str)] = &[
    // Abbreviations, initials and numbers.
    ("The reader is Dr. {} of St. Gallen.", ["Ada Lovelace", "Grace Hopper"], " ", ENGLISH),
    ("Talk with Mr. {} vs. the board, e.g. about item No. 5 of the list.", ["Smith", "Jones"], " ", ENGLISH),
    ("The author is J. R. R. {} of the U.S. Navy, Ph.D. Class of 1954.", ["Tolkien", "Martin"], " ", ENGLISH),
    ("{} lives in Prof. Univ. House, on the 3. Floor, since Oct. 2019.", ["Ada", "Grace"], " ", ENGLISH),
    ("It is about {} in part IV. Chapter 2, version 1.5. Beta of the file x.json.", ["Ada", "Grace"], " ", ENGLISH),
    ("Wait … Then ask {} what is meant by etc. Books and so on!", ["Ada", "Grace"], " ", ENGLISH),
    (
        "Sprich mit Frau Dr. {} aus St. Pölten, z. B. über die Rechnung Nr. 5 vom 3. Mai.",
        ["Müller", "Größl"],
        " ",
        GERMAN,
    ),
    ("Heute ist der {}. November, ca. 9 Uhr, d. h. Montag bzw. Dienstag.", ["23", "24"], " ", GERMAN),
    ("Le lecteur est M. {} de l’av. Foch, p. ex. Paris.", ["Dupont", "Martin"], " ", ENGLISH),
    ("El lector es el Sr. {} de la Avda. Goya, p. ej. Madrid.", ["García", "López"], " ", ENGLISH),
    ("Il lettore è il Dott. {} di S. Marco, cfr. Pag. Tre.", ["Rossi", "Bianchi"], " ", ENGLISH),
    // What begins with a word for what was said before.
    ("The reader is {}. She is old. However, be brief.", ["Ada", "Grace"], " ", ENGLISH),
    // Quotations, brackets, emphasis, code and JSON.
    ("The reader {} said \"I like tea. I hate rain. Bring one.\" yesterday.", ["Ada", "Grace"], " ", ENGLISH),
    ("The reader {} said “I like tea. I hate rain.” and (Yes. Really.) left.", ["Ada", "Grace"], " ", ENGLISH),
    ("Use `open {}. Close it. Read.` to look, and **Be kind. Be brief.** always.", ["Ada", "Grace"], " ", ENGLISH),
    ("Read <b>Hello {}. Good morning. Come in.</b> aloud.", ["Ada", "Grace"], " ", ENGLISH),
    ("Data: {\"user\": \"{}\", \"bio\": \"I like tea. I hate rain.\", \"age\": 30}", ["Ada", "Grace"], "\n", ENGLISH),
    (
        "The reader:\n{\n  \"name\": \"{}\",\n  \"notes\": \"Likes tea. Hates rain.\",\n\n  \"plan\": [1,\n 2]\n}",
        ["Ada", "Grace"],
        "\n",
        ENGLISH,
    ),
    (
        "Use this function:\n```python\ndef greet(name):\n    limit = {}\n\n    for i in range(limit):\n        print(name)\n```",
        ["10", "25"],
        "\n",
        ENGLISH,
    ),
    ("Follow this file.\n~~~sh\necho start\nexport DAY={}\n# Rules\nmake all\n~~~", ["2.0.1", "2.1.0"], "\n", ENGLISH),
    ("The text:\n\"\"\"\nAda and {} went out.\n\nThey came back.\n\"\"\"", ["Eve", "Bob"], "\n", ENGLISH),
    ("The letter of {} says “come home\nat once. Bring tea” and no more.", ["Ada", "Grace"], "\n", ENGLISH),
    ("A table:\n| name | {} |\n|---|---|\n| plan | L |", ["Ada", "Grace"], "\n", ENGLISH),
    ("The file:\n\n```yaml\nuser: {}\nbooks: 4\n```", ["Ada", "Grace"], "\n\n", ENGLISH),
    ("Do in this order:\n- Greet {}\n- Add water\n- Bake it", ["Ada", "Grace"], "\n", ENGLISH),
    // Marks that other scripts end sentences with.
    ("今日は{}曜日です。", ["月", "火"], "", JAPANESE),
    ("利用者は「{}さん。よろしく。」と言いました！", ["田中", "佐藤"], "", JAPANESE),
    ("现在是2026年11月{}日。", ["23", "24"], "", CHINESE),
    ("आज {} है।", ["सोमवार", "मंगलवार"], " ", HINDI),
    ("آج {} ہے۔", ["پیر", "منگل"], " ", URDU),
];

#[test]
fn what_changes_leaves_as_a_whole() {
    let language = Language::open(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap();
    let mut torn = Vec::new();
    for (changing, values, between, rules) in MOVED {
        let texts = values.map(|value| changing.replace("{}", value));
        let requests = texts
            .each_ref()
            .map(|text| json!([message("system", &format!("{text}{between}{rules}")), message("user", LAST)]));
        let comparison = compare(&language, &requests);
        for (mended, changing) in comparison.requests.iter().zip(texts) {
            let found: Vec<String> = mended.as_array().unwrap().iter().map(text).collect();
            if found != [*rules, &changing, LAST] {
                torn.push(format!("{found:#?}"));
            }
        }
    }
    assert!(torn.is_empty(), "{}", torn.join("\n"));
}

/// Texts whose sentences nobody can tell apart for sure, so that the line stays as it is.
const LEFT: &[&str] = &[
    "Profile: {\"name\": \"{}\", \"notes\": \"Likes tea. Hates rain.\"} You are the clerk of a library and answer in full sentences.",
    "Notes on {}: Likes tea. Hates rain. Reads the books of the library in the hall, and answers in full sentences.",
    "The reader {} said \"I like tea. You are the clerk of a library. Answer in full sentences, and never guess.",
    "- Greet {}. You are the clerk of a library and answer in full sentences. Never guess, and name the shelf.",
    "> The reader is {}. You are the clerk of a library and answer in full sentences. Never guess, and name the shelf.",
];

#[test]
fn what_cannot_be_told_apart_stays() {
    let language = Language::open(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap();
    for text in LEFT {
        let requests =
            ["Ada", "Grace"].map(|name| json!([message("system", &text.replace("{}", name)), message("user", LAST)]));
        let comparison = compare(&language, &requests);
        assert_eq!(comparison.requests, requests, "{text}");
    }
}
