//! The settings that `/set` can change during a conversation. They have the names and meanings of the flags.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use super::generate::{AnswerArgs, MAX_TOKENS};
use super::sampling::{SamplingArgs, logit_bias};
use crate::chat::session::new_seed;
use crate::engine::openai::Body;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::sample::{SamplingOverrides, SamplingParams};
use crate::text::{PastThinking, StopStrings, parse_time};

/// The name of each setting, and its meaning.
const NAMES: [(&str, &str); 15] = [
    ("temperature", "divides the logits; 0 is greedy"),
    ("top_k", "keep the K best tokens"),
    ("top_p", "keep the fewest best tokens whose probabilities reach P"),
    ("min_p", "drop tokens below P times the best one's probability"),
    ("repetition_penalty", "weaken tokens that prompt or answer already hold; 1 is off"),
    ("presence_penalty", "weaken tokens that the answer already holds; 0 is off"),
    ("frequency_penalty", "weaken tokens for each time the answer holds them; 0 is off"),
    ("logit_bias", "ID=V adds V to the logit of token ID; several with spaces between"),
    ("seed", "the same seed gives the same answers"),
    ("max_tokens", "most tokens of an answer"),
    ("stop", "end the answer before this text; \"\\n\" is a line break"),
    ("date", "what the chat template takes for today, such as 2026-11-23"),
    ("past_thinking", "what was thought before the last question: keep or strip"),
    ("split_special_tokens", "control tokens that messages spell out stay text: true or false"),
    ("exact", "reuse only what is bit-identical to a cold run: true or false"),
];

#[derive(Clone)]
pub(crate) struct Settings {
    sampling: SamplingOverrides,
    answer: AnswerArgs,
    exact: bool,
    /// The seed that is used if none is set.
    drawn: u64,
}

impl Settings {
    pub(crate) fn new(sampling: &SamplingArgs, answer: &AnswerArgs, exact: bool) -> Self {
        Self { sampling: sampling.wishes(), answer: answer.clone(), exact, drawn: new_seed() }
    }

    /// The model's sampling parameters with the settings over them.
    ///
    /// # Errors
    /// [`Error::Request`] for a value that is out of range.
    pub(crate) fn sampling(&self, model: &Config) -> Result<SamplingParams> {
        let params = self.sampling.over(&model.sampling.params(), || self.drawn);
        params.validate(model.vocab).map(|()| params)
    }

    /// # Errors
    /// As [`StopStrings::new`].
    pub(crate) fn stops(&self) -> Result<StopStrings> {
        StopStrings::new(&self.answer.stop)
    }

    pub(crate) fn max_tokens(&self) -> usize {
        self.answer.max_tokens.unwrap_or(MAX_TOKENS)
    }

    /// Puts the settings into a request.
    ///
    /// # Errors
    /// As [`Settings::stops`].
    pub(crate) fn over(&self, body: &mut Body) -> Result<()> {
        self.answer.over(body)?;
        body.exact = self.exact;
        body.sampling = SamplingOverrides { seed: self.sampling.seed.or(Some(self.drawn)), ..self.sampling.clone() };
        Ok(())
    }

    pub(crate) fn exact(&self) -> bool {
        self.exact
    }

    /// Sets a value. The value `default` is the one without a flag.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown name or a wrong value. Nothing changes then.
    pub(crate) fn set(&mut self, name: &str, value: &str, model: &Config) -> Result<()> {
        let (name, given) = (known(name)?, Some(value).filter(|value| *value != "default"));
        let mut changed = self.clone();
        let Self { sampling, answer, exact, .. } = &mut changed;
        match name {
            "temperature" => sampling.temperature = read(name, given, "a number")?,
            "top_k" => sampling.top_k = read(name, given, "a whole number")?,
            "top_p" => sampling.top_p = read(name, given, "a number")?,
            "min_p" => sampling.min_p = read(name, given, "a number")?,
            "repetition_penalty" => sampling.repetition_penalty = read(name, given, "a number")?,
            "presence_penalty" => sampling.presence_penalty = read(name, given, "a number")?,
            "frequency_penalty" => sampling.frequency_penalty = read(name, given, "a number")?,
            "logit_bias" => {
                let biases =
                    given.into_iter().flat_map(str::split_whitespace).map(logit_bias).collect::<Result<_, _>>();
                sampling.logit_bias = biases.map_err(|problem| refused(name, problem.to_owned()))?;
            }
            "seed" => sampling.seed = read(name, given, "a whole number")?,
            "max_tokens" => answer.max_tokens = read(name, given, "a whole number")?,
            "stop" => answer.stop = given.map(unquoted).into_iter().collect(),
            "date" => answer.date = given.map(parse_time).transpose()?,
            "past_thinking" => answer.past_thinking = given.map(PastThinking::parse).transpose()?,
            "split_special_tokens" => {
                answer.split_special_tokens = read(name, given, "true or false")?.unwrap_or_default();
            }
            _ => *exact = read(name, given, "true or false")?.unwrap_or_default(),
        }
        if changed.answer.max_tokens == Some(0) {
            return Err(refused(name, "0 leaves no answer; give at least 1".into()));
        }
        changed.stops()?;
        changed.sampling(model)?;
        *self = changed;
        Ok(())
    }

