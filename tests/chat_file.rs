//! `headstart chat FILE`: a conversation that is kept in a file loses nothing, whatever happens to the chat or to the file.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat_command::{Tiny, messages, roles};
use crate::cli::{headstart, str_of};
#[cfg(unix)]
use crate::support::give_away;

/// A limit that even a busy machine keeps.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until the file holds this many messages.
#[track_caller]
fn wait_for(path: &Path, count: usize) {
    let until = Instant::now() + PATIENCE;
    let held =
        || serde_json::from_slice::<Vec<Value>>(&fs::read(path).unwrap_or_default()).map_or(0, |held| held.len());
    while held() < count {
        assert!(Instant::now() < until, "{}: {} messages", path.display(), held());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_conversation_continues_from_its_file() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let chat = |flags: &[&str], said: &str| {
        let output = tiny.chat(&[flags, &[str_of(&path)]].concat(), said);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(chat(&["--system", "Be brief."], "").0 && !path.exists(), "nothing was said");
    assert!(chat(&["--system", "Be brief."], "Hello\n").0);
    let first = messages(&path);
    assert_eq!(roles(&first), ["system", "user", "assistant"]);
    let (_, told) = chat(&["--system", "Be kind."], "And again\n");
    let second = messages(&path);
    assert_eq!(second[1..3], first[1..]);
    assert_eq!((second.len(), second[0].1.as_str(), second[3].1.as_str()), (5, "Be kind.", "And again"), "{told}");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777, 0o600);
    // The first three messages are the prefix that the run before has kept.
    let (_, told) = chat(&[], "Hello\n/retry\n/clear\n/system\n");
    assert!(told.lines().next().is_some_and(|line| !line.contains("(0 cached)")), "{told}");
    let aside = tiny.home.path().join("trip-2.json");
    assert!(told.contains(&format!("the conversation so far is kept in {}", aside.display())), "{told}");
    assert_eq!((messages(&aside)[..5].to_vec(), messages(&aside).len(), path.exists()), (second, 7, false));
    assert!(chat(&[], "Hello\n").0);
    assert_eq!(roles(&messages(&path)), ["user", "assistant"]);
}

#[test]
fn an_open_question_of_the_file_is_answered_first() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("open.json");
    std::fs::write(&path, json!([{"role": "user", "content": "Hello"}]).to_string()).unwrap();
    let answered = || {
        let output = tiny.chat(&[str_of(&path)], "");
        assert!(output.status.success(), "{output:?}");
        messages(&path)
    };
    let first = answered();
    assert_eq!(roles(&first), ["user", "assistant"]);
    assert_eq!(answered(), first, "nothing is open any more");
}

#[test]
fn a_file_in_a_missing_folder_is_refused_before_the_model_is_loaded() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("none");
    let output = headstart(&["chat", "--model", "./none.gguf"]).arg(folder.join("trip.json")).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && told.starts_with(&format!("error: {}: no such folder", folder.display())),
        "{told}"
    );
}

