//! Qwen 2 and 2.5 (arXiv 2407.10671; reference: transformers `modeling_qwen2.py`): as Llama, with biases on Q, K and V
//! only.

use super::{Architecture, Config, keys::Keys};
use crate::{error::Result, weights::Fields};

pub(super) const QWEN2: Architecture = Architecture { name: "qwen2", model_type: "qwen2", read };

fn read(keys: &Keys) -> Result<Config> {
    keys.check_activation("hidden_act", "silu")?;
    keys.check_window("use_sliding_window", "sliding_window")?;
    // The biases do not depend on this field.
    keys.bool("attention_bias")?;
    let mut config = keys.decoder()?;
    config.layers.iter_mut().for_each(|layer| layer.qkv_bias = true);
    Ok(config)
}
