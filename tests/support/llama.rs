//! A Llama or a similar architecture in plain f32 loops: the whole model's CPU twin. It shares the engine's checkpoint reader
//! and none of its computation, so if the engine differs from transformers and this does not, the fault is on the shaders'
//! side.
//!
//! O(tokens × parameters), one token at a time: for short prompts.

use half::f16;
use headstart::kernels::{attention::Scores, head_norm::QkNorm, linear::Activation};
use headstart::model::{Config, LayerRole, LayerSpec, MixerSpec, Mixture, Norms, Role, Rope, RopeRows};
use headstart::weights::Checkpoint;
use pollster::block_on;

use crate::reference::moe_route;

pub struct Llama {
    config: Config,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Option<Vec<f32>>,
    /// Whether K and V are rounded to f16, as the engine stores them.
    half_cache: bool,
}

struct Layer {
    /// Empty without RoPE.
    inv_freq: Vec<f64>,
    magnitude: f64,
    /// Gains of the norms before attention and before the MLP.
    before: Option<[Vec<f32>; 2]>,
    after: Option<[Vec<f32>; 2]>,
    mixer: Mixer,
    mlp: Mlp,
}

enum Mlp {
    Dense(Gated),
    /// `router: [experts, hidden]`.
    Experts {
        router: Vec<f32>,
        experts: Vec<Gated>,
        used: usize,
        normalized: bool,
    },
}

struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

enum Mixer {
    Attention {
        q: Linear,
        k: Linear,
        /// Gains of the Q and K norms, if there are any.
        qk_norms: Option<[Vec<f32>; 2]>,
        v: Linear,
        o: Linear,
    },
    /// `conv: [hidden, taps]`.
    ShortConv { projection: Linear, conv: Vec<f32>, output: Linear },
}

/// What a layer keeps of earlier tokens.
#[derive(Clone, Default)]
struct Past {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// `[token, hidden]`
    products: Vec<f32>,
}

/// `weight: [out, in]`, `bias: [out]` or empty.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let bias = self.bias.iter().copied().chain(std::iter::repeat(0.0));
        matvec(&self.weight, x).into_iter().zip(bias).map(|(y, b)| y + b).collect()
    }
}

impl Gated {
    fn apply(&self, spec: &LayerSpec, x: &[f32]) -> Vec<f32> {
        let gate = self.gate.apply(x);
        let gated: Vec<f32> = gate.iter().zip(self.up.apply(x)).map(|(g, u)| activate(spec, *g) * u).collect();
        self.down.apply(&gated)
    }
}

impl Mlp {
    fn apply(&self, spec: &LayerSpec, x: &[f32]) -> Vec<f32> {
        match self {
            Mlp::Dense(gated) => gated.apply(spec, x),
            Mlp::Experts { router, experts, used, normalized } => {
                let mut sum = vec![0.0; x.len()];
                for (expert, weight) in moe_route::route(&matvec(router, x), *used, *normalized) {
                    let given = experts[expert].apply(spec, x);
                    sum.iter_mut().zip(given).for_each(|(sum, y)| *sum += weight.value as f32 * y);
                }
                sum
            }
        }
    }
}

impl Llama {
    pub fn load(checkpoint: &Checkpoint, half_cache: bool) -> Self {
        Self::of(checkpoint, Config::from_checkpoint(checkpoint).unwrap(), half_cache)
    }

