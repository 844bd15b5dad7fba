//! A conversation and its options, read from the JSON that the command line, the package and the library share.

use serde_json::{Map, Value};

use super::{Inputs, Message, PastThinking, parse_time};
use crate::error::{Error, Result};

/// A conversation, and the options of its prompt.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The conversation, oldest message first.
    pub messages: Vec<Message>,
    /// Tools in OpenAI's form: a list of objects.
    pub tools: Option<Value>,
    /// Further variables of the template; they override all others.
    pub template_kwargs: Option<Map<String, Value>>,
    /// The time that the template sees, in seconds since 1970; by default the clock's.
    pub now: Option<i64>,
    /// Whether the answer begins a new turn, which is the default. Otherwise the prompt ends after the last message.
    pub add_generation_prompt: bool,
    /// Whether the answer continues the last message.
    pub continue_final_message: bool,
    /// Whether to keep or strip the thinking before the last question; by default the template decides.
    pub past_thinking: Option<PastThinking>,
    /// Whether control tokens spelt out in messages and tools are encoded as plain text.
    pub split_special_tokens: bool,
    /// The model that the request names; an engine answers with its own.
    pub model: Option<String>,
    /// The cache salt that the request names, for comparing prompts; a `Request` has its own.
    pub cache_salt: Option<String>,
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            tools: None,
            template_kwargs: None,
            now: None,
            add_generation_prompt: true,
            continue_final_message: false,
            past_thinking: None,
            split_special_tokens: false,
            model: None,
            cache_salt: None,
        }
    }
}

impl Prompt {
    /// The template's inputs.
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            messages: &self.messages,
            tools: self.tools.as_ref(),
            add_generation_prompt: self.add_generation_prompt,
            continue_final_message: self.continue_final_message,
            past_thinking: self.past_thinking,
            split_special_tokens: self.split_special_tokens,
            extra: self.template_kwargs.as_ref(),
            now: self.now,
            ..Inputs::default()
        }
    }

    /// Reads a list of messages, or an object with `messages` and any other field of [`Prompt`].
    ///
    /// # Errors
    /// [`Error::Request`] that names the field, such as `messages[i].content`.
    pub fn read(value: &Value) -> Result<Self> {
        let mut prompt = Self::from(Message::list(value.get("messages").unwrap_or(value))?);
        let Some(fields) = value.as_object() else { return Ok(prompt) };
        let wrong = |field: &'static str, problem: &str| Error::Request { field, problem: problem.into() };
        let given = |field: &str| fields.get(field).filter(|value| !value.is_null());
        let text = |field: &'static str| {
            let text =
                |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(field, "must be a string"));
            given(field).map(text).transpose()
        };
        (prompt.model, prompt.cache_salt) = (text("model")?, text("cache_salt")?);
        prompt.now = match (text("date")?, given("now")) {
            (Some(_), Some(_)) => return Err(wrong("now", "is given beside date; give one of them")),
            (Some(date), None) => Some(parse_time(&date)?),
            (None, Some(now)) => Some(now.as_i64().ok_or_else(|| wrong("now", "must be a whole number of seconds"))?),
            (None, None) => None,
        };
        prompt.tools = match given("tools") {
            Some(Value::Array(list)) if list.iter().all(Value::is_object) => Some(list.clone().into()),
            Some(_) => return Err(wrong("tools", "must be a list of objects")),
            None => None,
        };
        // The browser package uses the shorter name.
        let kwargs = ["chat_template_kwargs", "template_kwargs"].map(|name| Some((name, given(name)?)));
        prompt.template_kwargs = match kwargs.into_iter().flatten().next() {
            Some((_, Value::Object(fields))) => Some(fields.clone()),
            Some((name, _)) => return Err(wrong(name, "must be an object")),
            None => None,
        };
        let flag = |field: &'static str| {
            let flag = |value: &Value| value.as_bool().ok_or_else(|| wrong(field, "must be true or false"));
            given(field).map(flag).transpose()
        };
        let (begins, continues) = (flag("add_generation_prompt")?, flag("continue_final_message")?.unwrap_or(false));
        if continues && begins == Some(true) {
            let problem = "is given beside add_generation_prompt, which begins a new turn; give one of them";
            return Err(wrong("continue_final_message", problem));
        }
        prompt.add_generation_prompt = begins.unwrap_or(!continues);
        prompt.continue_final_message = continues;
        prompt.past_thinking = text("past_thinking")?.map(|word| PastThinking::parse(&word)).transpose()?;
        prompt.split_special_tokens = flag("split_special_tokens")?.unwrap_or(false);
        Ok(prompt)
    }
}
