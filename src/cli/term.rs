//! Output to terminals and pipes. Colour is used only at a terminal and without `NO_COLOR`. Output ends quietly when its reader
//! has gone.
//!
//! No text from a file, a store, a template or the network reaches a terminal as a control character: [`note`], [`out`] and
//! [`json`] escape it. The text of a model is escaped at a terminal only; see [`answer`].

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::wrap::Wrap;
use crate::error::{Error, Result, is_control, visible, visible_lines};

fn paint(text: &str, terminal: bool) -> String {
    let asked_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !asked_plain { format!("\x1b[2m{text}\x1b[0m") } else { text.to_string() }
}

/// All progress bars that are drawn. It is process-wide, because standard error is.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// Standard error, for lines that stand above the progress bars there.
pub(crate) struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A remark beside the result: one dim line on standard error.
pub(crate) fn note(text: &str) {
    let line = paint(&visible(&text.replace('\n', " ")), io::stderr().is_terminal()) + "\n";
    // If standard error is closed, there is nobody to tell.
    let _ = Above.write_all(line.as_bytes());
}

/// Remarks before the result.
pub(crate) fn notes(texts: &[String]) {
    texts.iter().for_each(|text| note(&format!("note: {text}")));
}

/// Writes lines to standard output, escaped. Text that must not add a line is made [`visible`] before.
pub(crate) fn out(text: &str) -> Result<()> {
    write(&visible_lines(text))
}

/// The same, dimmed where a person is looking.
pub(crate) fn dim(text: &str) -> Result<()> {
    write(&paint(&visible_lines(text), std::io::stdout().is_terminal()))
}

/// Writes the result itself, an answer or a path, byte for byte. At a terminal control characters are escaped, so that no
/// model can set the window's title or clear the screen.
pub(crate) fn answer(text: &str) -> Result<()> {
    match std::io::stdout().is_terminal() {
        true => out(text),
        false => write(text),
    }
}

/// Writes a piece of an answer. A terminal shows its words whole.
pub(crate) fn more(text: &str, wrap: &mut Wrap) -> Result<()> {
    match columns() {
        Some(columns) => write(&wrap.push(&visible_lines(text), columns)),
        None => answer(text),
    }
}

/// The columns of standard output, if it is a terminal that takes commands.
fn columns() -> Option<usize> {
    let takes_commands = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let (terminal_size::Width(columns), _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(columns)).filter(|columns| *columns > 0 && takes_commands)
}

/// Writes and flushes, so that streamed text is shown at once.
fn write(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Error::io("standard output", error))
}

/// One JSON object on a line.
pub(crate) fn json(value: &serde_json::Value) -> Result<()> {
    json_text(&value.to_string())
}

/// Writes JSON text. Control characters that JSON allows in strings as they are become escapes too.
pub(crate) fn json_text(text: &str) -> Result<()> {
    let mut told = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match is_control(c) && c != '\n' {
            true => told += &format!("\\u{:04x}", u32::from(c)),
            false => told.push(c),
        }
    }
    write(&(told + "\n"))
}

/// Bytes of memory and KV as people read them, in binary units. Models have decimal ones, as hubs tell them.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A progress bar on standard error, drawn only where that is a terminal.
pub(crate) fn bar(what: &'static str, total: u64, unit: &str) -> ProgressBar {
    let count = match unit {
        "B" => "{decimal_bytes}/{decimal_total_bytes}".to_owned(),
        _ => format!("{{pos}}/{{len}} {unit}"),
    };
    let template = format!("{{msg:8}} [{{bar:30}}] {count} {{eta}}");
    // The template is made of the constants above; were it wrong, the plain bar does as well.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = shown(total).with_style(style.progress_chars("━╸ ")).with_message(what);
    // Drawing is rate-limited for all bars together, and a new one should be seen at once.
    bar.force_draw();
    bar
}

/// The same in a style that is still to be chosen.
pub(crate) fn shown(total: u64) -> ProgressBar {
    BARS.add(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()))
}
