//! Flags that several subcommands share, and their values.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::chat::session::Model;
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use crate::weights::Checkpoint;

use super::{input, model};

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, a Hugging Face directory, or a name such as `owner/repository`
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

impl ModelArgs {
    /// Finds the model, by download if it must, and reads its headers.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        pollster::block_on(Checkpoint::open(model::resolve(self.model.as_deref(), false)?))
    }

    /// The same with all that can be known of it without a GPU.
    pub(crate) fn open(&self) -> Result<Model> {
        pollster::block_on(Model::open(model::resolve(self.model.as_deref(), false)?))
    }
}

/// The text to work on, exactly as given: nothing is trimmed and nothing added.
#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    /// The text itself
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "prompt_file")]
    pub(crate) prompt: Option<String>,

    /// A file that holds the text; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,

    /// Leave out the tokens that the model puts around a plain text: BOS, and EOS if it has one
    #[arg(long)]
    pub(crate) no_bos: bool,
}

impl TextArgs {
    /// The tokens of a plain text.
    pub(crate) fn tokens(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        if self.no_bos { tokenizer.encode(text) } else { tokenizer.encode_text(text) }
    }

    /// The text, or `None` if neither flag was given.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty text; as [`input::text`] for a file.
    pub(crate) fn text(&self) -> Result<Option<String>> {
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => input::text(path)?,
            (None, None) => return Ok(None),
        };
        filled(text).map(Some)
    }
}

fn filled(text: String) -> Result<String> {
    match text.is_empty() {
        true => Err(Error::Request { field: "prompt", problem: "is empty; give at least one character".into() }),
        false => Ok(text),
    }
}

/// The text to work on, by a flag, as words, or from a pipe.
#[derive(Debug, Args)]
pub(crate) struct PromptArgs {
    /// The text; words are joined by spaces. Piped text is appended, or is the whole text if no words are given. With -p,
    /// nothing is read from a pipe
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "prompt_file"])]
    words: Vec<String>,

    #[command(flatten)]
    pub(crate) text: TextArgs,
}

impl PromptArgs {
    /// The text, or `None` if there is none. `whole_line` keeps the line break at the end of a piped text.
    ///
    /// # Errors
    /// As [`TextArgs::text`].
    pub(crate) fn text(&self, whole_line: bool) -> Result<Option<String>> {
        if let Some(text) = self.text.text()? {
            return Ok(Some(text));
        }
        let mut piped = match std::io::stdin().is_terminal() {
            true => String::new(),
            false => input::text(Path::new("-"))?,
        };
        if !whole_line {
            let end = piped.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).len());
            piped.truncate(end.unwrap_or(piped.len()));
        }
        let words = self.words.join(" ");
        match (self.words.is_empty(), piped.is_empty()) {
            (true, true) => Ok(None),
            (true, false) => Ok(Some(piped)),
            (false, true) => filled(words).map(Some),
            (false, false) => Ok(Some(format!("{words}\n\n{piped}"))),
        }
    }
}

/// Parses a count, for clap.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "use a whole number, such as 16")
}

/// As [`whole`], for counts of at least 1.
pub(crate) fn positive(text: &str) -> Result<usize, &'static str> {
    whole(text).ok().filter(|count| *count > 0).ok_or("use a whole number of 1 or more, such as 16")
}

/// Parses a number, for clap.
pub(crate) fn number(text: &str) -> Result<f32, &'static str> {
    text.parse().map_err(|_| "use a number, such as 0.7")
}