    /// One setting, or all, one a line.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that is not known.
    pub(crate) fn shown(&self, name: Option<&str>, model: &Config) -> Result<String> {
        let only = name.map(known).transpose()?;
        let sampling = self.sampling(model)?;
        let named = NAMES.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let rows: Vec<_> = named.map(|(name, meaning)| (name, self.value(name, &sampling), meaning)).collect();
        let width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        Ok(rows.iter().map(|(name, value, meaning)| format!("{name:<20}  {value:<width$}  {meaning}\n")).collect())
    }

    fn value(&self, name: &str, sampling: &SamplingParams) -> String {
        let or = |value: Option<String>, unset: &str| value.unwrap_or_else(|| unset.to_owned());
        match name {
            "temperature" => sampling.temperature.to_string(),
            "top_k" => or(sampling.top_k.map(|k| k.to_string()), "off"),
            "top_p" => sampling.top_p.to_string(),
            "min_p" => sampling.min_p.to_string(),
            "repetition_penalty" => sampling.repetition_penalty.to_string(),
            "presence_penalty" => sampling.presence_penalty.to_string(),
            "frequency_penalty" => sampling.frequency_penalty.to_string(),
            "logit_bias" => match sampling.logit_bias.as_slice() {
                [] => "off".to_owned(),
                biases => biases.iter().map(|(id, bias)| format!("{id}={bias}")).collect::<Vec<_>>().join(" "),
            },
            "seed" => sampling.seed.to_string(),
            "max_tokens" => self.max_tokens().to_string(),
            "stop" => match self.answer.stop.as_slice() {
                [] => "off".to_owned(),
                stops => stops.iter().map(|stop| format!("{stop:?}")).collect::<Vec<_>>().join(" "),
            },
            "date" => or(self.answer.date.map(time), "today"),
            "past_thinking" => match self.answer.past_thinking {
                Some(PastThinking::Keep) => "keep".to_owned(),
                Some(PastThinking::Strip) => "strip".to_owned(),
                None => "as the template does".to_owned(),
            },
            "split_special_tokens" => self.answer.split_special_tokens.to_string(),
            _ => self.exact.to_string(),
        }
    }
}

/// What a chat cannot change: its KV and its kernels depend on it.
const AT_START: [&str; 4] = ["context", "quantize", "kernels", "kv"];

/// The name in its one spelling; `-` may stand for `_`.
fn known(name: &str) -> Result<&'static str> {
    let meant = name.trim_start_matches('-').replace('-', "_");
    if AT_START.contains(&meant.as_str()) {
        return Err(refused("set", format!("{meant} is chosen when the chat begins, with --{meant}")));
    }
    let found = NAMES.iter().find(|(known, _)| *known == meant);
    found.map(|(name, _)| *name).ok_or_else(|| {
        let names = NAMES.map(|(name, _)| name).join(", ");
        refused("set", format!("{name} is not known; system, {names} are"))
    })
}

fn read<T: FromStr>(name: &'static str, value: Option<&str>, what: &str) -> Result<Option<T>> {
    let read = |value: &str| value.parse().map_err(|_| refused(name, format!("{value} is not {what}")));
    value.map(read).transpose()
}

/// The content of a JSON string; other text as it is.
pub(crate) fn unquoted(text: &str) -> String {
    serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())
}

/// Seconds since 1970 as a date, if they can be one.
fn time(seconds: i64) -> String {
    let since = u64::try_from(seconds).ok().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let shown = since.map(|since| humantime::format_rfc3339_seconds(since).to_string());
    let shown = shown.unwrap_or_else(|| seconds.to_string());
    shown.trim_end_matches('Z').trim_end_matches("T00:00:00").to_owned()
}

fn refused(field: &'static str, problem: String) -> Error {
    Error::Request { field, problem }
}
