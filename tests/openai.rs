//! Requests in OpenAI's form: which fields are read, and which are refused by name.

use headstart::engine::openai::{Body, Input};
use headstart::error::Error;
use headstart::sample::SamplingOverrides;
use serde_json::{Value, json};

use crate::cli::{file, headstart, json_of, refusal, str_of};
use crate::support::odd::NAMES;
use crate::support::tiny_chat;

/// A valid request, with these fields added.
fn with(fields: Value) -> Value {
    let mut request = json!({ "messages": [{ "role": "user", "content": "a" }] });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

#[test]
fn bad_requests_are_refused_by_field() {
    let request = "needs one of messages, prompt and tokens";
    let cases = [
        (json!({}), "request", request),
        (json!(3), "request", request),
        (json!(null), "request", request),
        (json!({ "messages": null }), "request", request),
        (with(json!({ "prompt": "a" })), "request", request),
        (json!({ "prompt": "a", "tokens": [1] }), "request", request),
        (json!({ "prompt": ["a"] }), "prompt", "must be a string"),
        (json!({ "tokens": "a" }), "tokens", "must be a list of token ids"),
        (json!({ "tokens": [1, -1] }), "tokens", "must be a list of token ids"),
        (json!({ "tokens": [1, 4294967296_u64] }), "tokens", "must be a list of token ids"),
        (json!({ "tokens": [1.5] }), "tokens", "must be a list of token ids"),
        (with(json!({ "max_tokens": 0 })), "max_tokens", "must be at least 1"),
        (with(json!({ "max_completion_tokens": 0, "max_tokens": 5 })), "max_tokens", "must be at least 1"),
        (with(json!({ "max_tokens": -1 })), "max_tokens", "must be a whole number"),
        (with(json!({ "max_tokens": 1.5 })), "max_tokens", "must be a whole number"),
        (with(json!({ "max_tokens": 1e10 })), "max_tokens", "must be a whole number"),
        (with(json!({ "max_tokens": "5" })), "max_tokens", "must be a number"),
        (with(json!({ "temperature": "hot" })), "temperature", "must be a number"),
        (with(json!({ "top_p": [] })), "top_p", "must be a number"),
        (with(json!({ "min_p": true })), "min_p", "must be a number"),
        (with(json!({ "top_k": 0.5 })), "top_k", "must be a whole number"),
        (with(json!({ "repetition_penalty": {} })), "repetition_penalty", "must be a number"),
        (with(json!({ "presence_penalty": "1" })), "presence_penalty", "must be a number"),
        (with(json!({ "frequency_penalty": "1" })), "frequency_penalty", "must be a number"),
        (with(json!({ "seed": 1.5 })), "seed", "must be a whole number"),
        (with(json!({ "seed": "1" })), "seed", "must be a whole number"),
        (with(json!({ "seed": 1e300 })), "seed", "must be a whole number"),
        (with(json!({ "stop": 5 })), "stop", "must be a string or a list of strings"),
        (with(json!({ "stop": ["a", 5] })), "stop", "must be a string or a list of strings"),
        (with(json!({ "stop": ["a", ""] })), "stop", "stop[1] is empty"),
        (with(json!({ "logit_bias": [1] })), "logit_bias", "must be an object of numbers by token id"),
        (with(json!({ "logit_bias": { "a": 1 } })), "logit_bias", "must be an object of numbers by token id"),
        (with(json!({ "logit_bias": { "1": "a" } })), "logit_bias", "must be an object of numbers by token id"),
        (with(json!({ "exact": 1 })), "exact", "must be true or false"),
        (with(json!({ "no_cache": "yes" })), "no_cache", "must be true or false"),
        (with(json!({ "logits": 0 })), "logits", "must be true or false"),
        (with(json!({ "cache_salt": 5 })), "cache_salt", "must be a string"),
        (with(json!({ "tools": [1] })), "tools", "must be a list of objects"),
        (with(json!({ "template_kwargs": [] })), "template_kwargs", "must be an object"),
        (with(json!({ "chat_template_kwargs": 1 })), "chat_template_kwargs", "must be an object"),
        (with(json!({ "now": "today" })), "now", "must be a whole number of seconds"),
    ];
    for (request, field, problem) in cases {
        match Body::read(&request).err() {
            Some(Error::Request { field: named, problem: said }) => {
                assert_eq!((named, said.contains(problem)), (field, true), "{request}: {said}");
            }
            other => panic!("{request}: {other:?}"),
        }
    }
    for (request, field) in
        [(json!([]), "messages"), (json!([{ "role": 1 }]), "messages"), (json!({ "messages": 3 }), "messages")]
    {
        let error = Body::read(&request).err().expect("refused").to_string();
        assert!(error.starts_with(field), "{request}: {error}");
    }
}

#[test]
fn unsupported_features_are_refused_by_name() {
    let refused = [
        ("n", json!(2), "ask again"),
        ("best_of", json!(3), "must be 1"),
        ("logprobs", json!(true), "must be false"),
        ("logprobs", json!(0), "must be false"),
        ("top_logprobs", json!(5), "must be 0"),
        ("response_format", json!({ "type": "json_object" }), "\"text\""),
        ("response_format", json!({ "type": "json_schema", "json_schema": {} }), "\"text\""),
        ("tool_choice", json!("required"), "\"auto\""),
        ("tool_choice", json!({ "type": "function", "function": { "name": "f" } }), "\"auto\""),
        ("parallel_tool_calls", json!(false), "must be true"),
        ("functions", json!([{ "name": "f" }]), "as tools"),
        ("function_call", json!({ "name": "f" }), "\"auto\""),
        ("store", json!(true), "must be false"),
        ("echo", json!(true), "must be false"),
        ("suffix", json!("end"), "not supported"),
        ("modalities", json!(["text", "audio"]), "[\"text\"]"),
        ("reasoning_effort", json!("high"), "template_kwargs"),
        ("service_tier", json!("flex"), "one tier"),
        ("prediction", json!({ "type": "content" }), "not supported"),
        ("ignore_eos", json!(true), "must be false"),
        ("min_tokens", json!(4), "must be 0"),
    ];
    for (field, value, problem) in refused {
        match Body::read(&with(json!({ field: value }))).err() {
            Some(Error::Request { field: named, problem: said }) => {
                assert_eq!((named, said.contains(problem)), (field, true), "{field}: {said}");
            }
            other => panic!("{field}: {value}: {other:?}"),
        }
        // If the request is read for its prompt alone, fields about the answer do not matter.
        assert!(Input::read(&with(json!({ field: value }))).is_ok(), "{field}");
    }
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let kept_from_tools = Body::read(&with(json!({ "tool_choice": "none", "tools": tools })));
    assert!(matches!(kept_from_tools.err(), Some(Error::Request { field: "tool_choice", .. })));

    // Fields that OpenAI clients send by default, with values that change nothing.
    let usual = json!({
        "n": 1, "best_of": 1, "logprobs": false, "top_logprobs": 0, "tool_choice": "auto", "tools": tools,
        "parallel_tool_calls": true, "response_format": { "type": "text" }, "store": false, "stream": true, "echo": false,
        "stream_options": { "include_usage": true }, "user": "u", "metadata": { "a": "b" }, "modalities": ["text"], "suffix": null,
        "functions": [], "function_call": "auto", "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k", "audio": null,
    });
    Body::read(&with(usual)).unwrap();
    Body::read(&with(json!({ "tool_choice": "none", "tools": [] }))).unwrap();
}

#[test]
fn an_unknown_field_is_refused_with_a_suggestion() {
    let meant = [
        ("max_token", Some("max_tokens")),
        ("maxTokens", Some("max_tokens")),
        ("MAX_COMPLETION_TOKEN", Some("max_completion_tokens")),
        ("temprature", Some("temperature")),
        ("topP", Some("top_p")),
        ("stops", Some("stop")),
        ("cacheSalt", Some("cache_salt")),
        ("template_kwarg", Some("template_kwargs")),
        ("response_fromat", Some("response_format")),
        ("grammar", None),
        ("x", None),
        ("", None),
        ("\u{1b}[31mred", None),
    ];
    let long = "max_tokens".repeat(10_000);
    for (name, near) in meant.into_iter().chain([(&*long, None)]) {
        for read in [|request: &Value| Body::read(request).map(drop), |request: &Value| Input::read(request).map(drop)]
        {
            let error = read(&with(json!({ name: 5 }))).expect_err(name);
            let Error::UnknownField { name: named, problem } = &error else { panic!("{name}: {error:?}") };
            assert_eq!(named, name);
            let expected = near.map_or("leave it out".into(), |near| format!("did you mean {near}?"));
            assert!(problem.ends_with(&expected), "{name}: {problem}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        // null counts as absent.
        assert!(Body::read(&with(json!({ name: null }))).is_ok());
    }
}

#[test]
fn all_fields_of_a_request_are_read() {
    let body = Body::read(&with(json!({
        "max_tokens": 9, "max_completion_tokens": 2, "temperature": 0.5, "top_k": 3, "top_p": 0.25, "min_p": 0.125,
        "repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": { "7": -2 },
        "seed": 18446744073709551615_u64, "stop": "end", "cache_salt": "s", "exact": true, "no_cache": null, "logits": true,
        "template_kwargs": { "a": 1 }, "stream": true, "n": 1,
    })))
    .unwrap();
    let expected = SamplingOverrides {
        temperature: Some(0.5),
        top_k: Some(3),
        top_p: Some(0.25),
        min_p: Some(0.125),
        repetition_penalty: Some(1.5),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(-0.5),
        logit_bias: vec![(7, -2.0)],
        seed: Some(u64::MAX),
    };
    assert_eq!(body.sampling, expected);
    // OpenAI's newer name takes precedence.
    assert_eq!((body.max_tokens, body.stops.get(0), body.cache_salt.as_deref()), (Some(2), Some("end"), Some("s")));
    assert_eq!((body.exact, body.no_cache, body.logits), (true, false, true));
    let Input::Conversation(prompt) = body.input else { panic!("a conversation") };
    assert_eq!((prompt.messages.len(), prompt.template_kwargs.unwrap()["a"].clone()), (1, json!(1)));

    // A list of messages has no other fields, and null counts as absent.
    let bare =
        [json!([{ "role": "user", "content": "a" }]), with(json!({ "temperature": null, "stop": null, "seed": null }))];
    for request in bare {
        let body = Body::read(&request).unwrap();
        assert_eq!((body.sampling, body.max_tokens, body.stops.get(0)), (SamplingOverrides::default(), None, None));
    }
    assert!(matches!(Body::read(&json!({ "prompt": "a" })).unwrap().input, Input::Text(text) if text == "a"));
    assert!(matches!(Body::read(&json!({ "tokens": [1, 2] })).unwrap().input, Input::Tokens(ids) if ids == [1, 2]));
    // How JavaScript writes a large integer.
    assert_eq!(Body::read(&with(json!({ "seed": -1 }))).unwrap().sampling.seed, Some(u64::MAX));
    assert_eq!(Body::read(&with(json!({ "seed": 3.0 }))).unwrap().sampling.seed, Some(3));
}

#[test]
fn the_program_reads_a_requests_fields_and_flags_override_them() {
    let model = tiny_chat::folder(NAMES[0]);
    let mut request = with(json!({ "max_tokens": 3, "temperature": 1, "seed": 7, "logit_bias": { "65": 100 } }));
    let generate = |request: &Value, flags: &[&str]| {
        let path = file(&model, "request.json", request.to_string());
        let mut command = headstart(&["generate", "--no-cache", "--json", "--messages", str_of(&path), "--model"]);
        json_of(command.arg(model.path()).args(flags))
    };
    assert_eq!(generate(&request, &[])["text"], "AAA");
    assert_eq!(generate(&request, &["-n", "2"])["text"], "AA");
    assert_eq!(generate(&request, &["--logit-bias", "66=100"])["text"], "BBB");
    request["stop"] = json!("AA");
    let stopped = generate(&request, &[]);
    assert_eq!((&stopped["text"], &stopped["finish_reason"]), (&json!(""), &json!("stop")));
    assert_eq!(generate(&request, &["--stop", "x"])["text"], "AAA");
    let path = file(&model, "bad.json", with(json!({ "top_p": "most" })).to_string());
    let said = refusal(headstart(&["generate", "--messages", str_of(&path), "--model"]).arg(model.path()));
    assert!(said.starts_with(&format!("{}: top_p: must be a number", path.display())), "{said}");
    let path = file(&model, "misspelt.json", with(json!({ "max_token": 5 })).to_string());
    let said = refusal(headstart(&["generate", "--messages", str_of(&path), "--model"]).arg(model.path()));
    assert!(said.contains("max_token: is no field of a request; did you mean max_tokens?"), "{said}");
}
