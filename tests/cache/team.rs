//! A store that machines share, as `generate`, `chat` and programs use it.

use std::process::{Command, Stdio};

use headstart::store::Guard;
use headstart::{CacheOptions, Chat, SharedStore};
use serde_json::json;

use super::runs::{TINY, chat};
use super::{Home, SHIP, WHALE, asked, length, reused, same, tier};
use crate::cli::{json_of, refusal, stdout, str_of};
use crate::support::redis::Redis;

/// The one note about the prefix cache, which must come before the answer.
#[track_caller]
fn noted_before_the_answer(command: &mut Command) -> String {
    // Both streams go into one pipe, so that their order is seen.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = stdout(shell.stdin(Stdio::null()));
    let notes: Vec<usize> = told.match_indices("prefix cache: ").map(|(at, _)| at).collect();
    let [at] = notes[..] else { panic!("{} notes: {told}", notes.len()) };
    assert!(told[..at].lines().all(|line| line.starts_with('[') && !line.contains("TTFT")), "{told}");
    assert!(told[at..].contains("\n[TTFT"), "{told}");
    told[at..].lines().next().unwrap().to_owned()
}

/// The notes of a program's chat.
fn chat_notes(home: &Home, url: &str, secret: &str) -> Vec<String> {
    let guard = Guard::Secret { secret: secret.as_bytes().to_vec(), encrypt: true };
    let cache = CacheOptions {
        dir: Some(home.dir()),
        key: Some(home.path("kv.key")),
        shared: Some(SharedStore { url: url.to_owned(), guard }),
        ..CacheOptions::default()
    };
    Chat::builder(home.model.path()).cache(cache).open().unwrap().notes()
}

#[test]
fn machines_share_a_store() {
    let redis = Redis::start(&[]);
    let (one, other) = (Home::new(TINY), Home::new(TINY));
    let url = redis.url();
    let flags = ["--kv-store", url.as_str(), "--cache-deadline", "60s"];
    let first = json_of(one.generate(WHALE).args(flags));
    reused(&first, &[]);
    let second = json_of(other.generate(WHALE).env("HEADSTART_KV_STORE", &url).args(&flags[2..]));
    reused(&second, &[("remote", length(&asked(WHALE)))]);
    same(&second, &first);
    // Blocks loaded from the shared store are kept in the local directory.
    reused(&json_of(&mut other.generate(WHALE)), &[("disk", length(&asked(WHALE)))]);
    let third = Home::new(TINY);
    let all = length(&asked(WHALE));
    let mut command = third.with_model(&["chat", "-n", "1"]);
    command.args(flags);
    let line = format!("{WHALE}\n/cache\n");
    let shown = format!("[{all} prompt tokens · {all} reused from the shared store · 0 computed]");
    assert_eq!(chat(&mut command, &line), [shown]);
}

#[test]
fn a_store_that_cannot_be_reached_costs_no_answer() {
    let home = Home::new(TINY);
    // A port without a listener.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://:secret@127.0.0.1:{port}");
    let lost = json_of(home.generate(WHALE).args(["--kv-store", &url]));
    same(&lost, &home.cold(WHALE));
    let far = tier(&lost, "redis");
    assert!(far["problem"].as_str().is_some_and(|problem| !problem.contains("secret")), "{far}");
    let told = noted_before_the_answer(&mut home.with_model(&["generate", "-n", "1", "-p", SHIP, "--kv-store", &url]));
    assert!(told.contains("nothing listens there; start the server") && !told.contains("secret"), "{told}");
    let chat = chat_notes(&home, &url, "of all who share a store");
    assert!(chat.iter().any(|note| note.contains("nothing listens there")), "{chat:?}");
    let message = refusal(home.generate(WHALE).args(["--kv-store", "ftp://example.org"]));
    assert!(message.starts_with("ftp://example.org") && message.contains("redis://"), "{message}");
}

