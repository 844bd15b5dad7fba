//! Requests and what prompts are made of, read from plain objects.

use headstart::{
    engine::{explain::Conversation, packs::shared_prefix},
    error::{Error, Result},
    sample::SamplingOverrides,
    text::{ChatTemplate, Prompt, Tokenizer},
};
use serde_json::Value;

/// What prompts are made with. A model may have no template, and then why.
pub struct Language {
    pub tokenizer: Tokenizer,
    template: Result<ChatTemplate, String>,
}

impl Language {
    pub fn new(tokenizer: Tokenizer, template: Result<ChatTemplate>) -> Self {
        let template = template.map_err(|error| match error {
            Error::Template { problem } => problem,
            other => other.to_string(),
        });
        Self { tokenizer, template }
    }

    pub fn has_template(&self) -> bool {
        self.template.is_ok()
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().map_err(|problem| Error::Template { problem: problem.clone() })
    }

    /// The tokens of a prompt, up to where the answer begins.
    pub fn tokens(&self, input: &Input) -> Result<Vec<u32>> {
        match input {
            Input::Conversation(prompt) => self.tokenizer.encode(&self.template()?.render_inputs(&prompt.inputs())?),
            Input::Text(text) => self.tokenizer.encode_text(text),
            Input::Exactly(text) => self.tokenizer.encode(text),
            Input::Tokens(tokens) => Ok(tokens.clone()),
        }
    }

    /// The same, and who made which of them.
    pub fn conversation(&self, input: &Input) -> Result<Conversation> {
        match input {
            Input::Conversation(prompt) => Conversation::new(self.template()?, &self.tokenizer, &prompt.inputs()),
            _ => Ok(Conversation::raw(self.tokens(input)?)),
        }
    }

    /// What a person may not expect of the prompt.
    pub fn warnings(&self, input: &Input) -> Vec<String> {
        match (input, &self.template) {
            (Input::Conversation(prompt), Ok(template)) => template.warnings(&prompt.inputs()),
            _ => Vec::new(),
        }
    }

    /// The beginning of a conversation that later ones share.
    pub fn shared(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        shared_prefix(self.template()?, &self.tokenizer, &prompt.inputs())
    }

    /// What the template takes for now.
    pub fn now(&self) -> Option<i64> {
        self.template.as_ref().ok().map(ChatTemplate::now)
    }
}

/// What is to be answered.
pub enum Input {
    Conversation(Box<Prompt>),
    /// With BOS, where the model asks for it.
    Text(String),
    /// Without.
    Exactly(String),
    Tokens(Vec<u32>),
}

impl Input {
    pub fn read(request: &Value) -> Result<Self> {
        let messages = given(request, "messages");
        match (messages, text(request, "prompt")?, tokens(request, "tokens")?) {
            (Some(_), None, None) => Ok(Self::Conversation(Box::new(conversation(request)?))),
            (None, Some(text), None) => match given(request, "add_special_tokens") {
                Some(_) if !flag(request, "add_special_tokens")? => Ok(Self::Exactly(text)),
                _ => Ok(Self::Text(text)),
            },
            (None, None, Some(tokens)) => Ok(Self::Tokens(tokens)),
            _ => Err(wrong("request", "needs one of messages, prompt and tokens")),
        }
    }
}

/// Messages and what belongs to them.
pub fn conversation(request: &Value) -> Result<Prompt> {
    let mut request = request.clone();
    if let Some(fields) = request.as_object_mut()
        && let Some(extra) = fields.remove("template_kwargs")
    {
        fields.insert("chat_template_kwargs".into(), extra);
    }
    Prompt::read(&request)
}

pub fn sampling(request: &Value) -> Result<SamplingOverrides> {
    let float = |field| number(request, field).map(|value| value.map(|value| value as f32));
    let mut logit_bias = Vec::new();
    if let Some(biases) = given(request, "logit_bias") {
        let biases =
            biases.as_object().ok_or_else(|| wrong("logit_bias", "must be an object of numbers by token id"))?;
        for (id, bias) in biases {
            let pair = id.parse().ok().zip(bias.as_f64().map(|bias| bias as f32));
            logit_bias.push(pair.ok_or_else(|| wrong("logit_bias", "must be an object of numbers by token id"))?);
        }
    }
    Ok(SamplingOverrides {
        temperature: float("temperature")?,
        top_k: whole(request, "top_k")?.map(|k| u32::try_from(k).unwrap_or(u32::MAX)),
        top_p: float("top_p")?,
        min_p: float("min_p")?,
        repetition_penalty: float("repetition_penalty")?,
        presence_penalty: float("presence_penalty")?,
        frequency_penalty: float("frequency_penalty")?,
        logit_bias,
        seed: number(request, "seed")?.map(|seed| seed as i64 as u64),
    })
}

pub fn stops(request: &Value) -> Result<Vec<String>> {
    let Some(stops) = given(request, "stop") else { return Ok(Vec::new()) };
    let text = |stop: &Value| stop.as_str().map(str::to_owned);
    let list = stops.as_array().and_then(|list| list.iter().map(text).collect());
    list.ok_or_else(|| wrong("stop", "must be a list of strings"))
}

pub fn tokens(request: &Value, field: &'static str) -> Result<Option<Vec<u32>>> {
    let Some(tokens) = given(request, field) else { return Ok(None) };
    let id = |token: &Value| token.as_u64().and_then(|token| u32::try_from(token).ok());
    let list: Option<Vec<u32>> = tokens.as_array().and_then(|list| list.iter().map(id).collect());
    list.map(Some).ok_or_else(|| wrong(field, "must be a list of token ids"))
}

pub fn whole(request: &Value, field: &'static str) -> Result<Option<usize>> {
    let Some(value) = number(request, field)? else { return Ok(None) };
    let fits = value >= 0.0 && value.fract() == 0.0 && value <= f64::from(u32::MAX);
    if fits { Ok(Some(value as usize)) } else { Err(wrong(field, "must be a whole number")) }
}

pub fn flag(request: &Value, field: &'static str) -> Result<bool> {
    match given(request, field) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong(field, "must be true or false")),
    }
}

pub fn text(request: &Value, field: &'static str) -> Result<Option<String>> {
    let Some(value) = given(request, field) else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong(field, "must be a string"))
}

fn number(request: &Value, field: &'static str) -> Result<Option<f64>> {
    let Some(value) = given(request, field) else { return Ok(None) };
    value.as_f64().map(Some).ok_or_else(|| wrong(field, "must be a number"))
}

/// A field that is there; null counts as absent.
fn given<'a>(request: &'a Value, field: &str) -> Option<&'a Value> {
    request.get(field).filter(|value| !value.is_null())
}

fn wrong(field: &'static str, problem: &str) -> Error {
    Error::Request { field, problem: problem.into() }
}
