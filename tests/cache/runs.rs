//! `generate` and `chat`: one process reuses what another stored, to the token, and the answer stays the same.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{BLOCK, Home, RULES, SHIP, WHALE, asked, files, length, reused, same, shared, tier};
use crate::cli::{headstart, json_of, stdout, str_of};
#[cfg(unix)]
use crate::support::redis::Redis;

pub(super) const TINY: &str = "tiny-odd-f16";

#[test]
fn a_second_process_finds_what_the_first_stored() {
    for model in ["tiny-odd-f16", "tiny-wide-bf16", "tiny-wide-f32"] {
        let home = Home::new(model);
        let first = json_of(&mut home.generate(WHALE));
        reused(&first, &[]);
        same(&first, &home.cold(WHALE));
        assert!(tier(&first, "disk")["saved"].as_u64() > Some(0), "{}", first["cache"]);
        // The same prompt again: no layer runs.
        let again = json_of(&mut home.generate(WHALE));
        reused(&again, &[("disk", length(&asked(WHALE)))]);
        same(&again, &first);
        // Another question: the shared beginning is reused.
        let other = json_of(&mut home.generate(SHIP));
        let known = shared(&asked(WHALE), &asked(SHIP));
        assert!(known >= RULES.len() / BLOCK * BLOCK);
        reused(&other, &[("disk", known)]);
        same(&other, &home.cold(SHIP));
        assert_eq!(other["cache"]["choices"][0]["tier"], "disk");
        let hits = known.div_ceil(BLOCK);
        assert_eq!(tier(&other, "disk")["hits"], json!(hits));
        assert!(tier(&other, "disk")["load_ms"].as_f64() > Some(0.0));
    }
}

#[test]
fn the_answer_is_the_same_as_text() {
    let home = Home::new(TINY);
    let ask = |flags: &[&str]| {
        let mut command = home.with_model(&["generate", "--system", RULES, "-n", "8", "-p", WHALE]);
        stdout(command.args(flags))
    };
    let first = ask(&[]);
    assert_eq!(ask(&[]), first);
    reused(&json_of(&mut home.generate(WHALE)), &[("disk", length(&asked(WHALE)))]);
}

#[test]
fn no_cache_neither_reads_nor_writes() {
    let home = Home::new(TINY);
    reused(&home.cold(WHALE), &[]);
    assert_eq!(home.cold(WHALE)["cache"]["tiers"], json!([]));
    // The platform's default directory exists only once something was kept.
    let cache = home.path("xdg");
    let mut command = headstart(&["generate", "-p", WHALE, "-n", "1", "--json", "--model"]);
    command.arg(home.model.path()).env("XDG_CACHE_HOME", &cache);
    let cold = json_of(command.arg("--no-cache"));
    assert!(!cache.join("headstart").exists());
    let mut command = headstart(&["generate", "-p", WHALE, "-n", "1", "--json", "--model"]);
    command.arg(home.model.path()).env("XDG_CACHE_HOME", &cache);
    reused(&json_of(&mut command), &[]);
    assert!(!files(&cache.join("headstart/kv/blocks"), ".safetensors").is_empty());
    let warm = json_of(&mut command);
    assert_eq!(warm["cache"]["sources"]["computed"], 0);
    same(&warm, &cold);
    let cold = json_of(command.arg("--no-cache"));
    assert_eq!(cold["cache"]["sources"]["disk"], 0);
}

#[test]
fn salts_models_and_settings_are_kept_apart() {
    let home = Home::new(TINY);
    let all = length(&asked(WHALE));
    let salted = |salt: &str| json_of(home.generate(WHALE).args(["--cache-salt", salt]));
    reused(&json_of(&mut home.generate(WHALE)), &[]);
    reused(&salted("one"), &[]);
    reused(&salted("two"), &[]);
    reused(&salted("one"), &[("disk", all)]);
    reused(&json_of(&mut home.generate(WHALE)), &[("disk", all)]);
    // A request may name its salt; the flag overrides it.
    let request = home.path("request.json");
    let messages = json!([{ "role": "system", "content": RULES }, { "role": "user", "content": WHALE }]);
    std::fs::write(&request, json!({ "messages": messages, "cache_salt": "one" }).to_string()).unwrap();
    let mut command = home.with_model(&["generate", "--json", "-n", "8", "--messages", str_of(&request)]);
    reused(&json_of(&mut command), &[("disk", all)]);
    reused(&json_of(command.args(["--cache-salt", "three"])), &[]);
    // Other weights.
    reused(&json_of(home.generate(WHALE).args(["--quantize", "q8_0"])), &[]);
    let weights = home.model.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    reused(&json_of(&mut home.generate(WHALE)), &[]);
}

