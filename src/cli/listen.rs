//! Takes the news of an answer: prints its text, shows how far a long prompt is, and stops it at a Ctrl-C.

use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::ProgressBar;
use web_time::Instant;

use super::interrupt::Work;
use super::term;
use super::wrap::Wrap;
use crate::engine::answers::What;
use crate::error::Result;

/// Waits shorter than this show no bar.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Listener<'a> {
    work: &'a Work,
    /// Whether to print the text to standard output.
    aloud: bool,
    wrap: Wrap,
    began: Instant,
    reading: Option<ProgressBar>,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(work: &'a Work, aloud: bool) -> Self {
        Self { work, aloud, wrap: Wrap::default(), began: Instant::now(), reading: None }
    }

    /// Ends the answer if the work was interrupted.
    pub(crate) fn hear(&mut self, news: &[What]) -> Result<ControlFlow<()>> {
        for what in news {
            match what {
                What::Prompt { done, total } if done < total => self.show(*done, *total),
                What::Prompt { .. } => self.hide(),
                What::Text { text, .. } if self.aloud => term::more(text, &mut self.wrap)?,
                _ => {}
            }
        }
        Ok(self.work.flow())
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
