//! Qwen 2 and 2.5 (arXiv 2407.10671; reference: transformers `modeling_qwen2.py`): as Llama, with biases of Q, K and V and
//! without others.

use super::{Architecture, Config, keys::Keys};
use crate::{error::Result, weights::Fields};

pub(super) const QWEN2: Architecture = Architecture { name: "qwen2", model_type: "qwen2", read };

fn read(keys: &Keys) -> Result<Config> {
    keys.check_activation("hidden_act", "silu")?;
    keys.check_window("use_sliding_window", "sliding_window")?;
    // Which biases there are does not depend on it.
    keys.bool("attention_bias")?;
    let mut config = keys.decoder()?;
    config.layers.iter_mut().for_each(|layer| layer.qkv_bias = true);
    Ok(config)
}
