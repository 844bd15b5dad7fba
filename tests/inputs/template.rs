//! Templates in real files: line ends, tools, and conversations that end with an assistant message.

use headstart::model::language;
use headstart::text::{ChatTemplate, Inputs, Message, Specials};
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use super::{CHATML, Model, id};
use crate::checkpoints::gguf::Meta;
use crate::cli::{json_of, refusal, str_of};
use crate::support::tiny_chat;

#[test]
fn line_ends_of_a_template_become_line_feeds() {
    let lf = "{% for m in messages %}\n{{ m.role }}:\n{{ m.content }}\n{{ '\\r' }}{% endfor %}\nanswer:\n";
    let prompt = |template: &ChatTemplate| {
        let messages = [Message::new("user", "one\r\ntwo")];
        template.render_inputs(&Inputs { messages: &messages, tools: Some(&json!([{}])), ..Inputs::default() }).unwrap()
    };
    let expected = prompt(&ChatTemplate::new(lf, Specials::default()).unwrap());
    assert_eq!(expected, "user:\none\r\ntwo\n\ranswer:", "messages keep their own line ends");
    for ends in ["\r\n", "\r"] {
        let source = lf.replace('\n', ends);
        assert_eq!(prompt(&ChatTemplate::new(&source, Specials::default()).unwrap()), expected);
        let config = |template: Value| json!({ "chat_template": template });
        let named = config(json!([{ "name": "default", "template": "" }, { "name": "tool_use", "template": source }]));
        for (config, file) in [(config(json!(source)), None), (named, None), (Value::Null, Some(&source[..]))] {
            assert_eq!(prompt(&ChatTemplate::from_config(&config, file).unwrap()), expected, "{config}");
        }
        for key in ["tokenizer.chat_template", "tokenizer.chat_template.tool_use"] {
            let model = Model::new().set(key, &source[..]);
            let template = language::template(&block_on(Checkpoint::open(model.path())).unwrap()).unwrap();
            assert_eq!(prompt(&template), expected, "{key}");
        }
        let folder = tiny_chat::folder("tiny-odd-f16");
        std::fs::write(folder.path().join("chat_template.jinja"), &source).unwrap();
        let template = language::template(&block_on(Checkpoint::open(folder.path())).unwrap()).unwrap();
        assert_eq!(prompt(&template), expected);
    }
}

const TOOL: &str = r#"[{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}]"#;

fn request(model: &Model, request: Value) -> Value {
    let path = model.write("request.json", request.to_string());
    json_of(&mut model.run("generate", &["--no-cache", "-n", "8", "--json", "--messages", str_of(&path)]))
}

#[test]
fn the_tool_template_is_used_if_there_are_tools() {
    let tools: Value = serde_json::from_str(TOOL).unwrap();
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let with = json!({ "messages": messages, "tools": tools });
    let without = json!({ "messages": messages });
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let shown = format!("{{{{ tools|tojson }}}}{CHATML}");
    let model = Model::new().set("tokenizer.chat_template.tool_use", &shown[..]);
    let (told, plain) = (request(&model, with.clone()), request(&model, without.clone()));
    assert!(prompt(&told) > prompt(&plain) + 60, "{told} {plain}");
    assert_eq!((&told["warnings"], &plain["warnings"]), (&json!([]), &json!([])));
    // With named templates alone, the first is used without tools.
    let names = Meta::Strings(vec!["plain".into(), "tool_use".into()]);
    let model = Model::new()
        .without("tokenizer.chat_template")
        .set("tokenizer.chat_templates", names)
        .set("tokenizer.chat_template.plain", CHATML)
        .set("tokenizer.chat_template.tool_use", &shown[..]);
    assert_eq!(
        (prompt(&request(&model, with.clone())), prompt(&request(&model, without))),
        (prompt(&told), prompt(&plain))
    );

    // A template that does not show tools gets a warning, in either form of request.
    let hint = format!("{{% if tools %}}You have tools.\n{{% endif %}}{CHATML}");
    for template in [CHATML, &hint] {
        let model = Model::new().set("tokenizer.chat_template", template);
        let answer = request(&model, with.clone());
        let warnings = answer["warnings"].as_array().unwrap();
        assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("does not show tools"), "{answer}");
        let path = model.write("request.json", with.to_string());
        let output = model.run("generate", &["--no-cache", "-n", "8", "--messages", str_of(&path)]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("note: the chat template does not show tools"), "{said}");
    }
}

#[test]
fn a_final_assistant_message_is_continued_if_asked() {
    let model = Model::new().set("tokenizer.ggml.eos_token_id", id("<|turn|>"));
    let messages = json!([{ "role": "user", "content": "hello" }, { "role": "assistant", "content": "Sure. \nHi" }]);
    let answer = |fields: Value| {
        let mut whole = json!({ "messages": messages });
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        request(&model, whole)
    };
    let continued = answer(json!({ "continue_final_message": true }));
    assert_eq!((&continued["text"], &continued["warnings"]), (&json!(" there!"), &json!([])));
    let same = answer(json!({ "continue_final_message": true, "add_generation_prompt": false }));
    assert_eq!((&same["text"], &same["usage"]), (&continued["text"], &continued["usage"]));
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    // Two more tokens: the end-of-turn token and the line break; without `add_generation_prompt: false` also a new turn.
    let closed = answer(json!({ "add_generation_prompt": false }));
    assert_eq!(prompt(&closed), prompt(&continued) + 2);
    let anew = answer(json!({}));
    assert!(prompt(&anew) > prompt(&closed));
    assert_eq!((&anew["text"], &closed["warnings"]), (&json!("Hi there!"), &json!([])));
    let warning = anew["warnings"][0].as_str().unwrap();
    assert!(warning.contains("begins a new turn") && warning.contains("continue_final_message"), "{warning}");

    let both = json!({ "messages": messages, "continue_final_message": true, "add_generation_prompt": true });
    let path = model.write("request.json", both.to_string());
    let message = refusal(&mut model.run("generate", &["--messages", str_of(&path)]));
    assert!(message.contains("continue_final_message: is given beside add_generation_prompt"), "{message}");
}

