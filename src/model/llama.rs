//! The Llama family (Touvron et al., arXiv 2302.13971; reference: transformers `modeling_llama.py`): pre-norm blocks of
//! RoPE attention with grouped queries and a SwiGLU MLP, biases where the configuration has them.
//!
//! Five dispatches a layer: (norm, QKV, RoPE, KV write), attention, (output, residual), (norm, gate and up, SwiGLU),
//! (down, residual); a sixth, the merge of attention's splits, where a decoding row's context is long.

use std::sync::Arc;

use super::{
    Config, Ending, LayerRole, Model, Role, RopeRows, Work,
    upload::{Order, Segment, Uploader},
};
use crate::{
    error::Result,
    gpu::{Caps, Kernel, Recording},
    kernels::{
        Class, Heads,
        attention::Attention,
        attention_merge::AttentionMerge,
        embed::Embed,
        linear::{Epilogue, Fusion, Linear},
        topk::TopK,
    },
};

pub(crate) struct Llama {
    caps: Caps,
    heads: Heads,
    inv_freq: Vec<f64>,
    embed: Embed,
    layers: Vec<Layer>,
    attention: Attention,
    merge: AttentionMerge,
    head: Linear,
    topk: TopK,
    weight_bytes: u64,
}

struct Layer {
    qkv: Linear,
    output: Linear,
    gate_up: Linear,
    down: Linear,
}

const BOTH: &[Class] = &[Class::Prompt, Class::Decode];

impl Llama {
    pub(crate) async fn load(up: &mut Uploader<'_>, config: &Config, context: usize, caps: &Caps) -> Result<Self> {
        let factors = match config.optional_tensor(up.checkpoint, Role::RopeFactors)? {
            Some(tensor) => Some(up.checkpoint.read_f32(tensor).await?),
            None => None,
        };
        let heads = Heads {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            rotary_pairs: config.rope.dims / 2,
        };
        let plain = |role| Segment { weights: vec![role], biases: vec![], order: Order::Plain };
        let embedding = up.matrix("the embeddings", &[plain(Role::Embedding)]).await?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(Layer::load(up, config, layer, heads, caps).await?);
        }
        let norm = up.consts(Some(Role::FinalNorm), &[]).await?;
        let head_matrix = match config.tied_embeddings {
            true => embedding.clone(),
            false => up.matrix("the LM head", &[plain(Role::LmHead)]).await?,
        };
        let weight_bytes = embedding.bytes()
            + layers.iter().map(Layer::bytes).sum::<u64>()
            + norm.size
            + if config.tied_embeddings { 0 } else { head_matrix.bytes() };
        let fusion =
            Fusion { epilogue: Epilogue::Store, norm: Some(config.rms_eps), bias: false, consts: norm.whole() };
        Ok(Self {
            caps: caps.clone(),
            heads,
            inv_freq: config.inv_freq(factors.as_deref())?,
            embed: Embed::new(&embedding, caps),
            layers,
            attention: Attention::new(heads, context, caps),
            merge: AttentionMerge::new(heads, context, caps),
            head: Linear::new(head_matrix, &fusion, &[Class::Decode], caps),
            topk: TopK::new(config.vocab, caps),
            weight_bytes,
        })
    }
}

impl Layer {
    async fn load(up: &mut Uploader<'_>, config: &Config, layer: usize, heads: Heads, caps: &Caps) -> Result<Self> {
        use LayerRole::*;
        let role = |role| Role::Layer(layer, role);
        let segment = |weight, bias: Option<LayerRole>, order| Segment {
            weights: vec![role(weight)],
            biases: bias.into_iter().map(role).collect(),
            order,
        };
        let rotated = match config.rope_rows {
            RopeRows::Interleaved => Order::Plain,
            RopeRows::Halves => Order::PairHalves { head_dim: config.head_dim, rotary: config.rope.dims },
        };
        let bias = |present: bool, role| present.then_some(role);

        let qkv = [
            segment(Q, bias(config.qkv_bias, QBias), rotated),
            segment(K, bias(config.qkv_bias, KBias), rotated),
            segment(V, bias(config.qkv_bias, VBias), Order::Plain),
        ];
        let output = [segment(O, bias(config.o_bias, OBias), Order::Plain)];
        let gate_up = [Segment {
            weights: vec![role(Gate), role(Up)],
            biases: if config.mlp_bias { vec![role(GateBias), role(UpBias)] } else { vec![] },
            order: Order::Alternate,
        }];
        let down = [segment(Down, bias(config.mlp_bias, DownBias), Order::Plain)];

        let eps = Some(config.rms_eps);
        Ok(Self {
            qkv: linear(up, "attention", &qkv, Some(role(AttnNorm)), eps, Epilogue::Qkv(heads), caps).await?,
            output: linear(up, "attention", &output, None, None, Epilogue::Residual, caps).await?,
            gate_up: linear(up, "the MLP", &gate_up, Some(role(MlpNorm)), eps, Epilogue::SwiGlu, caps).await?,
            down: linear(up, "the MLP", &down, None, None, Epilogue::Residual, caps).await?,
        })
    }

    fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    fn bytes(&self) -> u64 {
        self.linears().into_iter().map(Linear::bytes).sum()
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

impl Model for Llama {
    fn heads(&self) -> Heads {
        self.heads
    }

    fn kernels(&self) -> Vec<Arc<Kernel>> {
        let linears = self.layers.iter().flat_map(Layer::linears).chain([&self.head]);
        let mut all: Vec<Arc<Kernel>> = linears.flat_map(Linear::kernels).cloned().collect();
        all.extend(self.embed.kernels().cloned());
        all.extend(self.attention.kernels().map(Arc::clone));
        all.push(self.merge.kernel().clone());
        all.extend(self.topk.kernels().cloned());
        all
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn inv_freq(&self) -> &[f64] {
        &self.inv_freq
    }

    fn record(&self, recording: &mut Recording, work: &Work) {
        let (caps, memory) = (&self.caps, work.memory);
        let hidden = memory.hidden.whole();
        for span in work.spans {
            self.embed.record(recording, span, hidden);
        }
        for (layer, kv) in self.layers.iter().zip(work.kv) {
            let (queries, attended, inner) = (memory.queries.whole(), memory.attended.whole(), memory.inner.whole());
            for span in work.spans {
                layer.qkv.record(recording, caps, span, hidden, queries, Some(kv.whole()));
            }
            for span in work.spans {
                if self.attention.splits(span) {
                    let partials = memory.partials.whole();
                    self.attention.record(recording, span, queries, kv.whole(), partials);
                    self.merge.record(recording, span, partials, attended);
                } else {
                    self.attention.record(recording, span, queries, kv.whole(), attended);
                }
                layer.output.record(recording, caps, span, attended, hidden, None);
                layer.gate_up.record(recording, caps, span, hidden, inner, None);
                layer.down.record(recording, caps, span, inner, hidden, None);
            }
        }
        let Some((span, ending)) = &work.logits else { return };
        let logits = memory.logits.whole();
        self.head.record(recording, caps, span, hidden, logits, None);
        if *ending != Ending::Logits {
            let lists = memory.lists.map(|list| list.whole());
            let greedy = *ending == Ending::Greedy;
            self.topk.record(recording, span, greedy, logits, lists, memory.drawn.whole());
        }
    }
}
