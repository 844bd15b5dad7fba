//! A whole network on the GPU, by its configuration: embedding, layers, final norm, LM head and sampling.

use std::sync::Arc;

use super::{
    Angle, Ending, Role, Rope, Work,
    layer::Layer,
    upload::{Order, ROW_PAIR, Segment, Uploader},
};
use crate::{
    error::Result,
    gpu::{Caps, Kernel, Recording},
    kernels::{
        Class, Rotation,
        embed::Embed,
        linear::{Epilogue, Fusion, Linear},
        topk::TopK,
    },
};

/// A network on the GPU.
pub(crate) struct Network {
    angles: Vec<Angle>,
    embed: Embed,
    layers: Vec<Layer>,
    head: Linear,
    topk: TopK,
    weight_bytes: u64,
}

impl Network {
    /// Places the model of the uploader's checkpoint on the GPU. `context` bounds the rows' contexts, in tokens. It can
    /// compute once the uploader has [filled](Uploader::fill) what is placed.
    pub(crate) async fn place(up: &mut Uploader<'_>, context: usize, caps: &Caps) -> Result<Self> {
        let config = up.config;
        // The angles of each kind of RoPE, one after another.
        let mut angles = Vec::new();
        let mut ropes: Vec<(&Rope, usize, usize)> = Vec::new();
        for rope in config.layers.iter().filter_map(|layer| layer.rope.as_ref()) {
            if !ropes.iter().any(|(known, ..)| *known == rope) {
                let factors = match config.optional_tensor(up.checkpoint, rope.factors())? {
                    Some(tensor) => Some(up.checkpoint.read_f32(tensor).await?),
                    None => None,
                };
                let own = rope.angles(factors.as_deref())?;
                ropes.push((rope, angles.len(), own.len()));
                angles.extend(own);
            }
        }

        let plain = |role| Segment { weights: vec![role], biases: vec![], order: Order::Plain };
        let embedding = up.matrix("the embeddings", &[plain(Role::Embedding)], ROW_PAIR).await?;
        let mut layers = Vec::with_capacity(config.layers.len());
        for (index, layer) in config.layers.iter().enumerate() {
            let own = ropes.iter().find(|(rope, ..)| Some(*rope) == layer.rope.as_ref());
            let (first, pairs) = own.map_or((0, 0), |&(_, first, pairs)| (first, pairs));
            let rotation = Rotation { pairs, first, all: angles.len() };
            layers.push(Layer::place(up, index, rotation, context, caps).await?);
        }
        let norm = up.consts(Some(Role::FinalNorm), &[]).await?;
        let head_matrix = match config.tied_embeddings {
            true => embedding.clone(),
            false => up.matrix("the LM head", &[plain(Role::LmHead)], ROW_PAIR).await?,
        };
        let weight_bytes = embedding.bytes()
            + layers.iter().map(Layer::bytes).sum::<u64>()
            + norm.size
            + if config.tied_embeddings { 0 } else { head_matrix.bytes() };
        let fusion = Fusion {
            epilogue: Epilogue::Logits { cap: config.logit_cap },
            norm: Some(config.rms_eps),
            bias: false,
            scale: config.logit_scale,
            consts: norm.whole(),
        };
        Ok(Self {
            angles,
            embed: Embed::new(&embedding, config.embedding_scale, caps),
            layers,
            head: Linear::new(head_matrix, &fusion, &[Class::Decode], caps),
            topk: TopK::new(config.vocab, caps),
            weight_bytes,
        })
    }

    /// All pipelines that a step may use.
    pub(crate) fn kernels(&self) -> Vec<Arc<Kernel>> {
        let ends = self.head.kernels().chain(self.embed.kernels());
        self.layers.iter().flat_map(Layer::kernels).chain(ends).chain(self.topk.kernels()).cloned().collect()
    }

    /// Bytes of weights on the GPU.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The angles of RoPE.
    pub(crate) fn angles(&self) -> &[Angle] {
        &self.angles
    }

    /// Appends the work of one step.
    pub(crate) fn record(&self, recording: &mut Recording, work: &Work) {
        let memory = work.memory;
        let hidden = memory.hidden.whole();
        for span in work.spans {
            self.embed.record(recording, span, memory.drawn.whole(), hidden);
        }
        for (layer, kv) in self.layers.iter().zip(work.kv) {
            layer.record(recording, work.spans, memory, kv.whole());
        }
        let Some((span, ending)) = &work.logits else { return };
        let logits = memory.logits.whole();
        self.head.record(recording, span, memory.stream(), logits, None);
        if *ending != Ending::Logits {
            let lists = memory.lists.map(|list| list.whole());
            let greedy = *ending == Ending::Greedy;
            self.topk.record(recording, span, greedy, logits, lists, memory.drawn.whole());
        }
    }
}
