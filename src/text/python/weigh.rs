//! Limits the size and depth of a template's values, and the time spent on them.
//!
//! minijinja charges fuel for what it creates. It does not see that a value holds another many times, so that comparing two
//! values of a few kilobytes takes years; that a value is nested so deeply that dropping it overflows the stack; or that two
//! namespaces hold each other. `guard` passes every value that a template creates or keeps through here: none is nested deeper
//! than [`MAX_DEPTH`], and each visit of a nested value costs fuel. Cost: a walk over the value.

use std::time::Duration;

use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions, tests};
use web_time::Instant;

use super::MAX_DEPTH;
use super::filters::Generator;

/// Values and bytes that one unit of fuel pays for.
const VALUES: usize = 32;
const BYTES: usize = 64;
/// Limit on the values inside one value, each counted as often as it occurs.
const MAX_VALUES: usize = 1 << 18;
/// Time limit of one rendering, far above what any sound template needs, and the number of ticks between two clock reads.
const PATIENCE: Duration = Duration::from_secs(2);
const STRIDE: u32 = 32;

pub(super) fn add_to(environment: &mut Environment) {
    environment.add_filter("ticked", ticked);
    environment.add_filter("kept", kept);
    environment.add_filter("held", held);
    environment.add_filter("weighed", weighed);
    add_comparisons(environment);
    environment.add_function("namespace", |state: &mut State, fields: Option<ValueOrKwargs>| {
        let made = functions::namespace(fields)?;
        for key in made.try_iter()? {
            weigh(state, &made.get_item(&key)?, true)?;
        }
        Ok::<_, Error>(made)
    });
    environment.add_function("cycler", |state: &mut State, items: Vec<Value>| {
        items.iter().try_for_each(|item| weigh(state, item, false))?;
        minijinja_contrib::globals::cycler(items)
    });
    environment.remove_global("debug");
}

