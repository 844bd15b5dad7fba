//! The Llama family (Touvron et al., arXiv 2302.13971; reference: transformers `modeling_llama.py`): pre-norm blocks
//! with RoPE, grouped-query attention and a SwiGLU MLP, and biases if the configuration has them.

use super::{Architecture, Config, LayerRole, RopeRows, keys::Keys};
use crate::{error::Result, weights::Kind};

pub(super) const LLAMA: Architecture = Architecture { name: "llama", model_type: "llama", read };

pub(super) fn read(keys: &Keys) -> Result<Config> {
    keys.check_activation("hidden_act", "silu")?;
    let mut config = keys.decoder()?;
    for layer in &mut config.layers {
        layer.qkv_bias = keys.has_bias(LayerRole::QBias, "attention_bias")?;
        layer.o_bias = keys.has_bias(LayerRole::OBias, "attention_bias")?;
        layer.mlp_bias = keys.has_bias(LayerRole::GateBias, "mlp_bias")?;
    }
    // llama.cpp's converter reorders the rows of this architecture.
    if keys.kind() == Kind::Gguf {
        config.rope_rows = RopeRows::Interleaved;
    }
    Ok(config)
}
