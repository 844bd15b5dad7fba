//! The tokens that end an answer: all that the files name, the one that the chat template puts after an assistant's
//! turn, and tokens that end a turn in every model that has them. Files often name only one of several, or that of the
//! base model.

use serde_json::Value;

use super::{keys::TEXT, language};
use crate::{
    error::Result,
    weights::{Checkpoint, HuggingFaceMetadata, JsonFile, Metadata},
};

/// Tokens that end a turn, a text or a call if the vocabulary marks them as special. `</s>` is not among them, since
/// some vocabularies use it for struck-out text.
const WELL_KNOWN: [&str; 15] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|eot|>",
    "<|return|>",
    "<|call|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "<eos>",
];

/// The token that a checkpoint's template puts after an answer, in a vocabulary of `vocab`. An unusable template is
/// reported later, where one is needed.
pub(crate) fn of_template(checkpoint: &Checkpoint, vocab: usize) -> Result<Option<u32>> {
    let added = language::added_tokens(checkpoint)?;
    let Ok(template) = language::template(checkpoint) else { return Ok(None) };
    let end = template.end_of_turn(added.iter().map(|(_, token)| token.as_str()));
    let id = |end: &str| added.iter().find(|(_, token)| token == end).map(|(id, _)| *id);
    Ok(end.and_then(id).filter(|&id| (id as usize) < vocab))
}

/// The tokens of a vocabulary of `vocab` that end an answer, without duplicates. `own` is the template's.
pub(crate) fn stop_tokens(checkpoint: &Checkpoint, vocab: usize, own: Option<u32>) -> Result<Vec<u32>> {
    let added = language::added_tokens(checkpoint)?;
    let id = |wanted: &str| added.iter().find(|(_, token)| token == wanted).map(|(id, _)| *id);
    let mut tokens = match &checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            let mut tokens: Vec<u32> = language::vocabulary(metadata)?.end().into_iter().collect();
            for name in ["eos", "eot", "eom"] {
                tokens.extend(metadata.ids(&format!("tokenizer.ggml.{name}_token_id"), vocab)?);
            }
            tokens
        }
        Metadata::HuggingFace(files) => named(files, vocab, id)?,
    };
    tokens.extend(own);
    tokens.extend(WELL_KNOWN.into_iter().filter_map(id));
    let mut kept = Vec::new();
    for token in tokens {
        if (token as usize) < vocab && !kept.contains(&token) {
            kept.push(token);
        }
    }
    Ok(kept)
}

/// The tokens that the files of a directory name.
fn named(files: &HuggingFaceMetadata, vocab: usize, id: impl Fn(&str) -> Option<u32>) -> Result<Vec<u32>> {
    const ID: &str = "eos_token_id";
    let by_id = |file: Option<&JsonFile>| file.map_or(Ok(Vec::new()), |file| file.ids(ID, vocab));
    let of_text = files.config.ids(&format!("{TEXT}.{ID}"), vocab)?;
    let tokenizer = files.tokenizer_config.as_ref();
    let mut tokens =
        [by_id(files.generation_config.as_ref())?, by_id(Some(&files.config))?, of_text, by_id(tokenizer)?].concat();
    let by_name = tokenizer.and_then(|file| file.get("eos_token"));
    let list = by_name.map_or(&[][..], |value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    let text = |value: &Value| value.as_str().or_else(|| value["content"].as_str()).and_then(&id);
    tokens.extend(list.iter().filter_map(text));
    Ok(tokens)
}
