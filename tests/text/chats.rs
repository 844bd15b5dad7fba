//! The chat templates that packages ship, on fifty conversations each, and single expressions, compared with transformers'
//! `apply_chat_template`.

use std::collections::BTreeMap;

use headstart::text::{ChatTemplate, Content, Inputs, Message, Specials};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::golden;
use crate::support::tiny_chat;

/// Expressions that are read differently from Jinja2. No known template contains one.
const UNLIKE: &[&str] = &[
    "{{ 'abc'.startswith('b', 1) }}",
    "{{ 'a\\tb'.expandtabs(4) }}",
    "{{ '%r' % 'a' }}",
    "{{ 'a' ~ big }}",
    "{{ map.keys() }}|{{ map.values() }}|{{ map.items() }}",
    "{{ 1 in 'abc' }}",
    "{{ 'a\"b' | forceescape }}",
    "{% set m = '<%s>' | safe %}{{ m % '&' + '&' }}|{{ '%s' % ('<' + m) + '<' }}",
    "{{ '<' | safe | upper + '<' }}|{{ '<' | safe | trim + '<' }}|{{ '<' | safe | string + '<' }}|{{ ('<' | safe).strip() + '<' }}|{{ ('<' | safe)[0] + '<' }}",
    "{{ 'a b&c' | urlencode }}",
    "{{ 'hello world foo' | truncate(9) }}",
    "{{ 'ab' | center(6) }}",
    "{{ {'a': 1} | xmlattr }}",
    "{{ s is callable }}",
    "{{ 1 < 'a' }}",
    "{{ none < 1 }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, z=3) }}",
    "{{ range(3) }}",
    "{{ s.encode() }}",
];

struct Reference {
    chats: Value,
    specials: Specials,
    now: i64,
}

impl Reference {
    fn open(name: &str) -> Self {
        let chats = golden(name);
        let specials = chats["specials"].as_object().unwrap().iter();
        let specials = specials.fold(Specials::default(), |s, (name, token)| s.with(name, token.as_str().unwrap()));
        Self { specials, now: chats["now"].as_i64().unwrap(), chats }
    }

    fn template(&self, source: &str) -> Option<ChatTemplate> {
        let now = self.now;
        Some(ChatTemplate::new(source, self.specials.clone()).ok()?.with_clock(move || now))
    }

    /// The first 8 hex digits of each rendering's SHA-256, or `--------` for an error, in their original order.
    fn digests(&self, source: &str) -> Vec<String> {
        let template = self.template(source);
        let (mut digests, conversations) = (Vec::new(), self.chats["conversations"].as_array().unwrap());
        for (index, chat) in conversations.iter().enumerate() {
            let messages = Message::list(&chat["messages"]).unwrap();
            let inputs = Inputs { messages: &messages, extra: chat["kwargs"].as_object(), ..Inputs::default() };
            let tools = Some(&self.chats["tools"]);
            let asked = Inputs { add_generation_prompt: true, ..inputs };
            let with_tools = Inputs { tools, add_generation_prompt: index % 2 == 0, ..inputs };
            let open = Inputs { continue_final_message: true, ..inputs };
            let last = chat["messages"].as_array().unwrap().last().unwrap();
            let ends = last["role"] == "assistant" && last["content"].as_str().is_some_and(|text| !text.is_empty());
            for inputs in [Some(asked), Some(with_tools), ends.then_some(open)].into_iter().flatten() {
                let text = template.as_ref().and_then(|template| template.render_inputs(&inputs).ok());
                digests.push(text.map_or_else(|| "-".repeat(8), |text| digest(&text)));
            }
        }
        digests
    }
}

const FILES: [&str; 2] = ["chats/templates-0.json", "chats/templates-1.json"];

/// The template of this name.
pub fn template(name: &str) -> ChatTemplate {
    let lists = FILES.map(golden);
    let mut entries = lists.iter().flat_map(|list| list.as_array().unwrap());
    let entry = entries.find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no template {name}"));
    Reference::open("chats/conversations.json").template(entry["source"].as_str().unwrap()).unwrap()
}

