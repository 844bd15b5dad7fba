//! Jinja2's `Markup`: text marked by `|safe` or `|escape` is not escaped again, and `+` escapes what it joins to marked text,
//! even if autoescaping is off. In templates that mark text, `+` is rewritten as a filter.

use minijinja::{Environment, Error, State, Value, context};

use super::source::token;
use super::weigh;

/// Brackets nested deeper are copied unchanged; the parser refuses them.
const MAX_DEPTH: usize = 128;

pub(super) fn add_to(environment: &mut Environment) {
    for name in ["e", "escape"] {
        environment.add_filter(name, |state: &State, value: &Value| {
            weigh::compared(state, value)?;
            let special = value
                .as_str()
                .filter(|_| !value.is_safe())
                .map_or(0, |text| text.matches(['&', '<', '>', '\'', '"']).count());
            state.consume_fuel(special as u64 / 8)?;
            Ok::<_, Error>(Value::from_safe_string(escaped(value)))
        });
    }
    environment.add_filter("plus", plus);
}

/// `left + right`.
fn plus(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if left.as_str().is_none() || right.as_str().is_none() {
        state.consume_fuel(1)?;
        return state.env().compile_expression("left + right")?.eval(context! { left, right });
    }
    let marked = left.is_safe() || right.is_safe();
    let text = |value: &Value| if marked { escaped(value) } else { value.to_string() };
    let sum = text(left) + &text(right);
    state.consume_fuel(sum.len() as u64 / 64)?;
    Ok(if marked { Value::from_safe_string(sum) } else { sum.into() })
}

/// markupsafe's `escape`: marked text is not escaped again.
fn escaped(value: &Value) -> String {
    let text = value.to_string();
    match value.is_safe() {
        true => text,
        false => [("&", "&amp;"), (">", "&gt;"), ("<", "&lt;"), ("'", "&#39;"), ("\"", "&#34;")]
            .iter()
            .fold(text, |text, (character, entity)| text.replace(character, entity)),
    }
}

/// Whether a template marks any text.
pub(super) fn is_used(source: &str) -> bool {
    let (mut rest, mut filter) = (source, false);
    while !rest.is_empty() {
        // Outside tags a quote does not begin a string.
        let token = if rest.starts_with(['"', '\'']) { &rest[..1] } else { token(rest) };
        if filter && ["safe", "e", "escape", "forceescape"].contains(&token) {
            return true;
        }
        filter = token == "|" || filter && token.trim().is_empty();
        rest = &rest[token.len()..];
    }
    false
}

/// Rewrites `a + b + c` as `(a)|plus(b)|plus(c)`. Sums that contain a `-` are numbers and stay.
pub(super) fn sums(text: &str) -> String {
    let (mut open, mut level, mut rest, mut word) = (Vec::new(), Level::default(), text, "");
    while !rest.is_empty() {
        let token = token(rest);
        rest = &rest[token.len()..];
        match token {
            "(" | "[" | "{" if open.len() < MAX_DEPTH => {
                level.operand.push_str(token);
                open.push(std::mem::take(&mut level));
            }
            ")" | "]" | "}" if !open.is_empty() => {
                let inner = level.end();
                level = open.pop().unwrap_or_default();
                level.operand.push_str(&(inner + token));
            }
            "+" if !level.operand.trim().is_empty() => level.summands.push(std::mem::take(&mut level.operand)),
            "not" if word == "is" => level.operand.push_str(token),
            "," | ":" | "=" | "!" | "<" | ">" | "and" | "or" | "not" | "in" | "if" | "elif" | "else" => {
                let before = level.end() + token;
                level = Level { before, ..Level::default() };
            }
            _ => {
                level.minus |= token == "-";
                level.operand.push_str(token);
            }
        }
        word = if token.trim().is_empty() { word } else { token };
    }
    while let Some(mut outer) = open.pop() {
        outer.operand.push_str(&level.end());
        level = outer;
    }
    level.end()
}

/// One level of brackets, as far as it has been read.
#[derive(Default)]
struct Level {
    before: String,
    summands: Vec<String>,
    operand: String,
    minus: bool,
}

impl Level {
    fn end(self) -> String {
        let Self { before, mut summands, operand, minus } = self;
        summands.push(operand);
        if minus || summands.len() == 1 {
            return before + &summands.join("+");
        }
        before + "(" + &summands.join(")|plus(") + ")"
    }
}
