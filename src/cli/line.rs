//! Where a conversation's lines come from: a line editor with history at a terminal, plain lines from a pipe.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use etcetera::{BaseStrategy, choose_base_strategy};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::error::{Error, Result};

/// What a person did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

#[derive(Debug)]
pub enum Lines {
    Editor { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Pipe,
}

impl Lines {
    /// An editor if a person types and reads here, the pipe otherwise. A history that cannot be kept is no reason to
    /// stop.
    pub fn open() -> Result<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(Self::Pipe);
        }
        let mut editor = DefaultEditor::new().map_err(terminal)?;
        let history = choose_base_strategy().ok().map(|base| base.data_dir().join("headstart/chat_history"));
        if let Some(path) = &history {
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.load_history(path);
        }
        Ok(Self::Editor { editor: Box::new(editor), history })
    }

    pub fn is_interactive(&self) -> bool {
        matches!(self, Self::Editor { .. })
    }

    /// The next entry. Lines that end in `\` go on in the next one, with a line break for the `\`.
    pub fn read(&mut self) -> Result<Line> {
        let mut entry = String::new();
        loop {
            let prompt = if entry.is_empty() { "> " } else { "… " };
            let line = match self.read_one(prompt)? {
                Line::Text(line) => line,
                Line::End if !entry.is_empty() => break,
                other => return Ok(other),
            };
            match line.strip_suffix('\\') {
                Some(start) => entry = entry + start + "\n",
                None => {
                    entry += &line;
                    break;
                }
            }
        }
        self.remember(&entry);
        Ok(Line::Text(entry))
    }

    fn read_one(&mut self, prompt: &str) -> Result<Line> {
        match self {
            Self::Editor { editor, .. } => match editor.readline(prompt) {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(terminal(error)),
            },
            Self::Pipe => {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                if read.map_err(|error| Error::io("standard input", error))? == 0 {
                    return Ok(Line::End);
                }
                let line = line.strip_suffix('\n').unwrap_or(&line);
                Ok(Line::Text(line.strip_suffix('\r').unwrap_or(line).to_string()))
            }
        }
    }

    fn remember(&mut self, entry: &str) {
        let Self::Editor { editor, history } = self else { return };
        if !entry.trim().is_empty() && editor.add_history_entry(entry).is_ok() {
            let _ = history.as_ref().map(|path| editor.append_history(path));
        }
    }
}

fn terminal(error: ReadlineError) -> Error {
    Error::io("terminal", std::io::Error::other(error))
}
