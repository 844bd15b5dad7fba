//! What a Ctrl-C means: it ends the work in progress at its next step, and the program where there is none, or where it comes
//! a second time. What it means is process-wide, because signals are.

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

/// The exit status of a program that a Ctrl-C ended, as shells report it.
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

/// Gives a Ctrl-C its meaning here, for the rest of the program.
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
        // Before the handler is there: no signal may find it and no work.
        STATE.store(BUSY, Ordering::SeqCst);
        let work = Self(());
        install()?;
        Ok(work)
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        STATE.load(Ordering::SeqCst) == INTERRUPTED
    }

    /// Whether to go on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.is_interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// For when the work is done, as far as it was let.
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

/// While an editor takes what a person types, until it is dropped. A Ctrl-C is one of its keys, and between two lines it ends nothing.
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
