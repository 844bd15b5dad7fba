//! Mistral (arXiv 2310.06825; reference: transformers `modeling_mistral.py`): as Llama, with a window on every layer unless the
//! configuration says null. GGUF files of it are called Llama's.

use super::{Architecture, Config, keys::Keys, llama};
use crate::error::Result;

pub(super) const MISTRAL: Architecture = Architecture { name: "mistral", model_type: "mistral", read };

/// The window of a `config.json` that does not say.
const WINDOW: u64 = 4096;

fn read(keys: &Keys) -> Result<Config> {
    let mut config = llama::read(keys)?;
    let window = keys.window(Some(WINDOW))?.filter(|&window| window < config.context);
    config.layers.iter_mut().for_each(|layer| layer.scores.window = window);
    Ok(config)
}
