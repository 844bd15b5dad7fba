//! Methods of Python's strings, lists and dicts that minijinja-contrib lacks. Others are passed on to it.

use minijinja::value::{Kwargs, Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback as contrib;

use super::filters::check_widths;
use super::weigh;

pub(super) fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    pay(state, value, name, args)?;
    let found = match value.as_str() {
        Some(text) => of_text(state, value, text, name, args)?,
        None => of_data(value, name, args)?,
    };
    found.map_or_else(|| contrib(state, value, name, args), Ok)
}

/// Pays fuel for what a method will read, before it runs.
fn pay(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<(), Error> {
    weigh::tick(state)?;
    if value.as_str().is_some() || matches!(name, "index" | "count") {
        weigh::compared(state, value)?;
    }
    args.iter().try_for_each(|arg| weigh::compared(state, arg))?;
    if name == "format" {
        check_widths(value.as_str().unwrap_or_default(), args)?;
    }
    Ok(())
}

fn of_text(state: &mut State, value: &Value, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (by,): (&str,) = from_args(args)?;
            let (parts, whole) = match name {
                "partition" => (text.split_once(by), [text, "", ""]),
                _ => (text.rsplit_once(by), ["", "", text]),
            };
            let parts = parts.map_or(whole, |(left, right)| [left, by, right]);
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "split" | "rsplit" => split(text, name == "rsplit", args)?,
        "index" | "rindex" => {
            let found = contrib(state, value, if name == "index" { "find" } else { "rfind" }, args)?;
            match i64::try_from(found.clone())? {
                ..0 => return Err(wrong("substring not found")),
                _ => found,
            }
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            weigh::joined(state, &items)?;
            match items.try_iter()?.position(|item| item.as_str().is_none()) {
                Some(index) => return Err(wrong(&format!("join: item {index} is not a string"))),
                None => return Ok(None),
            }
        }
        "title" => {
            let () = from_args(args)?;
            let mut inside = false;
            let title = |c: char| {
                let begins = !std::mem::replace(&mut inside, c.is_alphabetic());
                if begins { c.to_uppercase().collect::<String>() } else { c.to_lowercase().collect() }
            };
            Value::from(text.chars().map(title).collect::<String>())
        }
        "swapcase" => {
            let swap = |c: char| match c.is_uppercase() {
                true => c.to_lowercase().collect::<String>(),
                false => c.to_uppercase().collect(),
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let missing = missing(state, text, width)?;
            // CPython puts the odd space on the left if the width is odd too.
            let left = match name {
                "ljust" => 0,
                "rjust" => missing,
                _ => missing / 2 + (missing & width & 1),
            };
            let fill = |count: usize| fill.unwrap_or(' ').to_string().repeat(count);
            Value::from(fill(left) + text + &fill(missing - left))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let sign = text.len() - text.strip_prefix(['+', '-']).unwrap_or(text).len();
            let zeros = "0".repeat(missing(state, text, width)?);
            Value::from([&text[..sign], &zeros, &text[sign..]].concat())
        }
        _ => return Ok(None),
    }))
}

/// Methods of lists and dicts. Methods that mutate are refused, as in transformers' sandbox.
fn of_data(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match name {
        "copy" => {
            let () = from_args(args)?;
            Some(value.clone())
        }
        "index" => {
            let (wanted,): (Value,) = from_args(args)?;
            let found = value.try_iter()?.position(|item| item == wanted);
            Some(Value::from(found.ok_or_else(|| wrong("the value is not in the list"))?))
        }
        _ => None,
    })
}

fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (by, most, options): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let by = match by {
        Some(by) => Some(by),
        None => options.get::<Option<&str>>("sep")?,
    };
    let most = match most {
        Some(most) => Some(most),
        None => options.get::<Option<i64>>("maxsplit")?,
    };
    options.assert_all_used()?;
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match (by, from_end) {
        (Some(""), _) => return Err(wrong("empty separator")),
        (Some(by), false) => text.splitn(most.saturating_add(1), by).collect(),
        (Some(by), true) => text.rsplitn(most.saturating_add(1), by).collect(),
        (None, _) => words(text, from_end, most),
    };
    let parts = parts.into_iter().map(Value::from);
    Ok(if from_end { parts.rev().collect() } else { parts.collect() })
}

/// Words between white space; after `most` splits the rest is one part. In order from the end, or from the beginning.
fn words(text: &str, from_end: bool, most: usize) -> Vec<&str> {
    let trim = |text: &'_ str| if from_end { text.trim_end().len() } else { text.len() - text.trim_start().len() };
    let (mut rest, mut parts) = (text, Vec::new());
    loop {
        let edge = trim(rest);
        rest = if from_end { &rest[..edge] } else { &rest[edge..] };
        if rest.is_empty() {
            return parts;
        }
        let cut = match from_end {
            true => rest.rsplit_once(char::is_whitespace).map(|(left, word)| (word, left)),
            false => rest.split_once(char::is_whitespace),
        };
        match cut.filter(|_| parts.len() < most) {
            Some((word, others)) => {
                parts.push(word);
                rest = others;
            }
            None => {
                parts.push(rest);
                return parts;
            }
        }
    }
}

/// Number of characters that `text` lacks to be `width` wide; costs as much fuel.
fn missing(state: &State, text: &str, width: usize) -> Result<usize, Error> {
    let missing = width.saturating_sub(text.chars().count());
    state.consume_fuel(missing as u64)?;
    Ok(missing)
}

fn wrong(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.to_owned())
}