/// A salt learns nothing of others: counters and reasons are as if nobody else had stored anything.
#[test]
fn a_salt_is_told_nothing_of_another() {
    let told = |others: &[&[&str]]| {
        let home = Home::new(TINY);
        for flags in others {
            json_of(home.generate(WHALE).args(*flags));
        }
        let answer = json_of(home.generate(WHALE).args(["--cache-salt", "two"]));
        let mut command = home.with_model(&["chat", "-n", "1", "--cache-salt", "three"]);
        (answer["cache"].clone(), chat(&mut command, &format!("{WHALE}\n/cache\n")))
    };
    let alone = told(&[]);
    assert_eq!(alone.0["misses"][0]["reason"], "cold");
    assert_eq!(told(&[&[], &["--cache-salt", "one"]]), alone);
}

/// If nothing of a prompt can be reused, the directory's contents may explain why.
#[test]
fn a_miss_is_explained_across_processes() {
    let system = |time: &str| format!("It is {time} o'clock. {RULES}");
    let ask = |home: &Home, time: &str, flags: &[&str]| {
        let mut command = home.with_model(&["generate", "-n", "4", "--json", "-p", WHALE, "--system", &system(time)]);
        json_of(command.args(flags))["cache"].take()
    };
    let home = Home::new(TINY);
    let first = ask(&home, "ten", &[]);
    assert_eq!((&first["misses"][0]["reason"], &first["divergence"]), (&json!("cold"), &Value::Null));
    let later = ask(&home, "two", &[]);
    let text = [("system", system("ten")), ("system", system("two"))];
    let [known, prompt] = [0, 1].map(|at| [(text[at].0, text[at].1.as_str()), ("user", WHALE)]);
    let at = shared(&known, &prompt);
    assert_eq!(later["sources"]["disk"], json!(at));
    assert_eq!((&later["misses"][0]["reason"], &later["first_divergent"]), (&json!("diverged"), &json!(at)));
    let divergence = &later["divergence"];
    assert_eq!((&divergence["token"], &divergence["message"]), (&json!(at), &json!(0)));
    assert_eq!((&divergence["role"], &divergence["known"]), (&json!("system"), &json!("en")));
    assert_eq!(divergence["prompt"], "wo");
    assert!(divergence["recoverable"].as_u64().unwrap() as usize >= RULES.len());

    // The same tokens in other namespaces; the report says nothing of another salt's.
    let salted = ask(&home, "ten", &["--cache-salt", "mine"]);
    let all = length(&known);
    assert_eq!(salted["misses"], json!([{ "reason": "cold", "from": 0, "tokens": all - 1 }]));
    let quantized = ask(&home, "two", &["--quantize", "q8_0"]);
    assert_eq!(
        quantized["misses"],
        json!([{ "reason": "namespace_changed", "field": "weights", "from": 0, "tokens": length(&prompt) - 1 }])
    );
    // Prompts computed in f16 have other bits.
    let halves = ask(&home, "ten", &["--kernels", "f16"]);
    assert_eq!(
        halves["misses"],
        json!([{ "reason": "namespace_changed", "field": "numerics", "from": 0, "tokens": all - 1 }])
    );
    assert_eq!(ask(&home, "ten", &["--kernels", "f16"])["sources"]["disk"], json!(all));
    // A chat reports it in a line.
    let line = format!("{WHALE}\n/cache\n");
    let mut command = home.with_model(&["chat", "-n", "1", "--system", &system("six")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("follow where the text differs, at token {}", at - 1)), "{said}");
    assert!(said.contains(&format!("Message 0 (system) differs at token {}", at - 1)), "{said}");
}

#[test]
fn expired_or_late_blocks_are_computed() {
    let home = Home::new(TINY);
    json_of(home.generate(WHALE).args(["--cache-ttl", "1ms"]));
    reused(&json_of(&mut home.generate(WHALE)), &[]);
    let late = json_of(home.generate(WHALE).args(["--cache-deadline", "0s"]));
    reused(&late, &[]);
    same(&late, &home.cold(WHALE));
    reused(&json_of(&mut home.generate(WHALE)), &[("disk", length(&asked(WHALE)))]);
}

