//! OLMo 2 (arXiv 2501.00656; reference: transformers `modeling_olmo2.py`): as Llama, with RMSNorm after attention and
//! MLP instead of before them, and RMSNorm over all query heads and over all key heads.

use super::{Architecture, Config, LayerRole, Norms, keys::Keys};
use crate::{error::Result, kernels::head_norm::QkNorm};

pub(super) const OLMO2: Architecture = Architecture { name: "olmo2", model_type: "olmo2", read };

fn read(keys: &Keys) -> Result<Config> {
    keys.check_activation("hidden_act", "silu")?;
    let mut config = keys.decoder()?;
    for layer in &mut config.layers {
        layer.norms = Norms::After;
        layer.qk_norm = Some(QkNorm::Whole);
        layer.qkv_bias = keys.has_bias(LayerRole::QBias, "attention_bias")?;
        layer.o_bias = keys.has_bias(LayerRole::OBias, "attention_bias")?;
    }
    Ok(config)
}
