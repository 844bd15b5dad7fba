//! Chat templates: the prompts of Hugging Face's renderer, messages in OpenAI's form, and errors.

use headstart::text::{ChatTemplate, Content, Inputs, Message, Specials, parse_time};
use serde_json::{Value, json};

use super::golden;
use super::model::{metadata, vocab};

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, Specials::default().with("eos_token", "</s>")).unwrap()
}

fn user(text: &str) -> Vec<Message> {
    vec![Message::new("user", text)]
}

#[test]
fn the_reference_chat_is_the_reference_prompt() {
    let golden = golden("golden.json");
    let source = golden["chat_template"].as_str().unwrap();
    assert_eq!(source, metadata()["tokenizer.chat_template"].as_str().unwrap());
    let template = ChatTemplate::new(source, vocab().specials()).unwrap();
    let messages = Message::list(&golden["chat_messages"]).unwrap();
    let prompt = template.render(&messages, None, true).unwrap();
    assert_eq!(prompt, golden["prompts"]["chat"]["text"].as_str().unwrap());
}

#[test]
fn every_prompt_is_that_of_transformers() {
    let golden = golden("templates.json");
    let specials = golden["specials"].as_object().unwrap().iter();
    let specials = specials.fold(Specials::default(), |s, (name, token)| s.with(name, token.as_str().unwrap()));
    let now = golden["now"].as_i64().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 40);
    let mut wrong = Vec::new();
    for case in cases {
        let (name, chat) = (case["template"].as_str().unwrap(), &golden["chats"][case["chat"].as_str().unwrap()]);
        let source = golden["templates"][name].as_str().unwrap();
        let template = ChatTemplate::new(source, specials.clone()).unwrap().with_clock(move || now);
        let messages = Message::list(&chat["messages"]).unwrap();
        let rendered = template.render_inputs(&Inputs {
            messages: &messages,
            tools: Some(&chat["tools"]).filter(|tools| !tools.is_null()),
            documents: Some(&golden["documents"]),
            add_generation_prompt: case["prompt"].as_bool().unwrap(),
            continue_final_message: false,
            past_thinking: None,
            split_special_tokens: false,
            extra: golden["extra"].as_object(),
            now: None,
        });
        let same = match (&rendered, case["text"].as_str()) {
            (Ok(text), Some(expected)) => text == expected,
            (Err(error), None) => error.to_string().contains(case["error"].as_str().unwrap()),
            _ => false,
        };
        if !same {
            wrong.push(format!("{name} {}:\n{rendered:?}\n{case}", case["chat"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_list_of_parts_is_text_or_parts_as_the_template_expects() {
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    let parts = Message::list(&parts).unwrap();
    assert_eq!(parts[0].content, Content::Parts(vec!["a".into(), "b".into()]));
    let plain = template("{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_eq!(plain.render(&parts, None, true).unwrap(), "a\nb");
    let typed = template(
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}<{{ p.text }}>{% endif %}{% endfor %}{% endfor %}",
    );
    assert_eq!(typed.render(&parts, None, true).unwrap(), "<a><b>");
    assert_eq!(typed.render(&user("hi"), None, true).unwrap(), "<hi>");
}

#[test]
fn unknown_fields_and_all_names_of_reasoning_reach_the_template() {
    let t = template("{{ messages[0].weight }} {{ messages[0].reasoning_content }} {{ messages[0].thinking }}");
    let messages = json!([{"role": "user", "content": "", "weight": 3, "reasoning": "r"}]);
    assert_eq!(t.render(&Message::list(&messages).unwrap(), None, true).unwrap(), "3 r r");
}

#[test]
fn bad_messages_are_named_by_their_place() {
    let refuses = |messages: Value, about: &[&str]| {
        let message = Message::list(&messages).unwrap_err().to_string();
        for part in about {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    };
    let fine = json!({"role": "user", "content": "hi"});
    refuses(json!({}), &["messages", "list"]);
    refuses(json!([]), &["messages", "empty"]);
    refuses(json!([fine, 3]), &["messages[1]", "object"]);
    refuses(json!([fine, {"content": "x"}]), &["messages[1].role"]);
    refuses(json!([fine, fine, {"role": "user", "content": 3}]), &["messages[2].content", "string"]);
    refuses(json!([{"role": "user"}]), &["messages[0].content", "missing"]);
    refuses(json!([{"role": "user", "content": [{"type": "text", "text": "a"}, 3]}]), &["messages[0].content[1]"]);
    refuses(
        json!([{"role": "user", "content": [{"type": "image_url"}]}]),
        &["messages[0].content[0].type", "image_url"],
    );
    refuses(json!([{"role": "user", "content": "x", "name": 3}]), &["messages[0].name"]);
    refuses(json!([{"role": "assistant", "content": null, "tool_calls": 3}]), &["messages[0].tool_calls", "list"]);
    let call = |function: Value| json!([{"role": "assistant", "tool_calls": [{"function": function}]}]);
    refuses(call(json!(null)), &["messages[0].tool_calls[0].function"]);
    refuses(call(json!({"name": 3})), &["messages[0].tool_calls[0].function.name"]);
    refuses(call(json!({"name": "f", "arguments": "{"})), &["messages[0].tool_calls[0].function.arguments", "JSON"]);
    refuses(call(json!({"name": "f", "arguments": 3})), &["messages[0].tool_calls[0].function.arguments"]);
    assert_eq!(Message::list(&call(json!({"name": "f"}))).unwrap()[0].content, Content::Absent);
}

#[test]
fn a_template_that_fails_says_why_in_a_sentence() {
    let fails = |source: &str, about: &[&str]| {
        let made = ChatTemplate::new(source, Specials::default());
        let message = made.and_then(|t| t.render(&user("hi"), None, true)).unwrap_err().to_string();
        for part in about.iter().chain(&["chat template"]) {
            assert!(message.contains(part), "{source:?}: {message:?} does not say {part:?}");
        }
    };
    fails("a\nb\n{% if %}", &["line 3"]);
    fails("{% for x in y %}", &["syntax error", "line 1"]);
    fails("{{ raise_exception('only in pairs') }}", &["only in pairs", "refuses"]);
    fails("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}\n{{ m() }}", &["deep", "refuses"]);
    fails("\n{{ nothing.there }}", &["line 2", "undefined"]);
    fails("{{ nothing | tojson }}", &["undefined"]);
    fails("{{ 'x' | no_such_filter }}", &["no_such_filter"]);
    fails("{{ 'x'.no_such_method() }}", &["no_such_method"]);
    fails("{{ messages[0].content + 3 }}", &["line 1"]);
    fails("{{ strftime_now('%Q') }}", &["%Q"]);
    fails("{% include 'other' %}", &["other"]);
    fails(&"x".repeat(2 << 20), &["2097152 bytes"]);
}

#[test]
fn a_hostile_template_terminates() {
    let fails = |source: &str| {
        let made = ChatTemplate::new(source, Specials::default());
        made.and_then(|t| t.render(&user("hi"), None, true)).unwrap_err()
    };
    let many = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    assert!(fails(many).to_string().contains("does not come to an end"));
    fails("{% set n = namespace(x='ab') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}");
    fails("{{ 'ab' * 99999999999 }}");
    // A loop's iterable is created even if the loop is left at once.
    fails("{% for a in range(9999) %}{% for b in range(9999) %}{% break %}{% endfor %}{% endfor %}");
    fails(
        "{% for a in range(9999) %}{% for b in messages | map('string') %}{% for c in '0123456789' * 999 %}{% break %}{% endfor %}{% endfor %}{% endfor %}",
    );
    fails("{{ 'a'.ljust(99999999999) }}");
    fails(
        "{% set n = namespace(x='%s') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ '%99999999999s' % 'a' }}",
    );
    fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    fails(
        "{% set n = namespace(x=[1]) %}{% for i in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}",
    );
    fails("{% set n = namespace(x=[1]) %}{% for i in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}");
    fails(
        "{% set n = namespace(x=[1]) %}{% for i in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | string }}",
    );
    fails("{{ numbers | tojson(indent=99999999999) }}");
    fails(&format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)));
}

#[test]
fn a_long_chat_fits_the_budget_of_a_template() {
    let source = golden("templates.json")["templates"]["qwen"].as_str().unwrap().to_owned();
    let mut messages = vec![Message::new("user", "x".repeat(1 << 20))];
    for turn in 0..500 {
        messages.push(Message::new(if turn % 2 == 0 { "assistant" } else { "user" }, "word ".repeat(200)));
    }
    let prompt = template(&source).render(&messages, None, true).unwrap();
    assert!(prompt.len() > (1 << 20) + 500 * 1000);
}

#[test]
fn a_config_gives_its_template_and_special_tokens() {
    let messages = user("hi");
    let config = json!({
        "bos_token": {"content": "<b>", "lstrip": false},
        "eos_token": null,
        "pad_token": "<p>",
        "chat_template": [
            {"name": "tool_use", "template": "tools {{ tools | length }}"},
            {"name": "default", "template": "{{ bos_token }}{{ pad_token }}{{ eos_token }}{{ messages[0].content }}"},
        ],
    });
    let template = ChatTemplate::from_config(&config, None).unwrap();
    assert_eq!(template.render(&messages, None, true).unwrap(), "<b><p>hi");
    assert_eq!(template.render(&messages, Some(&json!([])), true).unwrap(), "<b><p>hi");
    assert_eq!(template.render(&messages, Some(&json!([{}])), true).unwrap(), "tools 1");
    let file = ChatTemplate::from_config(&config, Some("file {{ bos_token }}")).unwrap();
    assert_eq!(file.render(&messages, None, true).unwrap(), "file <b>");
    let one = ChatTemplate::from_config(&json!({"chat_template": "one"}), None).unwrap();
    assert_eq!(one.render(&messages, None, true).unwrap(), "one");
    for config in [json!({}), json!(null), json!({"chat_template": []}), json!({"chat_template": 3})] {
        let message = ChatTemplate::from_config(&config, None).unwrap_err().to_string();
        assert!(message.contains("--raw"), "{message}");
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    let at = |seconds: i64, format: &str| {
        let t = template(&format!("{{{{ strftime_now('{format}') }}}}")).with_clock(move || seconds);
        t.render(&user(""), None, true).unwrap()
    };
    assert_eq!(at(0, "%Y-%m-%d %H:%M:%S %A"), "1970-01-01 00:00:00 Thursday");
    assert_eq!(at(951_782_400, "%d %b %Y %j %a"), "29 Feb 2000 060 Tue");
    assert_eq!(at(4_107_542_399, "%F %T %-d %u"), "2100-02-28 23:59:59 28 7");
    assert_eq!(at(-1, "%F %T %I %p"), "1969-12-31 23:59:59 11 PM");
    assert!(
        template("{{ strftime_now('%Y') }}").render(&user(""), None, true).unwrap().parse::<u32>().unwrap() >= 2026
    );
}

#[test]
fn one_prompt_may_have_its_own_time() {
    let dated = template("{{ strftime_now('%F %T') }}").with_clock(|| 0);
    let at = |now| dated.render_inputs(&Inputs { messages: &user(""), now, ..Inputs::default() }).unwrap();
    assert_eq!((at(None).as_str(), at(Some(86_400)).as_str()), ("1970-01-01 00:00:00", "1970-01-02 00:00:00"));
    assert_eq!(dated.now(), 0);
    assert!(dated.is_dated() && !template("{{ messages[0].content }}").is_dated());
    // A template may ask whether there is a clock.
    assert_eq!(template("{{ strftime_now is defined }}").render(&user(""), None, true).unwrap(), "True");
}

#[test]
fn times_are_parsed() {
    let written = template("{{ strftime_now('%FT%TZ') }}");
    let texts = ["1970-01-01", "2000-02-29", "2026-11-23", "2100-03-01", "1969-12-31", "9999-12-31", "0001-01-01"];
    for text in texts {
        for time in ["T00:00:00Z", "T10:15:30Z", "T23:59:59Z"] {
            let now = Some(parse_time(&format!("{text}{time}")).unwrap());
            let again = written.render_inputs(&Inputs { messages: &user(""), now, ..Inputs::default() }).unwrap();
            assert_eq!(again, format!("{text}{time}"));
        }
    }
    let seconds = parse_time("2026-11-23").unwrap();
    for (text, more) in [("2026-11-23T10:15", 36_900), ("2026-11-23 10:15Z", 36_900), ("2026-11-23T00:00:07", 7)] {
        assert_eq!(parse_time(text).unwrap(), seconds + more, "{text}");
    }
    let wrong = [
        "",
        "today",
        "2026-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-1-2",
        "26-11-23",
        "2026-11-23T24:00",
        "2026-11-23T",
    ];
    for text in
        wrong.into_iter().chain(["2026-11-23T10", "2026-11-23T10:15:30:1", "2026-11-23-1", "+026-11-23", "2026-11-2é"])
    {
        let message = parse_time(text).unwrap_err().to_string();
        assert!(message.contains("date") && message.contains(&format!("{text:?}")), "{message}");
    }
}

#[test]
fn a_templates_message_is_shortened_and_escaped() {
    let source = "{{ raise_exception('\\u001b[31m' + 'red\u{7} ' * 10000) }}";
    let message = template(source).render(&user("hi"), None, true).unwrap_err().to_string();
    assert!(message.contains("refuses") && message.contains("red"), "{message}");
    assert!(message.chars().count() < 400 && !message.chars().any(char::is_control), "{message:?}");
}

#[test]
fn comparing_keeping_and_looking_up_values_is_unchanged() {
    for (source, expected) in [
        (
            "{{ [1, [2, 3]] == [1, [2, 3]] }} {{ (1, 2) < (1, 3) }} {{ [1] in [[1], [2]] }} {{ 3 not in [1, 2] }}",
            "True True True True",
        ),
        (
            "{% set a = 'k' %}{% set d = {a: [1, 2], 'b': 2} %}{{ d[a][1] }} {{ d['b'] }} {{ [4, 5, 6][-1] }} {{ [4, 5, 6][1:] }}",
            "2 2 6 [5, 6]",
        ),
        (
            "{% set n = namespace(x=[]) %}{% for i in range(3) %}{% set n.x = n.x + [i, (i, i)] %}{% endfor %}{{ n.x }}",
            "[0, (0, 0), 1, (1, 1), 2, (2, 2)]",
        ),
        (
            "{% set a, b = 1, 'x' if 2 == 2 else 'y' %}{{ a }}{{ b }}{% with c = a == 1, d = not a != 1 %}{{ c }}{{ d }}{% endwith %}",
            "1xTrueTrue",
        ),
        (
            "{% macro f(a, b=[1]) %}{{ a + b }}{% endmacro %}{{ f([0]) }}{{ f(b=[2] * 2, a=[1] + [1]) }}",
            "[0, 1][1, 1, 2, 2]",
        ),
        (
            "{% for i in [3, 1] if i is not in [1] and i is eq 3 %}{{ loop.index }}{{ i }}{% else %}none{% endfor %}",
            "13",
        ),
        (
            "{{ 'a' ~ ('b' if 'x' in 'xy' else 'c') ~ {'k': 1 + 1}.k }} {{ 1 < 2 < 3 }} {{ [1, 2] | sum == 3 }}",
            "ab2 True True",
        ),
    ] {
        assert_eq!(template(source).render(&user("hi"), None, true).unwrap(), expected, "{source}");
    }
}
