//! Mistral (arXiv 2310.06825; reference: transformers `modeling_mistral.py`): as Llama, with a window on every layer
//! unless the configuration says null. Ministral (`modeling_ministral.py`) has a window on the layers that the
//! configuration lists. GGUF files of both are labelled as Llama.

use super::{Architecture, Config, keys::Keys, llama};
use crate::error::Result;

pub(super) const MISTRAL: Architecture = Architecture { name: "mistral", model_type: "mistral", read };

pub(super) const MINISTRAL: Architecture = Architecture { name: "ministral", model_type: "ministral", read: ministral };

/// The window if `config.json` does not name one.
const WINDOW: u64 = 4096;

fn read(keys: &Keys) -> Result<Config> {
    let mut config = llama::read(keys)?;
    let window = keys.window(Some(WINDOW))?;
    if window.is_none_or(|window| window >= config.context) {
        // Without a window, the list of layers with one has no effect.
        keys.given("layer_types");
    }
    config.layers.iter_mut().for_each(|layer| layer.scores.window = window);
    Ok(config)
}

fn ministral(keys: &Keys) -> Result<Config> {
    let mut config = llama::read(keys)?;
    // If the file has no list, every layer has the window.
    let windows = match (keys.window(Some(WINDOW))?, keys.given("layer_types")) {
        (None, None) => return Ok(config),
        _ => keys.windows(Some(WINDOW), usize::MAX, config.layers.len())?,
    };
    for (layer, window) in config.layers.iter_mut().zip(windows) {
        layer.scores.window = window;
    }
    Ok(config)
}
