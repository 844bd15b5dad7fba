//! `prefix explain`: finds, without a GPU, the message and text that keep one prompt from reusing another.

use headstart::engine::{explain::Conversation, language};
use headstart::text::{ChatTemplate, Inputs, Message, Specials, Tokenizer};
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use crate::cli::{file, headstart, json_of, stdout, str_of};
use crate::support::model_path;

const RULES: &str = "Answer in full sentences. Quote the passage that your answer rests on, name its chapter, and say so \
                     plainly when the book does not tell. Never guess at what a person in it may have thought.";
const WHALE: &str = "Who is it that tells the story of the white whale, and why did he go to sea at all that winter?";
const SHIP: &str = "Describe the ship on which they leave Nantucket, with her crew, from the captain down to the cook.";

fn tokenizer() -> Tokenizer {
    language::tokenizer(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap()
}

/// Number of tokens of a text.
fn count(text: &str) -> usize {
    tokenizer().encode(text).unwrap().len()
}

fn messages(list: &[(&str, &str)]) -> Value {
    list.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

/// The explanation of two conversations, as JSON and as text.
fn explain(a: &[(&str, &str)], b: &[(&str, &str)]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let paths = [("a.json", a), ("b.json", b)].map(|(name, list)| file(&folder, name, messages(list).to_string()));
    // With these no Vulkan driver is found, so opening one would fail.
    let no_driver = [("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null")];
    let mut command = headstart(&["prefix", "explain", str_of(&paths[0]), str_of(&paths[1]), "--model"]);
    command.arg(model_path()).envs(no_driver);
    let said = stdout(&mut command).replace(&format!("{}/", folder.path().display()), "");
    (json_of(command.arg("--json")), said)
}

#[test]
fn a_timestamp_in_the_system_text_is_named() {
    let system = |time: &str| format!("It is 2026-11-23 {time} now. {RULES}");
    let (early, late) = (system("10:15"), system("10:16"));
    let (found, said) = explain(&[("system", &early), ("user", WHALE)], &[("system", &late), ("user", WHALE)]);
    let token = count("<|im_start|>system\nIt is 2026-11-23 10:1");
    let all = found["tokens"]["prompt"].as_u64().unwrap() as usize;
    assert_eq!((&found["tokens"]["known"], &found["shared_tokens"]), (&json!(all), &json!(token)));
    let divergence = &found["divergence"];
    assert_eq!((&divergence["token"], &divergence["message"]), (&json!(token), &json!(0)));
    assert_eq!((&divergence["role"], &divergence["change"]), (&json!("system"), &json!("number")));
    assert_eq!((&divergence["known"], &divergence["prompt"]), (&json!("5"), &json!("6")));
    assert_eq!(divergence["recoverable"], json!(all - token - 1));
    let share = 100 * token / all;
    assert!(said.starts_with(&format!("b.json shares {token} of {all} tokens ({share} %) with a.json.\n")), "{said}");
    let lines = "1. message 0 (system): a changing value\n   a.json  \"It is 2026-11-23 10:15 now.\"\n";
    assert!(said.contains(lines), "{said}");
    let fixed = found["fixed_shared_tokens"].as_u64().unwrap() as usize;
    assert!(fixed > count(RULES), "{fixed}");
    assert!(said.contains(&format!("Static first, variables last: b.json then shares {fixed} of ")), "{said}");
}

#[test]
fn messages_in_another_order_are_named() {
    let [a, b] = [[WHALE, SHIP], [SHIP, WHALE]].map(|[x, y]| [("system", RULES), ("user", x), ("user", y)]);
    let (found, said) = explain(&a, &b);
    let divergence = &found["divergence"];
    let token = count(&format!("<|im_start|>system\n{RULES}<|im_end|>\n<|im_start|>user\n"));
    assert_eq!(divergence["token"], json!(token));
    assert_eq!((&divergence["message"], &divergence["role"]), (&json!(1), &json!("user")));
    assert_eq!(divergence["change"], "order");
    assert!(divergence["recoverable"].as_u64().unwrap() as usize >= count(SHIP).min(count(WHALE)), "{divergence}");
    assert!(said.contains("1. message 1 (user): another order\n"), "{said}");
    assert_eq!(found["fixed_shared_tokens"], found["shared_tokens"], "the question stays last");
}

#[test]
fn trailing_white_space_is_named() {
    let spaced = format!("{RULES} ");
    let (found, said) = explain(&[("system", RULES), ("user", WHALE)], &[("system", &spaced), ("user", WHALE)]);
    let divergence = &found["divergence"];
    let token = count(&format!("<|im_start|>system\n{RULES}"));
    assert_eq!((&divergence["token"], &divergence["message"]), (&json!(token), &json!(0)));
    assert_eq!((&divergence["known"], &divergence["prompt"]), (&json!(""), &json!(" ")));
    assert_eq!(divergence["change"], "whitespace");
    let behind = found["tokens"]["known"].as_u64().unwrap() as usize - token;
    assert_eq!(divergence["recoverable"], json!(behind));
    assert!(said.contains("1. message 0 (system): white space\n"), "{said}");
    assert_eq!(found["fixed_shared_tokens"], found["tokens"]["known"]);
}

#[test]
fn a_role_belongs_to_its_message() {
    let (found, _) = explain(&[("system", RULES), ("user", SHIP)], &[("system", RULES), ("assistant", SHIP)]);
    assert_eq!((&found["divergence"]["message"], &found["divergence"]["role"]), (&json!(1), &json!("assistant")));
    assert_eq!((&found["divergence"]["known"], &found["divergence"]["prompt"]), (&json!("user"), &json!("assistant")));
}

#[test]
fn equal_conversations_are_reported_as_such() {
    let short = [("system", RULES), ("user", WHALE)];
    let (found, said) = explain(&short, &short);
    let all = found["tokens"]["known"].as_u64().unwrap();
    assert_eq!(found["tokens"], json!({ "known": all, "prompt": all }));
    assert_eq!((&found["shared_tokens"], &found["divergence"]), (&json!(all), &Value::Null));
    // The last token is computed for its logits.
    assert_eq!((&found["cache"]["sources"]["gpu"], &found["cache"]["misses"]), (&json!(all - 1), &json!([])));
    let whole = format!("b.json shares {all} of {all} tokens (100 %) with a.json.\n");
    assert_eq!(said, format!("{whole}Nothing to mend: both are the same.\n"));
    // A next turn begins with the whole earlier prompt.
    let long = [short[0], short[1], ("assistant", "Ishmael does."), ("user", SHIP)];
    let (found, said) = explain(&short, &long);
    assert_eq!((&found["shared_tokens"], &found["divergence"]), (&json!(all), &Value::Null));
    assert!(said.ends_with("Nothing to mend: b.json goes on from a.json.\n"), "{said}");
}

#[test]
fn spans_follow_what_a_template_does() {
    // A template that folds the system text into the first question, and refuses two questions in a row.
    const FOLDING: &str = "{% set folded = messages[0].role == 'system' %}\
        {% set rest = messages[1:] if folded else messages %}\
        {% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}\
        {{ '[Q] ' if m.role == 'user' else '[A] ' }}{{ messages[0].content + '\n\n' if folded and loop.first else '' }}\
        {{ m.content | trim }}<|im_end|>{% endfor %}";
    const DATED: &str = "Today is 24 Nov 2026.\n{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    let list = [("system", "Be brief."), ("user", "Hello there "), ("assistant", "Good day."), ("user", "Who?")];
    let cases = [
        (FOLDING, ["Be brief.", "Hello there<|im_end|>", "[A] Good day.<|im_end|>", "[Q] Who?<|im_end|>"]),
        (DATED, ["<system>Be brief.\n", "<user>Hello there \n", "<assistant>Good day.\n", "<user>Who?\n"]),
    ];
    let tokenizer = tokenizer();
    for (source, expected) in cases {
        let template = ChatTemplate::new(source, Specials::default()).unwrap();
        let list = Message::list(&messages(&list)).unwrap();
        let inputs = Inputs { messages: &list, add_generation_prompt: true, ..Inputs::default() };
        let conversation = Conversation::new(&template, &tokenizer, &inputs).unwrap();
        let texts: Vec<String> = conversation
            .spans
            .iter()
            .map(|span| tokenizer.decode(&conversation.tokens[span.tokens.clone()], false))
            .collect();
        let trimmed = |texts: &[&str]| texts.iter().map(|text| text.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&texts.iter().map(String::as_str).collect::<Vec<_>>()), trimmed(&expected));
        assert!(conversation.spans[0].tokens.start > 0, "the template begins");
    }
}
