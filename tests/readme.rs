//! Checks the README: its commands run and print the output that it shows.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::cli::headstart;
use crate::support::model_path;

const README: &str = include_str!("../README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Fenced blocks: the language of each, and its text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let fenced = README.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a block has a first line")).collect()
}

/// The text between single backticks outside fenced blocks.
fn inline() -> impl Iterator<Item = &'static str> {
    README.split("\n```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2))
}

/// The output without measured times.
fn untimed(text: &str) -> String {
    let mut parts = text.split(", which saves ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(" here").expect("a time ends so").1)
}

#[test]
fn its_commands_run_and_print_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (home, bin) = (folder.path().join("home"), folder.path().join("bin"));
    let models = home.join("headstart/models");
    [&models, &bin].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    let link = |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to).unwrap();
    link(&model_path(), &models.join("SmolLM2-135M-Instruct.Q4_1.gguf"));
    link(Path::new(env!("CARGO_BIN_EXE_headstart")), &bin.join("headstart"));
    link(&Path::new(ROOT).join("examples"), &folder.path().join("examples"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shown = blocks().into_iter().filter(|block| block.0 == "text").map(|block| block.1.trim_start());
    let mut run = 0;
    for line in blocks().into_iter().filter(|block| block.0 == "sh").flat_map(|block| block.1.lines()) {
        let command = line.split("  #").next().unwrap_or_default();
        if !command.contains("headstart") {
            continue;
        }
        // The model and the cache directories are set as in the other tests of the program.
        let mut shell = Command::new("sh");
        let environment = headstart(&[]);
        shell.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.args(["-ec", command]).current_dir(folder.path()).env("PATH", &path).env("XDG_DATA_HOME", &home);
        // An address without a listener, since nothing needs to be downloaded.
        shell.env("HF_ENDPOINT", "http://127.0.0.1:9").stdin(std::process::Stdio::null());
        let output = shell.output().unwrap();
        let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{command}: {said}");
        if command.contains("prefix explain") {
            let shown = shown.next().expect("its output is shown");
            assert_eq!(untimed(&out).trim_end(), untimed(shown).trim_end(), "{command}");
        }
        run += 1;
    }
    assert!(run >= 5, "{run} commands were found");
    assert_eq!(shown.next(), None, "an output without its command");
}

#[test]
fn the_flags_that_it_names_exist() {
    let commands: BTreeSet<&str> = inline().filter(|text| text.starts_with("headstart ")).collect();
    assert!(commands.len() >= 3, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = headstart(&words).arg("--help").output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_targets_and_scripts_that_it_names_exist() {
    let makefile = std::fs::read_to_string(Path::new(ROOT).join("Makefile")).unwrap();
    let lines = blocks().into_iter().filter(|block| block.0 == "sh").flat_map(|block| block.1.lines());
    let mut named = 0;
    for text in inline().chain(lines) {
        let mut words = text.split_whitespace();
        match words.next() {
            Some("make") => {
                let target = words.next().unwrap_or("help");
                assert!(makefile.contains(&format!("\n{target}:")), "{text}");
            }
            Some(script) if script.starts_with("scripts/") => assert!(Path::new(ROOT).join(script).exists(), "{text}"),
            _ => continue,
        }
        named += 1;
    }
    assert!(named >= 5, "{named} were found");
}
