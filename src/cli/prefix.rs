//! `prefix`: what the prefix cache can and cannot reuse of a prompt. No GPU is asked for and no weight read.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::engine::explain::Conversation;
use crate::engine::language;
use crate::error::Result;
use crate::kv::{self, Change, Divergence};

use super::args::ModelArgs;
use super::{input, term};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show where two conversations part, whose text that is, and what it costs the prefix cache
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix explain yesterday.json today.json
  headstart prefix explain a.json b.json --model model.gguf --json

A conversation is a JSON array of {role, content}, as in OpenAI's API. Messages count from 0.")]
pub struct Explain {
    /// A conversation whose prompt the cache holds
    #[arg(value_name = "A.JSON")]
    known: PathBuf,

    /// A conversation that should reuse it
    #[arg(value_name = "B.JSON")]
    prompt: PathBuf,

    #[command(flatten)]
    model: ModelArgs,

    /// Print one JSON object: tokens, shared_tokens, divergence
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Explain(args) => explain(args),
    }
}

fn explain(args: &Explain) -> Result<()> {
    let (known, prompt) = (input::messages(&args.known)?, input::messages(&args.prompt)?);
    let (_, checkpoint) = args.model.open()?;
    let (tokenizer, template) = (language::tokenizer(&checkpoint)?, language::template(&checkpoint)?);
    let known = Conversation::new(&template, &tokenizer, &known)?;
    let prompt = Conversation::new(&template, &tokenizer, &prompt)?;
    let found = kv::compare(known.rendered(), prompt.rendered(), |tokens| tokenizer.decode(tokens, false));
    let lengths = (known.tokens.len(), prompt.tokens.len());
    if args.json {
        let shared = found.as_ref().map_or(lengths.0.min(lengths.1), |found| found.token);
        return term::json(&json!({
            "tokens": { "known": lengths.0, "prompt": lengths.1 },
            "shared_tokens": shared,
            "divergence": found,
        }));
    }
    match found {
        Some(found) => term::out(&as_text(&found, lengths.1, &args.known, &args.prompt)),
        None => term::out(&agreement(lengths, &args.known, &args.prompt)),
    }
}

/// What is said where one prompt is the beginning of the other.
fn agreement((known, prompt): (usize, usize), a: &Path, b: &Path) -> String {
    let begins = |longer: &Path, tokens: usize, shorter: &Path| {
        format!("Nothing differs: {} begins with all {tokens} tokens of {}.\n", longer.display(), shorter.display())
    };
    match known.cmp(&prompt) {
        std::cmp::Ordering::Equal => format!("Nothing differs: both are the same {prompt} tokens.\n"),
        std::cmp::Ordering::Less => begins(b, known, a),
        std::cmp::Ordering::Greater => begins(a, prompt, b),
    }
}

fn as_text(found: &Divergence, tokens: usize, a: &Path, b: &Path) -> String {
    let owner = match (found.message, &found.role) {
        (Some(message), Some(role)) => format!("message {message} ({role})"),
        _ => "the chat template's own text".into(),
    };
    let mut text = format!("The first {} of {tokens} tokens are the same; then {owner} differs.\n", found.token);
    let (a, b) = (a.display().to_string(), b.display().to_string());
    let width = ["after", &a, &b].map(|name| name.chars().count()).into_iter().max().unwrap_or(0);
    for (name, side) in [("after", &found.shared), (&a, &found.known), (&b, &found.prompt)] {
        text += &format!("  {name:<width$}  {side:?}\n");
    }
    let (kind, advice) = match found.change {
        Change::Whitespace => ("Only white space differs.\n", "Keeping it the same"),
        Change::Order => ("The same text stands in another order.\n", "Keeping the order"),
        Change::Number => ("It holds a number, such as a time or an identifier.\n", MOVING),
        Change::Text => ("", MOVING),
    };
    text += kind;
    text + &match found.recoverable {
        0 => format!("Behind it, no {} tokens or more in a row are the same.\n", kv::PAGE),
        tokens => format!("{advice} would recover {tokens} tokens.\n"),
    }
}

const MOVING: &str = "Moving it behind the static part";
