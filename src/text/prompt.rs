//! A conversation as a request has it, read from JSON by every face alike.

use serde_json::{Map, Value};

use super::{Inputs, Message, PastThinking, parse_time};
use crate::error::{Error, Result};

/// A conversation, and what else a prompt is made of.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// A list of objects.
    pub tools: Option<Value>,
    /// Further variables of the template, over all others.
    pub template_kwargs: Option<Map<String, Value>>,
    /// What the template takes for now, in seconds since 1970.
    pub now: Option<i64>,
    /// Whether the answer begins a new turn, as by default; otherwise the prompt ends behind the last message.
    pub add_generation_prompt: bool,
    /// Whether the answer goes on with the last message.
    pub continue_final_message: bool,
    /// What becomes of thinking before the last question; by default what the template makes of it.
    pub past_thinking: Option<PastThinking>,
    /// Whether control tokens that messages and tools spell out are text.
    pub split_special_tokens: bool,
    /// The model that it names; an engine answers with its own.
    pub model: Option<String>,
    /// The salt that it names, for who compares prompts; a request has its own.
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
    /// What the template is given.
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

    /// Reads a message list, or an object with `messages` and what else there is here.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field, as `messages[i].content`.
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
            (Some(_), Some(_)) => return Err(wrong("now", "stands beside date; give one of them")),
            (Some(date), None) => Some(parse_time(&date)?),
            (None, Some(now)) => Some(now.as_i64().ok_or_else(|| wrong("now", "must be a whole number of seconds"))?),
            (None, None) => None,
        };
        prompt.tools = match given("tools") {
            Some(Value::Array(list)) if list.iter().all(Value::is_object) => Some(list.clone().into()),
            Some(_) => return Err(wrong("tools", "must be a list of objects")),
            None => None,
        };
        // The package for browsers has the shorter name.
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
            let problem = "stands beside add_generation_prompt, which begins a new turn; give one of them";
            return Err(wrong("continue_final_message", problem));
        }
        prompt.add_generation_prompt = begins.unwrap_or(!continues);
        prompt.continue_final_message = continues;
        prompt.past_thinking = text("past_thinking")?.map(|word| PastThinking::parse(&word)).transpose()?;
        prompt.split_special_tokens = flag("split_special_tokens")?.unwrap_or(false);
        Ok(prompt)
    }
}
