//! What the KV of a model depends on, as the fields at the root of its keys. Anything that changes values by design
//! changes a field. The adapter is not a field: adapters agree within tolerance, and a file serves all of them.

use sha2::{Digest, Sha256};

use super::pages::PageLayout;
use crate::{
    gpu::Numerics,
    kernels::{Experts, attention::Scores, head_norm::QkNorm, linear::Activation},
    kv::{Fields, Key, KvFormat, Namespace},
    model::{Config, LayerSpec, MixerSpec, Norms, Rope, Scaling},
    quant::Format,
};

/// Raise this when prefill kernels give different bits for the same input. The class is appended if it is not f32. What
/// decode kernels write is marked instead, and exact reuse leaves it out.
fn numerics(class: Numerics) -> String {
    match class {
        Numerics::F32 => "1".to_owned(),
        Numerics::F16 { fragment } => format!("1 f16 k{fragment}"),
        Numerics::Int8 => "1 int8".to_owned(),
    }
}

/// Rows token by token, dims of a head in pairs that rotate together.
const LAYOUT: &str = "rows/1";

/// Identifies a model's KV and its layout. `KvIdentity` names blocks and tells whether a pack belongs to a model,
/// without a GPU.
#[derive(Debug, Clone)]
pub struct KvIdentity {
    fields: Fields,
    pub(super) layout: PageLayout,
    /// Elements of a hidden state.
    pub(super) hidden: usize,
    pub(super) vocab: usize,
}

impl KvIdentity {
    /// The identity of a model whose weights have this digest
    /// ([`Checkpoint::digest`](crate::weights::Checkpoint::digest)). `quantize` is the format to which weights are
    /// quantised while loading, and `class` the numerics of prompts.
    pub fn new(config: &Config, weights_digest: &str, quantize: Option<Format>, class: Numerics) -> Self {
        Self::of(fields(config, weights_digest, quantize, class), PageLayout::new(config), config)
    }

    pub(super) fn of(fields: Fields, layout: PageLayout, config: &Config) -> Self {
        Self { fields, layout, hidden: config.hidden, vocab: config.vocab }
    }

    /// The class in whose field `numerics` this is; `None` for kernels that this version lacks.
    pub fn class_named(name: &str) -> Option<Numerics> {
        Numerics::ALL.into_iter().find(|class| numerics(*class) == name)
    }

    /// Bytes of one token's KV, and of its share of a full page's state.
    pub fn token_bytes(&self) -> usize {
        self.layout.token_bytes()
    }

    /// The root of the keys of requests with this salt.
    pub fn namespace(&self, salt: &str) -> Namespace {
        Namespace::new(Fields { salt: salt.to_owned(), ..self.fields.clone() })
    }

    /// The keys of the blocks of `tokens` in stores.
    pub fn keys(&self, tokens: &[u32], salt: &str) -> Vec<[u8; 32]> {
        Key::chain(&self.namespace(salt), tokens).map(|key| key.0).collect()
    }
}

/// The fields of a model with these `weights` (a digest, or a name that is unique within this process), without a salt.
pub(crate) fn fields(config: &Config, weights: &str, quantize: Option<Format>, class: Numerics) -> Fields {
    let Config { architecture, hidden, layers, heads, kv_heads, head_dim, vocab, rms_eps, embedding_scale, .. } =
        config;
    let scaled = if *embedding_scale == 1.0 { String::new() } else { format!(" embedding_scale={embedding_scale}") };
    let quantized = quantize.map_or(String::new(), |format| format!(" quantized={format:?}"));
    Fields {
        weights: format!("{weights}{quantized}"),
        architecture: format!(
            "{architecture} hidden={hidden} layers={} heads={heads} kv_heads={kv_heads} head_dim={head_dim} vocab={vocab} \
             rms_eps={rms_eps}{scaled} {}",
            layers.len(),
            each(layers, |layer| blocks(layer, *head_dim))
        ),
        rope: each(layers, |layer| layer.rope.as_ref().map_or("none".to_owned(), rope)),
        kv_dtype: config.kv.name().to_owned(),
        kv_layout: kv_layout(&PageLayout::new(config)),
        adapter: String::new(),
        salt: String::new(),
        numerics: numerics(class),
    }
}

