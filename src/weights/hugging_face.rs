//! A Hugging Face model directory: configuration as JSON, weights as safetensors, whole or in shards.
//!
//! The directory is given as a map from plain file names to sources, so that it may also be in memory or behind a URL.
//! Shards are looked up only in that map, so an index cannot refer to a file outside it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    checkpoint::TensorInfo,
    fields::{Field, Fields},
    reader::{DAMAGED, refuse_pointer},
    safetensors::{self, Pairs, Unread},
    source::ByteSource,
};
use crate::error::{Error, Result};

const MAX_JSON: u64 = 16 << 20;
/// The largest known files have 34 MiB. Parsing takes up to 30 times as much memory, which must fit a 32-bit address
/// space.
const MAX_TOKENIZER: u64 = 64 << 20;
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The files of a directory by their plain names.
pub type Files = BTreeMap<String, Box<dyn ByteSource>>;

/// A JSON file whose top level is an object.
#[derive(Debug)]
pub(crate) struct JsonFile {
    file: String,
    pub(crate) value: Value,
}

impl JsonFile {
    pub(crate) fn parse(file: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let file = file.into();
        let fail = |field: &str, problem: String| Error::Format {
            file: file.clone(),
            field: field.to_owned(),
            problem,
            fix: "take a fresh copy of the file",
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| fail("JSON", error.to_string()))?;
        if !value.is_object() {
            return Err(fail("JSON", "the top level is not an object".to_owned()));
        }
        Ok(Self { file, value })
    }

    /// The value of a field, or of a dotted path of fields such as `rope_parameters.rope_theta`. A null counts as
    /// missing.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.value, |value, field| value.get(field)).filter(|value| !value.is_null())
    }

    /// The ids of one token or a list of tokens. As in [`Fields::id`], ids outside the vocabulary of `vocab` are left
    /// out.
    pub(crate) fn ids(&self, path: &str, vocab: usize) -> Result<Vec<u32>> {
        let Some(Value::Array(list)) = self.get(path) else {
            return Ok(self.id(path, vocab)?.into_iter().collect());
        };
        if let Some(other) = list.iter().find(|value| !value.is_i64() && !value.is_u64()) {
            return Err(self.wrong(path, format!("expected integers, found {other}")));
        }
        let ids = list.iter().filter_map(Value::as_u64).filter(|&id| id < vocab as u64);
        Ok(ids.map(|id| id as u32).collect())
    }
}

impl Fields for JsonFile {
    fn file(&self) -> &str {
        &self.file
    }

    fn lookup(&self, key: &str) -> Option<Field<'_>> {
        self.get(key).and_then(Field::of_json)
    }
}

impl<'a> Field<'a> {
    /// `None` for null.
    pub(crate) fn of_json(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(x) => Field::Bool(*x),
            Value::String(x) => Field::Str(x),
            Value::Array(_) => Field::Other("a list"),
            Value::Object(_) => Field::Other("an object"),
            Value::Number(x) => match (x.as_u64(), x.as_i64(), x.as_f64()) {
                (Some(x), ..) => Field::Unsigned(x),
                (_, Some(x), _) => Field::Signed(x),
                (.., Some(x)) => Field::Float(x),
                _ => Field::Other("a number beyond f64"),
            },
        })
    }
}

/// The template that is used when tools are given, under the name that transformers gives it.
pub(crate) const TOOL_USE: &str = "additional_chat_templates/tool_use.jinja";

/// Translates the name of a language model's tensor inside a multimodal model into its name in a language model alone.
/// The two generations of transformers put that part under different prefixes.
pub(super) fn own_name(name: &str) -> String {
    match (name.strip_prefix("model.language_model."), name.strip_prefix("language_model.")) {
        (Some(rest), _) => format!("model.{rest}"),
        (_, Some(rest)) => rest.to_owned(),
        _ => name.to_owned(),
    }
}

/// The content of the files besides the weights.
#[derive(Debug)]
pub struct HuggingFaceMetadata {
    pub(crate) config: JsonFile,
    /// It includes special tokens that only `special_tokens_map.json` names.
    pub(crate) tokenizer_config: Option<JsonFile>,
    pub(crate) generation_config: Option<JsonFile>,
    /// `chat_template.jinja`, a separate file that newer releases of transformers write.
    pub(crate) chat_template: Option<String>,
    /// [`TOOL_USE`], its companion for conversations with tools.
    pub(crate) tool_use_template: Option<String>,
    /// The bytes of `tokenizer.json`.
    pub(crate) tokenizer: Option<Vec<u8>>,
}

impl HuggingFaceMetadata {
    pub(crate) async fn read(directory: &str, files: &Files) -> Result<Self> {
        let Some(config) = json(files, "config.json").await? else {
            let fix = if files.keys().any(|name| name.ends_with(".gguf")) {
                "give the .gguf file itself"
            } else {
                "give a .gguf file, or a directory with config.json, tokenizer.json and model.safetensors"
            };
            return Err(missing(directory, "config.json", fix));
        };
        Ok(Self {
            config,
            tokenizer_config: tokenizer_config(files).await?,
            generation_config: json(files, "generation_config.json").await?,
            chat_template: text(files, "chat_template.jinja").await?,
            tool_use_template: text(files, TOOL_USE).await?,
            tokenizer: bytes(files, "tokenizer.json", MAX_TOKENIZER).await?,
        })
    }
}

async fn text(files: &Files, name: &str) -> Result<Option<String>> {
    let Some(bytes) = bytes(files, name, MAX_JSON).await? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| Error::Format {
        file: files[name].name().to_owned(),
        field: "text".to_owned(),
        problem: format!("not valid UTF-8 ({error})"),
        fix: "take a fresh copy of the file",
    });
    text.map(Some)
}

