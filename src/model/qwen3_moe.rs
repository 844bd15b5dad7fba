//! Qwen 3 with a mixture of experts (arXiv 2505.09388; reference: transformers `modeling_qwen3_moe.py`): as Qwen 3,
//! with experts in place of the MLP in most layers; in GGUF, in all layers.

use serde_json::Value;

use super::{
    Architecture, Config, Mixture, Stacked,
    keys::{ConfigKey, EXPERT_INTERMEDIATE, Keys, MAX_INTERMEDIATE, size, unsupported},
    qwen3,
};
use crate::{
    error::Result,
    kernels::{Experts, moe_route::MAX_EXPERTS},
    weights::{Fields, Kind},
};

pub(super) const QWEN3_MOE: Architecture = Architecture { name: "qwen3moe", model_type: "qwen3_moe", read };

const COUNT: ConfigKey = ConfigKey("expert_count", "num_experts");
/// Its name in `config.json` since release 5 of transformers.
const LOCAL_COUNT: &str = "num_local_experts";
const USED: ConfigKey = ConfigKey("expert_used_count", "num_experts_per_tok");

fn read(keys: &Keys) -> Result<Config> {
    let mut config = qwen3::read(keys)?;
    let local = keys.given(LOCAL_COUNT).map(|_| size(keys, LOCAL_COUNT, MAX_EXPERTS, None)).transpose()?;
    let count = keys.size(COUNT, MAX_EXPERTS, local)?;
    if let Some(local) = local.filter(|&local| local != count) {
        return Err(keys.wrong(LOCAL_COUNT, format!("{local} beside {count} in {}", keys.name(COUNT))));
    }
    let used = keys.size(USED, count, None)?;
    check_gating(keys)?;
    let intermediate = keys.size(EXPERT_INTERMEDIATE, MAX_INTERMEDIATE, None)?;
    let (stacked, normalized) = match keys.kind() {
        Kind::Gguf => (Stacked::Experts, true),
        Kind::HuggingFace => (Stacked::Nothing, keys.bool("norm_topk_prob")?.unwrap_or(false)),
    };
    for layer in sparse_layers(keys, config.layers.len())? {
        let layer = &mut config.layers[layer];
        layer.mixture = Some(Mixture { experts: Experts { count, used }, normalized });
        layer.intermediate = intermediate;
        layer.stacked = stacked;
    }
    Ok(config)
}

/// Refuses a GGUF file whose router uses another function than softmax, which is 1 in gguf-py's `ExpertGatingFuncType`.
fn check_gating(keys: &Keys) -> Result<()> {
    const SOFTMAX: u64 = 1;
    const KEY: &str = "qwen3moe.expert_gating_func";
    match keys.u64(KEY)? {
        None | Some(SOFTMAX) => Ok(()),
        Some(other) => Err(unsupported(keys, format!("{KEY} {other}"), "take a model whose router uses softmax (1)")),
    }
}

/// The layers that have experts: one at every step, except those that `config.json` lists.
fn sparse_layers(keys: &Keys, layers: usize) -> Result<Vec<usize>> {
    const DENSE: &str = "mlp_only_layers";
    let dense = match keys.json(DENSE).filter(|value| !value.is_null()) {
        None => Vec::new(),
        Some(list) => {
            let at = |value: &Value| value.as_u64().filter(|&layer| layer < layers as u64);
            let list = list.as_array().and_then(|list| list.iter().map(at).collect::<Option<Vec<_>>>());
            list.ok_or_else(|| keys.wrong(DENSE, format!("expected a list of layers below {layers}")))?
        }
    };
    let step = match keys.kind() {
        Kind::Gguf => 1,
        Kind::HuggingFace => keys.count("decoder_sparse_step", 1)?,
    };
    Ok((0..layers).filter(|layer| (layer + 1).is_multiple_of(step) && !dense.contains(&(*layer as u64))).collect())
}
