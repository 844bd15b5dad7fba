//! `prefix`: computes prefixes ahead, exports, imports, lists and pins them, and explains why prompts miss them.

mod audit;
mod explain;
mod packs;
mod stored;

use clap::Subcommand;

use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show where two conversations part, whose text that is, and what it costs the prefix cache
    Explain(explain::Args),
    /// Compute the beginning of a conversation, for later runs to reuse
    Warm(packs::Warm),
    /// Write the beginning of a conversation as a file that anybody with the same model can reuse
    Export(packs::Export),
    /// Take in a file that `export` wrote
    Import(packs::Import),
    /// Compute some blocks of such a file anew, and compare
    Audit(audit::Args),
    /// List what is kept in the directory of this machine; a shared store cannot be listed
    Ls(stored::Ls),
    /// Remove what is kept in that directory
    Rm(stored::Rm),
    /// Keep a prefix from making room for others
    Pin(stored::Pin),
    /// Let a pinned prefix go like any other
    Unpin(stored::Unpin),
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Explain(args) => explain::run(args),
        Command::Warm(args) => packs::warm(args),
        Command::Export(args) => packs::export(args),
        Command::Import(args) => packs::import(args),
        Command::Audit(args) => audit::run(args),
        Command::Ls(args) => stored::ls(args),
        Command::Rm(args) => stored::rm(args),
        Command::Pin(args) => stored::pin(args),
        Command::Unpin(args) => stored::unpin(args),
    }
}