/// Reads `tokenizer_config.json`, and adds special tokens that only `special_tokens_map.json` names.
async fn tokenizer_config(files: &Files) -> Result<Option<JsonFile>> {
    let map = json(files, "special_tokens_map.json").await?;
    let (mut config, map) = match (json(files, "tokenizer_config.json").await?, map) {
        (Some(config), Some(map)) => (config, map),
        (config, map) => return Ok(config.or(map)),
    };
    if let (Some(fields), Some(map)) = (config.value.as_object_mut(), map.value.as_object()) {
        for (name, token) in map.iter().filter(|(name, _)| name.ends_with("_token")) {
            fields.entry(name.as_str()).or_insert_with(|| token.clone());
        }
    }
    Ok(Some(config))
}

/// The weights of a directory: the sources, which [`TensorInfo::part`] indexes, their tensors, and the unsupported
/// ones.
pub(crate) struct Weights {
    pub(crate) parts: Vec<Box<dyn ByteSource>>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    pub(crate) unread: Vec<Unread>,
}

/// Reads the headers of `model.safetensors`, or else of all shards that the index names.
pub(crate) async fn read_weights(directory: &str, mut files: Files) -> Result<Weights> {
    let mut weights = Weights { parts: Vec::new(), tensors: BTreeMap::new(), unread: Vec::new() };
    if let Some(source) = files.remove(WHOLE) {
        let (tensors, unread) = safetensors::read_header(&*source, 0).await?;
        weights.tensors.extend(tensors.into_iter().map(|info| (info.name.clone(), info)));
        weights.unread = unread;
        weights.parts.push(source);
        return Ok(weights);
    }
    let Some(index) = files.get(INDEX) else {
        let fix = if files.keys().any(|name| name.ends_with(".bin")) {
            "convert the weights to safetensors (transformers: save_pretrained)"
        } else {
            "download the weights, or give a .gguf file"
        };
        return Err(missing(directory, "model.safetensors", fix));
    };
    let index_name = index.name().to_owned();
    let fail = |field: String, problem: String, fix| Error::Format { file: index_name.clone(), field, problem, fix };

    let mut by_shard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, shard) in read_index(&**index).await? {
        // A separator of any system, a drive or `..` would lead out of the directory.
        if shard.is_empty() || shard.contains(['/', '\\', ':', '\0']) || shard == ".." || shard == "." {
            let problem = format!("shard {shard:?} is not a plain file name");
            return Err(fail(format!("weight_map.{tensor}"), problem, "do not use this model: its index is forged"));
        }
        by_shard.entry(shard).or_default().push(tensor);
    }
    for (shard, wanted) in by_shard {
        let Some(source) = files.remove(&shard) else {
            return Err(missing(directory, &shard, "download the missing shard"));
        };
        let (tensors, unread) = safetensors::read_header(&*source, weights.parts.len()).await?;
        let mut found: BTreeMap<String, TensorInfo> = tensors.into_iter().map(|i| (i.name.clone(), i)).collect();
        for name in wanted {
            match found.remove(&name) {
                Some(info) => _ = weights.tensors.insert(name, info),
                None if unread.iter().any(|tensor| tensor.name == name) => {}
                None => {
                    let problem = format!("the shard {shard} has no such tensor");
                    return Err(fail(format!("weight_map.{name}"), problem, "download index and shards again"));
                }
            }
        }
        weights.unread.extend(unread);
        weights.parts.push(source);
    }
    Ok(weights)
}

/// Parses the index: tensor names and the shards that hold them.
async fn read_index(source: &dyn ByteSource) -> Result<Vec<(String, String)>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Pairs<String>,
    }
    let fail = |field: &str, problem: String| Error::Format {
        file: source.name().to_owned(),
        field: field.to_owned(),
        problem,
        fix: DAMAGED,
    };
    let raw = read_whole(source, MAX_JSON).await?;
    let index: Index = serde_json::from_slice(&raw).map_err(|error| fail("weight_map", error.to_string()))?;
    if let Some(name) = index.weight_map.duplicate() {
        return Err(fail(&format!("weight_map.{name}"), "the name occurs twice".to_owned()));
    }
    if index.weight_map.0.is_empty() {
        return Err(fail("weight_map", "it names no tensor".to_owned()));
    }
    Ok(index.weight_map.0)
}

async fn json(files: &Files, name: &str) -> Result<Option<JsonFile>> {
    let Some(bytes) = bytes(files, name, MAX_JSON).await? else { return Ok(None) };
    JsonFile::parse(files[name].name(), &bytes).map(Some)
}

async fn bytes(files: &Files, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
    match files.get(name) {
        None => Ok(None),
        Some(source) => read_whole(&**source, max).await.map(Some),
    }
}

async fn read_whole(source: &dyn ByteSource, max: u64) -> Result<Vec<u8>> {
    if source.len() > max {
        return Err(Error::Format {
            file: source.name().to_owned(),
            field: "file length".to_owned(),
            problem: format!("{} bytes, more than {max}", source.len()),
            fix: "take a fresh copy of the file",
        });
    }
    refuse_pointer(source).await?;
    let mut bytes = vec![0; source.len() as usize];
    source.read(0, &mut bytes).await?;
    Ok(bytes)
}

fn missing(directory: &str, name: &str, fix: &'static str) -> Error {
    let problem = "the file is missing".to_owned();
    Error::Format { file: directory.to_owned(), field: name.to_owned(), problem, fix }
}
