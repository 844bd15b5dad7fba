//! The terminal during a conversation. Keys that are typed while an answer streams are not echoed into it. They wait for the next
//! prompt. However the program ends or stops, it leaves the terminal as it was found.
//!
//! A signal that ends or stops the program first restores the terminal, and then has its usual effect. If the program continues,
//! it takes the terminal again. One thread waits for such signals, and all others block them; so [`hold`] is called before any
//! other thread starts. The state is process-wide, because the terminal and the signals are.
//!
//! On systems other than Unix, a terminal echoes only what is read, and nothing is held.

#[cfg(not(unix))]
pub(crate) use elsewhere::*;
#[cfg(unix)]
pub(crate) use system::*;

/// The terminal is held until this is dropped.
#[cfg_attr(not(unix), expect(dead_code, reason = "nothing is held there"))]
pub(crate) struct Held {
    /// The key that stops the program, usually Ctrl-Z. An editor reads the keys itself, and needs to know it.
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

    /// Turn off and on the marks around pasted text, by which an editor tells pasted line breaks from typed ones.
    const PASTE: [&str; 2] = ["\x1b[?2004l", "\x1b[?2004h"];
    const SIGNALS: [Signal; 4] = [Signal::SIGTSTP, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

    struct State {
        /// The modes as they were found, while the terminal is held.
        found: Option<Termios>,
        /// The modes as they were when a signal stopped the program, until it continues in the foreground.
        left: Option<Termios>,
        /// Signals handled so far.
        dealt: u64,
    }

    static STATE: Mutex<State> = Mutex::new(State { found: None, left: None, dealt: 0 });
    static DEALT: Condvar = Condvar::new();

    fn state() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errors are ignored: the terminal is gone then. It writes without the lock of standard output, because the holder of the lock may
    /// be waiting for the terminal.
    fn set(modes: &Termios, pastes_marked: bool) {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, modes);
        let _ = write(stdout(), PASTE[usize::from(pastes_marked)].as_bytes());
    }

    /// Whether the terminal is this program's, and not another one's.
    fn is_ours() -> bool {
        tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
    }

    /// Holds the terminal from now on. `None` for a terminal that takes no commands.
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

    /// Turns off echo, line editing and the flush at signals. Ctrl-C and its like still send signals. An editor restores these modes
    /// when it is done, but not the marks around pasted text, so call this after each use of an editor.
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

    /// Restores the terminal for good.
    pub(crate) fn release() {
        let mut state = state();
        if let Some(found) = state.found.take().filter(|_| is_ours()) {
            set(&found, false);
        }
    }

    /// Stops the program and its process group, as Ctrl-Z does outside an editor. Returns when the program continues.
    pub(crate) fn suspend() {
        let dealt = state().dealt;
        // To the group of the caller. This cannot fail, because the caller is in it.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        let _state = DEALT.wait_while(state(), |state| state.dealt == dealt);
    }

    /// Restores the terminal, and lets a signal have its usual effect.
    fn deal(signal: Signal) {
        let mut held = state();
        if let Some(found) = held.found.clone().filter(|_| is_ours()) {
            held.left = held.left.take().or_else(|| tcgetattr(stdin()).ok());
            // After a Ctrl-S, writing would block.
            let _ = tcflow(stdout(), FlowArg::TCOON);
            // Keys typed for the conversation must not become commands of the shell.
            let _ = tcflush(stdin(), FlushArg::TCIFLUSH);
            set(&found, false);
        }
        let only = SigSet::from(signal);
        // To this thread alone, which takes it at once. The process ends or stops, unless it was started with the signal ignored.
        let _ = only.thread_unblock().and_then(|()| raise(signal)).and_then(|()| only.thread_block());
        // Until here no other thread could change the terminal.
        drop(held);
        go_on();
        state().dealt += 1;
        DEALT.notify_all();
    }

    /// Sets the modes from before the signal, once the terminal is this program's again.
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
