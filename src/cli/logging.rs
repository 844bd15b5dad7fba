//! What is told of the way to a result, on standard error, for whoever asks: by `-v` what this program chose and did, by `-vv` in
//! detail, by `-vvv` all that the crates below it say too; or by `RUST_LOG`, as Rust programs read it.

use std::io::Write;
use std::time::Instant;

use env_logger::Target;
use log::LevelFilter;

use super::term::Above;
use crate::error::visible;

/// Nothing is told, and nothing spent on it, unless it is asked for. To be called once.
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
        // What a driver or a server says is a text from outside.
        writeln!(out, "[{seconds:8.3} {level:<5} {target}] {}", visible(&record.args().to_string()))
    });
    // Only a logger that is there already would be in its way.
    let _ = logger.try_init();
}
