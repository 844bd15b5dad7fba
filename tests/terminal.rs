//! The chat at a terminal: typing during an answer, keys that stop and end, pasted text, whole words, and a terminal that is
//! left as it was found.

use std::os::unix::process::ExitStatusExt;

use crate::chat_command::messages;
use crate::cli::{headstart, str_of};
use crate::support::pty::{Pty, rows};
use crate::support::{model_path, tiny_chat};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_U: &str = "\x15";
const CTRL_Z: &str = "\x1a";

#[test]
fn typing_during_an_answer_stays_separate_from_it() {
    let home = tempfile::tempdir().unwrap();
    let saved = home.path().join("saved.json");
    // Under a shell with job control, and with answers too long to end by themselves.
    let mut command = headstart(&[]);
    command.env("PS1", "shell> ").env("HOME", home.path()).env_remove("ENV");
    let chat =
        format!("{} chat -m {} -n 4000 --logit-bias 2=-100\n", env!("CARGO_BIN_EXE_headstart"), str_of(&model_path()));
    let mut shell = std::process::Command::new("sh");
    shell.arg("-i");
    command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
        .for_each(|(name, value)| _ = shell.env(name, value));
    let mut pty = Pty::start(&shell, 100);
    pty.wait_for("shell> ");
    let found = pty.modes();
    pty.types(&chat);
    pty.wait_for("/help shows the commands");
    pty.wait_for("> ");

    // Stopped before its first token, so the turn is dropped.
    let long = "Count from one to a thousand. ".repeat(150);
    pty.types(format!("\x1b[200~{long}\x1b[201~\r"));
    pty.wait_for("reading ");
    pty.types(CTRL_C);
    let ended = pty.wait_for("[stopped before the first token");
    assert!(!ended.contains("TTFT"), "{ended}");
    pty.wait_for("> ");
    pty.types(format!("/save {}\r", str_of(&saved)));
    pty.wait_for("0 messages written");
    pty.wait_for("> ");

    pty.types("Count from one to a thousand.\r");
    pty.wait_for("\n");
    pty.wait_until_cooked(false);
    // The typed text must not reach the shell.
    pty.types("echo no command of the shell\r");
    pty.wait_for(" ");
    pty.types(CTRL_Z);
    let answer = pty.wait_for("shell> ");
    assert!(!answer.contains("echo"), "{answer}");
    assert_eq!(pty.modes(), found);
    pty.types("fg\n");
    pty.wait_for("chat");
    pty.wait_until_cooked(false);
    pty.types("typed meanwhile");
    pty.wait_for(" ");
    pty.types(CTRL_C);
    let answer = pty.wait_for("[stopped]");
    assert!(!answer.contains("typed"), "{answer}");
    pty.wait_for("typed meanwhile");
    // The text of a stopped answer stays in the conversation.
    pty.types(format!("{CTRL_U}/save {}\r", str_of(&saved)));
    pty.wait_for("2 messages written");
    let said = messages(&saved);
    assert!(said[0].1 == "Count from one to a thousand." && !said[1].1.trim().is_empty(), "{said:?}");
    pty.wait_for("> ");
    pty.types("half a line");
    pty.wait_for("half a line");

    // Ctrl-Z at the prompt too: the typed text is there again afterwards.
    pty.types(CTRL_Z);
    pty.wait_for("shell> ");
    assert_eq!(pty.modes(), found);
    pty.types("fg\n");
    pty.wait_for("half a line");
    pty.types(CTRL_C);
    pty.wait_for("> ");
    pty.types(CTRL_C);
    pty.wait_for("Ctrl-C again, Ctrl-D or /bye leaves.");
    pty.types(CTRL_C);
    pty.wait_for("shell> ");
    assert_eq!(pty.modes(), found);
    pty.types("exit\n");
    pty.end();
}

/// A chat with a tiny model at a terminal with 80 columns.
fn chat(model: &tempfile::TempDir) -> Pty {
    let mut command = headstart(&["chat", "-n", "2", "--model"]);
    Pty::start(command.arg(model.path()), 80)
}

