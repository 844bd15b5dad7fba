//! What chat templates use of Python and Jinja2: `json.dumps`, `str`, `strftime`, and the methods, tests and filters that
//! minijinja lacks or reads differently.
//!
//! The reference is Jinja2 as Hugging Face transformers configures it: `tojson` is `json.dumps(ensure_ascii=False)`, and values
//! are printed as `str(value)`.

mod filters;
mod guard;
mod json;
mod limits;
mod markup;
mod methods;
mod source;
mod time;
mod weigh;

use std::fmt::Write;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

pub(super) use source::to_dialect;
pub(super) use time::{parse_time, strftime};

/// Deeper values are refused, as Python's recursion limit would.
const MAX_DEPTH: usize = 128;

/// Adds all of these to an environment.
pub(super) fn add_to(environment: &mut Environment) {
    environment.set_formatter(|out, state, value| {
        weigh::tick(state)?;
        out.write_str(&to_str(state, value)?).map_err(Error::from)
    });
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", |state: &State, value: &Value| to_str(state, value));
    filters::add_to(environment);
    markup::add_to(environment);
    weigh::add_to(environment);
}

/// `str(value)`. A value may hold another many times, so every visit costs fuel.
pub(super) fn to_str(state: &State, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Number => Ok(number(value, ["nan", "inf"])),
        ValueKind::Seq | ValueKind::Map => {
            let mut out = String::new();
            repr(state, value, &mut out, 0)?;
            Ok(out)
        }
        _ => {
            weigh::compared(state, value)?;
            Ok(value.to_string())
        }
    }
}

fn repr(state: &State, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is nested too deeply to print"));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::String => {
            weigh::compared(state, value)?;
            quote(value.as_str().unwrap_or_default(), out);
        }
        ValueKind::Seq => {
            let tuple = value.downcast_object_ref::<Tuple>().is_some();
            out.push(if tuple { '(' } else { '[' });
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(state, &item, out, depth + 1)?;
            }
            out.push_str(match tuple {
                true if value.len() == Some(1) => ",)",
                true => ")",
                false => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(state, &key, out, depth + 1)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&to_str(state, value)?),
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c == '\u{7f}' => write!(out, "\\x{:02x}", c as u32).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// A number as Python's `repr` writes it; `names` are its spellings of NaN and infinity.
fn number(value: &Value, names: [&str; 2]) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return names[0].to_owned();
    }
    if float.is_infinite() {
        return format!("{}{}", if float < 0.0 { "-" } else { "" }, names[1]);
    }
    if float != 0.0 && !(1e-4..1e16).contains(&float.abs()) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{float:?}")
}
