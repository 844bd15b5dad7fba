//! `headstart models`: what is on this machine, and bringing more.

use std::io::Write;
use std::path::Path;

use clap::Subcommand;

use super::{hub, info};
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the models on this machine, with the name to give to --model
    #[command(after_help = "Examples:\n  headstart models ls\n  headstart models ls --json")]
    Ls {
        /// One JSON array on standard output
        #[arg(long)]
        json: bool,
    },
    /// Describe a model from its headers, without a GPU
    Info(info::Args),
    /// Download a model from the Hugging Face hub and print its path
    #[command(after_help = "Examples:
  headstart models pull
  headstart models pull HuggingFaceTB/SmolLM2-360M-Instruct
  headstart models pull owner/repo:FILE.gguf@main")]
    Pull {
        /// `owner/repo`, `owner/repo:FILE.gguf`, either with `@revision`
        #[arg(default_value = hub::DEFAULT)]
        model: String,
        /// Say nothing on the way
        #[arg(short, long)]
        quiet: bool,
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
/// What stopped it, as one sentence for a person.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Ls { json } => ls(*json),
        Command::Info(args) => info::run(args),
        Command::Pull { model, quiet } => show(&hub::pull(model, *quiet)?),
        Command::Path { model, quiet } => show(&hub::resolve(Some(model), *quiet)?),
    }
}

fn show(path: &Path) -> Result<()> {
    print(&format!("{}\n", path.display()))
}

fn ls(json: bool) -> Result<()> {
    let found = hub::list()?;
    if json {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|e| Error::Request { field: "models", problem: format!("a path here is not Unicode ({e})") })?;
        return print(&format!("{text}\n"));
    }
    if found.is_empty() {
        return print(&format!("no models here yet; `headstart models pull` brings {}\n", hub::DEFAULT));
    }
    let width = found.iter().map(|model| model.name.chars().count()).max().unwrap_or(0);
    let line = |model: &hub::Found| {
        let size = indicatif::DecimalBytes(model.bytes).to_string();
        format!("{:<width$}  {size:>10}  {}\n", model.name, model.path.display())
    };
    print(&found.iter().map(line).collect::<String>())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| Error::io(Path::new("standard output"), e))
}
