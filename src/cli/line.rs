//! The entries of a conversation: from a line editor with history at a terminal, or as plain lines from a pipe.
//!
//! An entry is a line. A line that ends in `\` continues in the next. An entry that begins with `"""` ends with the line that ends
//! with `"""`. A terminal marks pasted text, so that its lines are one entry too.

use std::io::{BufRead, ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use etcetera::{BaseStrategy, choose_base_strategy};
use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, DefaultEditor, Event, EventContext, EventHandler, KeyEvent, Modifiers, RepeatCount,
};

use super::interrupt::{self, Asking};
use super::{term, tty};
use crate::error::{Error, Result};

/// What a person did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Message(String),
    /// A line that begins with `/`, without the `/`.
    Command(String),
    /// Ctrl-C with nothing typed.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// Reads entries on a thread of its own, so that the caller can work while it waits.
pub(crate) struct Lines {
    is_interactive: bool,
    asks: Sender<()>,
    answers: Receiver<Result<Line>>,
    terminal: Option<tty::Held>,
}

impl Lines {
    /// Call this before other threads start; [`tty`] says why. Ctrl-C, SIGTERM and SIGHUP are handled from then on.
    pub(crate) fn open() -> Result<Self> {
        let is_interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let terminal = if is_interactive { tty::hold()? } else { None };
        if terminal.is_none() {
            tty::attend()?;
        }
        interrupt::install()?;
        tty::quiet();
        let mut source = if is_interactive { Source::editor(terminal.as_ref())? } else { Source::Pipe { lines: 0 } };
        let ((asks, asked), (answer, answers)) = (channel(), channel());
        // The thread ends with the channel, or with the program if somebody is still typing.
        std::thread::spawn(move || asked.iter().try_for_each(|()| answer.send(source.read())));
        Ok(Self { is_interactive, asks, answers, terminal })
    }

    pub(crate) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Waits for the next entry. Meanwhile it calls `work` until that has no more to do.
    pub(crate) fn read(&mut self, work: &mut dyn FnMut() -> Result<bool>) -> Result<Line> {
        let gone = || Error::io("terminal", std::io::ErrorKind::BrokenPipe.into());
        let _asking = self.terminal.is_some().then(Asking::begin);
        self.asks.send(()).map_err(|_| gone())?;
        loop {
            match self.answers.try_recv() {
                Ok(line) => return line,
                Err(TryRecvError::Disconnected) => return Err(gone()),
                Err(TryRecvError::Empty) => match work() {
                    Ok(true) => {}
                    done => {
                        // An error of `work` waits for the line, since its reader has changed the terminal.
                        let line = self.answers.recv().unwrap_or_else(|_| Err(gone()));
                        return done.and(line);
                    }
                },
            }
        }
    }
}

enum Source {
    Editor {
        editor: Box<DefaultEditor>,
        history: Option<PathBuf>,
        /// Whether the last Ctrl-C dropped typed text.
        dropped: Arc<AtomicBool>,
    },
    Pipe {
        /// How many were read.
        lines: u64,
    },
}

/// A line, or why there is none.
enum Read {
    Line(String),
    /// Ctrl-C, and whether it dropped something that was typed.
    Interrupted(bool),
    /// Bytes that are no text. They were dropped.
    NoText,
    End,
}

impl Source {
    /// If the history cannot be loaded or saved, the editor works without it.
    fn editor(terminal: Option<&tty::Held>) -> Result<Self> {
        let mut editor = DefaultEditor::new().map_err(failed)?;
        let dropped = Arc::new(AtomicBool::new(false));
        let notice = EventHandler::Conditional(Box::new(Interrupt(dropped.clone())));
        editor.bind_sequence(KeyEvent::ctrl('C'), notice);
        if let Some(tty::Held { suspends }) = terminal {
            let key = KeyEvent::new(*suspends, Modifiers::NONE);
            editor.bind_sequence(key, EventHandler::Conditional(Box::new(Suspend)));
        }
        let history = choose_base_strategy().ok().map(|base| base.data_dir().join("headstart/chat_history"));
        if let Some(path) = &history {
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.load_history(path);
        }
        Ok(Self::Editor { editor: Box::new(editor), history, dropped })
    }

    fn read(&mut self) -> Result<Line> {
        let mut entry = Entry::default();
        while !entry.is_whole() {
            match self.line(if entry.is_begun() { "… " } else { "> " })? {
                Read::Line(line) => entry.take(&line),
                Read::Interrupted(dropped) if dropped || entry.is_begun() => entry = Entry::default(),
                Read::Interrupted(_) => return Ok(Line::Interrupted),
                Read::NoText => term::note("what was typed is not UTF-8 and was dropped"),
                Read::End if entry.is_begun() => break,
                Read::End => return Ok(Line::End),
            }
        }
        self.remember(&entry.remembered());
        Ok(entry.line())
    }