#[test]
fn the_terminal_is_restored_however_a_chat_ends() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let found = {
        let mut idle = std::process::Command::new("sleep");
        let pty = Pty::start(idle.arg("1000"), 80);
        pty.modes()
    };
    for signal in ["-TERM", "-HUP", "-QUIT"] {
        // While the model loads, or at the prompt.
        for prompt in [false, true] {
            let mut pty = chat(&model);
            pty.wait_until_cooked(false);
            if prompt {
                pty.wait_for("Ctrl-D leaves");
                pty.wait_for("> ");
            }
            pty.signal(signal);
            let status = pty.end();
            let number = match signal {
                "-TERM" => 15,
                "-HUP" => 1,
                _ => 3,
            };
            assert_eq!(
                (status.signal(), pty.modes() == found),
                (Some(number), true),
                "{signal} {prompt}: {}",
                pty.shown()
            );
            // Bracketed paste is switched off.
            pty.wait_for("\x1b[?2004l");
            let shown = pty.shown();
            assert!(shown.rfind("\x1b[?2004h") < shown.rfind("\x1b[?2004l"), "{shown:?}");
        }
    }
    let mut pty = chat(&model);
    pty.wait_until_cooked(false);
    pty.types(CTRL_C);
    let status = pty.end();
    assert!(status.code() == Some(130) || pty.shown().contains("Ctrl-C again"), "{status}: {}", pty.shown());
    assert_eq!(pty.modes(), found);
    let mut pty = chat(&model);
    pty.wait_for("Ctrl-D leaves");
    pty.types(CTRL_D);
    assert_eq!((pty.end().code(), pty.modes() == found), (Some(0), true));
}

#[test]
fn a_terminal_that_is_closed_during_an_answer_keeps_what_was_answered() {
    let (model, home) = (tiny_chat::folder("tiny-odd-f16"), tempfile::tempdir().unwrap());
    let path = home.path().join("trip.json");
    let mut command = headstart(&["chat", "-n", "450", "--logit-bias", "2=-100", str_of(&path), "--model"]);
    let mut pty = Pty::start(command.arg(model.path()), 80);
    pty.wait_for("> ");
    pty.types("Hello there\r");
    pty.wait_for("\n");
    pty.wait_until_cooked(false);
    pty.wait_for("\n");
    // Shells send a second one.
    pty.signal("-HUP");
    pty.signal("-HUP");
    assert_eq!(pty.end().signal(), Some(1), "{}", pty.shown());
    pty.wait_until_cooked(true);
    let kept = messages(&path);
    assert!(kept.len() == 2 && !kept[1].1.is_empty() && kept[1].1.chars().count() < 450, "{kept:?}");
}

#[test]
fn bytes_that_are_no_text_do_not_end_a_chat() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let mut pty = chat(&model);
    pty.wait_for("> ");
    pty.types(b"caf\xe9\r");
    pty.wait_for("is not UTF-8");
    pty.types(CTRL_U);
    pty.types("/bye\r");
    assert_eq!(pty.end().code(), Some(0));
}

#[test]
fn text_typed_ahead_or_pasted_is_kept_unchanged() {
    let (model, home) = (tiny_chat::folder("tiny-odd-f16"), tempfile::tempdir().unwrap());
    let saved = home.path().join("saved.json");
    let mut pty = chat(&model);
    // While the model loads.
    pty.wait_until_cooked(false);
    pty.types("one\rtwo\r\x1b[200~three\r/four\x1b[201~\r");
    pty.types(format!("dropped{CTRL_U}/save {}\r", str_of(&saved)));
    let loaded = pty.wait_for("6 messages written");
    assert!(loaded.contains("] 0/") && loaded.contains(" shaders "), "{loaded}");
    pty.types("drop this");
    pty.wait_for("drop this");
    pty.types(CTRL_C);
    pty.wait_for("> ");
    pty.types("/bye\r");
    assert_eq!(pty.end().code(), Some(0), "{}", pty.shown());
    assert!(!pty.shown().contains("Ctrl-C again"), "{}", pty.shown());
    let said = messages(&saved);
    let users: Vec<&str> =
        said.iter().filter(|(role, _)| role == "user").map(|(_, content)| content.as_str()).collect();
    assert_eq!(users, ["one", "two", "three\n/four"]);
}

#[test]
fn what_is_told_on_the_way_stands_above_a_bar() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let mut command = headstart(&["generate", "-vvv", "-p", "Hello", "-n", "1", "--no-cache", "--model"]);
    let mut pty = Pty::start(command.arg(model.path()), 200);
    pty.wait_for("[TTFT");
    assert_eq!(pty.end().code(), Some(0));
    let shown = pty.shown();
    assert!(shown.contains("loading  [") && shown.contains("compiling ["), "{shown}");
    let told: Vec<_> = shown.match_indices(" DEBUG ").filter_map(|(at, _)| shown[..at].rfind('[')).collect();
    assert!(told.len() > 20, "{shown}");
    for at in told {
        let before = &shown[..at];
        // The line was begun, or what stood in it was cleared.
        let line = before.rsplit('\n').next().unwrap_or_default();
        assert!(line.is_empty() || line.ends_with(['\r', 'K', 'J']), "{line:?} stands before {:?}", &shown[at..]);
    }
}

