//! LFM2 (arXiv 2511.23404; reference: transformers `modeling_lfm2.py`): most layers are gated short convolutions, the
//! others attention with normalised heads. The final norm has the name of an embedding norm.

use serde_json::Value;

use super::{
    Architecture, Config, MixerSpec,
    keys::{
        ConfigKey, Defaults, INTERMEDIATE, KV_HEADS, Keys, MAX_HEADS, MAX_INTERMEDIATE, Named, positive, size,
        unsupported,
    },
};
use crate::{
    error::Result,
    kernels::head_norm::QkNorm,
    weights::{Fields, Kind, Metadata},
};

pub(super) const LFM2: Architecture = Architecture { name: "lfm2", model_type: "lfm2", read };

const EPSILON: ConfigKey = ConfigKey("attention.layer_norm_rms_epsilon", "norm_eps");
const TAPS: ConfigKey = ConfigKey("shortconv.l_cache", "conv_L_cache");
const MAX_TAPS: u64 = 8;
/// The defaults of `Lfm2Config`.
const DEFAULTS: Defaults = &[("num_key_value_heads", 8), ("rope_theta", 1_000_000), ("conv_L_cache", 3)];
const DEFAULT_EPSILON: f64 = 1e-5;

const NAMES: &[(&str, &str)] = &[
    ("output_norm.weight", "token_embd_norm.weight"),
    ("model.norm.weight", "model.embedding_norm.weight"),
    ("input_layernorm.weight", "operator_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("self_attn.o_proj.weight", "self_attn.out_proj.weight"),
    ("self_attn.q_norm.weight", "self_attn.q_layernorm.weight"),
    ("self_attn.k_norm.weight", "self_attn.k_layernorm.weight"),
    ("mlp.gate_proj.weight", "feed_forward.w1.weight"),
    ("mlp.up_proj.weight", "feed_forward.w3.weight"),
    ("mlp.down_proj.weight", "feed_forward.w2.weight"),
];

fn read(keys: &Keys) -> Result<Config> {
    let keys = &keys.with_defaults(DEFAULTS);
    keys.refuse_on("conv_bias")?;
    let (kv_heads, attends) = layers(keys)?;
    let intermediate = intermediate(keys)?;
    let mut config =
        keys.decoder_with(Named { kv_heads, intermediate, rms_eps: EPSILON, usual_eps: DEFAULT_EPSILON })?;
    let taps = taps(keys)?;
    for (layer, attends) in config.layers.iter_mut().zip(attends) {
        if attends {
            layer.qk_norm = Some(QkNorm::Head);
        } else {
            layer.mixer = MixerSpec::ShortConv { taps };
            layer.rope = None;
        }
    }
    config.names = NAMES;
    Ok(config)
}

fn taps(keys: &Keys) -> Result<usize> {
    let name = keys.name(TAPS);
    match keys.required(&name, keys.u64(&name)?)? {
        taps if (2..=MAX_TAPS).contains(&taps) => Ok(taps as usize),
        taps => {
            let fix = format!("take a model whose convolutions are over 2 to {MAX_TAPS} tokens");
            Err(unsupported(keys, format!("a convolution over {taps} tokens ({name})"), &fix))
        }
    }
}

/// The number of KV heads, and which layers have attention. GGUF states the KV heads of each layer; `config.json`
/// states the type of each layer, or lists those with attention.
fn layers(keys: &Keys) -> Result<(usize, Vec<bool>)> {
    const TYPES: &str = "layer_types";
    const ATTEND: &str = "full_attn_idxs";
    let count = keys.layers()?;
    let name = keys.name(KV_HEADS);
    let wrong = |key: &str, found: String| {
        keys.wrong(key, format!("expected one of each of the {count} layers, found {found}"))
    };
    let all = vec![true; count];
    match &keys.checkpoint.metadata {
        Metadata::Gguf(metadata) => {
            let heads = match keys.u64(&name) {
                Ok(_) => return Ok((keys.size(KV_HEADS, MAX_HEADS, None)?, all)),
                Err(_) => metadata.i32s(&name)?.unwrap_or_default(),
            };
            let most = heads.iter().copied().max().unwrap_or(0);
            let fits = heads.len() == count && heads.iter().all(|&heads| heads == 0 || heads == most);
            if !fits || !(1..=MAX_HEADS as i32).contains(&most) {
                return Err(wrong(&name, format!("{heads:?}")));
            }
            Ok((most as usize, heads.into_iter().map(|heads| heads > 0).collect()))
        }
        Metadata::HuggingFace(_) => {
            let kv_heads = keys.size(KV_HEADS, MAX_HEADS, None)?;
            let attends = match (keys.given(TYPES), keys.given(ATTEND)) {
                (Some(list), _) => {
                    let kind = |value: &Value| match value.as_str() {
                        Some("full_attention") => Some(true),
                        Some("conv") => Some(false),
                        _ => None,
                    };
                    let kinds = list.as_array().and_then(|list| list.iter().map(kind).collect::<Option<Vec<_>>>());
                    kinds.filter(|kinds| kinds.len() == count).ok_or_else(|| wrong(TYPES, list.to_string()))?
                }
                (None, Some(list)) => {
                    let at = |value: &Value| value.as_u64().filter(|&layer| layer < count as u64);
                    let layers = list.as_array().and_then(|list| list.iter().map(at).collect::<Option<Vec<_>>>());
                    let problem = || format!("expected layers from 0 to {}, found {list}", count - 1);
                    let layers = layers.ok_or_else(|| keys.wrong(ATTEND, problem()))?;
                    (0..count as u64).map(|layer| layers.contains(&layer)).collect()
                }
                (None, None) => all,
            };
            Ok((kv_heads, attends))
        }
    }
}

/// The width as `Lfm2MLP` computes it: two thirds of the size that `config.json` names in one of two fields, times a
/// factor, rounded up to a multiple. GGUF has the result.
fn intermediate(keys: &Keys) -> Result<usize> {
    const OWN: &str = "block_ff_dim";
    const FACTOR: &str = "block_ffn_dim_multiplier";
    let named = match keys.given(OWN) {
        Some(_) => size(keys, OWN, MAX_INTERMEDIATE, None)?,
        None => keys.size(INTERMEDIATE, MAX_INTERMEDIATE, None)?,
    };
    if keys.kind() == Kind::Gguf || !keys.bool("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(named);
    }
    let two_thirds = 2 * named / 3;
    if keys.json(FACTOR).is_some_and(Value::is_null) {
        return Ok(two_thirds);
    }
    let scaled = positive(keys, FACTOR, Some(1.0))? * two_thirds as f64;
    let multiple = keys.count("block_multiple_of", 256)?;
    match (scaled as usize).checked_next_multiple_of(multiple) {
        Some(width @ 1..=MAX_INTERMEDIATE) => Ok(width),
        _ => {
            Err(keys
                .wrong(FACTOR, format!("the MLP would be {scaled} wide, which is not from 1 to {MAX_INTERMEDIATE}")))
        }
    }
}
