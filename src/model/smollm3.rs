//! SmolLM3 (reference: transformers `modeling_smollm3.py`): as Llama, but some layers have no RoPE (arXiv 2501.18795):
//! every fourth, unless the configuration lists them.

use super::{Architecture, Config, keys::Keys, llama};
use crate::error::Result;

pub(super) const SMOLLM3: Architecture = Architecture { name: "smollm3", model_type: "smollm3", read };

fn read(keys: &Keys) -> Result<Config> {
    keys.check_window("use_sliding_window", "sliding_window")?;
    let mut config = llama::read(keys)?;
    let turned = match keys.switches("no_rope_layers", config.layers.len())? {
        Some(turned) => turned,
        None => {
            let interval = keys.count("no_rope_layer_interval", 4)?;
            (1..=config.layers.len()).map(|layer| !layer.is_multiple_of(interval)).collect()
        }
    };
    for (layer, _) in config.layers.iter_mut().zip(turned).filter(|(_, turned)| !turned) {
        layer.rope = None;
    }
    Ok(config)
}
