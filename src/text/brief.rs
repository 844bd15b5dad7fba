//! Shortens and escapes a file's text for use in a message, so that it cannot move a terminal's cursor.

/// The most characters shown.
const SHOWN: usize = 300;

/// The text as an error may quote it: control characters escaped, cut with `…` after [`SHOWN`] characters.
pub(super) fn brief(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let (mut shown, mut count) = (String::new(), 0);
    for c in text.chars() {
        if count >= SHOWN {
            return shown + "…";
        }
        let length = shown.len();
        match c {
            '\n' | '\t' => shown.push(' '),
            c if hidden(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
        count += if c.is_ascii() || hidden(c) { shown.len() - length } else { 1 };
    }
    shown
}
