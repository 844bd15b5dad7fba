//! The binary: parse, run, exit code. A usage error exits 2 (clap's), a Ctrl-C 130, any other error prints one line and
//! exits 1.

use std::io::ErrorKind;
use std::process::ExitCode;

use headstart::cli::{self, Cli};
use headstart::error::Error;

fn main() -> ExitCode {
    match Cli::read().run() {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has enough, as in `headstart … | head`.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ Error::Interrupted) => {
            eprintln!("{error}");
            ExitCode::from(cli::INTERRUPT_STATUS)
        }
        Err(error) => {
            eprintln!("error: {}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
