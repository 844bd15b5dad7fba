//! Turns an input into the tokens of a prompt, for every face.

use super::{explain::Conversation, openai::Input, packs};
use crate::error::{Error, Result};
pub use crate::model::language::{template, tokenizer};
use crate::text::{ChatTemplate, Prompt, Tokenizer};
use crate::weights::Checkpoint;

/// The tokenizer and the chat template of a model. If there is no template, it holds the reason.
pub struct Language {
    /// The model's tokenizer, also for plain text.
    pub tokenizer: Tokenizer,
    template: Result<ChatTemplate>,
}

impl Language {
    /// # Errors
    /// As [`tokenizer`]. A missing or broken template is reported when one is needed.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self { tokenizer: tokenizer(checkpoint)?, template: template(checkpoint) })
    }

    /// # Errors
    /// As [`template`].
    #[doc(hidden)]
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().map_err(Error::clone)
    }

    /// The tokens of a prompt, up to where the answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] if the template refuses the messages, and as [`Language::template`].
    pub fn tokens(&self, input: &Input) -> Result<Vec<u32>> {
        match input {
            Input::Conversation(prompt) => self.template()?.encode(&self.tokenizer, &prompt.inputs()),
            Input::Text(text) => self.tokenizer.encode_text(text),
            Input::Exactly(text) => self.tokenizer.encode(text),
            Input::Tokens(tokens) => Ok(tokens.clone()),
        }
    }

    /// The same, with the origin of each token.
    ///
    /// # Errors
    /// As [`Language::tokens`].
    pub fn conversation(&self, input: &Input) -> Result<Conversation> {
        match input {
            Input::Conversation(prompt) => Conversation::new(self.template()?, &self.tokenizer, &prompt.inputs()),
            Input::Text(_) | Input::Exactly(_) | Input::Tokens(_) => Ok(Conversation::raw(self.tokens(input)?)),
        }
    }

    /// Warnings about the prompt, one sentence each.
    pub fn warnings(&self, input: &Input) -> Vec<String> {
        match (input, &self.template) {
            (Input::Conversation(prompt), Ok(template)) => {
                let inputs = prompt.inputs();
                let spelt_out = template.spelt_out(&self.tokenizer, &inputs).map(|(message, token)| {
                    format!("message {message} spells {token} out, which the model reads as its own; with split_special_tokens it is text")
                });
                template.warnings(&inputs).into_iter().chain(spelt_out).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The tokens with which all continuations of this conversation begin, and which are worth computing ahead. Empty
    /// if the template begins with the question.
    ///
    /// # Errors
    /// As [`Language::tokens`].
    pub fn shared(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        packs::shared_prefix(self.template()?, &self.tokenizer, &prompt.inputs())
    }

    /// The time that the template uses for now.
    pub fn now(&self) -> Option<i64> {
        self.template.as_ref().ok().map(ChatTemplate::now)
    }
}
