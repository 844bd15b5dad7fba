//! Detects Hugging Face weights that another tool packed, by `config.json` or by the tensors' names.
//!
//! Such weights are not supported. Their matrices consist of at least three tensors: quantised numbers, scales and zero
//! points. GPTQ and AWQ pack the numbers across rows or in an order of their own. MLX has a scale and a bias for each
//! 64 numbers by default; repacked in blocks of 32 with both, a row would be a ninth longer than in its file.

use serde_json::Value;

use super::hugging_face::JsonFile;

/// Endings of tensor names that identify a tool.
const COMPANIONS: [(&str, &str); 8] = [
    (".g_idx", "GPTQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_inv", "blocks with scales"),
    (".weight_scale", "compressed-tensors"),
    (".weight.absmax", "bitsandbytes"),
    (".weight.quant_state", "bitsandbytes"),
    (".biases", "MLX"),
];

/// A description of the tool and the packing, for a person; `None` if the weights are not packed.
pub(crate) fn packed<'a>(config: &JsonFile, names: impl Iterator<Item = &'a str>) -> Option<String> {
    configured(config).or_else(|| named(names))
}

fn named<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let tools = names.flat_map(|name| {
        let tells = move |(_, (companion, _)): &(usize, (&str, &str))| name.contains(companion);
        COMPANIONS.into_iter().enumerate().filter(tells).map(move |(at, (_, tool))| (at, tool, name))
    });
    let (_, tool, name) = tools.min_by_key(|(at, ..)| *at)?;
    Some(format!("the packing of weights by {tool} (tensor {name})"))
}

fn configured(config: &JsonFile) -> Option<String> {
    let whole = |name| config.get(name).or_else(|| config.get(&format!("text_config.{name}")));
    // MLX writes the first, and recent releases also write the second.
    let by_mlx = whole("quantization").filter(|value| value["bits"].is_u64());
    let (name, fields) = by_mlx
        .map(|fields| ("quantization", fields))
        .or_else(|| OTHERS.iter().find_map(|&name| Some((name, whole(name)?))))?;
    let tool = match fields["quant_method"].as_str() {
        _ if by_mlx.is_some() => "MLX".to_owned(),
        Some(known @ ("gptq" | "awq")) => known.to_uppercase(),
        Some(other) => format!("{other:?}"),
        None => "another tool".to_owned(),
    };
    let number = |key: &str, text: fn(u64) -> String| fields.get(key).and_then(Value::as_u64).map(text);
    let facts =
        [number("bits", |bits| format!("{bits} bits")), number("group_size", |size| format!("groups of {size}"))];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    let facts = if facts.is_empty() { String::new() } else { format!(": {}", facts.join(", ")) };
    Some(format!("the packing of weights by {tool} ({name}{facts})"))
}

const OTHERS: [&str; 2] = ["quantization_config", "compression_config"];