/// The namespaces of the same model and salt with another KV format, another class of numerics, or both.
pub(super) fn siblings(own: &Namespace) -> Vec<Namespace> {
    let formats = KvFormat::ALL.into_iter().map(|(name, _)| name);
    let settings = formats.flat_map(|format| Numerics::ALL.map(|class| (format.to_owned(), numerics(class))));
    let of = |(kv_dtype, numerics)| Namespace::new(Fields { kv_dtype, numerics, ..own.fields().clone() });
    settings.map(of).filter(|namespace| namespace != own).collect()
}

/// The layout of blobs. Rare properties are named only if a model has them.
fn kv_layout(layout: &PageLayout) -> String {
    let rare = [(layout.state() > 0, " state before layers"), (layout.windows() > 0, " windows last")];
    let rare: String = rare.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    format!("{LAYOUT}{rare}")
}

/// A description of the layers: one if all are the same, else one for each run of layers.
fn each(layers: &[LayerSpec], of: impl Fn(&LayerSpec) -> String) -> String {
    let all: Vec<String> = layers.iter().map(of).collect();
    let run =
        |run: &[String]| if run.len() == all.len() { run[0].clone() } else { format!("{}x({})", run.len(), run[0]) };
    all.chunk_by(|a, b| a == b).map(run).collect::<Vec<_>>().join(" ")
}

/// A layer's properties except RoPE. Rare properties are named only if a layer has them. The configuration, not the
/// weights, decides whether biases are used.
fn blocks(layer: &LayerSpec, head_dim: usize) -> String {
    let LayerSpec {
        mixer,
        rope: _,
        scores,
        norms,
        stacked: _,
        qkv_bias,
        qk_norm,
        o_bias,
        mixture,
        intermediate,
        activation,
        mlp_bias,
        residual_scale,
    } = layer;
    let usual = Scores::of(head_dim);
    let short_conv = match mixer {
        MixerSpec::Attention => None,
        MixerSpec::ShortConv { taps } => Some(format!("short_conv={taps}")),
    };
    let rare = [
        short_conv,
        (*qk_norm == Some(QkNorm::Head)).then(|| "qk_norm".to_owned()),
        (*qk_norm == Some(QkNorm::Whole)).then(|| "qk_norm=whole".to_owned()),
        (*norms != Norms::Before).then(|| format!("norms={norms:?}")),
        (scores.scale != usual.scale).then(|| format!("score_scale={}", scores.scale)),
        scores.cap.map(|cap| format!("score_cap={cap}")),
        scores.window.map(|window| format!("window={window}")),
        mixture.map(|mixture| {
            let Experts { count, used } = mixture.experts;
            format!("experts={used}/{count} normalized={}", mixture.normalized)
        }),
        (*activation != Activation::Silu).then(|| format!("activation={activation:?}")),
        (*residual_scale != 1.0).then(|| format!("residual_scale={residual_scale}")),
    ];
    let rare: String = rare.into_iter().flatten().map(|field| format!(" {field}")).collect();
    format!("intermediate={intermediate} qkv_bias={qkv_bias} o_bias={o_bias} mlp_bias={mlp_bias}{rare}")
}

fn rope(rope: &Rope) -> String {
    let scaling = match &rope.scaling {
        // Lists that are tensors are part of the weights.
        Scaling::LongRope { original_context, list, lists, magnitude } => {
            let own = lists.as_ref().map_or(String::new(), |lists| format!(" list={}", digest(&lists[*list as usize])));
            format!("longrope {list:?} original={original_context} magnitude={magnitude}{own}")
        }
        Scaling::None => "none".to_owned(),
        Scaling::Linear { factor } => format!("linear factor={factor}"),
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            format!("llama3 factor={factor} low={low_freq_factor} high={high_freq_factor} original={original_context}")
        }
        Scaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, magnitude } => format!(
            "yarn factor={factor} fast={beta_fast} slow={beta_slow} original={original_context} truncate={truncate} \
             magnitude={magnitude}"
        ),
    };
    format!("theta={} dims={} scaling={scaling}", rope.theta, rope.dims)
}

/// SHA-256 of the numbers as little-endian f32, in hex.
fn digest(numbers: &[f32]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
