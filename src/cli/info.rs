//! `models info`: describes a model by its headers. It uses no GPU, reads no weights and downloads nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use indicatif::DecimalBytes;
use serde_json::{Value, json};

use crate::engine::{KvIdentity, language};
use crate::error::{Error, Result, visible};
use crate::gpu::Numerics;
use crate::hub;
use crate::kv::KvFormat;
use crate::model::Config;
use crate::weights::{Checkpoint, Fields, Kind, Metadata};

use super::args::ModelArgs;
use super::term;

const UNKNOWN: &str = "unknown";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart models info
  headstart models info model.gguf
  headstart models info ./SmolLM2-135M-Instruct --json")]
pub(crate) struct Args {
    /// The model, as --model takes it
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    name: Option<String>,

    #[command(flatten)]
    model: ModelArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = args.name.as_deref().or(args.model.model.as_deref()).unwrap_or(hub::DEFAULT);
    let absent = || Error::Request {
        field: "model",
        problem: format!(
            "{name} is not on this machine, and nothing is downloaded to describe it: headstart models pull {name}"
        ),
    };
    let path = hub::find(name)?.ok_or_else(absent)?;
    let checkpoint = pollster::block_on(Checkpoint::open(&path))?;
    let mut facts = describe(&checkpoint);
    if args.json {
        facts["path"] = json!(path.display().to_string());
        return term::json(&facts);
    }
    let counts = formats(&checkpoint).into_iter().map(|(name, (count, bytes))| match bytes {
        0 => format!("{count} × {name}"),
        _ => format!("{count} × {name} ({})", DecimalBytes(bytes)),
    });
    let formats = counts.collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("name", text(&facts["name"])),
        ("path", path.display().to_string()),
        ("kind", kind(&checkpoint).to_owned()),
        ("architecture", text(&facts["architecture"])),
        ("parameters", format!("{:.1} M", parameters(&checkpoint) as f64 / 1e6)),
    ];
    if facts["layers"].is_u64() {
        let fact = |name: &str| text(&facts[name]);
        let [layers, hidden, intermediate] = ["layers", "hidden", "intermediate"].map(fact);
        let [heads, kv_heads, head_dim] = ["heads", "kv_heads", "head_dim"].map(fact);
        let experts = match facts["experts"].is_null() {
            true => String::new(),
            false => format!(" in {} experts, {} for a token", fact("experts"), fact("experts_used")),
        };
        lines.extend([
            ("layers", format!("{layers} of hidden {hidden}, intermediate {intermediate}{experts}")),
            ("heads", format!("{heads} query, {kv_heads} key/value, {head_dim} elements each")),
            ("vocabulary", fact("vocab")),
            ("context", format!("{} tokens", fact("context"))),
            ("KV cache", kv_bytes(&facts["kv_bytes_per_token"])),
        ]);
    }
    lines.extend([
        ("tensors", formats),
        ("size", DecimalBytes(file_bytes(&checkpoint)).to_string()),
        ("tokenizer", text(&facts["tokenizer"])),
        ("chat template", if facts["chat_template"] == true { "yes" } else { "no" }.to_owned()),
        ("runs", facts["problem"].as_str().map_or_else(|| "yes".to_owned(), |problem| format!("no: {problem}"))),
    ]);
    term::out(&lines.into_iter().map(|(name, value)| format!("{name:<13} {}\n", visible(&value))).collect::<String>())
}

/// Bytes of KV for a token, by format.
fn kv_bytes(by_format: &Value) -> String {
    let of =
        |(name, bytes): (&String, &Value)| format!("{} in {name}", term::bytes(bytes.as_u64().unwrap_or_default()));
    let all = by_format.as_object().into_iter().flatten().map(of).collect::<Vec<_>>().join(", ");
    format!("{all} for each token")
}

/// Why the model does not run, if it does not.
fn problem(checkpoint: &Checkpoint, config: &Result<Config>) -> Option<String> {
    let sound = match config {
        Ok(config) => config.check_tensors(checkpoint).and_then(|()| language::tokenizer(checkpoint).map(drop)),
        Err(error) => return Some(error.to_string()),
    };
    sound.err().map(|error| error.to_string())
}

