//! Patterns that backtrack, scan repeatedly, or grow when compiled, on texts made for them.

use serde_json::{Value, json};

use super::{Dice, Input, all};
use crate::text::golden;

const PATTERNS: [&str; 46] = [
    r"(a+)+$",
    r"(a+)+b",
    r"(a|a)*b",
    r"(a|aa)+$",
    r"(?:a|a|a)*c",
    r"(x+x+)+y",
    r"(.*a){20}b",
    r"(.*)*b",
    r"(a*)*b",
    r"((a*)*)*b",
    r"(\w+\s?)+$!",
    r"^(\s*\w+)*$#",
    r"(a?){60}a{60}",
    r"(?=(a+))a*b\1",
    r"(a+)\1+b",
    r"(.+)\1\1b",
    r"(.*)(.*)(.*)(.*)(.*)\5z",
    r"(?:(?=.*b)a)+c",
    r"(?:(?!b).)*(?:(?!c).)*d",
    r"(?<=a.*)b",
    r"(?<!a)(?<=(a|b))+c",
    r"a*b|a",
    r"[ab]*1[ab]{1000}",
    r"(?:a{1000}){1000}",
    r"((a{100}){100}){100}",
    r"(?:(?=a)a{1000}){1000}",
    r"(?:(?=a)(?:(?=a)(?:(?=a)a{200}){200}){200}){200}",
    r"a{1000000000}",
    r"a{0,4294967296}",
    r"(?>a+)+b",
    r"(?:a++)+b",
    r"(?i)(?:ß|ss|SS)+x",
    r"[\p{L}\p{N}\p{M}]{1,2000}x",
    r"\p{L}{500}\p{L}{500}(?!x)",
    r"(?:\p{L}|\p{L}\p{M}*|\X)+\z!",
    r"(?=(\d{3})+(?!\d))",
    r"\d{1,3}(?=(?:\d{3})*\b)",
    r"\s+(?!\S)|\s+|a",
    r"(?=a)",
    r"\b",
    r"",
    r"$",
    r"\G(a|)+b",
    r"\Ka",
    r"(?(a)b|c)+",
    r"(?P<n>a)(?P>n)*\k<n>",
];

const TEXTS: [&str; 9] = ["a", "aab", "ab", "a ", " ", "1", "é", "a\u{301}", "ẞſs"];

fn patterns(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut patterns: Vec<String> = PATTERNS.map(String::from).into();
    patterns.extend([
        "(".repeat(5000) + "a" + &")".repeat(5000),
        "(?:".repeat(60) + "a" + &")*".repeat(60) + "b",
        "a?".repeat(5000) + &"a".repeat(5000),
        "(a|b)".repeat(3000) + r"\1",
        "[".repeat(3000),
        "\\".repeat(3001),
        "|".repeat(10_000),
    ]);
    // Random combinations of pattern pieces.
    for _ in 0..24 {
        let parts = (0..1 + dice.below(6)).map(|_| {
            let part = dice.of(&[
                "a", "(a|ab)", ".*", r"\w+", r"\s", "(?=a)", "(?!b)", r"(a+)", r"\1", "[^b]", r"\p{L}", "(?<=a)",
            ]);
            part.to_owned() + dice.of(&["", "*", "+", "?", "{2,40}", "*?", "++"])
        });
        let body: String = parts.collect();
        patterns.push(format!("(?:{body}){}{}", dice.of(&["", "*", "+", "{30}"]), dice.of(&["", "$", "z", "|a"])));
    }
    patterns
}

fn cases(seed: u64, length: usize) -> Vec<Input> {
    let mut dice = Dice(seed ^ 0xa5);
    let file = golden("tokens.json")["files"]["byte_bpe"]["tokenizer"].clone();
    let mut cases = Vec::new();
    for source in patterns(seed) {
        let split = |behavior: &str, invert: bool| json!({ "type": "Split", "pattern": { "Regex": source }, "behavior": behavior, "invert": invert });
        let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
        let behavior = dice.of(&["Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"]);
        let cut = json!({ "type": "Sequence", "pretokenizers": [split(behavior, dice.below(3) == 0), level] });
        let replace =
            json!({ "type": "Replace", "pattern": { "Regex": source }, "content": dice.of(&["", "aa", "▁"]) });
        for (name, steps) in [("pre_tokenizer", cut), ("normalizer", replace)] {
            let mut json: Value = file.clone();
            json[name] = steps;
            let text = dice.of(&TEXTS);
            let text = text.repeat(length / text.len()) + dice.of(&["", "!", "b", "\n"]);
            cases.push(Input::Json { file: json.to_string(), text });
        }
    }
    cases
}

#[test]
fn patterns_terminate() {
    all("hostile::regexes::patterns_terminate", cases);
}