/// Filters and tests that compare their operands.
fn add_comparisons(environment: &mut Environment) {
    type Test = fn(&Value, &Value) -> bool;
    let both = |test: Test| {
        move |state: &mut State, value: &Value, other: &Value| {
            compared(state, value)?;
            compared(state, other)?;
            Ok::<_, Error>(test(value, other))
        }
    };
    let known: [(&[&'static str], Test); 6] = [
        (&["eq", "equalto", "=="], tests::is_eq),
        (&["ne", "!="], tests::is_ne),
        (&["lt", "lessthan", "<"], tests::is_lt),
        (&["le", "<="], tests::is_le),
        (&["gt", "greaterthan", ">"], tests::is_gt),
        (&["ge", ">="], tests::is_ge),
    ];
    for (names, test) in known {
        names.iter().for_each(|name| environment.add_test(*name, both(test)));
    }
    environment.add_test("in", |state: &mut State, value: &Value, other: &Value| {
        compared(state, value)?;
        compared(state, other)?;
        tests::is_in(state, value, other)
    });
    environment.add_filter(
        "sum",
        |state: &mut State, value: Value, name: Option<&str>, start: Option<Value>, options: Kwargs| {
            // Each partial sum of texts or lists is a new value.
            let mut sum = 0;
            for item in value.try_iter()? {
                sum += bytes(&item) + BYTES * item.len().unwrap_or(0);
                state.consume_fuel((sum / BYTES) as u64)?;
            }
            filters::sum(state, value, name, start, options)
        },
    );
    environment.add_filter(
        "join",
        |state: &mut State, value: &Value, by: Option<StringInput<'_>>, name: Option<&str>, options: Kwargs| {
            joined(state, value)?;
            filters::join(state, value, by, name, options)
        },
    );
    type Sort = fn(&State, Value, Kwargs) -> Result<Value, Error>;
    let ordered = |sort: Sort| {
        move |state: &mut State, value: Value, options: Kwargs| {
            let count = value.len().unwrap_or(0);
            for _ in 0..=count.checked_ilog2().unwrap_or(0) {
                compared(state, &value)?;
            }
            sort(state, value, options)
        }
    };
    let known: [(&'static str, Sort); 4] =
        [("sort", filters::sort), ("unique", filters::unique), ("min", filters::min), ("max", filters::max)];
    known.into_iter().for_each(|(name, sort)| environment.add_filter(name, ordered(sort)));
    type Cut = fn(&State, Value, usize, Option<Value>) -> Result<Value, Error>;
    let cut = |cut: Cut| {
        move |state: &mut State, value: Value, count: usize, fill: Option<Value>| {
            kept_of(state, cut(state, value, count, fill)?)
        }
    };
    environment.add_filter("batch", cut(filters::batch));
    environment.add_filter("slice", cut(filters::slice));
    environment.add_filter("groupby", |state: &mut State, value: Value, name: Option<&str>, options: Kwargs| {
        compared(state, &value)?;
        let groups = filters::groupby(value, name, options)?;
        weigh(state, &groups, true)?;
        Ok::<_, Error>(groups)
    });
    environment.add_filter("zip", |state: &mut State, value: Value, others: Rest<Value>| {
        kept_of(state, filters::zip(state, value, others)?)
    });
    environment.add_filter("chain", |state: &mut State, value: Value, others: Rest<Value>| {
        kept_of(state, filters::chain(state, value, others)?)
    });
}

/// Pays fuel for the texts that are joined.
pub(super) fn joined(state: &State, items: &Value) -> Result<(), Error> {
    items.try_iter().into_iter().flatten().try_for_each(|item| compared(state, &item))
}

struct Clock {
    ends: Instant,
    calls: u32,
}

/// Checks the clock once every [`STRIDE`] calls. Called in every round of a loop and every call of a macro.
pub(super) fn tick(state: &mut State) -> Result<(), Error> {
    let clock = state.get_or_insert_extension_with(|| Clock { ends: Instant::now() + PATIENCE, calls: 0 });
    clock.calls = clock.calls.wrapping_add(1);
    match clock.calls.is_multiple_of(STRIDE) && Instant::now() > clock.ends {
        true => Err(Error::from(ErrorKind::OutOfFuel)),
        false => Ok(()),
    }
}

fn ticked(state: &mut State, value: Value) -> Result<Value, Error> {
    tick(state)?;
    Ok(value)
}

/// Checks a value that a variable keeps, or that is part of a new one.
fn kept(state: &mut State, value: Value) -> Result<Value, Error> {
    tick(state)?;
    kept_of(state, value)
}

pub(super) fn kept_of(state: &State, value: Value) -> Result<Value, Error> {
    weigh(state, &value, true)?;
    plain(value)
}

/// Checks a value that a namespace keeps: it must not be, or contain, a namespace.
fn held(state: &mut State, value: Value) -> Result<Value, Error> {
    tick(state)?;
    weigh(state, &value, false)?;
    plain(value)
}

/// Collects a lazy value into a list, since it would be computed anew in each iteration.
fn plain(value: Value) -> Result<Value, Error> {
    let lazy = match value.kind() {
        ValueKind::Iterable => value.downcast_object_ref::<Generator>().is_none(),
        ValueKind::Seq => !value.is_tuple() && value.downcast_object_ref::<Vec<Value>>().is_none(),
        _ => false,
    };
    Ok(if lazy { Value::from(value.try_iter()?.collect::<Vec<Value>>()) } else { value })
}

/// Checks a value that is compared or used for look-up.
fn weighed(state: &mut State, value: Value) -> Result<Value, Error> {
    tick(state)?;
    compared(state, &value)?;
    Ok(value)
}

/// Pays fuel for a comparison with all that a value contains.
pub(super) fn compared(state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Bytes => state.consume_fuel((bytes(value) / BYTES) as u64),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => weigh_all(state, value, true, true),
        _ => Ok(()),
    }
}

/// Pays fuel for a walk over a value. `namespaces`: whether it may be or contain a namespace.
pub(super) fn weigh(state: &State, value: &Value, namespaces: bool) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain => {
            weigh_all(state, value, namespaces, false)
        }
        _ => Ok(()),
    }
}

fn weigh_all(state: &State, value: &Value, namespaces: bool, texts: bool) -> Result<(), Error> {
    let mut walk = Walk { state, namespaces, texts, values: 0, bytes: 0, all: 0 };
    walk.visit(value, 0)?;
    walk.pay()
}

struct Walk<'a> {
    state: &'a State<'a, 'a>,
    namespaces: bool,
    texts: bool,
    values: usize,
    bytes: usize,
    /// Number of values visited so far.
    all: usize,
}

impl Walk<'_> {
    fn visit(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let wrong = |problem: &str| Err(Error::new(ErrorKind::InvalidOperation, problem.to_owned()));
        if depth > MAX_DEPTH {
            return wrong("a value is nested too deeply");
        }
        (self.values, self.all) = (self.values + 1, self.all + 1);
        if self.all > MAX_VALUES {
            return wrong("a value holds too many others");
        }
        if self.texts {
            self.bytes += bytes(value);
        }
        if self.values >= VALUES || self.bytes >= VALUES * BYTES {
            self.pay()?;
        }
        let kind = value.kind();
        if !self.namespaces
            && matches!(kind, ValueKind::Map | ValueKind::Plain)
            && value.as_object().is_some_and(|object| object.type_name().contains("Namespace"))
        {
            return wrong("a namespace cannot be kept in a namespace");
        }
        match kind {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.visit(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.visit(&key, depth + 1)?;
                    self.visit(&value.get_item(&key)?, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn pay(&mut self) -> Result<(), Error> {
        let fuel = self.values.div_ceil(VALUES) + self.bytes / BYTES;
        (self.values, self.bytes) = (0, 0);
        self.state.consume_fuel(fuel as u64)
    }
}

fn bytes(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}
