//! The binary from outside: exit codes, messages, JSON, and Ctrl-C.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::model_path;

/// `tests/golden/golden.json`, by prompt.
fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/golden.json");
    serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap()["prompts"].take()
}

thread_local! {
    /// The cache directory and key of this test's runs, so that none uses the user's own.
    static CACHES: tempfile::TempDir = tempfile::tempdir().unwrap();
}

pub fn headstart(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
    CACHES.with(|folder| command.env("XDG_CACHE_HOME", folder.path()).env("XDG_DATA_HOME", folder.path()));
    // The driver's shader cache may be shared by all runs.
    command.env("MESA_SHADER_CACHE_DIR", env!("CARGO_TARGET_TMPDIR"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// `headstart SUBCOMMAND --model MODEL …`
pub fn with_model(subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = headstart(&[subcommand, "--model"]);
    command.arg(model_path()).args(arguments);
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output of a run that must succeed.
pub fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

pub fn json_of(command: &mut Command) -> Value {
    let out = stdout(command);
    assert_eq!(out.lines().count(), 1, "--json prints one object and nothing else: {out}");
    serde_json::from_str(&out).unwrap()
}

/// The single line of a failed run: exit code 1, nothing on standard output.
pub fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let message = text(&stderr);
    assert_eq!(status.code(), Some(1), "{command:?}: {message}");
    assert!(stdout.is_empty(), "{command:?}: {}", text(&stdout));
    assert_eq!(message.lines().count(), 1, "{command:?}: {message}");
    message.strip_prefix("error: ").unwrap_or_else(|| panic!("{message}")).trim_end().to_owned()
}

pub fn file(folder: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

pub fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn usage_errors_exit_2() {
    let cases: [&[&str]; 22] = [
        &[],
        &["generate", "-p", "a", "-n", "0"],
        &["generate", "-p", "a", "--cache-budget", "lots"],
        &["generate", "-p", "a", "--cache-ttl", "soon"],
        &["generate", "-p", "a", "--no-cache", "--exact"],
        &["chat", "--no-cache", "--cache-dir", "d"],
        &["frobnicate"],
        &["generate"],
        &["generate", "-p", "a", "--prompt-file", "b"],
        &["generate", "-p", "a", "--messages", "b"],
        &["generate", "--messages", "b", "--system", "s"],
        &["generate", "--messages", "b", "--raw"],
        &["generate", "-p", "a", "--raw", "--past-thinking", "keep"],
        &["bench", "--profile", "--batch", "2"],
        &["generate", "-p", "a", "--temperature", "warm"],
        &["generate", "-p", "a", "--quantize", "q9_9"],
        &["generate", "-p", "a", "--kernels", "fast"],
        &["generate", "-p", "a", "--kv", "q4"],
        &["generate", "-p", "a", "--logit-bias", "5"],
        &["generate", "-p", "a", "--date", "2026-02-30"],
        &["score"],
        &["tokenize", "-p", "a", "--no-such-flag"],
    ];
    for arguments in cases {
        let output = headstart(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_unknown_format_of_keys_and_values_is_refused_with_those_that_there_are() {
    for command in ["chat", "generate", "score", "bench"] {
        let output = headstart(&[command, "--kv", "q4"]).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("--kv") && said.contains("use f16 or q8"), "{said}");
    }
}

#[test]
fn every_command_shows_examples() {
    for command in ["chat", "generate", "score", "tokenize", "bench"] {
        let help = stdout(&mut headstart(&[command, "--help"]));
        assert!(help.contains(&format!("Examples:\n  headstart {command}")), "{command}: {help}");
    }
    for command in ["ls", "info", "pull", "path"] {
        let help = stdout(&mut headstart(&["models", command, "--help"]));
        assert!(help.contains(&format!("Examples:\n  headstart models {command}")), "{command}: {help}");
    }
    for command in ["explain", "warm", "export", "import", "ls", "rm", "pin", "unpin"] {
        let help = stdout(&mut headstart(&["prefix", command, "--help"]));
        assert!(help.contains("Examples:\n  ") && help.contains(&format!("headstart prefix {command}")), "{help}");
    }
}

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let bad_utf8 = file(&folder, "bad.txt", b"caf\xc3\xa9 \xff!");
    let empty = file(&folder, "empty.txt", "");
    let sampling = |flag: &str, value: &str, message: &str| (["-p", "a", flag, value].join("\n"), message.to_owned());
    let mut cases = vec![
        (["--prompt", ""].join("\n"), "prompt: is empty".to_owned()),
        (["--raw", "--prompt", ""].join("\n"), "prompt: is empty".to_owned()),
        (["--prompt-file", str_of(&empty)].join("\n"), "prompt: is empty".to_owned()),
        (["--prompt-file", str_of(&bad_utf8)].join("\n"), format!("{}: byte 6: is not UTF-8", bad_utf8.display())),
        (["--prompt-file", "/no/such/file"].join("\n"), "/no/such/file: No such file or directory; check".to_owned()),
        (["-p", "a", "--stop", ""].join("\n"), "stop: stop[0] is empty".to_owned()),
    ];
    cases.extend([
        sampling("--temperature", "-1", "temperature: -1 is not"),
        sampling("--temperature", "nan", "temperature: NaN is not"),
        sampling("--top-k", "0", "top_k: 0 leaves no candidate"),
        sampling("--top-p", "0", "top_p: 0 is not"),
        sampling("--min-p", "1.5", "min_p: 1.5 is not"),
        sampling("--repetition-penalty", "0", "repetition_penalty: 0 is not"),
        sampling("--presence-penalty", "3", "presence_penalty: 3 is not"),
        sampling("--frequency-penalty", "-3", "frequency_penalty: -3 is not"),
        sampling("--logit-bias", "49152=1", "logit_bias: token id 49152 is not in the vocabulary of 49152"),
    ]);
    for (arguments, expected) in cases {
        let arguments: Vec<&str> = arguments.split('\n').collect();
        let message = refusal(&mut with_model("generate", &arguments));
        assert!(message.starts_with(&expected), "{arguments:?}: {message}");
    }
    for command in ["score", "tokenize"] {
        let message = refusal(&mut with_model(command, &["--prompt-file", str_of(&bad_utf8)]));
        assert!(message.contains("byte 6"), "{command}: {message}");
        assert!(refusal(&mut with_model(command, &["-p", ""])).starts_with("prompt: is empty"));
    }
    let absent = refusal(&mut headstart(&["tokenize", "--model", "./no-such-model.gguf", "-p", "a"]));
    assert!(absent.contains("no-such-model.gguf"), "{absent}");
}

#[test]
fn wrong_messages_are_named_by_file_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("{", "line 1 column 1"),
        ("[]", "messages: is empty"),
        ("{\"messages\": 3}", "messages: must be"),
        (r#"[{"role": "user", "content": "a"}, 7]"#, "messages[1]"),
        (r#"[{"content": "a"}]"#, "messages[0].role: must be"),
        (r#"[{"role": "user"}]"#, "messages[0].content: is missing"),
        (r#"[{"role": "user", "content": 5}]"#, "messages[0].content"),
        (r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#, "messages[0].content[0]"),
        (
            "[{\"role\": \"user\", \"content\": \"a\",\n\"content\": \"b\"}]",
            "messages[0].content: stands twice in one object, the second time at line 2; keep one of the two",
        ),
        (
            r#"{"messages": [], "tools": [{"function": {"parameters": {"a": [{"x": 1, "y": null, "x": -2.5}]}}}]}"#,
            "tools[0].function.parameters.a[0].x: stands twice",
        ),
    ];
    for (content, field) in cases {
        let path = file(&folder, "messages.json", content);
        let message = refusal(&mut with_model("generate", &["--messages", str_of(&path)]));
        assert!(message.starts_with(&format!("{}: {field}", path.display())), "{content}: {message}");
    }
    // As some editors save it.
    let marked = file(&folder, "marked.json", "\u{feff}[{\"role\": \"user\", \"content\": \"a\"}]");
    let mut explained = headstart(&["prefix", "explain", str_of(&marked), str_of(&marked), "--json", "--model"]);
    assert!(json_of(explained.arg(model_path()))["shared_tokens"].as_u64().is_some_and(|tokens| tokens > 0));
}

#[test]
fn tokenize_gives_the_reference_ids_of_exactly_the_text() {
    let folder = tempfile::tempdir().unwrap();
    for (name, prompt) in golden().as_object().unwrap() {
        let path = file(&folder, name, prompt["text"].as_str().unwrap());
        let found = json_of(&mut with_model("tokenize", &["--json", "--prompt-file", str_of(&path)]));
        assert_eq!(keys(&found), ["token_ids", "tokens"]);
        assert_eq!(found["token_ids"], prompt["ids"], "{name}");
        assert_eq!(found["tokens"].as_array().unwrap().len(), prompt["ids"].as_array().unwrap().len(), "{name}");
    }
    // From a file and from standard input, spaces and line ends are kept.
    let exact = " two  spaces \r\n\n";
    let path = file(&folder, "exact.txt", exact);
    let expected = json_of(&mut with_model("tokenize", &["--json", "--prompt", exact]));
    assert_ne!(expected, json_of(&mut with_model("tokenize", &["--json", "--prompt", exact.trim()])));
    assert_eq!(expected, json_of(&mut with_model("tokenize", &["--json", "--prompt-file", str_of(&path)])));
    let mut child = with_model("tokenize", &["--json", "--prompt-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(exact.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(expected, serde_json::from_slice::<Value>(&output.stdout).unwrap());
}

#[test]
fn models_info_describes_without_a_gpu() {
    let mut command = headstart(&["models", "info", "--json", "--model"]);
    // With these no Vulkan driver is found, so opening one would fail.
    let no_driver = [("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null")];
    let info = json_of(command.arg(model_path()).envs(no_driver));
    assert_eq!(info["architecture"], "llama");
    assert_eq!(info["layers"], 30);
    assert_eq!(info["hidden"], 576);
    assert_eq!((&info["heads"], &info["kv_heads"]), (&json!(9), &json!(3)));
    assert_eq!(info["vocab"], 49152);
    assert_eq!(info["context"], 8192);
    // Of 30 layers with 3 heads of 64 elements, 128 bytes or 68 for each K and V.
    assert_eq!(info["kv_bytes_per_token"], json!({ "f16": 30 * 2 * 3 * 128, "q8": 30 * 2 * 3 * 68 }));
    assert_eq!(info["chat_template"], true);
    assert_eq!(info["file_bytes"], std::fs::metadata(model_path()).unwrap().len());
    let counts = |format: &str| info["formats"][format]["tensors"].as_u64();
    assert_eq!((counts("f32"), counts("q4_1"), counts("q8_0")), (Some(61), Some(210), Some(1)));
    let shown = stdout(headstart(&["models", "info", "--model"]).arg(model_path()));
    assert!(shown.contains("134.5 M") && shown.contains("210 × q4_1"), "{shown}");
    assert!(shown.contains("KV cache      22.5 KiB in f16, 12.0 KiB in q8 for each token\n"), "{shown}");
}

#[test]
fn generate_json_has_the_documented_shape() {
    let mut answer = json_of(&mut with_model("generate", &["-p", "Name three rivers.", "-n", "6", "--json"]));
    let fields =
        ["text", "token_ids", "finish_reason", "warnings", "usage", "cache", "timings", "adapter", "kv", "counters"];
    assert_eq!(keys(&answer), fields);
    assert_eq!(answer["kv"], "f16");
    let ids = answer["token_ids"].as_array().unwrap();
    assert_eq!((ids.len(), &answer["finish_reason"]), (6, &json!("length")));
    assert_eq!(keys(&answer["usage"]), ["prompt_tokens", "completion_tokens", "prompt_tokens_details"]);
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    assert_eq!(answer["usage"]["prompt_tokens_details"], json!({ "cached_tokens": 0 }));
    // The template's own system text and the user's message, counted by transformers' tokenizer.
    assert_eq!(answer["usage"]["prompt_tokens"], 34);
    // The last prompt token is computed for its logits, so it is not a miss.
    let cache = json!({
        "prompt_tokens": 34,
        "sources": { "gpu": 0, "memory": 0, "disk": 0, "remote": 0, "pack": 0, "computed": 34 },
        "misses": [{ "reason": "cold", "from": 0, "tokens": 33 }],
        "first_divergent": null,
        "divergence": null,
    });
    let tiers = answer["cache"].as_object_mut().unwrap().remove("tiers").unwrap();
    assert_eq!(answer["cache"], cache);
    let names: Vec<&Value> = tiers.as_array().unwrap().iter().map(|tier| &tier["tier"]).collect();
    assert_eq!(names, ["memory", "disk"]);
    let counted = ["hits", "misses", "rejected", "failures", "loaded_bytes", "load_ms", "saved", "dropped", "problem"];
    assert!(counted.iter().all(|name| keys(&tiers[1]).contains(name)), "{tiers}");
    let timings = ["load_ms", "ttft_ms", "prefill_ms", "decode_ms", "prefill_tok_s", "decode_tok_s"];
    assert_eq!(keys(&answer["timings"]), timings);
    assert!(timings.iter().all(|name| answer["timings"][name].as_f64().unwrap() > 0.0), "{}", answer["timings"]);
    assert!(answer["timings"]["ttft_ms"].as_f64() >= answer["timings"]["prefill_ms"].as_f64());
    assert_eq!(keys(&answer["adapter"]), ["name", "backend", "driver", "numerics"]);
    let counters = [
        "dispatches_per_token",
        "submits_per_token",
        "bind_groups_created_per_token",
        "readback_bytes_per_token",
        "weight_bytes",
        "bytes_read_per_token",
        "steps_ahead",
    ];
    assert_eq!(keys(&answer["counters"]), counters);
    assert!(counters.iter().all(|name| answer["counters"][name].is_number()), "{}", answer["counters"]);
    assert!(!answer["text"].as_str().unwrap().is_empty());
}

#[test]
fn generate_follows_the_reference_and_stops_before_stop_strings() {
    let prompt = &golden()["english"];
    let (given, reference) = (prompt["text"].as_str().unwrap(), prompt["greedy32"].as_array().unwrap());
    let mut flags = vec!["--raw", "-n", "12", "--json", "-p", given];
    let whole = json_of(&mut with_model("generate", &flags));
    assert_eq!(whole["token_ids"], json!(reference[..12]));
    let text = whole["text"].as_str().unwrap();
    assert!(prompt["greedy_text"].as_str().unwrap().starts_with(text), "{text:?}");

    // Streamed output is the same text and nothing else.
    let streamed = stdout(&mut with_model("generate", &["--raw", "-n", "12", "-p", given]));
    assert_eq!(streamed.trim_end_matches('\n'), text.trim_end_matches('\n'));

    // A stop string that crosses tokens ends the text before it.
    let words: Vec<&str> = text.split_whitespace().collect();
    let stop = format!("{} {}", &words[2][1..], &words[3][..1]);
    flags.extend(["--stop", "never to be seen", "--stop", &stop]);
    let cut = json_of(&mut with_model("generate", &flags));
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"], text[..text.find(&stop).unwrap()]);
    let taken = cut["token_ids"].as_array().unwrap().len();
    assert!(taken < 12);
    assert_eq!(cut["token_ids"], json!(reference[..taken]));
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let run = |seed: &str| {
        let flags = ["--raw", "-p", "Once", "-n", "8", "--temperature", "1.5", "--json", "--seed", seed];
        json_of(&mut with_model("generate", &flags))["token_ids"].clone()
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

#[test]
fn a_full_context_is_an_error_or_a_finish_reason() {
    let prompt = "one two three four five six seven eight nine ten eleven twelve";
    let message = refusal(&mut with_model("generate", &["--raw", "-p", prompt, "--context", "8"]));
    assert!(message.contains("context") && message.contains('8'), "{message}");
    let full = json_of(&mut with_model("generate", &["--raw", "-p", prompt, "--context", "20", "-n", "50", "--json"]));
    assert_eq!(full["finish_reason"], "context", "{full}");
}

#[test]
fn score_gives_a_log_softmax_of_every_position() {
    let flags = ["-p", "The capital of France is Paris.", "--json", "--top-logprobs", "3"];
    let score = json_of(&mut with_model("score", &flags));
    assert_eq!(keys(&score), ["token_ids", "logprobs", "perplexity", "top_logprobs"]);
    let count = score["token_ids"].as_array().unwrap().len();
    let logprobs: Vec<f64> = score["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(logprobs.len(), count - 1);
    assert!(logprobs.iter().all(|&logprob| logprob < 0.0));
    let perplexity = (-logprobs.iter().sum::<f64>() / logprobs.len() as f64).exp();
    assert!((score["perplexity"].as_f64().unwrap() / perplexity - 1.0).abs() < 1e-9);
    let top = score["top_logprobs"].as_array().unwrap();
    assert_eq!(top.len(), count);
    for (position, best) in top.iter().enumerate() {
        let best = best.as_array().unwrap();
        assert_eq!(best.len(), 3);
        assert!(best.iter().all(|entry| keys(entry) == ["id", "token", "logprob"]));
        let order: Vec<f64> = best.iter().map(|entry| entry["logprob"].as_f64().unwrap()).collect();
        assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
        // If the text's next token is among the best, both lists give it the same log-probability.
        let next = score["token_ids"].get(position + 1);
        for entry in best.iter().filter(|entry| Some(&entry["id"]) == next) {
            assert_eq!(entry["logprob"].as_f64(), Some(logprobs[position]));
        }
    }
    // The token that any capable model predicts here.
    assert_eq!(top[4][0]["token"], "ĠParis");
    let table = stdout(&mut with_model("score", &["-p", "The capital of France"]));
    assert!(table.contains("\" France\"") && table.contains("perplexity"), "{table}");
    assert!(!table.contains('\x1b'), "no colour into a pipe");
}

#[test]
fn without_an_adapter_the_message_names_a_package_to_install() {
    let no_driver = [("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null")];
    let message = refusal(with_model("generate", &["-p", "a"]).envs(no_driver));
    assert!(message.starts_with("no usable GPU adapter") && message.contains("mesa-vulkan-drivers"), "{message}");
    let message = refusal(with_model("generate", &["-p", "a"]).env("WGPU_ADAPTER_NAME", "no such adapter"));
    assert!(message.contains("WGPU_ADAPTER_NAME=no such adapter matches none of ["), "{message}");
}

#[test]
fn bench_profile_accounts_for_a_steps_time() {
    let flags = ["--profile", "--prefill", "8", "--runs", "2"];
    let profile = json_of(&mut with_model("bench", &[&flags[..], &["--json"]].concat()));
    assert_eq!(profile["runs"], 2);
    for (step, rows) in [("decode", 1), ("prefill", 8)] {
        let kernels = profile[step].as_array().unwrap();
        let number = |value: &Value| value.as_f64().unwrap();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        let gpu = &profile["gpu"][step];
        assert_eq!(keys(gpu), ["us", "gaps_us", "gaps_share", "copy_gb_s"]);
        assert!(near(number(&gpu["gaps_us"]) / number(&gpu["us"]), number(&gpu["gaps_share"])));
        let copies = number(&gpu["copy_gb_s"]);
        for row in kernels {
            let (us, flops) = (number(&row["us"]), number(&row["flops"]));
            assert!(us > 0.0 && near(us / number(&gpu["us"]), number(&row["share"])), "{row}");
            let rate = (number(&row["read_bytes"]) + number(&row["written_bytes"])) / us / 1e3;
            assert!(near(rate, number(&row["gb_s"])) && near(rate / copies, number(&row["of_copy"])), "{row}");
            assert!(flops == 0.0 || near(flops / us / 1e3, number(&row["gflop_s"])), "{row}");
        }
        let multiplied = kernels.iter().filter(|row| row["kernel"].as_str().unwrap().starts_with("linear{"));
        // Q, K and V, the output, gate and up, and down of each layer, and the LM head for the last row.
        let layer = 576 * 960 + 576 * 576 + 3 * 576 * 1536;
        let flops: u64 = multiplied.map(|row| row["flops"].as_u64().unwrap()).sum();
        assert_eq!(flops, 2 * (rows * 30 * layer + 49152 * 576), "{step}");
        let linears = kernels.iter().filter(|row| row["kernel"].as_str().unwrap().starts_with("linear{"));
        // Four for each layer and the LM head.
        assert_eq!(linears.map(|row| row["count"].as_u64().unwrap()).sum::<u64>(), 4 * 30 + 1, "{step}");
        let count: u64 = kernels.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        assert_eq!(profile["host"][step]["dispatches"], count);
        assert!(profile["host"][step]["us"].as_f64().unwrap() > 0.0);
    }
    let table = stdout(&mut with_model("bench", &flags));
    assert_eq!(table.matches("by the GPU's timestamps").count(), 2, "{table}");
    assert_eq!(table.matches("gaps, in no kernel\n").count(), 2, "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("adapter  ") && line.ends_with(", prompts in f32, KV in f16")),
        "{table}"
    );
    let portable = [&flags[..], &["--kernels", "portable"]].concat();
    let profile = json_of(&mut with_model("bench", &[&portable[..], &["--json"]].concat()));
    assert_eq!(profile["gpu"], json!({ "decode": null, "prefill": null }));
    assert_eq!(profile["decode"][0]["of_copy"], Value::Null);
    let table = stdout(&mut with_model("bench", &portable));
    assert_eq!(table.matches("each kernel waited for").count(), 2, "{table}");
    assert!(!table.contains("gaps"), "{table}");
}

#[test]
fn bench_measures_what_it_was_asked() {
    let flags = ["--prefill", "8,16", "--decode", "3", "--depth", "4,20", "--batch", "1,3", "--runs", "1"];
    let bench = json_of(&mut with_model("bench", &[&flags[..], &["--json"]].concat()));
    let places = |rows: &str, fields: &[&str]| -> Value {
        let row = |row: &Value| -> Value { fields.iter().map(|field| row[field].clone()).collect() };
        bench[rows].as_array().unwrap().iter().map(row).collect()
    };
    assert_eq!(places("prefill", &["tokens"]), json!([[8], [16]]));
    let decodes = json!([[4, 1, 3], [4, 3, 3], [20, 1, 3], [20, 3, 3]]);
    assert_eq!(places("decode", &["depth", "batch", "tokens"]), decodes);
    for spread in ["/prefill/0/tok_s", "/prefill/1/first_token_ms", "/decode/3/tok_s"] {
        let spread = bench.pointer(spread).unwrap();
        assert_eq!(keys(spread), ["median", "min", "max"]);
        assert!(spread["median"].as_f64().unwrap() > 0.0);
    }
    assert!(bench["memory"]["kv_bytes"].as_u64() > Some(0), "{bench}");
    assert_eq!((&bench["adapter"]["numerics"], &bench["kv"]), (&json!("f32"), &json!("f16")));
    let long = [&flags[..], &["--context", "22"]].concat();
    assert!(refusal(&mut with_model("bench", &long)).contains("depth: 24 tokens"));
}

fn chat(arguments: &[&str]) -> Child {
    let mut command = with_model("chat", arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn say(child: &mut Child, line: &str) {
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).unwrap();
}

#[test]
fn chat_reports_what_the_cache_did() {
    let mut child = chat(&["--system", "Be brief.", "-n", "1"]);
    say(&mut child, "Hello\n/cache\n/retry\n/cache\n/system Be long.\nHello\n/cache\n/exit\n");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said: Vec<&str> = text(&output.stdout).lines().filter(|line| line.contains(" prompt tokens · ")).collect();
    let all: usize = said[0][1..].split(' ').next().unwrap().parse().unwrap();
    let but_one = all - 1;
    assert_eq!(
        said[0],
        format!("[{all} prompt tokens · {all} computed: {but_one} had not been seen, 1 to begin the answer]")
    );
    assert_eq!(said[1], format!("[{all} prompt tokens · {all} reused from the GPU · 0 computed]"));
    // `<|im_start|>`, `system`, a line break and `Be` are shared.
    let (computed, differ) = (all - 4, all - 5);
    let why = format!("{differ} follow where the text differs, at token 4, 1 to begin the answer");
    assert_eq!(said[2..], [format!("[{all} prompt tokens · 4 reused from the GPU · {computed} computed: {why}]")]);
    let parted =
        "Message 0 (system) differs at token 4: after \"<|im_start|>system\\nBe\", \" long\" where \" brief\" is known";
    let sentences: Vec<&str> = text(&output.stdout).lines().filter(|line| line.contains("differs")).collect();
    assert_eq!(sentences.len(), 2, "the report and the explanation: {sentences:?}");
    assert!(sentences[1].starts_with(parted), "{sentences:?}");
}
