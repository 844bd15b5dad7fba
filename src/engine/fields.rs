//! The fields of a request: which are read, which may only say what is so anyway, and which one is meant by a name that is not
//! known. Nothing that a request asks for is passed over in silence.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

type Fields = Map<String, Value>;

/// Those that are read.
const READ: &[&str] = &[
    "add_generation_prompt",
    "add_special_tokens",
    "cache_salt",
    "chat_template_kwargs",
    "continue_final_message",
    "date",
    "exact",
    "frequency_penalty",
    "logit_bias",
    "logits",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "min_p",
    "model",
    "no_cache",
    "now",
    "past_thinking",
    "presence_penalty",
    "prompt",
    "repetition_penalty",
    "seed",
    "split_special_tokens",
    "stop",
    "temperature",
    "template_kwargs",
    "tokens",
    "tools",
    "top_k",
    "top_p",
];

/// Those that no answer depends on: how it is handed over, and notes for whoever counts and bills.
const IDLE: &[&str] = &[
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "stream",
    "stream_options",
    "user",
];

/// One that does nothing yet, and so may only ask for what is done anyway.
struct Fixed {
    name: &'static str,
    /// Whether a value, which is not null, asks for no more than that, beside the other fields.
    is_met: fn(&Value, &Fields) -> bool,
    /// What to say instead.
    problem: &'static str,
}

const FIXED: &[Fixed] = &[
    fixed("audio", |_, _| false, "is not supported: models write text alone; leave it out"),
    fixed("best_of", is_one, "must be 1: ask again for another answer"),
    fixed("echo", is_false, "must be false: put the prompt before the answer yourself"),
    fixed("function_call", is_free_choice, "must be \"auto\": nothing holds the model to a call"),
    fixed("functions", is_empty, "is OpenAI's older name of tools: give them as tools"),
    fixed("ignore_eos", is_false, "must be false: an answer ends where the model ends it"),
    fixed("logprobs", is_false, "must be false: no probabilities are told"),
    fixed("min_tokens", is_zero, "must be 0: an answer ends where the model ends it"),
    fixed("modalities", is_text_alone, "must be [\"text\"]: models write text alone"),
    fixed("n", is_one, "must be 1: ask again for each further answer"),
    fixed("parallel_tool_calls", |value, _| value == true, "must be true: nothing keeps the model from several calls"),
    fixed("prediction", |_, _| false, "is not supported: nothing is made of it; leave it out"),
    fixed(
        "reasoning_effort",
        |_, _| false,
        "is not supported: give template_kwargs what the model's template asks for",
    ),
    fixed(
        "response_format",
        is_text_format,
        "must be { \"type\": \"text\" }: nothing holds an answer to a form; ask for it in a message",
    ),
    fixed("service_tier", |value, _| value == "auto" || value == "default", "must be \"auto\": there is one tier"),
    fixed("store", is_false, "must be false: no answer is stored for later"),
    fixed(
        "suffix",
        |value, _| value == "",
        "is not supported: an answer goes on from the prompt, toward no end; leave it out",
    ),
    fixed(
        "tool_choice",
        is_free_choice,
        "must be \"auto\": nothing holds the model to a call, or keeps it from one; to have none, leave tools out",
    ),
    fixed("top_logprobs", is_zero, "must be 0: no probabilities are told"),
    fixed(
        "verbosity",
        |value, _| value == "medium",
        "must be \"medium\": ask for a short or a long answer in a message",
    ),
    fixed("web_search_options", |_, _| false, "is not supported: nothing is searched; leave it out"),
];

const fn fixed(name: &'static str, is_met: fn(&Value, &Fields) -> bool, problem: &'static str) -> Fixed {
    Fixed { name, is_met, problem }
}

/// Refuses a request with a field that is not known, or that asks for what is not done. What is no object has no fields.
///
/// # Errors
/// [`Error::UnknownField`] and [`Error::Request`].
pub(super) fn check(request: &Value) -> Result<()> {
    check_names(request)?;
    let Some(fields) = request.as_object() else { return Ok(()) };
    let is_unmet = |fixed: &&Fixed| given(fields, fixed.name).is_some_and(|value| !(fixed.is_met)(value, fields));
    match FIXED.iter().find(is_unmet) {
        None => Ok(()),
        Some(Fixed { name, problem, .. }) => Err(Error::Request { field: name, problem: (*problem).into() }),
    }
}

/// Refuses a request with a field that is not known, and takes the others whatever they say: for who makes a prompt of it alone.
///
/// # Errors
/// [`Error::UnknownField`].
pub(super) fn check_names(request: &Value) -> Result<()> {
    let names = || READ.iter().chain(IDLE).copied().chain(FIXED.iter().map(|fixed| fixed.name));
    let mut fields = request.as_object().into_iter().flatten();
    let Some((name, _)) = fields.find(|(name, value)| !value.is_null() && !names().any(|known| known == *name)) else {
        return Ok(());
    };
    let problem = match nearest(name, names()) {
        Some(near) => format!("is no field of a request; did you mean {near}?"),
        None => "is no field of a request that is known here; leave it out".into(),
    };
    Err(Error::UnknownField { name: name.clone(), problem })
}

fn given<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn is_one(value: &Value, _: &Fields) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_zero(value: &Value, _: &Fields) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_false(value: &Value, _: &Fields) -> bool {
    value == false
}

fn is_empty(value: &Value, _: &Fields) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn is_text_alone(value: &Value, _: &Fields) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(|one| one == "text"))
}

fn is_text_format(value: &Value, _: &Fields) -> bool {
    value.get("type").is_some_and(|kind| kind == "text")
}

/// The model may call what it is shown; of nothing it calls nothing.
fn is_free_choice(value: &Value, fields: &Fields) -> bool {
    let shows_tools = given(fields, "tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
    value == "auto" || value == "none" && !shows_tools
}

/// Names longer than this are nobody's slip.
const MAX_NAME: usize = 40;

/// The one of `names` that `name` is a slip of, if any: the same but for the case and underscores, or a third of the letters.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let letters = |name: &str| -> Vec<char> { name.to_lowercase().chars().filter(|c| !"_- ".contains(*c)).collect() };
    let given = letters(name);
    let known = names.map(|known| (distance(&given, &letters(known)), known)).min();
    known.filter(|(apart, _)| apart * 3 <= given.len()).map(|(_, known)| known)
}

/// Letters to put in, to leave out or to change, from one to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], index + 1);
        for (at, other) in to.iter().enumerate() {
            let changed = before + usize::from(letter != other);
            before = row[at + 1];
            row[at + 1] = changed.min(before + 1).min(row[at] + 1);
        }
    }
    row[to.len()]
}