#[test]
fn a_store_is_shared_by_secret_and_without_one_only_if_asked() {
    let redis = Redis::start(&[]);
    let url = redis.url();
    let run = |secret: Option<&str>, flags: &[&str]| {
        let home = Home::new(TINY);
        let mut command = home.generate(WHALE);
        command.env_remove("HEADSTART_KV_SECRET").envs(secret.map(|secret| ("HEADSTART_KV_SECRET", secret)));
        command.args(["--kv-store", &url, "--cache-deadline", "60s"]).args(flags);
        (home, command)
    };
    let answer = |secret: Option<&str>, flags: &[&str]| {
        let (_home, mut command) = run(secret, flags);
        json_of(&mut command)
    };
    let refused = |secret: Option<&str>, flags: &[&str]| {
        let (_home, mut command) = run(secret, flags);
        refusal(&mut command)
    };
    let told = refused(None, &[]);
    for part in ["HEADSTART_KV_SECRET", "--kv-secret-file", "--kv-store-trust", "openssl rand -hex 32"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(refused(Some("too short"), &[]).contains("16 bytes"));
    assert_eq!(redis.size(), 0, "nothing was read or written");

    let all = length(&asked(WHALE));
    let first = answer(Some("a secret of many"), &["--kv-encrypt=false"]);
    reused(&first, &[]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a secret of many\n").unwrap();
    for found in [answer(Some("a secret of many"), &[]), answer(None, &["--kv-secret-file", str_of(secret.path())])] {
        reused(&found, &[("remote", all)]);
        same(&found, &first);
    }
    reused(&answer(Some("another of sixteen"), &[]), &[]);
    reused(&answer(None, &["--kv-store-trust"]), &[]);
    let home = Home::new(TINY);
    let system = home.file("system.json", &asked(WHALE)[..1]);
    let mut warm = home.with_model(&["prefix", "warm", str_of(&system), "--json"]);
    warm.env_remove("HEADSTART_KV_SECRET").args(["--kv-store", &url, "--cache-deadline", "60s", "--kv-store-trust"]);
    let warmed = json_of(&mut warm);
    let hidden = ["prefix", "warm", "--json", "--kv-store", &url, "--kv-encrypt", str_of(&system)];
    assert_eq!(
        json_of(&mut home.with_model(&hidden))["tokens"],
        warmed["tokens"],
        "the flag does not take the file for its value"
    );
    assert!(warmed["cache"]["sources"]["remote"].as_u64() > Some(0), "{warmed}");
    let (home, mut trusting) = run(None, &["--kv-store-trust"]);
    let trusting = json_of(&mut trusting);
    reused(&trusting, &[("remote", all)]);
    same(&trusting, &first);
    // KV that anybody may have stored, and KV computed after it, is not kept as this user's own.
    assert_eq!(home.ls()["prefixes"], json!([]));
    reused(&json_of(&mut home.generate(WHALE)), &[]);
}

#[test]
fn a_wrong_secret_is_noted_before_the_answer() {
    let redis = Redis::start(&[]);
    let url = redis.url();
    let home = Home::new(TINY);
    let run = |secret: &str, flags: &[&str]| {
        let mut command =
            home.with_model(&["generate", "-n", "2", "-p", WHALE, "--kv-store", &url, "--cache-deadline", "60s"]);
        command.args(flags).env("HEADSTART_KV_SECRET", secret);
        command
    };
    let first = run("a secret of many", &[]).output().unwrap();
    assert!(first.status.success() && !String::from_utf8_lossy(&first.stderr).contains("prefix cache: "), "{first:?}");
    let about = "holds what was kept under another secret, and nothing under this one";
    assert!(chat_notes(&home, &url, "a sekret of many").iter().any(|note| note.contains(about)));
    let told = noted_before_the_answer(&mut run("a sekret of many", &[]));
    assert!(told.contains(about) && told.contains("check that the secret"), "{told}");
    let found = json_of(&mut run("a secrat of many", &["--json"]));
    assert!(tier(&found, "redis")["problem"].as_str().is_some_and(|problem| problem.contains(about)), "{found}");
}

#[test]
fn a_redis_forgets_after_seven_days_or_when_the_flag_says() {
    let redis = Redis::start(&[]);
    let url = redis.url();
    for (flags, seconds) in
        [(&[][..], 7 * 86_400), (&["--cache-ttl", "1h"], 3_600), (&["--cache-ttl", "30days"], 30 * 86_400)]
    {
        redis.text(&["FLUSHALL"]);
        json_of(Home::new(TINY).generate(WHALE).args(["--kv-store", &url, "--cache-deadline", "60s"]).args(flags));
        let names = redis.names();
        assert!(names.len() > 3, "{flags:?}");
        for name in names {
            let left = String::from_utf8(redis.ask(&[b"TTL", &name])).unwrap();
            let left: i64 = left.trim_start_matches(':').parse().unwrap();
            assert!((seconds - 1_200..=seconds).contains(&left), "{flags:?}: {left}");
        }
    }
    let help = stdout(&mut crate::cli::headstart(&["generate", "--help"]));
    assert!(help.contains("[default: never, and 7days in a Redis]"), "{help}");
}

#[test]
fn the_help_of_ls_tells_that_a_shared_store_is_not_listed() {
    let help = stdout(&mut crate::cli::headstart(&["prefix", "ls", "--help"]));
    assert!(help.contains("directory of this machine") && help.contains("--kv-store"), "{help}");
}
