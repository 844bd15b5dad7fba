//! The terminal while a conversation goes on. What is typed while an answer comes does not stand in it: it is not echoed, and
//! waits for the next prompt. Whatever ends or stops the program leaves the terminal as it was found.
//!
//! A signal that ends or stops does what it does by itself, on the terminal as it was found; where the program goes on after it, so
//! does the terminal. For that such signals are blocked in all threads but the one that waits for them, and so [`hold`] comes before
//! any other thread. What is held is process-wide, because the terminal and the signals are.
//!
//! Elsewhere than on Unix a terminal echoes only what is read, and nothing is held.

#[cfg(not(unix))]
pub(crate) use elsewhere::*;
#[cfg(unix)]
pub(crate) use system::*;

/// The terminal, until it is dropped.
#[cfg_attr(not(unix), expect(dead_code, reason = "nothing is held there"))]
pub(crate) struct Held {
    /// The key that stops the program, Ctrl-Z as a rule: for an editor that takes the keys itself.
    pub(crate) suspends: char,
}

impl Drop for Held {
    fn drop(&mut self) {
        release();
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use crate::error::Result;

    pub(crate) fn hold() -> Result<Option<super::Held>> {
        Ok(None)
    }

    pub(crate) fn quiet() {}

    pub(crate) fn release() {}

    pub(crate) fn suspend() {}
}

#[cfg(unix)]
mod system {
    use std::io::{stdin, stdout};
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    use nix::sys::signal::{SigSet, Signal, kill, raise};
    use nix::sys::termios::{
        FlowArg, FlushArg, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcflow, tcflush,
        tcgetattr, tcsetattr,
    };
    use nix::unistd::{Pid, getpgrp, tcgetpgrp, write};

    use super::Held;
    use crate::error::{Error, Result};

    /// Text that is pasted comes between marks, by which an editor tells its line breaks from those that are typed.
    const PASTE: [&str; 2] = ["\x1b[?2004l", "\x1b[?2004h"];
    const SIGNALS: [Signal; 4] = [Signal::SIGTSTP, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

    struct State {
        /// While it is held.
        found: Option<Termios>,
        /// As it was when a signal stopped the program, until that goes on before the person's eyes.
        left: Option<Termios>,
        /// Signals that were dealt with.
        dealt: u64,
    }

    static STATE: Mutex<State> = Mutex::new(State { found: None, left: None, dealt: 0 });
    static DEALT: Condvar = Condvar::new();

    fn state() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What cannot be set is a terminal that is gone: nobody sees it. Past the lock of standard output, whose holder may wait for the
    /// terminal.
    fn set(modes: &Termios, pastes_marked: bool) {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, modes);
        let _ = write(stdout(), PASTE[usize::from(pastes_marked)].as_bytes());
    }

    /// Whether the person's keys come here; else the terminal is another program's.
    fn is_ours() -> bool {
        tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
    }

    /// Holds the terminal from now on; not one that takes no commands.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses it.
    pub(crate) fn hold() -> Result<Option<Held>> {
        let term = std::env::var("TERM").unwrap_or_default();
        if ["", "dumb", "cons25", "emacs"].contains(&term.as_str()) {
            return Ok(None);
        }
        let failed = |error: nix::Error| Error::io("terminal", error.into());
        let found = tcgetattr(stdin()).map_err(failed)?;
        let signals: SigSet = SIGNALS.into_iter().chain([Signal::SIGCONT]).collect();
        signals.thread_block().map_err(failed)?;
        std::thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                match signal {
                    Signal::SIGCONT => go_on(),
                    signal => deal(signal),
                }
            }
        });
        let suspends = char::from(found.control_chars[SpecialCharacterIndices::VSUSP as usize]);
        state().found = Some(found);
        Ok(Some(Held { suspends }))
    }

    /// Echoes nothing, keeps what is typed as it is, also at a signal, and lets Ctrl-C and its like through. What an editor finds it leaves so, but for
    /// the marks around what is pasted: it is to be called behind one.
    pub(crate) fn quiet() {
        let state = state();
        let Some(mut modes) = state.found.clone() else { return };
        modes.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
        modes.local_flags.insert(LocalFlags::NOFLSH);
        modes.input_flags.remove(InputFlags::ICRNL | InputFlags::INLCR | InputFlags::IGNCR);
        modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        set(&modes, true);
    }

    /// As it was found, for good.
    pub(crate) fn release() {
        let mut state = state();
        if let Some(found) = state.found.take().filter(|_| is_ours()) {
            set(&found, false);
        }
    }

    /// Stops the program and all that runs with it, as a Ctrl-Z does that the terminal takes. Returns when it goes on.
    pub(crate) fn suspend() {
        let dealt = state().dealt;
        // To the group of the caller. It cannot fail: the caller is in it.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        let _state = DEALT.wait_while(state(), |state| state.dealt == dealt);
    }

    /// What the signal does by itself, on the terminal as it was found.
    fn deal(signal: Signal) {
        let mut held = state();
        if let Some(found) = held.found.clone().filter(|_| is_ours()) {
            held.left = held.left.take().or_else(|| tcgetattr(stdin()).ok());
            // A Ctrl-S would hold up what is written now.
            let _ = tcflow(stdout(), FlowArg::TCOON);
            // What was typed for a conversation is no command for a shell.
            let _ = tcflush(stdin(), FlushArg::TCIFLUSH);
            set(&found, false);
        }
        let only = SigSet::from(signal);
        // To this thread alone, which takes it at once; the process ends or stops, if nobody asked for it to be ignored.
        let _ = only.thread_unblock().and_then(|()| raise(signal)).and_then(|()| only.thread_block());
        // Nobody changes the terminal meanwhile.
        drop(held);
        go_on();
        state().dealt += 1;
        DEALT.notify_all();
    }

    /// As it was before the signal, once the terminal is the program's again.
    fn go_on() {
        let mut state = state();
        if state.found.is_some()
            && is_ours()
            && let Some(left) = state.left.take()
        {
            set(&left, true);
        }
    }
}
