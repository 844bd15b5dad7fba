//! Granite 3 and the dense models of Granite 4 (reference: transformers `modeling_granite.py`,
//! `modeling_granitemoehybrid.py`): as Llama, with embeddings, scores, what joins the residual stream and logits each
//! scaled by a number of the configuration. The latter may have no positional encoding, and their MLP is the shared
//! expert of a mixture without experts.

use super::{
    Architecture, Config, Stacked,
    keys::{ConfigKey, Keys, MAX_INTERMEDIATE, unsupported},
    llama,
};
use crate::{
    error::Result,
    weights::{Fields, Kind},
};

pub(super) const GRANITE: Architecture = Architecture { name: "granite", model_type: "granite", read };

/// GGUF files of models with attention only are labelled as Granite.
pub(super) const GRANITE_HYBRID: Architecture =
    Architecture { name: "granite", model_type: "granitemoehybrid", read: hybrid };

const EMBEDDINGS: ConfigKey = ConfigKey("embedding_scale", "embedding_multiplier");
const SCORES: ConfigKey = ConfigKey("attention.scale", "attention_multiplier");
const RESIDUAL: ConfigKey = ConfigKey("residual_scale", "residual_multiplier");
const SHARED_INTERMEDIATE: ConfigKey = ConfigKey("feed_forward_length", "shared_intermediate_size");
const LOGITS: ConfigKey = ConfigKey("logit_scale", "logits_scaling");

fn read(keys: &Keys) -> Result<Config> {
    let mut config = llama::read(keys)?;
    // If the file does not say, transformers multiplies by 1 and llama.cpp by the usual factor.
    let usual = config.layers.first().map_or(1.0, |layer| layer.scores.scale);
    let scores = keys.multiplier(SCORES, if keys.kind() == Kind::Gguf { usual } else { 1.0 })?;
    let residual = keys.multiplier(RESIDUAL, 1.0)?;
    for layer in &mut config.layers {
        layer.scores.scale = scores;
        layer.residual_scale = residual;
    }
    config.embedding_scale = keys.multiplier(EMBEDDINGS, 1.0)?;
    config.logit_scale = 1.0 / keys.multiplier(LOGITS, 1.0)?;
    // A field that is informational in other architectures decides here whether there is RoPE.
    if keys.kind() == Kind::Gguf && keys.bool(&format!("{}.rope.scaling.finetuned", keys.architecture))? == Some(false)
    {
        config.layers.iter_mut().for_each(|layer| layer.rope = None);
    }
    Ok(config)
}

fn hybrid(keys: &Keys) -> Result<Config> {
    let fix = "take a dense model of the family, such as granite-4.0-350m or granite-4.0-1b";
    let refuse = |what: String| Err(unsupported(keys, what, fix));
    const TYPES: [&str; 2] = ["layer_types", "layers_block_type"];
    let types = TYPES.into_iter().find_map(|key| Some((key, keys.given(key)?)));
    match types.map(|(key, value)| (key, value.as_array())) {
        Some((_, Some(list))) if list.iter().all(|kind| kind == "attention" || kind == "full_attention") => {}
        Some((key, _)) => return refuse(format!("{key} with state space layers (mamba)")),
        None => return refuse(format!("a model without {}, whose layers are state space layers (mamba)", TYPES[0])),
    }
    if keys.u64("num_local_experts")?.unwrap_or(8) > 0 {
        return refuse("num_local_experts above 0 (a mixture of experts)".to_owned());
    }
    let mut config = read(keys)?;
    let intermediate = keys.size(SHARED_INTERMEDIATE, MAX_INTERMEDIATE, Some(1024))?;
    let turns = keys.str("position_embedding_type")? == Some("rope");
    for layer in &mut config.layers {
        layer.stacked = Stacked::SharedGateUp;
        layer.intermediate = intermediate;
        layer.rope = layer.rope.take().filter(|_| turns);
    }
    Ok(config)
}