    /// With this configuration, which is the checkpoint's or derived from it.
    pub fn of(checkpoint: &Checkpoint, config: Config, half_cache: bool) -> Self {
        use LayerRole::*;
        let tensor = |role: Role| -> Vec<f32> {
            let (tensor, rows) = config.rows(role);
            let info = config.tensor(checkpoint, tensor).unwrap();
            let values = block_on(checkpoint.read_f32(info)).unwrap();
            let width = if info.shape.len() == 1 { 1 } else { info.cols() };
            values[rows.start * width..rows.end * width].to_vec()
        };
        let inv_freq = |rope: &Rope| {
            let factors = config.optional_tensor(checkpoint, rope.factors()).unwrap();
            let factors = factors.map(|tensor| block_on(checkpoint.read_f32(tensor)).unwrap());
            rope.inv_freq(factors.as_deref()).unwrap()
        };
        let gains = |role| -> Vec<f32> { tensor(role).into_iter().map(|gain| gain + config.norm_offset).collect() };
        let layer = |at: usize| {
            let spec = &config.layers[at];
            let linear = |weight, bias, biased: bool| Linear {
                weight: tensor(Role::Layer(at, weight)),
                bias: if biased { tensor(Role::Layer(at, bias)) } else { Vec::new() },
            };
            let both = |norms: [LayerRole; 2]| norms.map(|norm| gains(Role::Layer(at, norm)));
            let (before, after) = match spec.norms {
                Norms::Before => (Some([AttnNorm, MlpNorm]), None),
                Norms::After => (None, Some([PostAttnNorm, PostMlpNorm])),
                Norms::Around => (Some([AttnNorm, PreMlpNorm]), Some([PostAttnNorm, PostMlpNorm])),
            };
            Layer {
                inv_freq: spec.rope.as_ref().map_or(Vec::new(), inv_freq),
                magnitude: spec.rope.as_ref().map_or(1.0, Rope::magnitude),
                before: before.map(both),
                after: after.map(both),
                mixer: match spec.mixer {
                    MixerSpec::Attention => Mixer::Attention {
                        q: linear(Q, QBias, spec.qkv_bias),
                        k: linear(K, KBias, spec.qkv_bias),
                        qk_norms: spec.qk_norm.map(|_| both([QNorm, KNorm])),
                        v: linear(V, VBias, spec.qkv_bias),
                        o: linear(O, OBias, spec.o_bias),
                    },
                    MixerSpec::ShortConv { .. } => Mixer::ShortConv {
                        projection: linear(ConvIn, ConvIn, false),
                        conv: tensor(Role::Layer(at, Conv)),
                        output: linear(ConvOut, ConvOut, false),
                    },
                },
                mlp: match spec.mixture {
                    None => Mlp::Dense(Gated {
                        gate: linear(Gate, GateBias, spec.mlp_bias),
                        up: linear(Up, UpBias, spec.mlp_bias),
                        down: linear(Down, DownBias, spec.mlp_bias),
                    }),
                    Some(Mixture { experts, normalized }) => Mlp::Experts {
                        router: tensor(Role::Layer(at, Router)),
                        experts: (0..experts.count)
                            .map(|expert| {
                                let [gate, up, down] = [Gate, Up, Down].map(|matrix| Linear {
                                    weight: tensor(Role::Expert(at, expert, matrix)),
                                    bias: Vec::new(),
                                });
                                Gated { gate, up, down }
                            })
                            .collect(),
                        used: experts.used,
                        normalized,
                    },
                },
            }
        };
        Self {
            embedding: tensor(Role::Embedding),
            layers: (0..config.layers.len()).map(layer).collect(),
            norm: gains(Role::FinalNorm),
            head: (!config.tied_embeddings).then(|| tensor(Role::LmHead)),
            half_cache,
            config,
        }
    }

    /// The logits of every position for which `wanted` holds.
    pub fn score(&self, tokens: &[u32], wanted: impl Fn(usize) -> bool, mut each: impl FnMut(usize, &[f32])) {
        let Config { hidden, rms_eps, .. } = self.config;
        let mut cache = vec![Past::default(); self.layers.len()];
        for (position, &token) in tokens.iter().enumerate() {
            let embedded = &self.embedding[token as usize * hidden..][..hidden];
            let mut x: Vec<f32> = embedded.iter().map(|x| x * self.config.embedding_scale).collect();
            for ((layer, spec), past) in self.layers.iter().zip(&self.config.layers).zip(&mut cache) {
                let before = |x: &[f32], at: usize| {
                    layer.before.as_ref().map_or(x.to_vec(), |norms| rms_norm(x, &norms[at], rms_eps))
                };
                let give = |x: &mut [f32], y: Vec<f32>, at: usize| {
                    let y = layer.after.as_ref().map_or(y.clone(), |norms| rms_norm(&y, &norms[at], rms_eps));
                    x.iter_mut().zip(y).for_each(|(x, y)| *x += spec.residual_scale * y);
                };
                let mixed = self.mix(layer, spec, &before(&x, 0), position, past);
                give(&mut x, mixed, 0);
                let of_mlp = layer.mlp.apply(spec, &before(&x, 1));
                give(&mut x, of_mlp, 1);
            }
            if wanted(position) {
                let head = self.head.as_ref().unwrap_or(&self.embedding);
                let logits = matvec(head, &rms_norm(&x, &self.norm, rms_eps));
                let scaled = logits.into_iter().map(|logit| logit * self.config.logit_scale);
                let capped = scaled.map(|logit| cap(logit, self.config.logit_cap)).collect::<Vec<_>>();
                each(position, &capped);
            }
        }
    }

