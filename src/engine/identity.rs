//! What the KV of a model depends on, as the fields that root its keys. Whatever changes a value by design changes a
//! field; which adapter computed it does not (adapters agree within tolerance, and a file serves all of them).

use crate::{
    kv::Fields,
    model::{Config, Scaling},
    quant::Format,
};

/// To be raised when prefill kernels come to give other bits for the same input.
const NUMERICS: &str = "1";
/// Rows token by token, dims of a head in pairs that rotate together.
const LAYOUT: &str = "rows/1";

/// The fields of a model of these `weights` (a digest, or a name that is good within this process), without salt.
pub fn fields(config: &Config, weights: &str, quantize: Option<Format>) -> Fields {
    let Config { architecture, hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, rms_eps, .. } = config;
    // Whether biases are used says the configuration, not the weights.
    let Config { qkv_bias, o_bias, mlp_bias, .. } = config;
    let rope = &config.rope;
    let scaling = match &rope.scaling {
        Scaling::None => "none".to_owned(),
        Scaling::Linear { factor } => format!("linear factor={factor}"),
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            format!("llama3 factor={factor} low={low_freq_factor} high={high_freq_factor} original={original_context}")
        }
    };
    let quantized = quantize.map_or(String::new(), |format| format!(" quantized={format:?}"));
    Fields {
        weights: format!("{weights}{quantized}"),
        architecture: format!(
            "{architecture:?} hidden={hidden} layers={layers} heads={heads} kv_heads={kv_heads} head_dim={head_dim} \
             intermediate={intermediate} vocab={vocab} rms_eps={rms_eps} qkv_bias={qkv_bias} o_bias={o_bias} \
             mlp_bias={mlp_bias}"
        ),
        rope: format!("theta={} dims={} scaling={scaling}", rope.theta, rope.dims),
        kv_dtype: "f16".to_owned(),
        kv_layout: LAYOUT.to_owned(),
        adapter: String::new(),
        salt: String::new(),
        numerics: NUMERICS.to_owned(),
    }
}
