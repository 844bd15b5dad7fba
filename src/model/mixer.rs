//! The mixer of a layer: grouped-query attention, or a gated short convolution (LFM2).
//!
//! Dispatches of attention: (norm, QKV, RoPE, KV write) and attention. A norm over Q and K or KV in 8 bits takes one
//! more, (norm, RoPE, KV write); a long context of a decode row takes another, to merge the splits, and pages that rows
//! share a third, to read them together. Dispatches of a convolution: (norm, B, C and X) and convolution.

use std::sync::Arc;

use super::{
    Activations, LayerRole, MixerSpec, Role, RopeRows,
    layer::{Given, linear, segment},
    upload::{Order, Uploader},
};
use crate::{
    error::Result,
    gpu::{Caps, Kernel, Recording, Slice},
    kernels::{
        Rotation, Span,
        attention::Attention,
        attention_merge::AttentionMerge,
        head_norm::HeadNorm,
        linear::{Epilogue, Linear},
        short_conv::ShortConv,
    },
};

pub(super) enum Mixer {
    Attention { qkv: Linear, head_norm: Option<HeadNorm>, attention: Box<Attention>, merge: AttentionMerge },
    ShortConv { projection: Linear, conv: ShortConv },
}

impl Mixer {
    /// Places the mixer of layer `index` on the GPU. `rotation` rotates its queries and keys; `context` bounds the rows'
    /// contexts, in tokens.
    pub(super) async fn place(
        up: &mut Uploader<'_>,
        index: usize,
        rotation: Rotation,
        context: usize,
        caps: &Caps,
    ) -> Result<Self> {
        use LayerRole::*;
        let (config, spec) = (up.config, &up.config.layers[index]);
        let role = |role| Role::Layer(index, role);
        let norm = spec.norms.before().map(|norms| (role(norms[0]), config.rms_eps));
        if let MixerSpec::ShortConv { taps } = spec.mixer {
            let thirds = [segment(index, ConvIn, None, Order::Plain)];
            let given = Given { epilogue: Epilogue::Store, scale: 1.0 };
            return Ok(Self::ShortConv {
                projection: linear(up, "a convolution", &thirds, norm, given, caps).await?,
                conv: ShortConv::new(config.hidden, taps, up.taps(role(Conv), taps).await?, caps),
            });
        }
        let rotated = match config.rope_rows {
            RopeRows::Interleaved => Order::Plain,
            RopeRows::Halves => Order::PairHalves { head_dim: config.head_dim, rotary: 2 * rotation.pairs },
        };
        let bias = |role| spec.qkv_bias.then_some(role);
        let qkv = [
            segment(index, Q, bias(QBias), rotated),
            segment(index, K, bias(KBias), rotated),
            segment(index, V, bias(VBias), Order::Plain),
        ];
        let heads = config.heads();
        let norms = match spec.qk_norm {
            None => None,
            Some(norm) => Some((norm, up.norms(&[QNorm, KNorm].map(|norm| (role(norm), rotated))).await?)),
        };
        let (head_norm, epilogue) = match config.takes_whole_heads(spec) {
            false => (None, Epilogue::Qkv(heads, rotation)),
            true => (Some(HeadNorm::new(norms, heads, rotation, config.rms_eps, caps)), Epilogue::Store),
        };
        Ok(Self::Attention {
            qkv: linear(up, "attention", &qkv, norm, Given { epilogue, scale: 1.0 }, caps).await?,
            head_norm,
            attention: Box::new(Attention::new(heads, spec.scores, context, caps)),
            merge: AttentionMerge::new(heads, spec.scores, context, caps),
        })
    }

    pub(super) fn linear(&self) -> &Linear {
        match self {
            Self::Attention { qkv, .. } => qkv,
            Self::ShortConv { projection, .. } => projection,
        }
    }

    /// Its pipelines, except those of its matrix.
    pub(super) fn kernels(&self) -> Vec<&Arc<Kernel>> {
        match self {
            Self::Attention { head_norm, attention, merge, .. } => {
                let own = attention.kernels().chain([merge.kernel()]);
                own.chain(head_norm.iter().map(HeadNorm::kernel)).collect()
            }
            Self::ShortConv { conv, .. } => vec![conv.kernel()],
        }
    }

    /// Appends the work that must precede mixing: writing the keys and values of all `spans` to the layer's `pages`.
    pub(super) fn prepare(&self, recording: &mut Recording, spans: &[Span], memory: &Activations, pages: Slice) {
        let Self::Attention { qkv, head_norm, .. } = self else { return };
        let (stream, queries, inner) = (memory.stream(), memory.queries.whole(), memory.inner.whole());
        for span in spans {
            match head_norm {
                None => qkv.record(recording, span, stream, queries, Some(pages)),
                Some(norm) => {
                    qkv.record(recording, span, stream, inner, None);
                    norm.record(recording, span, inner, queries, pages);
                }
            }
        }
    }

    /// Appends the mixing of the rows of `span`, to `memory.attended`.
    pub(super) fn record(&self, recording: &mut Recording, span: &Span, memory: &Activations, pages: Slice) {
        let mixed = memory.attended.whole();
        match self {
            Self::Attention { attention, merge, .. } => {
                let (queries, partials) = (memory.queries.whole(), memory.partials.whole());
                if attention.splits(span) {
                    attention.record(recording, span, queries, pages, partials);
                    merge.record(recording, span, partials, mixed);
                } else {
                    attention.record(recording, span, queries, pages, mixed);
                }
            }
            Self::ShortConv { projection, conv } => {
                let inner = memory.inner.whole();
                projection.record(recording, span, memory.stream(), inner, None);
                conv.record(recording, span, inner, mixed, pages);
            }
        }
    }
}