#[test]
fn a_continued_message_ends_where_transformers_ends_it() {
    let open = |source: &str, content: &str| {
        let messages = [Message::new("user", "hello"), Message::new("assistant", content)];
        let template = ChatTemplate::new(source, Specials::default()).unwrap();
        template.render_inputs(&Inputs { messages: &messages, continue_final_message: true, ..Inputs::default() })
    };
    let kept = "{% for m in messages %}[{{ m.role }}]{{ m.content }}[end]{% endfor %}";
    let trimmed = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}[end]{% endfor %}";
    assert_eq!(open(kept, "Sure, ").unwrap(), "[user]hello[end][assistant]Sure, ");
    assert_eq!(open(trimmed, "Sure, ").unwrap(), "[user]hello[end][assistant]Sure,");
    assert_eq!(open(kept, "hello").unwrap(), "[user]hello[end][assistant]hello");
    assert_eq!(open(kept, "").unwrap(), "[user]hello[end][assistant]");
    let silent = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    assert!(open(silent, "Sure").unwrap_err().to_string().contains("final message is not shown"));
}

#[test]
fn control_tokens_in_a_question_are_text_if_asked() {
    let model = Model::new().set("tokenizer.ggml.eos_token_id", id("<|turn|>"));
    let messages = json!([{ "role": "user", "content": "hello" }, { "role": "assistant", "content": "Hi" },
        { "role": "user", "content": "so<|im_end|>" }]);
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let read = request(&model, json!({ "messages": messages }));
    let warning = read["warnings"][0].as_str().unwrap();
    assert!(warning.contains("message 2 spells <|im_end|> out") && warning.contains("split_special_tokens"), "{read}");
    let text = request(&model, json!({ "messages": messages, "split_special_tokens": true }));
    assert_eq!((prompt(&text), &text["warnings"]), (prompt(&read) + 9, &json!([])), "ten bytes for one token");
    let path = model.write("flag.json", json!(messages).to_string());
    let flags = ["--no-cache", "-n", "8", "--json", "--split-special-tokens", "--messages", str_of(&path)];
    assert_eq!(json_of(&mut model.run("generate", &flags))["usage"], text["usage"]);
    let asked = json!({ "messages": messages, "split_special_tokens": "yes" });
    let path = model.write("wrong.json", asked.to_string());
    let message = refusal(&mut model.run("generate", &["--messages", str_of(&path)]));
    assert!(message.contains("split_special_tokens: must be true or false"), "{message}");
}

#[test]
fn past_thinking_is_set_by_flag_or_field() {
    let strips = "{% for m in messages %}{{ m.role }}\n{% if preserve_thinking %}{{ m.reasoning_content }}{% endif %}{{ m.content }}\n{% endfor %}";
    let messages = json!([{ "role": "user", "content": "hello" },
        { "role": "assistant", "content": "Hi", "reasoning_content": "sosoHi" }, { "role": "user", "content": "so" }]);
    let answer = |template: &str, fields: Value| {
        let mut whole = json!({ "messages": messages });
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        request(&Model::new().set("tokenizer.chat_template", template), whole)
    };
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let (plain, kept) = (answer(strips, json!({})), answer(strips, json!({ "past_thinking": "keep" })));
    assert_eq!((prompt(&kept), &kept["warnings"]), (prompt(&plain) + 3, &json!([])));
    let cannot = answer(CHATML, json!({ "past_thinking": "keep" }));
    assert!(cannot["warnings"][0].as_str().unwrap().contains("has no variable to keep it"), "{cannot}");
    let model = Model::new().set("tokenizer.chat_template", strips);
    let path = model.write("flag.json", json!(messages).to_string());
    let flags = ["--no-cache", "-n", "8", "--json", "--past-thinking", "keep", "--messages", str_of(&path)];
    assert_eq!(json_of(&mut model.run("generate", &flags))["usage"], kept["usage"]);
    let wrong = model.write("wrong.json", json!({ "messages": messages, "past_thinking": "drop" }).to_string());
    let message = refusal(&mut model.run("generate", &["--messages", str_of(&wrong)]));
    assert!(message.contains("past_thinking: is \"drop\"; write keep or strip"), "{message}");
}

#[test]
fn a_directory_may_have_a_separate_tool_template() {
    let folder = tiny_chat::folder("tiny-odd-f16");
    std::fs::write(folder.path().join("chat_template.jinja"), "plain").unwrap();
    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    std::fs::write(folder.path().join("additional_chat_templates/tool_use.jinja"), "{{ tools | length }} tools")
        .unwrap();
    let template = language::template(&block_on(Checkpoint::open(folder.path())).unwrap()).unwrap();
    let messages = [Message::new("user", "hello")];
    assert_eq!(template.render(&messages, None, true).unwrap(), "plain");
    assert_eq!(template.render(&messages, Some(&json!([{}, {}])), true).unwrap(), "2 tools");
}
