//! The terminal during a conversation. Keys that are typed while an answer streams are not echoed into it. They wait for the next
//! prompt. However the program ends or stops, it leaves the terminal as it was found.
//!
//! A signal that ends or stops the program first restores the terminal, and then has its usual effect. If the program continues,
//! it takes the terminal again. SIGTERM and SIGHUP let the work in progress end before, so that its results are kept: [`leave`]
//! then lets them have their effect. One thread waits for such signals, and all others block them; so [`hold`] or [`attend`] is
//! called before any other thread starts. The state is process-wide, because the terminal and the signals are.
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

    pub(crate) fn attend() -> Result<()> {
        Ok(())
    }

    pub(crate) fn is_leaving() -> bool {
        false
    }

    pub(crate) fn leave() {}

    pub(crate) fn quiet() {}

    pub(crate) fn release() {}

    pub(crate) fn suspend() {}
}

#[cfg(unix)]
mod system {
    use std::io::{stdin, stdout};
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
    use nix::sys::termios::{
        FlowArg, FlushArg, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcflow, tcflush,
        tcgetattr, tcsetattr,
    };
    use nix::unistd::{Pid, getpgrp, tcgetpgrp, write};

    use super::Held;
    use crate::cli::interrupt;
    use crate::error::{Error, Result};

    /// Turn off and on the marks around pasted text, by which an editor tells pasted line breaks from typed ones.
    const PASTE: [&str; 2] = ["\x1b[?2004l", "\x1b[?2004h"];
    /// Those that concern the terminal alone.
    const OF_TERMINALS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGQUIT, Signal::SIGCONT];
    /// Those that ask the program to end.
    const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGHUP];

    struct State {
        /// The modes as they were found, while the terminal is held.
        found: Option<Termios>,
        /// The modes as they were when a signal stopped the program, until it continues in the foreground.
        left: Option<Termios>,
        /// Signals handled so far.
        dealt: u64,
        /// The signal that ends the program once its work is over.
        leaves: Option<Signal>,
    }

    static STATE: Mutex<State> = Mutex::new(State { found: None, left: None, dealt: 0, leaves: None });
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
        let found = tcgetattr(stdin()).map_err(|error| Error::io("terminal", error.into()))?;
        watch(&OF_TERMINALS)?;
        let suspends = char::from(found.control_chars[SpecialCharacterIndices::VSUSP as usize]);
        state().found = Some(found);
        Ok(Some(Held { suspends }))
    }

    /// Lets SIGTERM and SIGHUP wait for the work in progress, without a terminal too.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses it.
    pub(crate) fn attend() -> Result<()> {
        watch(&[])
    }

    /// Waits for these signals, and for those that ask the program to end, on a thread of its own.
    fn watch(others: &[Signal]) -> Result<()> {
        let failed = |error: nix::Error| Error::io("signals", error.into());
        let mut signals: SigSet = others.iter().copied().collect();
        for signal in ENDING {
            if !is_ignored(signal).map_err(failed)? {
                signals.add(signal);
            }
        }
        signals.thread_block().map_err(failed)?;
        std::thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                match signal {
                    Signal::SIGCONT => go_on(),
                    signal => deal(signal),
                }
            }
        });
        Ok(())
    }

    /// Whether the program was started with the signal ignored, as `nohup` does.
    fn is_ignored(signal: Signal) -> nix::Result<bool> {
        let usual = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed, only the default or what was there.
        let found = unsafe { sigaction(signal, &usual) }?;
        let is_ignored = matches!(found.handler(), SigHandler::SigIgn);
        if is_ignored {
            // SAFETY: as above.
            unsafe { sigaction(signal, &found) }?;
        }
        Ok(is_ignored)
    }

    /// Whether a signal waits for [`leave`].
    pub(crate) fn is_leaving() -> bool {
        state().leaves.is_some()
    }

    /// Lets a signal that waited for the work in progress have its usual effect.
    pub(crate) fn leave() {
        let leaves = state().leaves;
        if let Some(signal) = leaves {
            release();
            let _ = SigSet::from(signal).thread_unblock().and_then(|()| raise(signal));
        }
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

    /// Restores the terminal, and lets a signal have its usual effect, or first lets the work in progress end.
    fn deal(signal: Signal) {
        let mut held = state();
        if ENDING.contains(&signal) && (held.leaves.is_some() || interrupt::leave()) {
            // A terminal that is closed may send several.
            held.leaves = held.leaves.or(Some(signal));
            return;
        }
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