/// The facts in the headers, whether or not the model runs.
fn describe(checkpoint: &Checkpoint) -> Value {
    let formats: serde_json::Map<String, Value> = formats(checkpoint)
        .into_iter()
        .map(|(name, (count, bytes))| (name, json!({ "tensors": count, "bytes": bytes })))
        .collect();
    let config = Config::described(checkpoint);
    let mut facts = json!({
        "name": name(checkpoint),
        "kind": kind(checkpoint),
        "architecture": architecture(checkpoint),
        "parameters": parameters(checkpoint),
        "formats": formats,
        "file_bytes": file_bytes(checkpoint),
        "tokenizer": tokenizer_kind(checkpoint),
        "chat_template": language::template(checkpoint).is_ok(),
        "problem": problem(checkpoint, &config),
    });
    if let (Ok(config), Some(facts)) = (config, facts.as_object_mut()) {
        let kv = |(name, kv)| {
            let identity = KvIdentity::new(&config.clone().with_kv(kv), "", None, Numerics::default());
            (name, identity.token_bytes())
        };
        let sizes = json!({
            "layers": config.layers.len(),
            "hidden": config.hidden,
            "intermediate": config.layers.iter().map(|layer| layer.intermediate).max(),
            "experts": config.experts().map(|experts| experts.count),
            "experts_used": config.experts().map(|experts| experts.used),
            "heads": config.heads,
            "kv_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "vocab": config.vocab,
            "context": config.context,
            "kv_bytes_per_token": KvFormat::ALL.into_iter().map(kv).collect::<BTreeMap<_, _>>(),
            "tied_embeddings": config.tied_embeddings,
            "stop_tokens": config.stop_tokens,
        });
        facts.extend(sizes.as_object().cloned().unwrap_or_default());
    }
    facts
}

/// A value for people.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn file_bytes(checkpoint: &Checkpoint) -> u64 {
    checkpoint.parts.iter().map(|part| part.len()).sum()
}

fn kind(checkpoint: &Checkpoint) -> &'static str {
    match checkpoint.kind() {
        Kind::Gguf => "gguf",
        Kind::HuggingFace => "huggingface",
    }
}

/// The name that a GGUF file gives its model, or else the name of the file or directory.
fn name(checkpoint: &Checkpoint) -> String {
    let called = match &checkpoint.metadata {
        Metadata::Gguf(metadata) => string(metadata, "general.name"),
        Metadata::HuggingFace(_) => None,
    };
    let file = || Path::new(&checkpoint.name).file_name().map(|name| name.to_string_lossy());
    called.map(Cow::from).or_else(file).map_or_else(|| checkpoint.name.clone(), Cow::into_owned)
}

/// The architecture, by the name in the files.
fn architecture(checkpoint: &Checkpoint) -> &str {
    let name = match &checkpoint.metadata {
        Metadata::Gguf(metadata) => string(metadata, "general.architecture"),
        Metadata::HuggingFace(files) => string(&files.config, "model_type"),
    };
    name.unwrap_or(UNKNOWN)
}

/// The value of a field, if it is a string.
fn string<'a>(fields: &'a impl Fields, key: &str) -> Option<&'a str> {
    fields.str(key).ok().flatten()
}

fn parameters(checkpoint: &Checkpoint) -> u64 {
    let read = checkpoint.tensors.values().map(|tensor| tensor.elements());
    read.chain(checkpoint.unread().map(|(_, elements)| elements)).fold(0, u64::saturating_add)
}

/// Tensors and bytes of each format. Tensors that are not read count with 0 bytes.
fn formats(checkpoint: &Checkpoint) -> BTreeMap<String, (usize, u64)> {
    let mut formats = BTreeMap::new();
    let read = checkpoint.tensors.values().map(|tensor| (tensor.format.name(), tensor.bytes));
    for (name, bytes) in read.chain(checkpoint.unread().map(|(format, _)| (format, 0))) {
        let (count, sum) = formats.entry(name.to_owned()).or_insert((0, 0));
        *count += 1;
        *sum += bytes;
    }
    formats
}

fn tokenizer_kind(checkpoint: &Checkpoint) -> String {
    match &checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            let part = |key| string(metadata, key).unwrap_or(UNKNOWN);
            format!("{} ({})", part("tokenizer.ggml.model"), part("tokenizer.ggml.pre"))
        }
        Metadata::HuggingFace(files) => {
            let json: Value =
                files.tokenizer.as_deref().and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
            json["model"]["type"].as_str().unwrap_or("none").to_owned()
        }
    }
}