#[test]
fn a_question_is_not_taken_for_the_name_of_a_new_file() {
    let home = tempfile::tempdir().unwrap();
    let mut command = headstart(&["chat", "--model", "./none.gguf", "Why is the sky blue?"]);
    let output = command.current_dir(home.path()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.starts_with("error: Why is the sky blue?: "), "{told}");
    assert!(told.contains("ends in .json") && told.contains("headstart generate"), "{told}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_another_program_changed_stays_as_it_is() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let mut command = tiny.command(&[str_of(&path)]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.as_mut().unwrap().write_all(b"Hello\n").unwrap();
    wait_for(&path, 2);
    let edited = json!([{"role": "user", "content": "Edited by hand"}]).to_string();
    fs::write(&path, &edited).unwrap();
    chat.stdin.take().unwrap().write_all(b"And again\n").unwrap();
    let told = String::from_utf8(chat.wait_with_output().unwrap().stderr).unwrap();
    let beside = tiny.home.path().join("trip-2.json");
    assert!(told.contains(&format!("this chat is kept in {}", beside.display())), "{told}");
    assert_eq!((fs::read_to_string(&path).unwrap(), roles(&messages(&beside)).len()), (edited, 4));
}

#[test]
fn a_question_is_kept_before_it_is_answered() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let mut command = tiny.command(&[str_of(&path)]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stdin = chat.stdin.as_mut().unwrap();
    stdin.write_all(b"/set max_tokens 100000\n/set logit_bias 2=-100\nHello\n").unwrap();
    wait_for(&path, 1);
    chat.kill().unwrap();
    chat.wait().unwrap();
    assert_eq!(roles(&messages(&path)), ["user"]);
    assert!(tiny.chat(&[str_of(&path)], "").status.success());
    assert_eq!(roles(&messages(&path)), ["user", "assistant"]);

    // The reader of the answer goes away.
    let path = tiny.home.path().join("closed.json");
    let mut command = tiny.command(&[str_of(&path)]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(chat.stdout.take());
    chat.stdin.take().unwrap().write_all(b"Hello\n").unwrap();
    chat.wait().unwrap();
    assert_eq!(messages(&path), [("user".into(), "Hello".into())]);

    // A question that no run could answer is not kept.
    let path = tiny.home.path().join("refused.json");
    let output = tiny.chat(&["--context", "64", str_of(&path)], "Hello ".repeat(100));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the context holds") && !path.exists(), "{told}");
}

#[test]
fn a_system_text_that_was_typed_is_kept_without_a_turn() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let chat = |flags: &[&str], said: &str| {
        let output = tiny.chat(&[flags, &[str_of(&path)]].concat(), said);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = [
        (&[][..], "/system Be brief.\n", "Be brief."),
        (&[], "Hello\n/clear\n", "Be brief."),
        (&[], "/set system Be kind.\n", "Be kind."),
        (&[], "Hello\n/system Be odd.\n", "Be odd."),
        (&["--system", "Be long."], "/set system Be long.\n", "Be long."),
    ];
    for (flags, said, kept) in said {
        chat(flags, said);
        assert_eq!(messages(&path), [("system".into(), kept.into())], "{said}");
        assert!(chat(&[], "/show system\n").ends_with(&format!("  {kept}\n")), "{said}");
    }
    chat(&[], "/system\n");
    let mut left: Vec<_> = fs::read_dir(tiny.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["trip-2.json", "trip-3.json"]);
}

#[cfg(unix)]
#[test]
fn save_replaces_conversations_alone_and_knows_the_file_of_the_chat() {
    use std::os::unix::fs::FileTypeExt;
    let tiny = Tiny::new();
    let at = |name: &str| tiny.home.path().join(name);
    let others: [(&str, &[u8]); 3] =
        [("diary.txt", b"Dear diary"), ("tiny.gguf", b"GGUF\x03"), ("program", b"\x7fELF\xff")];
    let old = json!([{"role": "user", "content": "Old"}]).to_string();
    for (name, content) in others.iter().chain(&[("empty.json", &b""[..]), ("old.json", old.as_bytes())]) {
        fs::write(at(name), content).unwrap();
    }
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let names = ["diary.txt", "tiny.gguf", "program", "fifo", "empty.json", "old.json", "./trip.json"];
    let saves: String = names.map(|name| format!("/save {}\n", at(name).display())).concat();
    // The first is written before the chat has begun its file.
    let said = format!("/save {}\nHello\n{saves}And again\n", at("trip.json").display());
    let output = tiny.chat(&[str_of(&at("trip.json"))], said);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.ends_with("error: chat: 4 commands were refused, see above\n"), "{told}");
    for (name, content) in others {
        assert_eq!(fs::read(at(name)).unwrap(), content);
        let refusal =
            format!("{} is no conversation of a chat and stays as it is; name another file", at(name).display());
        assert!(told.contains(&refusal), "{told}");
    }
    assert!(fs::symlink_metadata(at("fifo")).unwrap().file_type().is_fifo());
    assert!(told.contains(&format!("error: {}: this is no file that could", at("fifo").display())), "{told}");
    assert!(told.contains("empty.json\n") && told.contains("old.json, in place of what it held\n"), "{told}");
    for (name, count) in [("empty.json", 2), ("old.json", 2), ("trip.json", 4)] {
        assert_eq!(messages(&at(name)).len(), count, "{name}");
    }
    assert!(!at("trip-2.json").exists(), "{told}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_retry_keeps_the_former_answer() {
    let tiny = Tiny::new();
    let [path, saved] = ["trip.json", "saved.json"].map(|name| tiny.home.path().join(name));
    // Answers do not end by themselves.
    let mut command = tiny.command(&["--logit-bias", "2=-100", str_of(&path)]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = format!("Hello\n/save {}\n/set max_tokens 450\n/retry\n", saved.display());
    chat.stdin.as_mut().unwrap().write_all(said.as_bytes()).unwrap();
    let mut out = BufReader::new(chat.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("max_tokens") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "no setting was shown");
    }
    // The new answer has begun.
    out.read_exact(&mut [0]).unwrap();
    assert!(Command::new("kill").args(["-INT", &chat.id().to_string()]).status().unwrap().success());
    drop(chat.stdin.take());
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let output = chat.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("[the former answer is kept]"), "{told}");
    assert_eq!(messages(&path), messages(&saved));
}

/// SIGTERM and SIGHUP keep what was answered until then, and end the program as they usually do.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_ends_a_chat_keeps_the_partial_answer() {
    use std::os::unix::process::ExitStatusExt;
    let tiny = Tiny::new();
    // The first is ignored, as under `nohup`.
    for (ignored, signals, number) in [("TERM", &["-HUP"][..], 1), ("HUP", &["-HUP", "-TERM"], 15)] {
        let path = tiny.home.path().join(format!("{number}.json"));
        let chat = tiny.command(&["--logit-bias", "2=-100", str_of(&path)]);
        let mut command = Command::new("env");
        command.arg(format!("--ignore-signal={ignored}")).arg(chat.get_program()).args(chat.get_args());
        command.envs(chat.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        chat.stdin.as_mut().unwrap().write_all(b"/set max_tokens 450\nHello\n").unwrap();
        let mut out = BufReader::new(chat.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        // The answer has begun.
        out.read_exact(&mut [0]).unwrap();
        for signal in signals {
            assert!(Command::new("kill").args([*signal, &chat.id().to_string()]).status().unwrap().success());
        }
        std::io::copy(&mut out, &mut std::io::sink()).unwrap();
        let status = chat.wait().unwrap();
        assert_eq!(status.signal(), Some(number), "{status}");
        let kept = messages(&path);
        assert_eq!(roles(&kept), ["user", "assistant"]);
        assert!(!kept[1].1.is_empty() && kept[1].1.chars().count() < 450, "{kept:?}");
    }
}

#[test]
fn a_chat_in_which_nothing_is_said_changes_no_file() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let kept = json!([
        {"role": "system", "content": "A long text."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."}
    ]);
    fs::write(&path, kept.to_string()).unwrap();
    for said in ["", "/show\n/bye\n"] {
        let output = tiny.chat(&["--system", "Be brief.", str_of(&path)], said);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("--system takes the place of the conversation's system text"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), kept.to_string());
    }
    // An empty file is a conversation that has not begun, and so is an object without messages.
    for empty in ["", "\n", "[]", "{\"messages\": []}"] {
        fs::write(&path, empty).unwrap();
        assert!(tiny.chat(&[str_of(&path)], "").status.success());
        assert_eq!(fs::read_to_string(&path).unwrap(), empty);
    }
    assert!(tiny.chat(&[str_of(&path)], "Hello\n").status.success());
    assert_eq!(roles(&messages(&path)), ["user", "assistant"]);
}

#[test]
fn what_a_chat_cannot_keep_is_refused_by_its_field() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let message = |message: Value| json!([message]).to_string();
    let named = json!([{"role": "user", "content": "Hello", "name": "Ada"}]);
    let cases = [
        (named.to_string(), "messages[0].name: a chat keeps roles and texts alone; remove the field"),
        (
            message(json!({"role": "user", "content": [{"type": "text", "text": "Hello"}]})),
            "messages[0].content: a chat keeps roles and texts alone; write it as one string",
        ),
        (
            json!({"role": "user", "content": "Hello"}).to_string(),
            "chat FILE: is not a list of messages; write it as [{",
        ),
        (message(json!({"role": "robot", "content": "Hello"})), "messages[0].role: \"robot\" is not known"),
        (
            r#"[{"role": "user", "role": "system", "content": "Hello"}]"#.into(),
            "messages[0].role: stands twice in one object, the second time at line 1; keep one of the two",
        ),
        (message(json!({"role": "system ", "content": "Hello"})), "messages[0].role: \"system \" is not known"),
        (json!({"messages": named, "model": "tiny"}).to_string(), "model: a chat keeps roles and texts alone; remove"),
        ("[{".into(), "line 1 column 2: no JSON: "),
        ("GGUF\u{3}".into(), "chat FILE: is a model, not a conversation; name the model with --model (-m)"),
    ];
    for (content, place) in cases {
        fs::write(&path, &content).unwrap();
        // Nothing is typed: the chat ends before it would read it.
        let output = tiny.chat(&[str_of(&path)], "");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.starts_with(&format!("error: {}: {place}", path.display())), "{told}");
        assert!(!told.contains("prefix explain"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let object = json!({"messages": [{"role": "user", "content": "Hello"}]});
    fs::write(&path, object.to_string()).unwrap();
    assert!(tiny.chat(&[str_of(&path)], "").status.success());
    assert_eq!(roles(&messages(&path)), ["user", "assistant"]);
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay_and_what_cannot_be_written_is_refused_at_once() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let tiny = Tiny::new();
    let at = |name: &str| tiny.home.path().join(name);
    let owner = |name: &str| at(name).metadata().map(|metadata| (metadata.uid(), metadata.gid())).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let mut given = None;
    symlink("target.json", at("link.json")).unwrap();
    for _ in 0..2 {
        assert!(tiny.chat(&[str_of(&at("link.json"))], "Hello\n").status.success());
        assert!(at("link.json").is_symlink() && !at("target.json").is_symlink());
        if roles(&messages(&at("target.json"))).len() == 2 {
            fs::set_permissions(at("target.json"), fs::Permissions::from_mode(0o664)).unwrap();
            give_away(&at("target.json"));
            given = Some(owner("target.json"));
        }
    }
    assert_eq!(given, Some(owner("target.json")));
    assert_eq!((roles(&messages(&at("target.json"))).len(), mode(&at("target.json"))), (4, 0o664));

    fs::set_permissions(at("target.json"), fs::Permissions::from_mode(0o444)).unwrap();
    for (path, problem) in [(at("target.json"), "the file is read-only"), (tiny.home.path().into(), "")] {
        let output = headstart(&["chat", "--model", "./none.gguf"]).arg(&path).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with(&format!("error: {}: {problem}", path.display())), "{told}");
    }
}

#[test]
fn a_conversation_that_cannot_be_kept_is_not_lost_silently() {
    let tiny = Tiny::new();
    let folder = tiny.home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("trip.json");
    let saved = tiny.home.path().join("saved file.json");
    for (said, is_kept) in [("", false), (&*format!("/save \"{}\"\n", saved.display()), true)] {
        let mut command = tiny.command(&[str_of(&path)]);
        let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = chat.stdin.take().unwrap();
        stdin.write_all(b"Hello\n").unwrap();
        wait_for(&path, 2);
        fs::remove_dir_all(&folder).unwrap();
        stdin.write_all(format!("/set system Be brief.\n{said}/bye\n").as_bytes()).unwrap();
        drop(stdin);
        let output = chat.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), is_kept, "{told}");
        assert!(told.contains(&format!("error: {}: no such folder", folder.display())), "{told}");
        fs::create_dir(&folder).unwrap();
    }
    assert_eq!(roles(&messages(&saved)), ["system", "user", "assistant"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_write_names_the_file_of_the_conversation() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let chat = tiny.command(&[str_of(&path)]);
    // The limit on the size of files stands for a full disk.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(chat.get_program()).args(chat.get_args());
    limited.envs(chat.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut chat = limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = chat.stdin.take().unwrap();
    stdin.write_all(b"/show system\n").unwrap();
    BufReader::new(chat.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let limit = ["--pid", &chat.id().to_string(), "--fsize=0"];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    stdin.write_all(b"/system Be brief.\n").unwrap();
    drop(stdin);
    let output = chat.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("error: {}: File too large\n", path.display())), "{told}");
    assert!(!output.status.success() && fs::read_dir(tiny.home.path()).unwrap().count() == 0, "{told}");
}
