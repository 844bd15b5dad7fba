//! Flags that several subcommands share, and what they stand for.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Result};
use crate::text::Tokenizer;
use crate::weights::Checkpoint;

use super::{hub, input};

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, a Hugging Face directory, or a name such as `owner/repository`
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

impl ModelArgs {
    /// Finds the model, by download if it must, and reads its headers.
    pub(crate) fn open(&self) -> Result<(PathBuf, Checkpoint)> {
        let path = hub::resolve(self.model.as_deref(), false)?;
        let checkpoint = pollster::block_on(Checkpoint::open(&path))?;
        Ok((path, checkpoint))
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

    /// Leave out the tokens that the model asks for around a text that no chat template made: BOS, and EOS where it has that
    #[arg(long)]
    pub(crate) no_bos: bool,
}

impl TextArgs {
    /// The tokens of a text that no chat template made.
    pub(crate) fn tokens(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        if self.no_bos { tokenizer.encode(text) } else { tokenizer.encode_text(text) }
    }

    /// The text, or `None` where neither flag was given.
    ///
    /// # Errors
    /// [`Error::Request`] for a text without a character; as [`input::text`] for a file.
    pub(crate) fn text(&self) -> Result<Option<String>> {
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => input::text(path)?,
            (None, None) => return Ok(None),
        };
        match text.is_empty() {
            true => Err(Error::Request { field: "prompt", problem: "is empty; give at least one character".into() }),
            false => Ok(Some(text)),
        }
    }
}
