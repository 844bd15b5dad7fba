//! Log lines on standard error. `-v` shows what this program chose and did, `-vv` the details, and `-vvv` the lines of the crates
//! below it too. `RUST_LOG` chooses by module, as in other Rust programs.

use std::io::Write;
use std::time::Instant;

use env_logger::Target;
use log::LevelFilter;

use super::term::Above;
use crate::error::visible;

/// Starts the logger if the flag or the variable asks for it. Call it once.
pub(crate) fn start(verbosity: u8) {
    let variable = std::env::var("RUST_LOG").unwrap_or_default();
    let mut logger = env_logger::Builder::new();
    match verbosity {
        0 if variable.is_empty() => return,
        0 => logger.parse_filters(&variable),
        1 => logger.filter_module("headstart", LevelFilter::Info).parse_filters(&variable),
        2 => logger
            .filter_level(LevelFilter::Warn)
            .filter_module("headstart", LevelFilter::Debug)
            .parse_filters(&variable),
        _ => logger.filter_level(LevelFilter::Debug).parse_filters(&variable),
    };
    logger.target(Target::Pipe(Box::new(Above)));
    let began = Instant::now();
    logger.format(move |out, record| {
        let (seconds, level, target) = (began.elapsed().as_secs_f64(), record.level(), record.target());
        // Drivers and servers are outside, and so is their text.
        writeln!(out, "[{seconds:8.3} {level:<5} {target}] {}", visible(&record.args().to_string()))
    });
    // It fails only if there already is a logger.
    let _ = logger.try_init();
}
