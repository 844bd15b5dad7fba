//! The command line: one file a subcommand, each a short path from flags through the engine to text or JSON.
//!
//! Results go to standard output and everything else to standard error, so that `--json` and pipes stay clean.

mod args;
mod bench;
mod cache;
mod chat;
mod conversation;
mod files;
mod generate;
mod info;
mod input;
mod interrupt;
mod line;
mod listen;
mod logging;
mod model;
mod models;
mod prefix;
mod report;
mod sampling;
mod score;
mod session;
mod settings;
mod term;
mod tokenize;
mod tty;
mod wrap;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command as Clap, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Result, visible};
pub use interrupt::STATUS as INTERRUPT_STATUS;

/// Run language models on any GPU: WGSL compute shaders through Vulkan, Metal or DirectX 12.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// Say on the way what is chosen, reused and how long it takes; twice, more of it (RUST_LOG chooses by module)
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 1000)]
    verbose: u8,

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
    /// See, share and manage what the prefix cache can reuse
    #[command(subcommand)]
    Prefix(prefix::Command),
    /// Measure prefill and decode speed
    Bench(bench::Args),
}

impl Cli {
    /// Parses the command line. On a usage error, and for help, it prints the text and ends the program.
    pub fn read() -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        Self::parsed(&arguments).unwrap_or_else(|error| {
            // The message repeats the wrong argument, which may be a file name that a shell put there for a `*`.
            let shown: Vec<OsString> =
                arguments.iter().map(|argument| visible(&argument.to_string_lossy()).into()).collect();
            Self::parsed(&shown).err().unwrap_or(error).exit()
        })
    }

    fn parsed(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = flowing(Self::command());
        let matches = command.try_get_matches_from_mut(arguments)?;
        match contradiction(&matches) {
            Some((name, problem)) => {
                let command =
                    command.find_subcommand_mut(name).ok_or_else(|| clap::Error::new(ErrorKind::ArgumentConflict))?;
                Err(command.error(ErrorKind::ArgumentConflict, problem))
            }
            None => Self::from_arg_matches(&matches),
        }
    }

    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// The reason why it stopped, as one sentence for a person.
    pub fn run(self) -> Result<()> {
        logging::start(self.verbose);
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

/// The subcommand and the usage error, if `--no-cache` contradicts a flag that has a variable. clap's own check would also refuse
/// the variable, which may be set for other runs.
fn contradiction(matches: &ArgMatches) -> Option<(&str, String)> {
    let (name, given) = matches.subcommand()?;
    let typed =
        |id: &str| given.ids().any(|known| known == id) && given.value_source(id) == Some(ValueSource::CommandLine);
    let flag = ["kv_store", "kv_secret_file", "kv_key"].into_iter().find(|id| typed(id))?.replace('_', "-");
    typed("no_cache").then(|| (name, format!("the argument '--no-cache' cannot be used with '--{flag}'")))
}

/// Joins the lines of each paragraph behind the help of all commands, so that clap fills them to the width of the terminal.
/// Indented lines, and lines that end in `:`, stay as they are.
fn flowing(command: Clap) -> Clap {
    let text = command.get_after_help().map(|text| text.ansi().to_string()).unwrap_or_default();
    let mut flowing = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let goes_on = lines.peek().is_some_and(|next| !next.is_empty() && !next.starts_with(' '));
        let is_filled = !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
        flowing += line;
        flowing += if goes_on && is_filled { " " } else { "\n" };
    }
    let command = if text.is_empty() { command } else { command.after_help(flowing.trim_end().to_owned()) };
    command.mut_subcommands(self::flowing)
}

/// Ends the program with clap's usage error, because `subcommand` got no prompt.
fn lacks_prompt(subcommand: &str) -> ! {
    let mut command = Cli::command();
    command.build();
    let problem = format!("a prompt is needed, as in: headstart {subcommand} 'Some text', or piped in");
    let usage =
        command.find_subcommand_mut(subcommand).map(|found| found.error(ErrorKind::MissingRequiredArgument, &problem));
    usage.unwrap_or_else(|| clap::Error::raw(ErrorKind::MissingRequiredArgument, problem)).exit()
}