#[test]
fn a_bench_shows_what_it_runs_on_and_how_far_it_is() {
    let model = tiny_chat::folder("tiny-odd-f16");
    let flags =
        ["bench", "--prefill", "400", "--depth", "64", "--decode", "4", "--runs", "1", "--shared", "--kv", "q8"];
    let mut pty = Pty::start(headstart(&flags).arg("--model").arg(model.path()), 120);
    pty.wait_for("--shared has no effect on one answer at a time; --batch 4");
    pty.wait_for(", prompts in f32, KV in q8\r\n");
    // Two runs of 400 tokens, and two of 68; some of the first are done before it ends.
    pty.wait_for("/936 tokens");
    pty.wait_for(" tok/s");
    assert_eq!(pty.end().code(), Some(0), "{}", pty.shown());
}

#[test]
fn words_are_not_cut_at_line_ends() {
    const COLUMNS: u16 = 30;
    let words =
        [" the", " lighthouse", " keeper", "'s", " a", " and,", "\n\n", " 世界", "、", "语言", " extraordinarily"];
    let model = tiny_chat::folder("tiny-odd-f16");
    tiny_chat::add_words(model.path(), &words);
    let generate = || {
        let mut command =
            headstart(&["generate", "-p", "Hello", "-n", "250", "--seed", "1", "--temperature", "1.5", "--model"]);
        command.arg(model.path());
        for index in 0..words.len() {
            command.arg("--logit-bias").arg(format!("{}=50", tiny_chat::WORDS + index));
        }
        command
    };
    let output = generate().output().unwrap();
    let piped = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && piped.split_whitespace().count() > 60, "{piped}");
    let mut pty = Pty::start(&generate(), COLUMNS);
    pty.wait_for("[TTFT");
    pty.end();
    let rows = rows(answer(&pty.shown()));
    assert!(rows.iter().all(|row| row.chars().count() < usize::from(COLUMNS)), "{rows:?}");
    assert!(rows.len() > piped.lines().count() + 10, "{rows:?}");
    // The text is the same, and rows end only where a line may break: their words are the text's.
    let squeezed = |text: &str| text.split_whitespace().collect::<String>().replace('\0', "");
    assert_eq!(squeezed(&rows.join(" ")), squeezed(&piped));
    let narrow = |text: &str| -> Vec<String> {
        let latin: String = text.chars().map(|c| if c.is_ascii() && c != '\0' { c } else { ' ' }).collect();
        latin.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(narrow(&rows.join("\n")), narrow(&piped));
    // A punctuation mark begins a row only if it begins a line of the text.
    let marked = rows.iter().filter(|row| row.starts_with('、')).count();
    assert_eq!(marked, piped.lines().filter(|line| line.starts_with('、')).count(), "{rows:?}");
}

#[test]
fn code_is_left_to_the_terminal() {
    const LINE: &str = " lighthouse lighthouse lighthouse";
    let words = ["\n```\n", &format!("{LINE}\n")];
    let model = tiny_chat::folder("tiny-odd-f16");
    tiny_chat::add_words(model.path(), &words);
    let flags = ["generate", "Hello", "-n", "60", "--seed", "3", "--temperature", "2", "--stop", "never", "--model"];
    let mut command = headstart(&flags);
    command.arg(model.path());
    for index in 0..words.len() {
        command.arg("--logit-bias").arg(format!("{}=50", tiny_chat::WORDS + index));
    }
    let piped = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (mut fenced, mut lines) = (false, [0, 0]);
    for line in piped.lines() {
        fenced ^= line.starts_with("```");
        lines[usize::from(fenced)] += usize::from(line == LINE);
    }
    assert!(lines[0] > 0 && lines[1] > 0, "{piped}");
    let mut pty = Pty::start(&command, 30);
    pty.wait_for("[TTFT");
    pty.end();
    assert_eq!(rows(answer(&pty.shown())).iter().filter(|row| *row == LINE).count(), lines[1], "{:?}", pty.shown());
}

/// The output between the last progress bar and the last note.
fn answer(shown: &str) -> &str {
    shown[..shown.rfind("\x1b[2m").unwrap()].rsplit("\x1b[2K").next().unwrap()
}
