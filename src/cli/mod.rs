//! The command line: one file a subcommand, each a short path from flags through the engine to text or JSON.
//!
//! Results go to standard output, everything said on the way to standard error, so that `--json` and pipes stay clean.

mod args;
mod bench;
mod cache;
mod chat;
mod generate;
mod hub;
mod info;
mod input;
mod interrupt;
mod line;
mod listen;
mod models;
mod prefix;
mod report;
mod sampling;
mod score;
mod session;
mod term;
mod tokenize;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::error::{Result, visible};
pub use interrupt::STATUS as INTERRUPT_STATUS;

/// Run language models on any GPU: WGSL compute shaders through Vulkan, Metal or DirectX 12.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Talk with a model
    Chat(chat::Args),
    /// Answer one prompt
    Generate(generate::Args),
    /// Log-probability of every token of a text, and its perplexity
    Score(score::Args),
    /// Show the tokens of a text
    Tokenize(tokenize::Args),
    /// List, describe and download models
    #[command(subcommand)]
    Models(models::Command),
    /// See what the prefix cache can reuse
    #[command(subcommand)]
    Prefix(prefix::Command),
    /// Measure prefill and decode speed
    Bench(bench::Args),
}

impl Cli {
    /// What the command line says. Where it says nothing that can be run, or asks for help, that is shown and the program ends.
    pub fn read() -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        Self::try_parse_from(&arguments).unwrap_or_else(|error| {
            // What is wrong is repeated, and may be a name that a shell put there for a `*`.
            let shown = arguments.iter().map(|argument| visible(&argument.to_string_lossy()));
            Self::try_parse_from(shown).err().unwrap_or(error).exit()
        })
    }

    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// Whatever stopped it, as one sentence for a person.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Chat(args) => chat::run(&args),
            Command::Generate(args) => generate::run(&args),
            Command::Score(args) => score::run(&args),
            Command::Tokenize(args) => tokenize::run(&args),
            Command::Models(command) => models::run(&command),
            Command::Prefix(command) => prefix::run(&command),
            Command::Bench(args) => bench::run(&args),
        }
    }
}