fn digest(text: &str) -> String {
    Sha256::digest(text)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_templates_of_packages_give_the_prompts_of_transformers() {
    let reference = Reference::open("chats/conversations.json");
    let (mut count, mut wrong) = (0, Vec::new());
    for file in FILES {
        for entry in golden(file).as_array().unwrap() {
            let (name, expected) = (entry["name"].as_str().unwrap(), entry["renderings"].as_str().unwrap());
            let found = reference.digests(entry["source"].as_str().unwrap());
            count += found.len();
            assert_eq!(found.len() * 8, expected.len(), "{name}");
            let differs = (0..found.len()).filter(|&at| found[at] != expected[at * 8..][..8]).collect::<Vec<_>>();
            if !differs.is_empty() {
                wrong.push(format!("{name}: {differs:?}, by chat_corpus.py --show"));
            }
        }
    }
    assert!(count > 16_000, "{count} renderings");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_message_is_refused_only_if_the_prompt_does_not_show_it() {
    let (reference, tokenizer) = (Reference::open("chats/conversations.json"), tiny_chat::bytes());
    let conversations = reference.chats["conversations"].as_array().unwrap();
    let (mut refused, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    for entry in FILES.iter().flat_map(|file| golden(file).as_array().unwrap().clone()) {
        let Some(template) = reference.template(entry["source"].as_str().unwrap()) else { continue };
        for (number, chat) in conversations.iter().enumerate() {
            let messages = Message::list(&chat["messages"]).unwrap();
            if messages.iter().all(|message| message.role == "user") {
                continue;
            }
            let extra = chat["kwargs"].as_object();
            let inputs = Inputs { messages: &messages, extra, add_generation_prompt: true, ..Inputs::default() };
            let Ok(prompt) = template.render_inputs(&inputs) else { continue };
            let said = |message: &Message| match &message.content {
                Content::Text(text) if text.len() > 4 => prompt.contains(text.trim()),
                _ => false,
            };
            let place = format!("{} {number}", entry["name"]);
            match template.encode(&tokenizer, &inputs) {
                Ok(_) => {
                    let known = ["system", "user", "assistant", "tool"];
                    let mut odd = messages.iter().filter(|message| !known.contains(&message.role.as_str()));
                    wrong
                        .extend(odd.find(|message| !said(message)).map(|message| format!("{place}: {}", message.role)));
                }
                Err(error) => {
                    let told = error.to_string();
                    let index = told.split("message ").nth(1).and_then(|rest| rest.split(' ').next());
                    let message = &messages[index.and_then(|index| index.parse::<usize>().ok()).expect(&told)];
                    assert!(told.contains(&format!("(role {:?})", message.role)), "{told}");
                    *refused.entry(message.role.clone()).or_default() += 1;
                    wrong.extend(said(message).then(|| format!("{place}: {told}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // User and assistant messages are shown by all templates.
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["developer", "narrator", "system", "tool"]);
    assert!(refused["developer"] > 80 && refused["narrator"] > 80, "{refused:?}");
}

#[test]
fn expressions_give_the_results_of_jinja2() {
    let reference = Reference::open("expressions.json");
    let messages = [Message::new("user", "hi")];
    let extra = reference.chats["with"].as_object();
    let inputs = Inputs { messages: &messages, extra, add_generation_prompt: true, ..Inputs::default() };
    let cases = reference.chats["cases"].as_array().unwrap();
    assert!(cases.len() > 140);
    let mut wrong = Vec::new();
    for case in cases {
        let (source, expected) = (case[0].as_str().unwrap(), case[1].as_str());
        let found = reference.template(source).and_then(|template| template.render_inputs(&inputs).ok());
        if (found.as_deref() == expected) == UNLIKE.contains(&source) {
            wrong.push(format!("{source}\n  {found:?}\n  {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tags_are_parsed_as_in_jinja2() {
    let render = |source: &str| {
        let template = ChatTemplate::new(source, Specials::default()).unwrap();
        template.render(&[Message::new("user", "hi")], None, true).unwrap()
    };
    let cases = [
        ("{{ '}}' }}{{ {'a': {'b': 1}}.a.b }}", "}}1"),
        ("{{ \"{% generation %}\" }}{# {% generation %} {{ #}", "{% generation %}"),
        ("{% for a in [1, 2] if a > 1 %}{{ a }}{% endfor %}", "2"),
        ("{% for a in (1, 2) if (a if true else 0) > 1 %}{{ a }}{% endfor %}", "2"),
        ("{%- for a in [[1, [2, []]]] recursive -%}{{ a[0] }}{{ loop(a[1:]) if a[1] }}{%- endfor -%}", "12"),
        ("{% for m in messages -%}\n {{ m.content }}{%- endfor %}", "hi"),
        ("{{ '%s, %s' % ('a', messages[0].content) ~ '%' }}{{ 7 % 4 }}{{ '%d' % 7 % 4 if false }}", "a, hi%3"),
        ("{{ '%s' % messages[0].content.upper() + '!' }}", "HI!"),
        ("{%- generation -%} a {%- endgeneration -%} b", "ab"),
        ("{ { } } {", "{ { } } {"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source), expected, "{source}");
    }
}
