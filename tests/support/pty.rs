//! Runs the program at a pseudo-terminal, which is its controlling terminal; the test types and reads.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

/// A limit that even a busy machine keeps.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Pty {
    terminal: File,
    /// Kept open, so that the terminal's modes can be read after the program has ended.
    _other: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Number of its bytes that were waited for.
    seen: usize,
    pub child: Child,
}

impl Pty {
    /// Starts `command` at a terminal with this many columns.
    pub fn start(command: &Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let (terminal, other) = (File::from(master), File::from(slave));
        let end = || Stdio::from(other.try_clone().unwrap());
        // `setsid` makes its standard input the controlling terminal and then becomes the command. `env` undoes what the tests
        // may have inherited: a `nohup`, and that a shell without job control lets its background jobs ignore the other two.
        let mut started = Command::new("setsid");
        started
            .args(["--ctty", "env", "--default-signal=HUP,INT,QUIT"])
            .arg(command.get_program())
            .args(command.get_args())
            .env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        let child = started.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (shown, mut reader) = (Arc::new(Mutex::new(Vec::new())), terminal.try_clone().unwrap());
        let sink = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { terminal, _other: other, shown, seen: 0, child }
    }

    pub fn types(&mut self, keys: impl AsRef<[u8]>) {
        self.terminal.write_all(keys.as_ref()).unwrap();
    }

    /// All output so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until `text` appears after what was waited for before, and returns the new output up to its end.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            {
                let shown = self.shown.lock().unwrap();
                let fresh = &shown[self.seen..];
                if let Some(at) = fresh.windows(text.len()).position(|part| part == text.as_bytes()) {
                    let end = at + text.len();
                    let fresh = String::from_utf8_lossy(&fresh[..end]).into_owned();
                    self.seen += end;
                    return fresh;
                }
            }
            assert!(Instant::now() < until, "{text:?} is not shown: {:?}", self.shown());
            sleep(Duration::from_millis(5));
        }
    }

    pub fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    /// Waits until the terminal echoes and edits lines itself, or until it does not.
    #[track_caller]
    pub fn wait_until_cooked(&self, cooked: bool) {
        let until = Instant::now() + PATIENCE;
        let flags = LocalFlags::ECHO | LocalFlags::ICANON;
        while self.modes().local_flags.contains(flags) != cooked {
            assert!(Instant::now() < until, "{:?}", self.shown());
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the program to end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end: {:?}", self.shown());
            sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows that a terminal shows for some output, without trailing spaces. Interprets line breaks, moves within a line and
/// erasing to its end. A wide character is followed by a NUL.
pub fn rows(written: &str) -> Vec<String> {
    let (mut rows, mut column) = (vec![Vec::new()], 0);
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        let row: &mut Vec<char> = rows.last_mut().unwrap();
        match c {
            '\r' => column = 0,
            '\n' => rows.push(vec![' '; column]),
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "{written:?}");
                let mut number = String::new();
                let end = chars.by_ref().find(|c| {
                    !(c.is_ascii_digit() || *c == '?') || {
                        number.push(*c);
                        false
                    }
                });
                let count = number.parse().unwrap_or(1);
                match end {
                    Some('D') => column = column.saturating_sub(count),
                    Some('C') => column += count,
                    Some('K') => row.truncate(column),
                    _ => {}
                }
            }
            c => {
                row.resize(row.len().max(column), ' ');
                row.truncate(column);
                row.push(c);
                column += 1;
                if ('\u{1100}'..).contains(&c) && c != '…' {
                    row.push('\0');
                    column += 1;
                }
            }
        }
    }
    rows.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned()).collect()
}
