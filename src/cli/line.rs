//! Where a conversation's lines come from: a line editor with history at a terminal, plain lines from a pipe.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use etcetera::{BaseStrategy, choose_base_strategy};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::error::{Error, Result};

/// What a person did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// The lines, read on a thread of their own, so that whoever waits for one can work meanwhile.
#[derive(Debug)]
pub(crate) struct Lines {
    is_interactive: bool,
    asks: Sender<()>,
    answers: Receiver<Result<Line>>,
}

impl Lines {
    pub(crate) fn open() -> Result<Self> {
        let mut source = Source::open()?;
        let is_interactive = matches!(source, Source::Editor { .. });
        let ((asks, asked), (answer, answers)) = (channel(), channel());
        // It ends with the channel, or with the program where somebody is still typing.
        std::thread::spawn(move || asked.iter().try_for_each(|()| answer.send(source.read())));
        Ok(Self { is_interactive, asks, answers })
    }

    pub(crate) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// The next entry. Until it is there, `work` is called as long as it has more to do.
    pub(crate) fn read(&mut self, work: &mut dyn FnMut() -> Result<bool>) -> Result<Line> {
        let gone = || Error::io("terminal", std::io::ErrorKind::BrokenPipe.into());
        self.asks.send(()).map_err(|_| gone())?;
        loop {
            match self.answers.try_recv() {
                Ok(line) => return line,
                Err(TryRecvError::Disconnected) => return Err(gone()),
                Err(TryRecvError::Empty) => match work() {
                    Ok(true) => {}
                    done => {
                        // First the line: its reader has changed the terminal.
                        let line = self.answers.recv().unwrap_or_else(|_| Err(gone()));
                        return done.and(line);
                    }
                },
            }
        }
    }
}

#[derive(Debug)]
enum Source {
    Editor { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Pipe,
}

impl Source {
    /// An editor if a person types and reads here, the pipe otherwise. A history that cannot be kept is no reason to
    /// stop.
    fn open() -> Result<Self> {
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

    /// The next entry. Lines that end in `\` go on in the next one, with a line break for the `\`.
    fn read(&mut self) -> Result<Line> {
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
