//! Gemma 2 (arXiv 2408.00118) and the text models of Gemma 3 (arXiv 2503.19786; reference: transformers
//! `modeling_gemma2.py`, `modeling_gemma3.py`): RMSNorm around attention and MLP, GELU, embeddings times the root of
//! their width, windows on most layers. Gemma 2 caps scores and logits. Gemma 3 normalises heads, and its layers with a
//! window have RoPE frequencies of their own.

use super::{
    Architecture, Config, LayerRole, Norms,
    keys::{ConfigKey, Defaults, Keys},
};
use crate::{
    error::Result,
    kernels::{head_norm::QkNorm, linear::Activation},
    weights::Kind,
};

pub(super) const GEMMA2: Architecture = Architecture { name: "gemma2", model_type: "gemma2", read: gemma2 };
pub(super) const GEMMA3: Architecture = Architecture { name: "gemma3", model_type: "gemma3_text", read: gemma3 };

/// A multimodal model, of which only the language model runs here.
pub(super) const GEMMA3_WHOLE: Architecture = Architecture { name: "gemma3", model_type: "gemma3", read: gemma3 };

/// Published files leave out what transformers' `Gemma3TextConfig` has by default.
const GEMMA3_DEFAULTS: Defaults = &[
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
    ("sliding_window", 4096),
    ("rope_theta", 1_000_000),
];

const SCORE_CAP: ConfigKey = ConfigKey("attn_logit_softcapping", "attn_logit_softcapping");
const LOGIT_CAP: ConfigKey = ConfigKey("final_logit_softcapping", "final_logit_softcapping");

fn gemma2(keys: &Keys) -> Result<Config> {
    let mut config = gemma(keys, 2, 46)?;
    // If a file omits the caps, those of the paper apply.
    let score_cap = keys.cap(SCORE_CAP, 50.0)?;
    config.logit_cap = keys.cap(LOGIT_CAP, 30.0)?;
    config.layers.iter_mut().for_each(|layer| layer.scores.cap = score_cap);
    Ok(config)
}

fn gemma3(keys: &Keys) -> Result<Config> {
    let keys = &keys.with_defaults(GEMMA3_DEFAULTS);
    keys.refuse_on("use_bidirectional_attention")?;
    let mut config = gemma(keys, 6, 62)?;
    let local = keys.local_rope(config.head_dim)?;
    for layer in &mut config.layers {
        layer.qk_norm = Some(QkNorm::Head);
        // The window may have any length.
        if layer.scores.window.is_some() {
            layer.rope = Some(local.clone());
        }
    }
    Ok(config)
}

/// The common configuration. Unless the file lists them, every `pattern`-th layer sees the whole context. Unless the
/// file says otherwise, the model with `largest` layers scales scores by the width of a head's share of the hidden
/// state.
fn gemma(keys: &Keys, pattern: usize, largest: usize) -> Result<Config> {
    keys.check_activation("hidden_activation", "gelu_pytorch_tanh")?;
    let mut config = keys.decoder()?;
    let of_heads = if config.layers.len() == largest { config.hidden / config.heads } else { config.head_dim };
    let scale = keys.query_scale(of_heads)?;
    let windows = keys.windows(None, pattern, config.layers.len())?;
    for (layer, window) in config.layers.iter_mut().zip(windows) {
        layer.qkv_bias = keys.has_bias(LayerRole::QBias, "attention_bias")?;
        layer.o_bias = keys.has_bias(LayerRole::OBias, "attention_bias")?;
        layer.scores.scale = scale;
        layer.scores.window = window;
        layer.norms = Norms::Around;
        layer.activation = Activation::GeluTanh;
    }
    config.embedding_scale = (config.hidden as f32).sqrt();
    // Converters to GGUF store gains with the 1 that the model adds.
    config.norm_offset = if keys.kind() == Kind::HuggingFace { 1.0 } else { 0.0 };
    Ok(config)
}