    /// The output of a layer's mixer for a normed row.
    fn mix(&self, layer: &Layer, spec: &LayerSpec, normed: &[f32], position: usize, past: &mut Past) -> Vec<f32> {
        let Config { hidden, head_dim, heads, kv_heads, rms_eps, .. } = self.config;
        let kept = |x: f32| if self.half_cache { f16::from_f32(x).to_f32() } else { x };
        match &layer.mixer {
            Mixer::Attention { q, k, qk_norms, v, o } => {
                let (mut q, mut k) = (q.apply(normed), k.apply(normed));
                if let Some([of_q, of_k]) = qk_norms {
                    let whole = spec.qk_norm == Some(QkNorm::Whole);
                    let (of_heads, of_kv) = if whole { (q.len(), k.len()) } else { (head_dim, head_dim) };
                    q.chunks_mut(of_heads).for_each(|head| head.copy_from_slice(&rms_norm(head, of_q, rms_eps)));
                    k.chunks_mut(of_kv).for_each(|head| head.copy_from_slice(&rms_norm(head, of_k, rms_eps)));
                }
                q.chunks_mut(head_dim)
                    .chain(k.chunks_mut(head_dim))
                    .for_each(|head| self.rotate(head, layer, position));
                past.keys.extend(k.iter().copied().map(kept));
                past.values.extend(v.apply(normed).into_iter().map(kept));
                let out: Vec<f32> = (0..heads)
                    .flat_map(|head| {
                        let at = head / (heads / kv_heads) * head_dim;
                        let rows = |plane| rows(plane, kv_heads * head_dim, at, head_dim);
                        attend(&spec.scores, &q[head * head_dim..][..head_dim], rows(&past.keys), rows(&past.values))
                    })
                    .collect();
                o.apply(&out)
            }
            Mixer::ShortConv { projection, conv, output } => {
                let thirds = projection.apply(normed);
                let (b, c, x) = (&thirds[..hidden], &thirds[hidden..2 * hidden], &thirds[2 * hidden..]);
                past.products.extend(b.iter().zip(x).map(|(b, x)| b * x));
                let taps = conv.len() / hidden;
                let convolved = (0..hidden).map(|channel| {
                    let newest = past.products.chunks_exact(hidden).rev().map(|row| row[channel]);
                    let weights = conv[channel * taps..][..taps].iter().rev();
                    c[channel] * newest.zip(weights).map(|(x, weight)| x * weight).sum::<f32>()
                });
                output.apply(&convolved.collect::<Vec<_>>())
            }
        }
    }

    fn rotate(&self, head: &mut [f32], layer: &Layer, position: usize) {
        let pairs = layer.inv_freq.len();
        for (pair, inv_freq) in layer.inv_freq.iter().enumerate() {
            let (a, b) = match self.config.rope_rows {
                RopeRows::Interleaved => (2 * pair, 2 * pair + 1),
                RopeRows::Halves => (pair, pair + pairs),
            };
            let (sin, cos) = (position as f64 * inv_freq).sin_cos();
            let (sin, cos) = ((sin * layer.magnitude) as f32, (cos * layer.magnitude) as f32);
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
        }
    }
}

/// The slice `[at, at + width)` of each row of a plane whose rows are `stride` long.
fn rows(plane: &[f32], stride: usize, at: usize, width: usize) -> impl Iterator<Item = &[f32]> + Clone {
    plane.chunks_exact(stride).map(move |row| &row[at..at + width])
}

fn activate(spec: &LayerSpec, x: f32) -> f32 {
    match spec.activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044715 * x * x * x)).tanh()),
    }
}

fn cap(x: f32, cap: Option<f32>) -> f32 {
    cap.map_or(x, |cap| cap * (x / cap).tanh())
}

/// `keys`, `values`: of all tokens up to the current one.
fn attend<'a>(
    spec: &Scores,
    q: &[f32],
    keys: impl Iterator<Item = &'a [f32]> + Clone,
    values: impl Iterator<Item = &'a [f32]>,
) -> Vec<f32> {
    let hidden = spec.window.map_or(0, |window| keys.clone().count().saturating_sub(window));
    let (keys, values) = (keys.skip(hidden), values.skip(hidden));
    let scores: Vec<f32> = keys.map(|k| cap(dot(q, k) * spec.scale, spec.cap)).collect();
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let mut out = vec![0.0; q.len()];
    for (weight, v) in weights.iter().zip(values) {
        out.iter_mut().zip(v).for_each(|(o, v)| *o += weight / sum * v);
    }
    out
}

fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let scale = (dot(x, x) / x.len() as f32 + eps).sqrt().recip();
    x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
}

fn matvec(weight: &[f32], x: &[f32]) -> Vec<f32> {
    weight.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

/// Eight independent sums, so that the compiler can vectorise.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
