//! Reads requests in the shape of OpenAI's API from JSON, for every face.
//!
//! Null counts as absent, and everything else is checked: a field of the wrong type, one that asks for what is not done, and an
//! unknown one are errors that name it, not defaults ([`fields`]).

use serde_json::Value;

pub use super::fields::nearest;
use super::{Request, fields};
use crate::{
    error::{Error, Result},
    model::Config,
    sample::SamplingOverrides,
    text::{Message, Prompt, StopStrings},
};

/// The input of a request.
pub enum Input {
    /// Messages, which the model's chat template renders.
    Conversation(Box<Prompt>),
    /// Plain text without the chat template, with BOS if the model uses it.
    Text(String),
    /// Plain text without BOS.
    Exactly(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// A whole request.
pub struct Body {
    /// The prompt, before templates and tokens.
    pub input: Input,
    /// Most tokens of the answer; by default what the context leaves.
    pub max_tokens: Option<usize>,
    /// Overrides of the model's sampling parameters.
    pub sampling: SamplingOverrides,
    /// Stop strings. The answer ends before the first of them.
    pub stops: StopStrings,
    /// Only requests of the same salt share KV; `None` is the empty salt.
    pub cache_salt: Option<String>,
    /// Reuse only what is bit-identical to a cold run.
    pub exact: bool,
    /// Reuse nothing, and store nothing beyond the GPU.
    pub no_cache: bool,
    /// Report the logits of every token of the answer.
    pub logits: bool,
}

impl Input {
    /// Reads a list of messages, or an object with one of `messages`, `prompt` and `tokens`. What else a request asks of its answer
    /// is not looked at.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field, or [`Error::UnknownField`].
    pub fn read(request: &Value) -> Result<Self> {
        fields::check_names(request)?;
        let conversation = request.is_array() || given(request, "messages").is_some();
        match (conversation, text(request, "prompt")?, tokens(request, "tokens")?) {
            (true, None, None) => Ok(Self::Conversation(Prompt::read(request)?.into())),
            (false, Some(text), None) => match given(request, "add_special_tokens") {
                Some(_) if !flag(request, "add_special_tokens")? => Ok(Self::Exactly(text)),
                _ => Ok(Self::Text(text)),
            },
            (false, None, Some(tokens)) => Ok(Self::Tokens(tokens)),
            _ => Err(wrong("request", "needs one of messages, prompt and tokens")),
        }
    }
}

impl From<Vec<Message>> for Input {
    /// A conversation without tools, as [`Prompt`] has it by default.
    fn from(messages: Vec<Message>) -> Self {
        Self::Conversation(Box::new(messages.into()))
    }
}

impl From<Input> for Body {
    /// A request with defaults for everything else.
    fn from(input: Input) -> Self {
        let (sampling, stops) = Default::default();
        Self {
            input,
            max_tokens: None,
            sampling,
            stops,
            cache_salt: None,
            exact: false,
            no_cache: false,
            logits: false,
        }
    }
}

impl Body {
    /// # Errors
    /// [`Error::Request`] naming the field, or [`Error::UnknownField`].
    pub fn read(request: &Value) -> Result<Self> {
        fields::check(request)?;
        let most = whole(request, "max_completion_tokens")?.or(whole(request, "max_tokens")?);
        if most == Some(0) {
            return Err(wrong("max_tokens", "must be at least 1"));
        }
        Ok(Self {
            input: Input::read(request)?,
            max_tokens: most,
            sampling: sampling(request)?,
            stops: StopStrings::new(stops(request)?)?,
            cache_salt: text(request, "cache_salt")?,
            exact: flag(request, "exact")?,
            no_cache: flag(request, "no_cache")?,
            logits: flag(request, "logits")?,
        })
    }

    /// The engine's request for `tokens`, which the input was turned into.
    pub fn request(
        &self,
        tokens: Vec<u32>,
        config: &Config,
        context: usize,
        new_seed: impl FnOnce() -> u64,
    ) -> Request {
        Request {
            max_tokens: self.max_tokens.unwrap_or(context.saturating_sub(tokens.len()).max(1)),
            tokens,
            sampling: self.sampling.over(&config.sampling.params(), new_seed),
            stop_tokens: config.stop_tokens.clone(),
            no_cache: self.no_cache,
            exact: self.exact,
            cache_salt: self.cache_salt.clone().unwrap_or_default(),
            explain: true,
            logits: self.logits,
            ..Request::default()
        }
    }
}

/// The conversation of a request, for who makes a prompt of it alone.
///
/// # Errors
/// As [`Input::read`].
pub fn conversation(request: &Value) -> Result<Prompt> {
    fields::check_names(request)?;
    Prompt::read(request)
}

fn sampling(request: &Value) -> Result<SamplingOverrides> {
    let float = |field| number(request, field).map(|value| value.map(|value| value as f32));
    Ok(SamplingOverrides {
        temperature: float("temperature")?,
        top_k: whole(request, "top_k")?.map(|k| u32::try_from(k).unwrap_or(u32::MAX)),
        top_p: float("top_p")?,
        min_p: float("min_p")?,
        repetition_penalty: float("repetition_penalty")?,
        presence_penalty: float("presence_penalty")?,
        frequency_penalty: float("frequency_penalty")?,
        logit_bias: biases(request)?,
        seed: seed(request)?,
    })
}

fn biases(request: &Value) -> Result<Vec<(u32, f32)>> {
    let Some(biases) = given(request, "logit_bias") else { return Ok(Vec::new()) };
    let pair = |(id, bias): (&String, &Value)| Some((id.parse().ok()?, bias.as_f64()? as f32));
    let pairs = biases.as_object().and_then(|biases| biases.iter().map(pair).collect());
    pairs.ok_or_else(|| wrong("logit_bias", "must be an object of numbers by token id"))
}

fn seed(request: &Value) -> Result<Option<u64>> {
    let Some(seed) = given(request, "seed") else { return Ok(None) };
    let float = || seed.as_f64().filter(|seed| seed.fract() == 0.0 && seed.abs() <= i64::MAX as f64);
    let whole = seed.as_u64().or(seed.as_i64().map(|seed| seed as u64)).or_else(|| Some(float()? as i64 as u64));
    whole.map(Some).ok_or_else(|| wrong("seed", "must be a whole number"))
}

fn stops(request: &Value) -> Result<Vec<String>> {
    match given(request, "stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop.clone()]),
        Some(stops) => {
            let text = |stop: &Value| stop.as_str().map(str::to_owned);
            let list = stops.as_array().and_then(|list| list.iter().map(text).collect());
            list.ok_or_else(|| wrong("stop", "must be a string or a list of strings"))
        }
    }
}

fn tokens(request: &Value, field: &'static str) -> Result<Option<Vec<u32>>> {
    let Some(tokens) = given(request, field) else { return Ok(None) };
    let id = |token: &Value| token.as_u64().and_then(|token| u32::try_from(token).ok());
    let list: Option<Vec<u32>> = tokens.as_array().and_then(|list| list.iter().map(id).collect());
    list.map(Some).ok_or_else(|| wrong(field, "must be a list of token ids"))
}

/// Reads a count.
///
/// # Errors
/// [`Error::Request`] for anything else, and for values beyond 32 bits.
pub fn whole(request: &Value, field: &'static str) -> Result<Option<usize>> {
    let Some(value) = number(request, field)? else { return Ok(None) };
    let fits = value >= 0.0 && value.fract() == 0.0 && value <= f64::from(u32::MAX);
    if fits { Ok(Some(value as usize)) } else { Err(wrong(field, "must be a whole number")) }
}

fn flag(request: &Value, field: &'static str) -> Result<bool> {
    match given(request, field) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong(field, "must be true or false")),
    }
}

/// # Errors
/// [`Error::Request`] for anything but a string.
pub fn text(request: &Value, field: &'static str) -> Result<Option<String>> {
    let Some(value) = given(request, field) else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong(field, "must be a string"))
}

fn number(request: &Value, field: &'static str) -> Result<Option<f64>> {
    let Some(value) = given(request, field) else { return Ok(None) };
    value.as_f64().map(Some).ok_or_else(|| wrong(field, "must be a number"))
}

/// A field that is present; null counts as absent.
fn given<'a>(request: &'a Value, field: &str) -> Option<&'a Value> {
    request.get(field).filter(|value| !value.is_null())
}

fn wrong(field: &'static str, problem: &str) -> Error {
    Error::Request { field, problem: problem.into() }
}
