//! The tokenizer and chat template of a checkpoint of either kind. Only this module connects the metadata of `weights`
//! with the needs of `text`.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::text::{ChatTemplate, GgufVocab, Specials, Tokenizer};
use crate::weights::{Checkpoint, Fields, GgufMetadata, HuggingFaceMetadata, Metadata};

/// # Errors
/// [`Error::Format`] or [`Error::Unsupported`] if the checkpoint has no tokenizer, or one that is not supported.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    match &checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            let merges = metadata.strings("tokenizer.ggml.merges")?.unwrap_or_default().to_vec();
            Tokenizer::from_gguf(&GgufVocab { merges, ..vocabulary(metadata)? })
        }
        Metadata::HuggingFace(files) => {
            let json = files.tokenizer.as_deref().ok_or_else(|| Error::Format {
                file: checkpoint.name.clone(),
                field: "tokenizer.json".into(),
                problem: "the file is missing".into(),
                fix: "copy the model's tokenizer.json into the directory",
            })?;
            with_edges(Tokenizer::from_json(json, &format!("{}/tokenizer.json", checkpoint.name))?, files)
        }
    }
}

/// As in transformers, tokenizer_config.json overrides the post-processor of tokenizer.json for the tokens at the ends
/// of a text.
fn with_edges(tokenizer: Tokenizer, files: &HuggingFaceMetadata) -> Result<Tokenizer> {
    const ADDS_BOS: [&str; 3] = ["Llama", "CodeLlama", "Gemma"];
    let Some(config) = &files.tokenizer_config else { return Ok(tokenizer) };
    let specials = Specials::from_config(&config.value);
    let edge = |adds: Option<bool>, name: &str, own: &[u32]| match adds {
        Some(true) => specials.get(name).and_then(|token| tokenizer.id(token)).into_iter().collect(),
        Some(false) => Vec::new(),
        None => own.to_vec(),
    };
    let [before, after] = tokenizer.edges();
    let class = config.str("tokenizer_class")?.unwrap_or_default();
    let by_class = before.is_empty() && ADDS_BOS.iter().any(|name| class.starts_with(name));
    let before = edge(config.bool("add_bos_token")?.or(by_class.then_some(true)), "bos_token", before);
    let after = edge(config.bool("add_eos_token")?, "eos_token", after);
    Ok(tokenizer.with_edges([before, after]))
}

/// # Errors
/// [`Error::Template`] if the checkpoint has no template, or one that does not compile.
pub fn template(checkpoint: &Checkpoint) -> Result<ChatTemplate> {
    match &checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            const KEY: &str = "tokenizer.chat_template";
            let others = metadata.strings("tokenizer.chat_templates")?.unwrap_or_default();
            let named = |name: &str| metadata.str(&format!("{KEY}.{name}"));
            let main = match (metadata.str(KEY)?, others.first()) {
                (None, Some(first)) => named("default")?.map_or_else(|| named(first), |source| Ok(Some(source)))?,
                (main, _) => main,
            };
            let template =
                ChatTemplate::new(main.ok_or_else(ChatTemplate::missing)?, vocabulary(metadata)?.specials())?;
            match named("tool_use")? {
                Some(source) => template.with_tool_use(source),
                None => Ok(template),
            }
        }
        Metadata::HuggingFace(files) => {
            let config = files.tokenizer_config.as_ref().map_or(&Value::Null, |file| &file.value);
            let template = ChatTemplate::from_config(config, files.chat_template.as_deref())?;
            match &files.tool_use_template {
                Some(source) => template.with_tool_use(source),
                None => Ok(template),
            }
        }
    }
}

/// The tokens that a text contains only if it spells them out: control tokens and added tokens. Empty for an unreadable
/// tokenizer.json, which [`tokenizer`] reports.
pub(crate) fn added_tokens(checkpoint: &Checkpoint) -> Result<Vec<(u32, String)>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    Ok(match &checkpoint.metadata {
        Metadata::Gguf(metadata) => vocabulary(metadata)?.added_tokens(),
        Metadata::HuggingFace(files) => {
            let file = files.tokenizer.as_deref().and_then(|json| serde_json::from_slice::<File>(json).ok());
            let added = file.map(|file| file.added_tokens).unwrap_or_default();
            added.into_iter().map(|token| (token.id, token.content)).collect()
        }
    })
}

/// The vocabulary of a GGUF file, without its merges.
pub(super) fn vocabulary(metadata: &GgufMetadata) -> Result<GgufVocab> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let tokens = metadata.strings(&key("tokens"))?.unwrap_or_default().to_vec();
    let id = |name: &str| Ok::<_, Error>(metadata.ids(&key(name), tokens.len())?.first().copied());
    Ok(GgufVocab {
        file: metadata.file().to_owned(),
        name: metadata.str("general.name")?.map(str::to_owned),
        model: metadata.str(&key("model"))?.unwrap_or_default().to_owned(),
        pre: metadata.str(&key("pre"))?.map(str::to_owned),
        token_types: metadata.i32s(&key("token_type"))?.unwrap_or_default(),
        scores: metadata.f32s(&key("scores"))?.unwrap_or_default(),
        merges: Vec::new(),
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        unk: id("unknown_token_id")?,
        pad: id("padding_token_id")?,
        add_bos: metadata.bool(&key("add_bos_token"))?,
        add_eos: metadata.bool(&key("add_eos_token"))?,
        add_space_prefix: metadata.bool(&key("add_space_prefix"))?,
        tokens,
    })
}
