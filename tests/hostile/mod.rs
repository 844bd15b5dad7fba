//! Tokenizers and chat templates made to crash the program: any file is read or refused, in bounded memory.
//!
//! Each test generates its cases from a seed and runs them in a second process with bounded memory. A crash is reported with
//! the case that was running. With `HEADSTART_FUZZ_SECONDS` it continues with new seeds for that long, with larger texts, and
//! keeps failing cases in tests/inputs/fuzz, which `make test` reads too.

mod regexes;
mod templates;
mod tokenizers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headstart::error::{Error, Result};
use headstart::text::{ChatTemplate, GgufVocab, Message, Specials, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::support::process;

/// One case.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Input {
    Template(String),
    Json {
        file: String,
        text: String,
    },
    Gguf {
        model: String,
        pre: Option<String>,
        tokens: Vec<String>,
        types: Vec<i32>,
        scores: Vec<u32>,
        merges: Vec<String>,
        text: String,
    },
}

/// A seeded random number generator: the same seed gives the same cases (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// Limits on the second process's memory: its address space, and the memory resident at its peak.
const SHELL: &str = "ulimit -v 6000000; exec timeout -s KILL 1200 \"$0\" --exact \"$1\"";
const MAX_RESIDENT: usize = 1 << 30;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inputs/fuzz")
}

/// Runs the cases that `cases` makes from a seed; `name` is the calling test's full name.
fn all(name: &str, cases: impl Fn(u64, usize) -> Vec<Input>) {
    let seconds = std::env::var("HEADSTART_FUZZ_SECONDS").map(|seconds| seconds.parse().expect("a number of seconds"));
    let length = if seconds.is_ok() { 200_000 } else { 20_000 };
    if let Some(folder) = process::child() {
        let seed = fs::read_to_string(folder.join("seed")).unwrap().parse().unwrap();
        let first = fs::read_to_string(folder.join("first")).unwrap().parse().unwrap();
        for (index, input) in cases(seed, length).into_iter().chain(stored()).enumerate().skip(first) {
            fs::write(folder.join("at"), index.to_string()).unwrap();
            fs::write(folder.join("input"), serde_json::to_vec(&input).unwrap()).unwrap();
            run(&input).unwrap_or_else(|problem| panic!("{problem}"));
        }
        fs::write(folder.join("done"), peak().to_string()).unwrap();
        return;
    }
    let ends = seconds.as_ref().ok().map(|&seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seed = 1;
    if ends.is_some() {
        seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    }
    let mut failures = Vec::new();
    loop {
        println!("{name}: seed {seed}");
        failures.extend(in_another_process(name, seed));
        seed = seed.wrapping_add(1);
        if ends.is_none_or(|ends| Instant::now() > ends) {
            break;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Every failure among a seed's cases; it resumes after a case that ends the process.
fn in_another_process(name: &str, seed: u64) -> Vec<String> {
    let (mut first, mut failures) = (0, Vec::new());
    loop {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("seed"), seed.to_string()).unwrap();
        fs::write(folder.path().join("first"), first.to_string()).unwrap();
        let status = process::again(name, folder.path(), SHELL).status().unwrap();
        if let Ok(resident) = fs::read_to_string(folder.path().join("done")) {
            assert!(status.success());
            let resident: usize = resident.parse().unwrap();
            println!("{name}: {} MB at most", resident >> 20);
            if resident > MAX_RESIDENT {
                failures.push(format!("{resident} bytes were resident"));
            }
            return failures;
        }
        let at: usize = fs::read_to_string(folder.path().join("at")).expect("a first case").parse().unwrap();
        let input = fs::read(folder.path().join("input")).unwrap();
        if std::env::var_os("HEADSTART_FUZZ_SECONDS").is_some() {
            fs::write(kept().join(format!("{}-{seed}-{at}.json", name.replace("::", "-"))), &input).unwrap();
        }
        let shown: String = String::from_utf8_lossy(&input).chars().take(300).collect();
        failures.push(format!("case {at} of seed {seed} ended with {status}: {shown}"));
        first = at + 1;
    }
}

/// Cases that failed before; none while searching for new ones.
fn stored() -> Vec<Input> {
    if std::env::var_os("HEADSTART_FUZZ_SECONDS").is_some() {
        return Vec::new();
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(kept()).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "json"));
    files.sort();
    files.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// The peak resident memory of this process, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Runs a case. It must succeed, or fail with an error that can be shown in a terminal.
fn run(input: &Input) -> Result<(), String> {
    let read = match input {
        Input::Template(source) => template(source),
        Input::Json { file, text } => {
            Tokenizer::from_json(file.as_bytes(), "tokenizer.json").and_then(|t| texts(&t, text))
        }
        Input::Gguf { model, pre, tokens, types, scores, merges, text } => Tokenizer::from_gguf(&GgufVocab {
            file: "a.gguf".into(),
            model: model.clone(),
            pre: pre.clone(),
            tokens: tokens.clone(),
            token_types: types.clone(),
            scores: scores.iter().map(|&bits| f32::from_bits(bits)).collect(),
            merges: merges.clone(),
            ..GgufVocab::default()
        })
        .and_then(|t| texts(&t, text)),
    };
    let Err(error) = read else { return Ok(()) };
    let message = error.to_string();
    let named = ["chat template", "tokenizer", "a.gguf"].iter().any(|name| message.contains(name));
    let shown = !message.chars().any(char::is_control) && message.chars().count() < 2000;
    if named && shown { Ok(()) } else { Err(format!("not an error that can be shown: {message:?}")) }
}

fn template(source: &str) -> Result<()> {
    let template = ChatTemplate::new(source, Specials::default())?;
    let turn = |role: &str, count: usize| Message::new(role, "hello <|im_end|> 'é' ".repeat(count));
    let messages = [turn("system", 1), turn("user", 40), turn("assistant", 3), turn("user", 2)];
    match template.render(&messages, None, true) {
        Ok(_) => Ok(()),
        Err(error @ Error::Template { .. }) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn texts(tokenizer: &Tokenizer, text: &str) -> Result<()> {
    let short = "Hello wörld 12 <|im_start|>▁\t\n 人 🎉";
    let results = [short, "", text].map(|text| {
        let ids = tokenizer.encode_text(text)?;
        tokenizer.decode(&ids, true);
        tokenizer.encode_with_offsets(text)?;
        Ok(())
    });
    results.into_iter().collect()
}
