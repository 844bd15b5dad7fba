//! Granite 3 and the dense models of Granite 4 (reference: transformers `modeling_granite.py`): as Llama, with embeddings,
//! scores, what joins the residual stream and logits each scaled by a number of the configuration.

use super::{
    Architecture, Config,
    keys::{Key, Keys},
    llama,
};
use crate::{error::Result, weights::Kind};

pub(super) const GRANITE: Architecture = Architecture { name: "granite", model_type: "granite", read };

const EMBEDDINGS: Key = Key("embedding_scale", "embedding_multiplier");
const SCORES: Key = Key("attention.scale", "attention_multiplier");
const RESIDUAL: Key = Key("residual_scale", "residual_multiplier");
const LOGITS: Key = Key("logit_scale", "logits_scaling");

fn read(keys: &Keys) -> Result<Config> {
    let mut config = llama::read(keys)?;
    // transformers multiplies by 1 where the file does not say, llama.cpp by what is usual.
    let usual = config.layers.first().map_or(1.0, |layer| layer.scores.scale);
    let scores = keys.multiplier(SCORES, if keys.kind() == Kind::Gguf { usual } else { 1.0 })?;
    let residual = keys.multiplier(RESIDUAL, 1.0)?;
    for layer in &mut config.layers {
        layer.scores.scale = scores;
        layer.residual_scale = residual;
    }
    config.embedding_scale = keys.multiplier(EMBEDDINGS, 1.0)?;
    config.logit_scale = 1.0 / keys.multiplier(LOGITS, 1.0)?;
    Ok(config)
}