#[test]
fn a_directory_that_keeps_nothing_costs_no_answer() {
    let home = Home::new(TINY);
    let cold = home.cold(WHALE);
    let none = json_of(home.generate(WHALE).args(["--cache-budget", "0"]));
    same(&none, &cold);
    assert!(tier(&none, "disk")["dropped"].as_u64() > Some(0), "{}", none["cache"]);
    // A file in the directory's place.
    std::fs::remove_dir_all(home.dir()).unwrap();
    std::fs::write(home.dir(), "in the way").unwrap();
    let blocked = json_of(&mut home.generate(WHALE));
    same(&blocked, &cold);
    reused(&blocked, &[]);
    assert!(tier(&blocked, "disk")["failures"].as_u64() > Some(0), "{}", blocked["cache"]);
    assert_eq!(std::fs::read(home.dir()).unwrap(), b"in the way");
}

#[test]
fn a_damaged_block_is_a_miss_and_is_replaced() {
    let home = Home::new(TINY);
    let first = json_of(&mut home.generate(WHALE));
    for block in files(&home.dir().join("blocks"), ".safetensors") {
        let mut bytes = std::fs::read(&block).unwrap();
        let at = bytes.len() - 3;
        bytes[at] ^= 4;
        // A block's modification time is when it expires.
        let expires = block.metadata().unwrap().modified().unwrap();
        std::fs::write(&block, bytes).unwrap();
        File::options().write(true).open(&block).unwrap().set_modified(expires).unwrap();
    }
    let damaged = json_of(&mut home.generate(WHALE));
    reused(&damaged, &[]);
    same(&damaged, &first);
    assert_eq!(damaged["cache"]["misses"][0]["reason"], "integrity");
    assert_eq!(tier(&damaged, "disk")["rejected"], json!({ "digest": 1 }));
}

#[test]
fn processes_share_a_directory_at_the_same_time() {
    let home = Home::new(TINY);
    let questions = [WHALE, SHIP, WHALE, SHIP];
    let start =
        |question: &&str| home.generate(question).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running: Vec<_> = questions.iter().map(start).collect();
    for (child, question) in running.into_iter().zip(questions) {
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        same(&serde_json::from_slice(&stdout).unwrap(), &home.cold(question));
    }
    for question in [WHALE, SHIP] {
        reused(&json_of(&mut home.generate(question)), &[("disk", length(&asked(question)))]);
    }
    assert_eq!(home.ls()["damaged"], 0);
    assert!(files(&home.dir(), ".tmp").is_empty());
}

