//! `models info`: what a model is, from its headers alone; no GPU is asked for and no weight read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine::language;
use crate::error::Result;
use crate::model::Config;
use crate::weights::{Checkpoint, Fields, Kind, Metadata};

use super::args::ModelArgs;
use super::term;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart models info
  headstart models info model.gguf
  headstart models info ./SmolLM2-135M-Instruct --json")]
pub struct Args {
    /// The model, as --model takes it
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    name: Option<String>,

    #[command(flatten)]
    model: ModelArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let name = args.name.clone().or_else(|| args.model.model.clone());
    let (path, checkpoint) = ModelArgs { model: name }.open()?;
    let config = Config::from_checkpoint(&checkpoint)?;
    let mut facts = describe(&checkpoint, &config)?;
    if args.json {
        facts["path"] = json!(path.display().to_string());
        return term::json(&facts);
    }
    let formats: Vec<String> = formats(&checkpoint)
        .iter()
        .map(|(name, (count, bytes))| format!("{count} × {name} ({})", term::bytes(*bytes)))
        .collect();
    let file_bytes = checkpoint.parts.iter().map(|part| part.len()).sum();
    term::out(&format!(
        "path          {}\n\
         kind          {}\n\
         architecture  {}\n\
         parameters    {:.1} M\n\
         layers        {} of hidden {}, intermediate {}\n\
         heads         {} query, {} key/value, {} elements each\n\
         vocabulary    {}\n\
         context       {} tokens\n\
         tensors       {}\n\
         size          {}\n\
         tokenizer     {}\n\
         chat template {}\n",
        path.display(),
        kind(&checkpoint),
        architecture(&config),
        parameters(&checkpoint) as f64 / 1e6,
        config.layers,
        config.hidden,
        config.intermediate,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.vocab,
        config.context,
        formats.join(", "),
        term::bytes(file_bytes),
        tokenizer_kind(&checkpoint)?,
        if language::template(&checkpoint).is_ok() { "yes" } else { "no" },
    ))
}

fn describe(checkpoint: &Checkpoint, config: &Config) -> Result<Value> {
    let formats: serde_json::Map<String, Value> = formats(checkpoint)
        .into_iter()
        .map(|(name, (count, bytes))| (name.to_owned(), json!({ "tensors": count, "bytes": bytes })))
        .collect();
    Ok(json!({
        "kind": kind(checkpoint),
        "architecture": architecture(config),
        "parameters": parameters(checkpoint),
        "layers": config.layers,
        "hidden": config.hidden,
        "intermediate": config.intermediate,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab": config.vocab,
        "context": config.context,
        "tied_embeddings": config.tied_embeddings,
        "formats": formats,
        "file_bytes": checkpoint.parts.iter().map(|part| part.len()).sum::<u64>(),
        "tokenizer": tokenizer_kind(checkpoint)?,
        "chat_template": language::template(checkpoint).is_ok(),
        "stop_tokens": config.stop_tokens,
    }))
}

fn kind(checkpoint: &Checkpoint) -> &'static str {
    match checkpoint.kind() {
        Kind::Gguf => "gguf",
        Kind::HuggingFace => "huggingface",
    }
}

fn architecture(config: &Config) -> String {
    format!("{:?}", config.architecture).to_lowercase()
}

fn parameters(checkpoint: &Checkpoint) -> u64 {
    checkpoint.tensors.values().map(|tensor| tensor.elements()).sum()
}

/// Tensors and bytes of each format.
fn formats(checkpoint: &Checkpoint) -> BTreeMap<&'static str, (usize, u64)> {
    let mut formats = BTreeMap::new();
    for tensor in checkpoint.tensors.values() {
        let (count, bytes) = formats.entry(tensor.format.name()).or_insert((0, 0));
        *count += 1;
        *bytes += tensor.bytes;
    }
    formats
}

fn tokenizer_kind(checkpoint: &Checkpoint) -> Result<String> {
    Ok(match &checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            let part = |key| Ok::<_, crate::error::Error>(metadata.str(key)?.unwrap_or("unknown").to_owned());
            format!("{} ({})", part("tokenizer.ggml.model")?, part("tokenizer.ggml.pre")?)
        }
        Metadata::HuggingFace(files) => {
            let json: Value =
                files.tokenizer.as_deref().and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
            json["model"]["type"].as_str().unwrap_or("none").to_owned()
        }
    })
}
