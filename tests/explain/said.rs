//! What the program says to a person: lines that show the difference, and sentences that are true.

use serde_json::{Value, json};

use super::faces::Case;
use super::message;
use super::pair_table::{LAST, RULES};
use crate::cli::{file, headstart, stdout, str_of};
use crate::support::model_path;

/// What is said of two system texts before the same question.
fn said(texts: [&str; 2]) -> String {
    let [a, b] = texts.map(|text| json!([message("system", text), message("user", LAST)]));
    Case::new(&[&model_path()]).explain(&a, &b).1
}

fn talk(count: usize) -> Value {
    let turns = ["Where is it?", "In the hall.", "Is it lent?", "No.", LAST];
    let role = |at: usize| if at.is_multiple_of(2) { "user" } else { "assistant" };
    turns[..count].iter().enumerate().map(|(at, text)| message(role(at), text)).collect()
}

#[test]
fn each_line_shows_its_own_difference() {
    let text =
        |id: &str, plan: &str| format!("{RULES} Request id: {id}. Be kind. The plan is {plan}. Use metric units.");
    let said = said([&text("7f3c9a1e", "premium"), &text("0b1d2c3e", "basic")].map(String::as_str));
    for line in [
        "  \"Request id: 7f3c9a1e.\"\n",
        "  \"Request id: 0b1d2c3e.\"\n",
        "  \"The plan is premium.\"\n",
        "  \"The plan is basic.\"\n",
    ] {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
}

#[test]
fn marks_and_joiners_are_shown_as_they_are() {
    let texts =
        ["Zoe", "Noe"].map(|name| format!("👩\u{200d}👧 नमस्ते, {name}\u{308} \u{202e}x a\u{200d}b \u{301}\u{7}"));
    let shown = said(texts.each_ref().map(String::as_str));
    for name in ["Zoe", "Noe"] {
        let line = format!("\"👩\u{200d}👧 नमस्ते, {name}\u{308} \\u{{202e}}x a\\u{{200d}}b \\u{{301}}\\u{{7}}\"");
        assert!(shown.contains(&line), "{shown}");
    }
    // The same letters, composed and not: only escapes tell which is which.
    assert!(said(["Café Zürich", "Cafe\u{301} Zu\u{308}rich"]).contains("\"Cafe\\u{301} Zu\\u{308}rich\""));
    // A mark without a letter.
    assert!(said(["\u{301} is one", "\u{302} is one"]).contains("\"\\u{301} is one\""));
}

#[test]
fn a_beginning_of_a_conversation_is_told_as_one() {
    for count in 1..4 {
        let case = Case::new(&[&model_path()]);
        assert!(case.explain(&talk(5), &talk(count)).1.ends_with("Nothing to mend: a.json goes on from b.json.\n"));
        assert!(case.explain(&talk(count), &talk(5)).1.ends_with("Nothing to mend: b.json goes on from a.json.\n"));
    }
}

#[test]
fn what_was_done_is_said_and_why_where_nothing_was() {
    let list = |items: [&str; 3]| format!("{RULES}\nKeep:\n- {}", items.join("\n- "));
    let [a, b, c] = ["books in the hall", "maps on the table", "prints in the cellar"];
    let steps = |[a, b]: [&str; 2]| format!("Do in this order:\n- {a}\n- {b}\n{RULES}");
    let cases = [
        ([steps([a, b]), steps([b, a])], "\nStatic first, variables last: b.json then shares "),
        ([RULES.to_owned(), format!("{RULES} ")], "\nThe same white space: b.json then shares "),
        ([list([a, b, c]), list([c, a, b])], "\nOne order: b.json then shares "),
        (
            [format!("Time: 10:35\n{RULES}"), format!("Time: 10:36\n{RULES}")],
            "\nStatic first, variables last: b.json then shares ",
        ),
        (
            [format!("{RULES}\nThe reader is Ada."), format!("{RULES}\nThe reader is Eve.")],
            "\nNo other order of whole blocks, lines and sentences",
        ),
        (
            ["if x:\n    a()\n    b()".to_owned(), "if x:\n    a()\nb()".to_owned()],
            "\nWhite space that may mean something",
        ),
    ];
    for (texts, expected) in cases {
        let said = said(texts.each_ref().map(String::as_str));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let stamped = |day: u8| {
        json!([
            message("user", &format!("[2026-11-{day} 09:14] Where?")),
            message("assistant", "Here."),
            message("user", LAST)
        ])
    };
    let (_, said) = Case::new(&[&model_path()]).explain(&stamped(23), &stamped(24));
    assert!(said.contains("\nWhat is said by turns stays as it was said"), "{said}");
}

#[test]
fn files_that_are_something_else_are_kept() {
    let case = Case::new(&[&model_path()]);
    let [a, b] = [talk(5), talk(3)]
        .map(|request| file(&case.folder, &format!("{}.json", request.as_array().unwrap().len()), request.to_string()));
    let folder = case.folder.path().join("mended");
    let mut command = headstart(&["prefix", "explain", str_of(&a), str_of(&b), "--model", str_of(&model_path())]);
    command.arg("--fix").arg(&folder);
    // The same once more is no loss.
    assert_eq!(stdout(&mut command), stdout(&mut command));
    std::fs::write(folder.join("b.json"), "mine").unwrap();
    std::fs::remove_file(folder.join("a.json")).unwrap();
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("b.json is there already"), "{message}");
    assert_eq!(std::fs::read_to_string(folder.join("b.json")).unwrap(), "mine");
    assert!(!folder.join("a.json").exists(), "nothing is written");
}
