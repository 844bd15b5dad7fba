//! The tokenizer and chat template of a checkpoint, whichever kind it is: the one place where what `weights` read meets
//! what `text` asks for.

use serde_json::Value;

use super::{explain::Conversation, openai::Input, packs};
use crate::error::{Error, Result};
use crate::text::{ChatTemplate, GgufVocab, Prompt, Tokenizer};
use crate::weights::{Checkpoint, Fields, GgufMetadata, Metadata};

/// What prompts are made with. A model may have no template, and then why.
pub struct Language {
    pub tokenizer: Tokenizer,
    template: Result<ChatTemplate>,
}

impl Language {
    /// # Errors
    /// As [`tokenizer`]; a template that is missing or wrong is told where one is needed.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self { tokenizer: tokenizer(checkpoint)?, template: template(checkpoint) })
    }

    /// # Errors
    /// As [`template`].
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().map_err(Error::clone)
    }

    /// The tokens of a prompt, up to where the answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] where the template refuses the messages, and as [`Language::template`].
    pub fn tokens(&self, input: &Input) -> Result<Vec<u32>> {
        match input {
            Input::Conversation(prompt) => self.tokenizer.encode(&self.template()?.render_inputs(&prompt.inputs())?),
            Input::Text(text) => self.tokenizer.encode(text),
            Input::Tokens(tokens) => Ok(tokens.clone()),
        }
    }

    /// The same, and who made which of them.
    ///
    /// # Errors
    /// As [`Language::tokens`].
    pub fn conversation(&self, input: &Input) -> Result<Conversation> {
        match input {
            Input::Conversation(prompt) => Conversation::new(self.template()?, &self.tokenizer, &prompt.inputs()),
            Input::Text(_) | Input::Tokens(_) => Ok(Conversation::raw(self.tokens(input)?)),
        }
    }

    /// The beginning of a conversation that later ones share, see [`packs::shared_prefix`].
    ///
    /// # Errors
    /// As [`Language::tokens`].
    pub fn shared(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        packs::shared_prefix(self.template()?, &self.tokenizer, &prompt.inputs())
    }

    /// What the template takes for now.
    pub fn now(&self) -> Option<i64> {
        self.template.as_ref().ok().map(ChatTemplate::now)
    }
}

/// # Errors
/// [`Error::Format`] or [`Error::Unsupported`] where the checkpoint has no tokenizer, or one that cannot be run.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    match &checkpoint.metadata {
        Metadata::Gguf(metadata) => Tokenizer::from_gguf(&vocabulary(metadata)?),
        Metadata::HuggingFace(files) => {
            let json = files.tokenizer.as_deref().ok_or_else(|| Error::Format {
                file: checkpoint.name.clone(),
                field: "tokenizer.json".into(),
                problem: "the file is missing".into(),
                fix: "copy the model's tokenizer.json into the directory",
            })?;
            Tokenizer::from_json(json, &format!("{}/tokenizer.json", checkpoint.name))
        }
    }
}

/// # Errors
/// [`Error::Template`] where the checkpoint has no template, or one that does not compile.
pub fn template(checkpoint: &Checkpoint) -> Result<ChatTemplate> {
    match &checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            let source = metadata.str("tokenizer.chat_template")?.ok_or_else(ChatTemplate::missing)?;
            ChatTemplate::new(source, vocabulary(metadata)?.specials())
        }
        Metadata::HuggingFace(files) => {
            let config = files.tokenizer_config.as_ref().map_or(&Value::Null, |file| &file.value);
            ChatTemplate::from_config(config, files.chat_template.as_deref())
        }
    }
}

fn vocabulary(metadata: &GgufMetadata) -> Result<GgufVocab> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let strings = |name: &str| metadata.strings(&key(name)).map(|list| list.map(<[String]>::to_vec));
    Ok(GgufVocab {
        file: metadata.file().to_owned(),
        model: metadata.str(&key("model"))?.unwrap_or_default().to_owned(),
        pre: metadata.str(&key("pre"))?.map(str::to_owned),
        tokens: strings("tokens")?.unwrap_or_default(),
        token_types: metadata.i32s(&key("token_type"))?.unwrap_or_default(),
        merges: strings("merges")?.unwrap_or_default(),
        bos: metadata.u32(&key("bos_token_id"))?,
        eos: metadata.u32(&key("eos_token_id"))?,
        unk: metadata.u32(&key("unknown_token_id"))?,
        pad: metadata.u32(&key("padding_token_id"))?,
    })
}
