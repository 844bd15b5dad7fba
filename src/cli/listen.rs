//! Takes the news of an answer: prints its text, shows how far a long prompt is, and stops it at a Ctrl-C.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::ProgressBar;
use web_time::Instant;

use super::interrupt::Work;
use super::term;
use super::wrap::Wrap;
use crate::engine::answers::What;
use crate::error::{Error, Result};

/// Waits shorter than this show no bar.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Listener<'a> {
    work: &'a Work,
    /// Whether to print the text to standard output.
    aloud: bool,
    wrap: Wrap,
    began: Instant,
    reading: Option<ProgressBar>,
    /// Why nothing can be printed any more.
    lost: Option<Error>,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(work: &'a Work, aloud: bool) -> Self {
        Self { work, aloud, wrap: Wrap::default(), began: Instant::now(), reading: None, lost: None }
    }

    /// Ends the answer if the work was interrupted, or if its text cannot be printed: [`Listener::end`] tells that.
    ///
    /// # Errors
    /// [`Error::Io`] if the reader of a pipe has gone.
    pub(crate) fn hear(&mut self, news: &[What]) -> Result<ControlFlow<()>> {
        for what in news {
            match what {
                What::Prompt { done, total } if done < total => self.show(*done, *total),
                What::Prompt { .. } => self.hide(),
                What::Text { text, .. } if self.aloud && self.lost.is_none() => self.print(text)?,
                _ => {}
            }
        }
        Ok(if self.lost.is_some() { ControlFlow::Break(()) } else { self.work.flow() })
    }

    fn print(&mut self, text: &str) -> Result<()> {
        match term::more(text, &mut self.wrap) {
            Err(Error::Io { source, path }) if source.kind() != ErrorKind::BrokenPipe => {
                self.lost = Some(Error::Io { source, path });
                Ok(())
            }
            printed => printed,
        }
    }

    /// Ends the printing.
    ///
    /// # Errors
    /// [`Error::Io`] if some of the text could not be printed, as at a terminal that was closed.
    pub(crate) fn end(mut self) -> Result<()> {
        self.lost.take().map_or(Ok(()), Err)
    }

    fn show(&mut self, done: usize, total: usize) {
        if self.reading.is_none() && self.began.elapsed() < PATIENCE {
            return;
        }
        let bar = self.reading.get_or_insert_with(|| term::bar("reading", total as u64, "tokens"));
        bar.set_position(done as u64);
    }

    fn hide(&mut self) {
        if let Some(bar) = self.reading.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.hide();
    }
}