/// The reports that `/cache` printed.
pub(super) fn chat(command: &mut Command, lines: &str) -> Vec<String> {
    command.args(["--system", RULES]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let accounts = said.lines().filter_map(|line| line.find(" prompt tokens · ").map(|at| (line, at)));
    accounts.map(|(line, at)| line[line[..at].rfind('[').unwrap()..].to_owned()).collect()
}

#[test]
fn a_chat_says_where_its_prompt_came_from() {
    let home = Home::new(TINY);
    let all = length(&asked(WHALE));
    let line = format!("{WHALE}\n/cache\n");
    let start = |flags: &[&str]| {
        let mut command = home.with_model(&["chat", "-n", "4"]);
        command.args(flags);
        command
    };
    let cold = format!("[{all} prompt tokens · {all} computed: {} had not been seen, 1 to begin the answer]", all - 1);
    assert_eq!(chat(&mut start(&[]), &line), [cold]);
    // The prompt was stored when the chat ended.
    let disk = format!("[{all} prompt tokens · {all} reused from disk · 0 computed]");
    assert_eq!(chat(&mut start(&[]), &line), [disk]);
    let (file, pack) = (home.file("asked.json", &asked(WHALE)), home.path("asked.kv.safetensors"));
    stdout(&mut home.with_model(&["prefix", "export", str_of(&file), "-o", str_of(&pack)]));
    let packed = format!("[{all} prompt tokens · {all} reused from a prefix pack · 0 computed]");
    assert_eq!(chat(&mut start(&["--prefix-pack", str_of(&pack)]), &line), [packed]);
    // Without a cache not even its own last prompt is reused.
    let mut none = headstart(&["chat", "--no-cache", "-n", "4", "--model"]);
    let computed = format!("[{all} prompt tokens · {all} computed]");
    assert_eq!(chat(none.arg(home.model.path()), &format!("{line}/retry\n/cache\n")), [computed.clone(), computed]);
}

#[test]
fn every_command_tells_the_format_and_the_class_that_a_prompt_is_known_in() {
    let home = Home::new(TINY);
    json_of(&mut home.generate(WHALE));
    let mut generate = home.with_model(&["generate", "-v", "--system", RULES, "-n", "1", "-p", WHALE, "--kv", "q8"]);
    let told = String::from_utf8(generate.output().unwrap().stderr).unwrap();
    assert!(told.contains(" are known in another format of keys and values (--kv)"), "{told}");
    // KV in 8 bits is known now too, and one setting differs, not two.
    let file = home.file("asked.json", &asked(WHALE));
    let mut warm = home.with_model(&["prefix", "warm", str_of(&file), "--kernels", "f16"]);
    let told = String::from_utf8(warm.output().unwrap().stderr).unwrap();
    assert!(told.contains(" are known from kernels of another class (--kernels)"), "{told}");
}

#[test]
fn exact_reuse_leaves_out_decoded_tokens() {
    // An answer of four letters a. KV of the last one was not computed.
    let flags = ["chat", "-n", "4", "--logit-bias", "97=100"];
    let lines = format!("{WHALE}\nAnd?\n/cache\n");
    let first = length(&asked(WHALE));
    let all = length(&[asked(WHALE)[0], asked(WHALE)[1], ("assistant", "aaaa"), ("user", "And?")]);
    for (exact, decoded) in [(false, 3), (true, 0)] {
        let home = Home::new(TINY);
        let mut command = home.with_model(&flags);
        command.args(exact.then_some("--exact"));
        let said = chat(&mut command, &lines);
        // From the GPU's pages, or from memory if it was saved while the next line was read.
        let counts = said[0].split(" · ").filter(|part| part.contains(" reused from "));
        let reused: usize = counts.map(|part| part.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        assert!(said[0].starts_with(&format!("[{all} prompt tokens · ")), "{said:?}");
        assert_eq!(reused, first + decoded, "{said:?}");
        assert_eq!(said[0].contains("3 were written while decoding, which exact reuse leaves out"), exact, "{said:?}");
    }
}

/// Five turns of a chat, and a sixth in another process, on this machine and on another one. All KV is found except for what no
/// turn computed: the last token of the answer and what the template adds after it.
#[cfg(unix)]
#[test]
fn a_conversation_goes_on_in_another_process() {
    let redis = Redis::start(&[]);
    let (one, other) = (Home::new(TINY), Home::new(TINY));
    let url = redis.url();
    let shared = ["--kv-store", url.as_str(), "--cache-deadline", "60s"];
    let saved = one.path("saved.json");
    let mut command = one.with_model(&["chat", "-n", "20", "--logit-bias", "97=100"]);
    command.args(shared);
    let questions: String = (1..6).map(|turn| format!("And in chapter {turn}?\n")).collect();
    chat(&mut command, &format!("{questions}/save {}\n", saved.display()));
    let mut messages: Vec<Value> = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    assert_eq!(messages.len(), 11);
    let said: Vec<(&str, &str)> = messages[..10]
        .iter()
        .map(|message| (message["role"].as_str().unwrap(), message["content"].as_str().unwrap()))
        .collect();
    let computed = length(&said) + 19;
    messages.push(json!({ "role": "user", "content": "Who is left?" }));
    let asked = one.path("asked.json");
    std::fs::write(&asked, Value::from(messages).to_string()).unwrap();
    let ask = |home: &Home, flags: &[&str]| {
        let mut command = home.with_model(&["generate", "-n", "4", "--json", "--messages", str_of(&asked)]);
        json_of(command.args(flags))
    };
    let here = ask(&one, &[]);
    reused(&here, &[("disk", computed)]);
    let there = ask(&other, &shared);
    reused(&there, &[("remote", computed)]);
    same(&there, &here);
}

#[test]
fn memory_keeps_what_the_gpu_evicts() {
    let home = Home::new(TINY);
    let ask = |index: usize| format!("/clear\nQuestion number {index:02}, is it?\n");
    let mut lines: String = (0..64).map(ask).collect();
    lines += &(ask(0) + "/cache\n");
    let question = "Question number 00, is it?";
    let (all, known) = (length(&asked(question)), shared(&asked(question), &asked("Question number 01, is it?")));
    // Room for 128 pages; every question takes three of its own.
    let mut command = home.with_model(&["chat", "-n", "2", "--context", "128"]);
    let said = chat(&mut command, &lines);
    let gpu = known / BLOCK * BLOCK;
    let expected =
        format!("[{all} prompt tokens · {gpu} reused from the GPU · {} reused from memory · 0 computed]", all - gpu);
    assert_eq!(said, [expected]);
}
