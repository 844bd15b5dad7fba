//! Phi-3 and Phi-4-mini (arXiv 2404.14219, 2503.01743; reference: transformers `modeling_phi3.py`): as Llama, with Q, K
//! and V in one matrix, gate and up in another, RoPE on part of each head, and a window on every layer if the
//! configuration has one.

use super::{Architecture, Config, Stacked, keys::Keys};
use crate::error::Result;

pub(super) const PHI3: Architecture = Architecture { name: "phi3", model_type: "phi3", read };

fn read(keys: &Keys) -> Result<Config> {
    keys.check_activation("hidden_act", "silu")?;
    let mut config = keys.decoder()?;
    let window = keys.window(None)?;
    for layer in &mut config.layers {
        layer.stacked = Stacked::QkvAndGateUp;
        layer.scores.window = window;
    }
    Ok(config)
}
