//! One layer as its specification says: pre-norm attention with grouped queries, then a gated MLP.
//!
//! Five dispatches: (norm, QKV, RoPE, KV write), attention, (output, residual), (norm, gate and up, SwiGLU), (down,
//! residual); one more where heads have a norm, (norm of heads, RoPE, KV write), and the merge of attention's splits where a
//! decoding row's context is long.

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
}

const BOTH: &[Class] = &[Class::Prompt, Class::Decode];

impl Layer {
    /// Puts layer `index` on the GPU. `rotation`: what turns its queries and keys.
    pub(super) async fn load(
        up: &mut Uploader<'_>,
        index: usize,
        rotation: Rotation,
        (attention, merge): (&Attention, &AttentionMerge),
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

        let eps = Some(config.rms_eps);
        let heads = config.heads();
        let (head_norm, projected) = match spec.qk_norm {
            false => (None, Epilogue::Qkv(heads, rotation)),
            true => {
                let gains =
                    [QNorm, KNorm].map(|norm| Segment { weights: vec![], biases: vec![role(norm)], order: rotated });
                let gains = up.consts(None, &gains).await?;
                (Some(HeadNorm::new(heads, rotation, gains, config.rms_eps, caps)), Epilogue::Store)
            }
        };
        Ok(Self {
            qkv: linear(up, "attention", &qkv, Some(role(AttnNorm)), eps, projected, caps).await?,
            head_norm,
            attention: attention.clone(),
            merge: merge.clone(),
            output: linear(up, "attention", &output, None, None, Epilogue::Residual, caps).await?,
            gate_up: linear(up, "the MLP", &gate_up, Some(role(MlpNorm)), eps, Epilogue::SwiGlu, caps).await?,
            down: linear(up, "the MLP", &down, None, None, Epilogue::Residual, caps).await?,
        })
    }

    fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    pub(super) fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        let attention = self.attention.kernels().into_iter().chain([self.merge.kernel()]);
        let head_norm = self.head_norm.iter().map(HeadNorm::kernel);
        self.linears().into_iter().flat_map(Linear::kernels).chain(head_norm).chain(attention)
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
            self.output.record(recording, caps, span, attended, hidden, None);
            self.gate_up.record(recording, caps, span, hidden, inner, None);
            self.down.record(recording, caps, span, inner, hidden, None);
        }
    }
}

async fn linear(
    up: &mut Uploader<'_>,
    what: &str,
    segments: &[Segment],
    norm: Option<Role>,
    eps: Option<f32>,
    epilogue: Epilogue,
    caps: &Caps,
) -> Result<Linear> {
    let matrix = up.matrix(what, segments).await?;
    let consts = up.consts(norm, segments).await?.whole();
    let bias = segments.iter().any(|segment| !segment.biases.is_empty());
    Ok(Linear::new(matrix, &Fusion { epilogue, norm: eps, bias, consts }, BOTH, caps))
}
