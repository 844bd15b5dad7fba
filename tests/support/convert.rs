//! Converts the GGUF to the directory that transformers' `save_pretrained` writes for the same model in float16: the committed
//! JSON files of `tests/golden/smollm2-hf/` and a `model.safetensors`, which is too large to commit.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::f16;
use headstart::weights::Checkpoint;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::golden;

#[derive(Deserialize)]
struct Record {
    files: Vec<String>,
    /// The digest over name, newline and raw bytes of every tensor in order of name, of transformers' own file.
    tensors_sha256: String,
}

#[derive(Deserialize)]
struct Heads {
    num_attention_heads: usize,
    num_key_value_heads: usize,
}

/// Writes the directory to `out`, and checks that its tensors are those of transformers, bit for bit.
pub fn smollm2_hf(gguf: &Path, out: &Path) {
    let committed = golden::folder("smollm2-hf");
    let record: Record = golden::json(&committed.join("reference.json"));
    for file in &record.files {
        fs::copy(committed.join(file), out.join(file)).unwrap();
    }
    let heads: Heads = golden::json(&committed.join("config.json"));
    let checkpoint = pollster::block_on(Checkpoint::open(gguf)).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = checkpoint
        .tensors
        .values()
        .map(|info| {
            let (rows, cols) = (info.rows(), info.cols());
            let values = pollster::block_on(checkpoint.read_f32(info)).unwrap();
            let rotated = match info.name.rsplit('.').nth(1) {
                Some("attn_q") => Some(heads.num_attention_heads),
                Some("attn_k") => Some(heads.num_key_value_heads),
                _ => None,
            };
            let order = (0..rows).map(|row| rotated.map_or(row, |heads| interleaved(row, rows / heads)));
            let bytes =
                order.flat_map(|row| &values[row * cols..][..cols]).flat_map(|x| f16::from_f32(*x).to_le_bytes());
            (hf_name(&info.name), info.shape.clone(), bytes.collect())
        })
        .collect();
    tensors.sort();
    assert_eq!(digest(&tensors), record.tensors_sha256, "the tensors are not those of save_pretrained");
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap()));
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), &out.join("model.safetensors")).unwrap();
}

/// The GGUF index of the row that Hugging Face has at `row`. GGUF stores rows that RoPE rotates together side by side.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
    head * head_dim + 2 * pair + half
}

fn hf_name(gguf: &str) -> String {
    match gguf {
        "token_embd.weight" => return "model.embed_tokens.weight".into(),
        "output_norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        _ => {}
    }
    let mut parts =
        gguf.strip_prefix("blk.").and_then(|rest| rest.strip_suffix(".weight")).unwrap_or(gguf).splitn(2, '.');
    let (layer, kind) = (parts.next().unwrap(), parts.next().unwrap_or_default());
    let name = match kind {
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        _ => panic!("{gguf}: not a tensor of a Llama"),
    };
    format!("model.layers.{layer}.{name}.weight")
}

fn digest(tensors: &[(String, Vec<usize>, Vec<u8>)]) -> String {
    let mut hasher = Sha256::new();
    for (name, _, bytes) in tensors {
        hasher.update(name);
        hasher.update(b"\n");
        hasher.update(bytes);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
