//! Qwen 3 (arXiv 2505.09388; reference: transformers `modeling_qwen3.py`): as Llama, with RMSNorm over each head of Q and K.

use super::{Architecture, Config, LayerRole, keys::Keys};
use crate::{error::Result, kernels::head_norm::QkNorm};

pub(super) const QWEN3: Architecture = Architecture { name: "qwen3", model_type: "qwen3", read };

pub(super) fn read(keys: &Keys) -> Result<Config> {
    keys.check_activation("hidden_act", "silu")?;
    keys.check_window("use_sliding_window", "sliding_window")?;
    let mut config = keys.decoder()?;
    for layer in &mut config.layers {
        layer.qkv_bias = keys.has_bias(LayerRole::QBias, "attention_bias")?;
        layer.o_bias = keys.has_bias(LayerRole::OBias, "attention_bias")?;
        layer.qk_norm = Some(QkNorm::Head);
    }
    Ok(config)
}