    fn line(&mut self, prompt: &str) -> Result<Read> {
        match self {
            Self::Editor { editor, dropped, .. } => {
                let line = editor.readline(prompt);
                tty::quiet();
                match line {
                    Ok(line) => Ok(Read::Line(line)),
                    Err(ReadlineError::Interrupted) => Ok(Read::Interrupted(dropped.swap(false, Ordering::Relaxed))),
                    Err(ReadlineError::Eof) => Ok(Read::End),
                    Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => Ok(Read::NoText),
                    Err(error) => Err(failed(error)),
                }
            }
            Self::Pipe { lines } => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().read_until(b'\n', &mut bytes);
                if read.map_err(|error| Error::io("standard input", error))? == 0 {
                    return Ok(Read::End);
                }
                *lines += 1;
                let line = String::from_utf8(bytes).map_err(|_| Error::Format {
                    file: "standard input".into(),
                    field: format!("line {lines}"),
                    problem: "is not UTF-8".into(),
                    fix: "save the text as UTF-8",
                })?;
                let line = line.strip_suffix('\n').unwrap_or(&line);
                Ok(Read::Line(line.strip_suffix('\r').unwrap_or(line).to_string()))
            }
        }
    }

    fn remember(&mut self, entry: &str) {
        let Self::Editor { editor, history, .. } = self else { return };
        if !entry.trim().is_empty() && editor.add_history_entry(entry).is_ok() {
            let _ = history.as_ref().map(|path| editor.append_history(path));
        }
    }
}

/// Opens and closes a message of several lines.
const QUOTES: &str = "\"\"\"";

/// Lines that become one entry.
#[derive(Default)]
struct Entry {
    text: String,
    state: Reading,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Reading {
    #[default]
    Empty,
    /// The last line ended in `\`.
    GoesOn,
    /// After the opening `"""`.
    Quoted,
    Whole,
    /// The same, from `"""` to `"""`.
    Unquoted,
}

impl Entry {
    fn is_begun(&self) -> bool {
        self.state != Reading::Empty
    }

    fn is_whole(&self) -> bool {
        matches!(self.state, Reading::Whole | Reading::Unquoted)
    }

    fn take(&mut self, line: &str) {
        let line = match (self.state, line.strip_prefix(QUOTES)) {
            (Reading::Empty, Some(rest)) => {
                self.state = Reading::Quoted;
                rest
            }
            _ => line,
        };
        if self.state == Reading::Quoted {
            let end = line.trim_end().strip_suffix(QUOTES);
            self.text += end.unwrap_or(line);
            match end {
                Some(_) => self.state = Reading::Unquoted,
                None => self.text.push('\n'),
            }
            return;
        }
        let start = line.strip_suffix('\\');
        self.text += start.unwrap_or(line);
        self.state = if start.is_some() { Reading::GoesOn } else { Reading::Whole };
        if start.is_some() {
            self.text.push('\n');
        }
    }

    /// The entry as the history keeps it.
    fn remembered(&self) -> String {
        let quotes = if matches!(self.state, Reading::Quoted | Reading::Unquoted) { QUOTES } else { "" };
        format!("{quotes}{}{quotes}", self.text)
    }

    fn line(self) -> Line {
        match (self.state, self.text.strip_prefix('/')) {
            (Reading::Quoted | Reading::Unquoted, _) => {
                let text = self.text.strip_prefix('\n').unwrap_or(&self.text);
                Line::Message(text.strip_suffix('\n').unwrap_or(text).to_owned())
            }
            // A path, not a command.
            (_, Some(command)) if !command.split_whitespace().next().is_some_and(|name| name.contains('/')) => {
                Line::Command(command.to_owned())
            }
            _ => Line::Message(self.text),
        }
    }
}

/// Notes whether a Ctrl-C drops typed text.
struct Interrupt(Arc<AtomicBool>);

impl ConditionalEventHandler for Interrupt {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        self.0.store(!context.line().is_empty(), Ordering::Relaxed);
        None
    }
}

/// Stops the program, and shows the line again when it goes on.
struct Suspend;

impl ConditionalEventHandler for Suspend {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext) -> Option<Cmd> {
        tty::suspend();
        Some(Cmd::Repaint)
    }
}

fn failed(error: ReadlineError) -> Error {
    Error::io("terminal", std::io::Error::other(error))
}
