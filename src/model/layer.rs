//! One layer as its specification says: attention with grouped queries, then a gated MLP.
//!
//! Five dispatches: (norm, QKV, RoPE, KV write), attention, (output, residual), (norm, gate and up, gate's function), (down,
//! residual); one more where Q and K have a norm, (norm, RoPE, KV write), one for each norm behind attention and MLP, (norm,
//! residual), and the merge of attention's splits where a decoding row's context is long.

use std::sync::Arc;

use super::{
    Activations, LayerRole, Role, RopeRows,
    upload::{Order, Segment, Uploader},
};
use crate::{
    error::Result,
    gpu::{Caps, Kernel, Recording, Slice},
    kernels::{
        Class, Rotation, Span,
        attention::Attention,
        attention_merge::AttentionMerge,
        head_norm::HeadNorm,
        linear::{Epilogue, Fusion, Linear},
        post_norm::PostNorm,
    },
};

pub(super) struct Layer {
    qkv: Linear,
    head_norm: Option<HeadNorm>,
    attention: Attention,
    merge: AttentionMerge,
    output: Linear,
    gate_up: Linear,
    down: Linear,
    /// Behind attention and behind the MLP.
    post_norms: Option<[PostNorm; 2]>,
}

const BOTH: &[Class] = &[Class::Prompt, Class::Decode];

impl Layer {
    /// Puts layer `index` on the GPU. `rotation`: what turns its queries and keys; `context` bounds the rows' contexts, in tokens.
    pub(super) async fn load(
        up: &mut Uploader<'_>,
        index: usize,
        rotation: Rotation,
        context: usize,
        caps: &Caps,
    ) -> Result<Self> {
        use LayerRole::*;
        let (config, spec) = (up.config, &up.config.layers[index]);
        let role = |role| Role::Layer(index, role);
        let segment = |weight, bias: Option<LayerRole>, order| Segment {
            weights: vec![role(weight)],
            biases: bias.into_iter().map(role).collect(),
            order,
        };
        let rotated = match config.rope_rows {
            RopeRows::Interleaved => Order::Plain,
            RopeRows::Halves => Order::PairHalves { head_dim: config.head_dim, rotary: 2 * rotation.pairs },
        };
        let bias = |present: bool, role| present.then_some(role);

        let qkv = [
            segment(Q, bias(spec.qkv_bias, QBias), rotated),
            segment(K, bias(spec.qkv_bias, KBias), rotated),
            segment(V, bias(spec.qkv_bias, VBias), Order::Plain),
        ];
        let output = [segment(O, bias(spec.o_bias, OBias), Order::Plain)];
        let gate_up = [Segment {
            weights: vec![role(Gate), role(Up)],
            biases: if spec.mlp_bias { vec![role(GateBias), role(UpBias)] } else { vec![] },
            order: Order::Alternate,
        }];
        let down = [segment(Down, bias(spec.mlp_bias, DownBias), Order::Plain)];

        let eps = config.rms_eps;
        let before = |at: usize| spec.norms.before().map(|norms| (role(norms[at]), eps));
        let heads = config.heads();
        let (head_norm, projected) = match spec.qk_norm {
            None => (None, Epilogue::Qkv(heads, rotation)),
            Some(norm) => {
                let gains = up.norms(&[QNorm, KNorm].map(|norm| (role(norm), rotated))).await?;
                (Some(HeadNorm::new(norm, heads, rotation, gains, eps, caps)), Epilogue::Store)
            }
        };
        let scale = spec.residual_scale;
        let (given, post_norms) = match spec.norms.after() {
            None => (Given { epilogue: Epilogue::Residual, scale }, None),
            Some([attention, mlp]) => {
                let gains = [
                    up.norms(&[(role(attention), Order::Plain)]).await?,
                    up.norms(&[(role(mlp), Order::Plain)]).await?,
                ];
                let norms = gains.map(|gains| PostNorm::new(config.hidden, gains, eps, scale, caps));
                (Given { epilogue: Epilogue::Store, scale: 1.0 }, Some(norms))
            }
        };
        let plain = |epilogue| Given { epilogue, scale: 1.0 };
        let gated = plain(Epilogue::Gated(spec.activation));
        Ok(Self {
            qkv: linear(up, "attention", &qkv, before(0), plain(projected), caps).await?,
            head_norm,
            attention: Attention::new(heads, spec.scores, context, caps),
            merge: AttentionMerge::new(heads, spec.scores, context, caps),
            output: linear(up, "attention", &output, None, given, caps).await?,
            gate_up: linear(up, "the MLP", &gate_up, before(1), gated, caps).await?,
            down: linear(up, "the MLP", &down, None, given, caps).await?,
            post_norms,
        })
    }

    fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    pub(super) fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        let attention = self.attention.kernels().into_iter().chain([self.merge.kernel()]);
        let head_norm = self.head_norm.iter().map(HeadNorm::kernel);
        let post_norms = self.post_norms.iter().flatten().map(PostNorm::kernel);
        self.linears().into_iter().flat_map(Linear::kernels).chain(head_norm).chain(attention).chain(post_norms)
    }

    /// Bytes of its matrices on the GPU.
    pub(super) fn bytes(&self) -> u64 {
        self.linears().into_iter().map(Linear::bytes).sum()
    }

    /// Appends the layer's work over `spans`. Keys and values of all of them are in `kv`, the layer's pages, before any row
    /// attends.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        spans: &[Span],
        memory: &Activations,
        kv: Slice,
    ) {
        let (hidden, queries) = (memory.hidden.whole(), memory.queries.whole());
        let (attended, inner) = (memory.attended.whole(), memory.inner.whole());
        for span in spans {
            match &self.head_norm {
                None => self.qkv.record(recording, caps, span, hidden, queries, Some(kv)),
                Some(norm) => {
                    self.qkv.record(recording, caps, span, hidden, inner, None);
                    norm.record(recording, span, inner, queries, kv);
                }
            }
        }
        for span in spans {
            if self.attention.splits(span) {
                let partials = memory.partials.whole();
                self.attention.record(recording, span, queries, kv, partials);
                self.merge.record(recording, span, partials, attended);
            } else {
                self.attention.record(recording, span, queries, kv, attended);
            }
            match &self.post_norms {
                None => {
                    self.output.record(recording, caps, span, attended, hidden, None);
                    self.gate_up.record(recording, caps, span, hidden, inner, None);
                    self.down.record(recording, caps, span, inner, hidden, None);
                }
                Some([of_attention, of_mlp]) => {
                    let given = memory.given.whole();
                    self.output.record(recording, caps, span, attended, given, None);
                    of_attention.record(recording, span, given, hidden);
                    self.gate_up.record(recording, caps, span, hidden, inner, None);
                    self.down.record(recording, caps, span, inner, given, None);
                    of_mlp.record(recording, span, given, hidden);
                }
            }
        }
    }
}

/// What becomes of the sums of a matrix, and what they are multiplied by before.
#[derive(Clone, Copy)]
struct Given {
    epilogue: Epilogue,
    scale: f32,
}

/// `norm`: of what it reads, with its epsilon.
async fn linear(
    up: &mut Uploader<'_>,
    what: &str,
    segments: &[Segment],
    norm: Option<(Role, f32)>,
    Given { epilogue, scale }: Given,
    caps: &Caps,
) -> Result<Linear> {
    let matrix = up.matrix(what, segments).await?;
    let consts = up.consts(norm.map(|(role, _)| role), segments).await?.whole();
    let bias = segments.iter().any(|segment| !segment.biases.is_empty());
    let fusion = Fusion { epilogue, norm: norm.map(|(_, epsilon)| epsilon), bias, scale, consts };
    Ok(Linear::new(matrix, &fusion, BOTH, caps))
}
