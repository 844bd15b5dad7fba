//! `tokenize`: the tokens of a text. It uses no GPU and reads no weights.

use serde_json::json;

use crate::engine::language;
use crate::error::Result;

use super::args::{ModelArgs, PromptArgs};
use super::term;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart tokenize 'Hello world'
  headstart tokenize -m model.gguf --prompt-file notes.txt --json
  echo -n 'no line break' | headstart tokenize")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// Print one JSON object: token_ids, tokens
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let text = args.prompt.text(true)?.unwrap_or_else(|| super::lacks_prompt("tokenize"));
    let checkpoint = args.model.checkpoint()?;
    let tokenizer = language::tokenizer(&checkpoint)?;
    let ids = args.prompt.text.tokens(&tokenizer, &text)?;
    if args.json {
        let tokens: Vec<Option<String>> = ids.iter().map(|&id| tokenizer.token(id)).collect();
        return term::json(&json!({ "token_ids": ids, "tokens": tokens }));
    }
    let rows = ids.iter().map(|&id| format!("{id:>8}  {:?}\n", tokenizer.decode(&[id], false)));
    term::out(&rows.collect::<String>())?;
    term::dim(&format!("{} token{}\n", ids.len(), if ids.len() == 1 { "" } else { "s" }))
}
