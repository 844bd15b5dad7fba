//! Translates Jinja2 source to minijinja's dialect: constructs that both parse differently, and transformers' own tags.
//!
//! - Every line end is LF.
//! - The line break behind `{% raw %}` stays.
//! - `{% generation %}` ... `{% endgeneration %}`, which mark the assistant's words for training alone, become an `if` that
//!   is always true. Each tag keeps its own whitespace control.
//! - `"..." % operand` becomes a filter, as does the iterable of a `for`, and `+` if text is marked (`markup`).
//!
//! Values that are compared, kept or used for look-up pass through `weigh` (`guard`), and each round of a loop checks a clock.
//!
//! Source that is not understood is left unchanged, for the parser to report. Source that would make the parser recurse too
//! deeply is refused (`limits`).

use super::limits::{self, Limits};
use super::{guard, markup};

type Rewrite = fn(&str) -> String;

/// Ends the tag that opens the body of a loop or macro, and checks the clock in the body.
const TICK: &str = "%}{% set ticks_ = 0|ticked ";

/// # Errors
/// A sentence about source that exceeds a limit of the parser.
pub(in crate::text) fn to_dialect(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    limits::lines(&source)?;
    let mut limits = Limits::default();
    let rewrite: Rewrite = if markup::is_used(&source) { |text| markup::sums(&expression(text)) } else { expression };
    let (mut out, mut rest) = (String::with_capacity(source.len() + source.len() / 8), source.as_str());
    while let Some(start) = rest.find("{").filter(|start| rest.len() > start + 1) {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = match tag.as_bytes()[1] {
            b'#' => tag.find("#}").map(|end| end + 2),
            b'{' => end_of_tag(tag, "}}"),
            b'%' => end_of_tag(tag, "%}"),
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        rest = after;
        match tag.as_bytes()[1] {
            b'#' => out.push_str(tag),
            b'{' => {
                let (open, body, close) = parts(tag);
                limits::expression(body)?;
                out.push_str(&format!("{open}{}{close}", guard::expression(&rewrite(body))));
            }
            _ => {
                limits.block(word(tag), parts(tag).1)?;
                out.push_str(&statement(tag, rewrite));
                if word(tag) == "raw" {
                    out.push_str(if rest.starts_with('\n') && !tag.ends_with("-%}") { "\n" } else { "" });
                    let (raw, after) = rest.split_at(end_of_raw(rest));
                    out.push_str(raw);
                    rest = after;
                }
            }
        }
    }
    // An unclosed tag is left for the parser to report.
    limits::expression(rest)?;
    Ok(out + rest)
}

/// Length of a tag in bytes, up to the first `close` outside strings and brackets.
fn end_of_tag(tag: &str, close: &str) -> Option<usize> {
    let (mut at, mut depth) = (2, 0_usize);
    while at < tag.len() {
        let rest = &tag[at..];
        if depth == 0 && rest.starts_with(close) {
            return Some(at + close.len());
        }
        let token = token(rest);
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += token.len();
    }
    None
}

/// The byte offset of the tag that ends a raw block.
fn end_of_raw(text: &str) -> usize {
    let ends = |at: &usize| word(&text[*at..]) == "endraw";
    text.match_indices("{%").map(|(at, _)| at).find(ends).unwrap_or(text.len())
}

/// The first word of a block tag.
fn word(tag: &str) -> &str {
    token(tag[2..].trim_start_matches(['-', '+']).trim_start())
}

/// The first token: a string, a name or number, white space, or one other character.
pub(super) fn token(text: &str) -> &str {
    let Some(first) = text.chars().next() else { return text };
    let run = |holds: fn(char) -> bool| text.find(|c: char| !holds(c)).unwrap_or(text.len());
    let length = match first {
        '"' | '\'' => {
            let mut escaped = false;
            let end = text.char_indices().skip(1).find(|&(_, c)| {
                let ends = c == first && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(text.len(), |(at, _)| at + 1)
        }
        c if is_word(c) => run(is_word),
        c if c.is_whitespace() => run(char::is_whitespace),
        c => c.len_utf8(),
    };
    &text[..length]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The opening, body and closing of a tag. Whitespace control belongs to the opening and closing.
fn parts(tag: &str) -> (&str, &str, &str) {
    let head = 2 + usize::from(tag[2..].starts_with(['-', '+']));
    let tail = tag.len() - 2 - usize::from(tag.len() > head + 2 && tag[..tag.len() - 2].ends_with(['-', '+']));
    (&tag[..head], &tag[head..tail], &tag[tail..])
}

fn statement(tag: &str, rewrite: Rewrite) -> String {
    let (open, body, close) = parts(tag);
    match word(tag) {
        "generation" if body.trim() == "generation" => format!("{open} if true {close}"),
        "endgeneration" if body.trim() == "endgeneration" => format!("{open} endif {close}"),
        "for" => match iterable(body) {
            Some((before, items, after)) => {
                let (items, after) = (guard::expression(&rewrite(items)), guard::expression(&rewrite(after)));
                format!("{open}{before} ({items})|iterated {after}{TICK}{close}")
            }
            None => tag.to_owned(),
        },
        "macro" => format!("{open}{}{TICK}{close}", rewrite(body)),
        word => format!("{open}{}{close}", guard::statement(word, &rewrite(body))),
    }
}

/// The iterable of a `for` tag, with the text before and after it.
fn iterable(body: &str) -> Option<(&str, &str, &str)> {
    let (mut at, mut depth, mut start) = (0, 0_usize, None);
    while at < body.len() {
        let token = token(&body[at..]);
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "in" if depth == 0 && start.is_none() => start = Some(at + token.len()),
            "if" | "recursive" if depth == 0 && start.is_some() => break,
            _ => {}
        }
        at += token.len();
    }
    let start = start?;
    Some((&body[..start], &body[start..at], &body[at..]))
}

/// Rewrites `%` after a string as a filter.
fn expression(text: &str) -> String {
    let (mut out, mut rest, mut behind_text) = (String::with_capacity(text.len()), text, false);
    while !rest.is_empty() {
        let token = token(rest);
        rest = &rest[token.len()..];
        if token == "%" && behind_text {
            let operand = rest.trim_start();
            let (operand, after) = operand.split_at(end_of_operand(operand));
            out.push_str(&format!("|printf({})", expression(operand)));
            rest = after;
            continue;
        }
        behind_text = token.starts_with(['"', '\'']) || behind_text && token.trim().is_empty();
        out.push_str(token);
    }
    out
}

/// Length in bytes of one operand: a bracket, string, number or name, with the calls and attributes after it.
fn end_of_operand(text: &str) -> usize {
    let (mut at, mut depth, mut complete) = (0, 0_usize, false);
    while at < text.len() {
        let token = token(&text[at..]);
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => break,
            ")" | "]" | "}" => depth -= 1,
            _ if depth > 0 => {}
            "." => complete = false,
            "-" | "+" if at == 0 => {}
            _ if complete || !(token.starts_with(is_word) || token.starts_with(['"', '\''])) => break,
            _ => {}
        }
        complete = depth == 0 && (complete || !["-", "+", "."].contains(&token));
        at += token.len();
    }
    at
}
