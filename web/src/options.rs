//! The options of calls, as plain data: which there are, and what each may be. None is passed over in silence, since a misspelling
//! could leave on disk what was to be kept off it, or take a pack without its signature. Null is a value and counts as given.

use headstart::engine::openai::nearest;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::{
    error::{Result, bad_input},
    js,
    load::settings,
};

/// An option that is known.
pub struct Known {
    name: &'static str,
    is_met: fn(&Value) -> bool,
    /// Read after the name.
    problem: &'static str,
}

const fn known(name: &'static str, is_met: fn(&Value) -> bool, problem: &'static str) -> Known {
    Known { name, is_met, problem }
}

const SETTINGS: [&str; 4] = ["context", "kvTokens", "kv", "kernels"];

/// Those of `create`. JavaScript reads some of them itself.
const CREATE: &[Known] = &[
    known("model", |_| true, ""),
    known("wasm", |_| true, ""),
    known("hub", |_| true, ""),
    known("signal", |_| true, ""),
    known("prefixPacks", |_| true, ""),
    known("onProgress", is_function, "must be a function"),
    known("context", is_whole, "must be a whole number of tokens"),
    known("kvTokens", is_whole, "must be a whole number of tokens"),
    known("kv", Value::is_string, "must be a string"),
    known("kernels", Value::is_string, "must be a string"),
    known(
        "cache",
        |value| value.is_object() || value == false,
        "must be false, or an object such as { persist: false }; leave it out to keep KV on disk",
    ),
    known("weights", Value::is_object, "must be an object such as { persist: false }"),
    known("headers", is_headers, "must be an object of strings by header, such as { authorization: \"…\" }"),
    known("gpu", |_| false, NODE),
];

const CACHE: &[Known] = &[
    known("persist", Value::is_boolean, FLAG),
    known("budgetBytes", is_amount, "must be a number of bytes, such as 1e9"),
    known("ttlMs", is_amount, "must be a number of milliseconds"),
    known("memoryBytes", is_whole, "must be a whole number of bytes below 4 GiB"),
    known("salt", Value::is_string, TEXT),
    known("directory", |_| false, NODE),
];

const WEIGHTS: &[Known] = &[known("persist", Value::is_boolean, FLAG), known("directory", |_| false, NODE)];

pub const IMPORT: &[Known] = &[
    known("cache_salt", Value::is_string, TEXT),
    known("key", Value::is_string, "must be a string; leave it out to take a pack without a signature"),
];

pub const AUDIT: &[Known] = &[
    known("blocks", |value| is_whole(value) && value != 0, "must be a whole number of at least 1"),
    known("otherAdapter", Value::is_boolean, FLAG),
    known("cache_salt", Value::is_string, TEXT),
];

const FLAG: &str = "must be true or false";
const TEXT: &str = "must be a string";
const NODE: &str = "is an option in Node alone; leave it out";

const DAY_MS: f64 = 24.0 * 60.0 * 60.0 * 1e3;

fn is_amount(value: &Value) -> bool {
    value.as_f64().is_some_and(|amount| amount >= 0.0)
}

fn is_whole(value: &Value) -> bool {
    is_amount(value) && value.as_f64().is_some_and(|number| number.fract() == 0.0 && number <= f64::from(u32::MAX))
}

/// As the package writes one.
fn is_function(value: &Value) -> bool {
    value == "a function"
}

fn is_headers(value: &Value) -> bool {
    value.as_object().is_some_and(|headers| headers.values().all(Value::is_string))
}

/// Refuses what is not known, and values that are not allowed. `place` stands before the names.
///
/// # Errors
/// `bad_input` with the option.
pub fn check(options: &Value, place: &str, all: &[Known]) -> Result<()> {
    if !options.is_null() && !options.is_object() {
        return Err(js::bad_input("options", "must be an object"));
    }
    for (name, value) in options.as_object().into_iter().flatten() {
        let field = format!("{place}{name}");
        match all.iter().find(|known| known.name == name) {
            Some(known) if (known.is_met)(value) => {}
            Some(known) => return Err(js::bad_input(&field, known.problem)),
            None => {
                let problem = match nearest(name, all.iter().map(|known| known.name)) {
                    Some(near) => format!("is no option; did you mean {place}{near}?"),
                    None => {
                        let names: Vec<_> = all.iter().map(|known| known.name).collect();
                        format!("is no option; there are {}", names.join(", "))
                    }
                };
                return Err(js::bad_input(&field, &problem));
            }
        }
    }
    Ok(())
}

/// Checks the options of `create` and fills in defaults: `{ settings, kv, salt, caches, persistWeights }`, where `settings` are for
/// `WasmEngine.load`, and `kv` is null if no KV is kept on disk.
///
/// # Errors
/// `bad_input` with the option.
#[wasm_bindgen(js_name = createOptions)]
pub fn create_options(options: JsValue) -> Result<JsValue> {
    let options = js::read(&options)?;
    check(&options, "", CREATE)?;
    let (cache, weights) = (&options["cache"], &options["weights"]);
    let caches = cache != false;
    if caches {
        check(cache, "cache.", CACHE)?;
    }
    check(weights, "weights.", WEIGHTS)?;
    settings(&options).map_err(bad_input)?;

    let persists = |options: &Value| options["persist"] != false;
    let mut given: Value = SETTINGS.iter().map(|name| ((*name).to_owned(), options[*name].clone())).collect();
    given["memoryBytes"] = if caches { cache["memoryBytes"].clone() } else { json!(0) };
    let ttl = cache["ttlMs"].as_f64().unwrap_or(30.0 * DAY_MS);
    let kv = json!({ "budgetBytes": cache["budgetBytes"], "ttlMs": ttl });
    js::write(&json!({
        "settings": given,
        "kv": if caches && persists(cache) { kv } else { Value::Null },
        "salt": cache["salt"],
        "caches": caches,
        "persistWeights": persists(weights),
    }))
}
