//! The command line.

mod hub;
mod models;

use clap::{Parser, Subcommand};

use crate::error::Result;

/// Run language models on any GPU.
#[derive(Debug, Parser)]
#[command(name = "headstart", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List and download models
    #[command(subcommand)]
    Models(models::Command),
}

impl Cli {
    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// Whatever stopped it, as one sentence for a person.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Models(command) => models::run(&command),
        }
    }
}
