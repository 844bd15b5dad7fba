//! Weights of a Hugging Face directory that another tool has packed, by what `config.json` says of them.
//!
//! None are read. A matrix is three tensors or more there: numbers, scales and what they are counted from. GPTQ and AWQ have their
//! numbers across rows, or in an order of their own. MLX has a scale and a bias for each 64 numbers by default, so that in blocks of
//! 32 with both a row would be a ninth longer than in its file.

use serde_json::Value;

use super::hugging_face::JsonFile;

/// What packed the weights, and how, for a person; `None` where they are as they are.
pub(crate) fn packed(config: &JsonFile) -> Option<String> {
    let whole = |name| config.get(name).or_else(|| config.get(&format!("text_config.{name}")));
    // MLX writes the one, and of late the other besides.
    let by_mlx = whole("quantization").filter(|value| value["bits"].is_u64());
    let (name, fields) =
        by_mlx.map(|fields| ("quantization", fields)).or_else(|| whole(OTHERS).map(|fields| (OTHERS, fields)))?;
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

const OTHERS: &str = "quantization_config";
