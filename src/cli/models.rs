//! `models`: lists, describes and downloads models.

use std::path::Path;

use clap::Subcommand;

use super::{info, model, term};
use crate::error::{Error, Result, visible};
use crate::hub;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the models on this machine, or those that a short name stands for, with the name to give to --model
    #[command(
        after_help = "Examples:\n  headstart models ls\n  headstart models ls --available\n  headstart models ls --json"
    )]
    Ls {
        /// The models that a short name stands for; nothing is asked of the network
        #[arg(long)]
        available: bool,
        /// One JSON array on standard output
        #[arg(long)]
        json: bool,
    },
    /// Describe a model on this machine from its headers, without a GPU
    Info(info::Args),
    /// Download a model from the Hugging Face hub and print its path
    #[command(after_help = "Examples:
  headstart models pull
  headstart models pull qwen3-0.6b
  headstart models pull HuggingFaceTB/SmolLM2-360M-Instruct
  headstart models pull owner/repo:FILE.gguf@main")]
    Pull {
        /// A name of `models ls --available`, or `owner/repo`, `owner/repo:FILE.gguf`, `owner/repo:Q8_0`, each with `@revision`
        #[arg(default_value = hub::DEFAULT)]
        model: String,
        /// Say nothing on the way
        #[arg(short, long)]
        quiet: bool,
    },
    /// Delete a model of this machine: from the Hugging Face cache, which other programs read too, or from headstart's own folder
    #[command(after_help = "Examples:\n  headstart models rm smollm2-135m\n  headstart models rm owner/repo:FILE.gguf")]
    Rm {
        /// A name of `models ls`
        model: String,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Print where a model lies, as --model finds it, downloading it first if it must
    #[command(after_help = "Examples:\n  headstart models path\n  headstart models path owner/repo")]
    Path {
        /// What --model takes
        #[arg(default_value = hub::DEFAULT)]
        model: String,
        /// Say nothing on the way
        #[arg(short, long)]
        quiet: bool,
    },
}

/// # Errors
/// The reason why it stopped, as one sentence for a person.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Ls { available: true, json } => available(*json),
        Command::Ls { available: false, json } => ls(*json),
        Command::Info(args) => info::run(args),
        Command::Pull { model: name, quiet } => show(&model::pull(name, *quiet)?),
        Command::Rm { model: name, json } => rm(name, *json),
        Command::Path { model: name, quiet } => show(&model::resolve(Some(name), *quiet)?),
    }
}

fn show(path: &Path) -> Result<()> {
    term::answer(&format!("{}\n", path.display()))
}

fn ls(json: bool) -> Result<()> {
    let found = hub::list()?;
    if json {
        return print_json(&found);
    }
    if found.is_empty() {
        return term::out(&format!("no models here yet; `headstart models pull` brings {}\n", hub::DEFAULT));
    }
    let shown = |model: &hub::Found| {
        let size = indicatif::DecimalBytes(model.bytes).to_string();
        (visible(&model.name), size, visible(&model.path.display().to_string()))
    };
    let head = ["NAME", "SIZE", "PATH"].map(String::from).into();
    let rows: Vec<_> = std::iter::once(head).chain(found.iter().map(shown)).collect();
    let width = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0);
    let line = |(name, size, path): &(String, String, String)| format!("{name:<width$}  {size:>10}  {path}\n");
    term::out(&rows.iter().map(line).collect::<String>())
}

fn rm(model: &str, json: bool) -> Result<()> {
    let removed = hub::remove(model)?;
    if json {
        return print_json(&removed);
    }
    let freed = indicatif::DecimalBytes(removed.bytes);
    term::out(&format!("removed {}, {freed} freed\n", visible(&removed.path.display().to_string())))
}

fn available(json: bool) -> Result<()> {
    let listed = hub::available();
    if json {
        return print_json(&listed);
    }
    let size = |bytes: Option<u64>| bytes.map_or("unknown".into(), |bytes| indicatif::DecimalBytes(bytes).to_string());
    let row = |model: &hub::Listed| {
        let checked = match model.checked {
            hub::Checked::Run => "run",
            hub::Checked::Base => "base model run",
            hub::Checked::Architecture => "not run",
        };
        let memory = size(model.memory(hub::CONTEXT));
        [
            model.name.clone(),
            size(model.bytes),
            memory,
            model.context.to_string(),
            model.license.clone(),
            checked.into(),
        ]
    };
    let head = ["name", "download", "memory", "context", "license", "checked"].map(String::from);
    let rows: Vec<_> = std::iter::once(head).chain(listed.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name_width, license_width] = [width(0), width(4)];
    let line = |[name, size, memory, context, license, checked]: &[String; 6]| {
        format!("{name:<name_width$}  {size:>9}  {memory:>9}  {context:>7}  {license:<license_width$}  {checked}\n")
    };
    term::out(&rows.iter().map(line).collect::<String>())?;
    term::note(&format!(
        "memory: weights and the KV of {} tokens; not run: only a tiny model of the same architecture was",
        hub::CONTEXT
    ));
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Request { field: "models", problem: format!("a path here is not Unicode ({e})") })?;
    term::json_text(&text)
}
