//! `headstart chat` where a conversation fills the context: it goes on without its oldest turns, and none of them is lost.

use std::path::Path;

use serde_json::json;

use crate::chat_command::{Tiny, messages, roles};
use crate::cli::str_of;
use crate::support::pty::Pty;

/// Room for a system text and four turns: every byte is a token. Answers are `aa`.
const SMALL: [&str; 6] = ["--context", "128", "--logit-bias", "97=100", "--system", "Be."];
const SYSTEM: usize = 13;
const TURN: usize = 28;
/// A question, and the beginning of its answer.
const QUESTION: usize = 24;

fn questions(path: &Path) -> Vec<String> {
    messages(path).into_iter().filter(|(role, _)| role == "user").map(|(_, text)| text).collect()
}

#[test]
fn a_full_chat_in_a_pipe_goes_on_without_its_oldest_turns() {
    let tiny = Tiny::new();
    let at = |name: &str| tiny.home.path().join(name);
    let path = at("trip.json");
    let chat = |said: &str| {
        let output = tiny.chat(&[&SMALL[..], &[str_of(&path)]].concat(), said);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(chat("Ask 1\nAsk 2\nAsk 3\nAsk 4\n").0);
    let whole = messages(&path);
    let (is_answered, told) = chat("Ask 5\n");
    let tokens = SYSTEM + 4 * TURN + QUESTION;
    let problem = format!(
        "error: prompt: too long to ask: the context holds 128 tokens, the answer included, and this prompt has {tokens}, {} too \
         many; a line /drop before it drops the oldest turns; a chat that begins with --context 512 holds more\n",
        tokens - 127
    );
    assert!(!is_answered && told == problem, "{told}");
    assert_eq!(messages(&path), whole);

    let (is_answered, told) = chat("/drop\nAsk 5\n");
    let kept = SYSTEM + 2 * TURN + 11;
    assert!(
        is_answered && told.contains(&format!("dropped the 2 oldest turns (4 messages); the prompt has {kept} of")),
        "{told}"
    );
    // The KV of the system text is reused.
    let answer = told.lines().find(|line| line.contains(" prompt tokens (")).unwrap();
    assert!(answer.contains(&format!("{} prompt tokens (", kept + 13)) && !answer.contains("(0 cached)"), "{told}");
    assert_eq!(messages(&at("trip-2.json")), whole);
    assert_eq!((roles(&messages(&path))[0], questions(&path).concat()), ("system", "Ask 3Ask 4Ask 5".into()));

    // An answer that fills the context has another chance after it.
    let (is_answered, told) = chat("/set max_tokens 100\nAsk 6\n/drop 2\n/retry\n");
    assert!(is_answered && told.contains("[the context is full: /drop makes room, /clear starts anew]"), "{told}");
    let long = |name: &str| messages(&at(name)).last().unwrap().1.len();
    assert!(long("trip-3.json") < 10 && long("trip.json") > 10, "{told}");
    assert_eq!(questions(&path).concat(), "Ask 5Ask 6");

    // The last turn goes with the next question.
    let drops = |name: &str, said: &str| {
        let output = tiny.chat(&[&SMALL[..], &[str_of(&at(name))]].concat(), said);
        String::from_utf8(output.stderr).unwrap()
    };
    let told = drops("alone.json", "Ask 1\n/drop\n");
    let one = "there is one turn, and /drop keeps the last: once you ask on, /drop drops it; /clear starts anew\n";
    assert!(told.contains(one), "{told}");
    let [question, answer] =
        [("user", "a"), ("assistant", "a")].map(|(role, text)| json!({ "role": role, "content": text }));
    let long = json!({ "role": "assistant", "content": "a".repeat(128) });
    std::fs::write(at("long.json"), json!([question, answer, question, long]).to_string()).unwrap();
    let told = drops("long.json", "/drop\n");
    assert!(told.contains(" tokens: ask on, which lets /drop drop it too, or /clear\n"), "{told}");
}

#[test]
fn a_question_that_does_not_fit_is_asked_once_there_is_room() {
    let tiny = Tiny::new();
    let path = tiny.home.path().join("trip.json");
    let mut pty = Pty::start(&tiny.command(&[&SMALL[..], &[str_of(&path)]].concat()), 240);
    pty.wait_for("Ctrl-D leaves");
    for turn in 1..=4 {
        pty.wait_for("> ");
        pty.types(format!("Ask {turn}\r"));
        pty.wait_for("[TTFT");
    }
    let mut says = |line: &str, told: &str| {
        pty.wait_for("> ");
        pty.types(format!("{line}\r"));
        pty.wait_for(told);
    };
    let long = "Tell more. ".repeat(10);
    says(long.trim_end(), "the last message with the system text has 141 tokens: shorten it");
    let whole = messages(&path);
    says("/drop", "the last message with the system text has 141 tokens: shorten it");
    says(
        "Ask 5",
        "Too long to ask: the context holds 128 tokens, the answer included, and this prompt has 149, 22 too many; /drop drops \
         the 2 oldest turns and asks it then; a chat that begins with --context 512 holds more",
    );
    says("/drop 5", "/drop can drop the 4 oldest turns at most; /clear drops all");
    says("/drop all", "/drop takes a number of turns, such as /drop 2");
    assert_eq!(messages(&path), whole);
    says("/drop", "[TTFT");
    pty.wait_for("> ");
    let aside = tiny.home.path().join("trip-2.json");
    assert!(
        pty.shown().contains(&format!("the conversation so far is kept in {}", aside.display())),
        "{}",
        pty.shown()
    );
    assert_eq!((messages(&aside), questions(&path).concat()), (whole, "Ask 3Ask 4Ask 5".into()));

    // What was asked is no longer waiting.
    pty.types("/clear\r");
    pty.wait_for("> ");
    pty.types("/drop\r");
    pty.wait_for("/drop has no turn to drop\u{1b}");
    pty.types("/bye\r");
    assert_eq!(pty.end().code(), Some(0));
}
