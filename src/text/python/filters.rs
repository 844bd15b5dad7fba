//! Filters, tests and functions that Jinja2 reads differently from minijinja, and two filters that `to_dialect` writes.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::to_str;
use super::weigh::kept_of;

pub(super) fn add_to(environment: &mut Environment) {
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("iterated", iterated);
    environment.add_filter("format", format);
    environment.add_filter("printf", printf);
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    // Jinja2 tests for a length and items.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    add_generators(environment);
    environment.add_function("dict", dict);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
}

fn default(value: &Value, other: Option<Value>, boolean: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let named = (options.get::<Option<Value>>("default_value")?, options.get::<Option<bool>>("boolean")?);
    options.assert_all_used()?;
    let absent = value.is_undefined() || boolean.or(named.1).unwrap_or(false) && !value.is_true();
    Ok(if absent { other.or(named.0).unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

/// A value that is not a number becomes 0.
fn int(state: &State, value: &Value, other: Option<Value>, base: Option<u32>, options: Kwargs) -> Result<Value, Error> {
    let other = other.map_or_else(|| options.get::<Option<Value>>("default"), |other| Ok(Some(other)))?;
    filters::int(state, value, other.or(Some(Value::from(0))), base, options)
}

fn float(state: &State, value: &Value, other: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let other = other.map_or_else(|| options.get::<Option<Value>>("default"), |other| Ok(Some(other)))?;
    filters::float(state, value, other.or(Some(Value::from(0.0))), options)
}

/// The values that a `for` iterates over. `none` is an error; a string yields its characters.
fn iterated(state: &State, value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => {
            state.consume_fuel(text.len() as u64)?;
            Ok(text.chars().map(Value::from).collect())
        }
        None if value.kind() == ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            state.consume_fuel(items.len() as u64)?;
            Ok(items.into())
        }
        None if value.is_none() => Err(Error::new(ErrorKind::InvalidOperation, "none is not iterable")),
        None => Ok(value.clone()),
    }
}

/// `text % operand`.
fn printf(state: &mut State, text: &Value, operand: &Value) -> Result<Value, Error> {
    let args = match operand.kind() {
        ValueKind::Seq if operand.is_tuple() => operand.try_iter()?.collect(),
        ValueKind::Map => {
            let keys: Vec<Value> = operand.try_iter()?.collect();
            let named = keys.iter().map(|key| Ok((key.to_string(), operand.get_item(key)?)));
            vec![Kwargs::from_iter(named.collect::<Result<Vec<_>, Error>>()?).into()]
        }
        _ => vec![operand.clone()],
    };
    format(state, text, Rest(args.into_iter().map(ValueOrKwargs::from).collect()))
}

/// Prints lists and dicts as Python's `str` does.
fn format(state: &mut State, text: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let printed = args.into_values().into_iter().map(|arg| match arg.kind() {
        ValueKind::Seq => Ok(Value::from(to_str(state, &arg)?)),
        ValueKind::Map if Kwargs::try_from(arg.clone()).is_err() => Ok(Value::from(to_str(state, &arg)?)),
        _ => Ok(arg),
    });
    let printed = printed.collect::<Result<Vec<Value>, Error>>()?;
    check_widths(text.as_str().unwrap_or_default(), &printed)?;
    filters::format(state, text, Rest(printed.into_iter().map(ValueOrKwargs::from).collect()))
}

/// Refuses a width or precision of more than four digits. Wider ones would be formatted before their length is checked, or
/// would panic.
pub(super) fn check_widths(format: &str, args: &[Value]) -> Result<(), Error> {
    let (mut inside, mut digits, mut dynamic) = (false, 0, false);
    for c in format.chars() {
        dynamic |= inside && matches!(c, '{' | '*');
        inside = match c {
            '%' | '{' => true,
            '}' => false,
            // A printf field ends with a letter, a field in braces with its brace.
            c => inside && (!c.is_whitespace() || digits > 0),
        };
        digits = if inside && c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 4 {
            return Err(Error::new(ErrorKind::InvalidOperation, "a format with a width of more than four digits"));
        }
    }
    let wide = |arg: &Value| arg.as_i64().is_some_and(|width| width.unsigned_abs() > 9999);
    match dynamic && args.iter().any(wide) {
        true => Err(Error::new(ErrorKind::InvalidOperation, "a format with a width of more than four digits")),
        false => Ok(()),
    }
}

/// Jinja2's versions of these filters return generators, which have no length and are not JSON.
fn add_generators(environment: &mut Environment) {
    type Args = Rest<ValueOrKwargs>;
    environment.add_filter("map", |state: &mut State, value: Value, args: Args| {
        filters::map(state, value, args).map(Generator::of)
    });
    environment.add_filter("select", |state: &mut State, value: Value, test: Option<String>, args: Args| {
        filters::select(state, value, test.map(Cow::Owned), args).map(Generator::of)
    });
    environment.add_filter("reject", |state: &mut State, value: Value, test: Option<String>, args: Args| {
        filters::reject(state, value, test.map(Cow::Owned), args).map(Generator::of)
    });
    environment.add_filter(
        "selectattr",
        |state: &mut State, value: Value, attribute: String, test: Option<String>, args: Args| {
            filters::selectattr(state, value, attribute.into(), test.map(Cow::Owned), args).map(Generator::of)
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &mut State, value: Value, attribute: String, test: Option<String>, args: Args| {
            filters::rejectattr(state, value, attribute.into(), test.map(Cow::Owned), args).map(Generator::of)
        },
    );
}

#[derive(Debug)]
pub(super) struct Generator(Vec<Value>);

impl Generator {
    fn of(items: Vec<Value>) -> Value {
        Value::from_object(Self(items))
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let items = Arc::clone(self);
        Enumerator::Iter(Box::new((0..items.0.len()).map(move |index| items.0[index].clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }
}

fn dict(state: &State, given: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut entries = Vec::new();
    if let Some(given) = given {
        for item in given.try_iter()? {
            entries.push(match given.kind() {
                ValueKind::Map => (item.clone(), given.get_item(&item)?),
                _ => (item.get_item_by_index(0)?, item.get_item_by_index(1)?),
            });
        }
    }
    for name in named.args() {
        entries.push((Value::from(name), named.get(name)?));
    }
    kept_of(state, Value::from_pairs(entries))
}
