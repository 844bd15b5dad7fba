//! Ctrl-C. It ends the work in progress at its next step. A second one, or one without work in progress, ends the program. The
//! state is process-wide, because signals are.

use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use super::tty;
use crate::error::{Error, Result};

static STATE: AtomicU8 = AtomicU8::new(IDLE);
const IDLE: u8 = 0;
const BUSY: u8 = 1;
const INTERRUPTED: u8 = 2;
const ASKING: u8 = 3;
const LEAVING: u8 = 4;

/// The exit status after a Ctrl-C, as shells report it.
pub const STATUS: u8 = 130;

fn on_signal() {
    match STATE.compare_exchange(BUSY, INTERRUPTED, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) | Err(ASKING) => {}
        Err(_) => {
            tty::release();
            std::process::exit(STATUS.into());
        }
    }
}

/// Handles Ctrl-C from now on.
///
/// # Errors
/// [`Error::Io`] where the system refuses the handler.
pub(crate) fn install() -> Result<()> {
    static HANDLER: OnceLock<Result<()>> = OnceLock::new();
    let set = || ctrlc::set_handler(on_signal).map_err(|error| Error::io("signals", std::io::Error::other(error)));
    HANDLER.get_or_init(set).clone()
}

/// Work that a first Ctrl-C ends cleanly, until it is dropped.
pub(crate) struct Work(());

impl Work {
    /// # Errors
    /// As [`install`].
    pub(crate) fn begin() -> Result<Self> {
        // Set before the handler is installed, so that the handler never runs without work.
        STATE.store(BUSY, Ordering::SeqCst);
        let work = Self(());
        install()?;
        Ok(work)
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        [INTERRUPTED, LEAVING].contains(&STATE.load(Ordering::SeqCst))
    }

    /// Whether to go on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.is_interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Reports an interrupt, once the work is over.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn end(&self) -> Result<()> {
        if self.is_interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        STATE.store(IDLE, Ordering::SeqCst);
    }
}

/// Ends the work in progress at its next step, because the program is to end. `false` if there is none.
#[cfg(unix)]
pub(crate) fn leave() -> bool {
    let is_work = |state| STATE.compare_exchange(state, LEAVING, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    [BUSY, INTERRUPTED].into_iter().any(is_work)
}

/// A person is typing into the editor, until this is dropped. Ctrl-C is then a key of the editor and ends nothing.
pub(crate) struct Asking(());

impl Asking {
    pub(crate) fn begin() -> Self {
        STATE.store(ASKING, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        STATE.store(IDLE, Ordering::SeqCst);
    }
}
