//! The roles of a model's tensors, their names in both kinds of checkpoint, and their required shapes.
//!
//! Names: GGUF as in gguf-py's `tensor_mapping`; Hugging Face as transformers' `LlamaForCausalLM` saves them.

use std::{collections::BTreeSet, ops::Range};

use super::{
    Scaling,
    config::{Config, MixerSpec, Norms, Stacked},
};
use crate::{
    error::{Error, Result},
    kernels::head_norm::QkNorm,
    weights::{Checkpoint, Kind, TensorInfo},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `[vocab, hidden]`
    Embedding,
    /// `[hidden]`
    FinalNorm,
    /// `[vocab, hidden]`; absent where the embeddings are tied.
    LmHead,
    /// `[rope.dims / 2]`: the divisor of each pair's frequency. Optional, in GGUF only.
    RopeFactors,
    /// The same for LongRoPE, if no context is longer than the original one.
    ShortFactors,
    /// The same for LongRoPE, if contexts may be longer.
    LongFactors,
    /// A tensor of layer 0, 1, …
    Layer(usize, LayerRole),
    /// A matrix of the MLP of a layer's expert 0, 1, …
    Expert(usize, usize, LayerRole),
}

/// A matrix is `[out, in]`; a bias is `[out]`; a norm of heads is `[head_dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerRole {
    AttnNorm,
    Q,
    K,
    V,
    /// Q, K and V stacked.
    Qkv,
    O,
    QBias,
    KBias,
    VBias,
    QNorm,
    KNorm,
    OBias,
    MlpNorm,
    /// The norm before the MLP, if there is another after attention.
    PreMlpNorm,
    PostAttnNorm,
    PostMlpNorm,
    /// The thirds B, C and X of a short convolution: `[3 × hidden, hidden]`.
    ConvIn,
    /// `[hidden, taps]`, with the newest token's tap last.
    Conv,
    ConvOut,
    Gate,
    Up,
    /// Gate and up stacked.
    GateUp,
    Down,
    /// The same as a shared expert, beside which there could be a mixture of experts.
    SharedGateUp,
    SharedDown,
    /// `[experts, hidden]`: the router, which scores a mixture's experts.
    Router,
    /// The matrices of all experts: `[experts, out, in]`.
    ExpertGates,
    ExpertUps,
    ExpertDowns,
    GateBias,
    UpBias,
    DownBias,
}

impl Role {
    /// The name of the tensor in a checkpoint of this kind.
    pub fn name(self, kind: Kind) -> String {
        self.renamed(kind, &[])
    }

    /// `names` is as in [`Config::names`].
    fn renamed(self, kind: Kind, names: &[(&str, &str)]) -> String {
        let (gguf, hugging_face) = match self {
            Role::Embedding => ("token_embd.weight", "model.embed_tokens.weight"),
            Role::FinalNorm => ("output_norm.weight", "model.norm.weight"),
            Role::LmHead => ("output.weight", "lm_head.weight"),
            // Hugging Face has the scaling in the configuration, and no such tensors.
            Role::RopeFactors => ("rope_freqs.weight", "rope_freqs.weight"),
            Role::ShortFactors => ("rope_factors_short.weight", "rope_factors_short.weight"),
            Role::LongFactors => ("rope_factors_long.weight", "rope_factors_long.weight"),
            Role::Layer(_, role) | Role::Expert(_, _, role) => role.names(),
        };
        let usual = if kind == Kind::Gguf { gguf } else { hugging_face };
        let name = names.iter().find(|(known, _)| *known == usual).map_or(usual, |(_, own)| own);
        match (self, kind) {
            (Role::Layer(layer, _), Kind::Gguf) => format!("blk.{layer}.{name}"),
            (Role::Layer(layer, _), Kind::HuggingFace) => format!("model.layers.{layer}.{name}"),
            (Role::Expert(layer, expert, _), Kind::HuggingFace) => {
                format!("model.layers.{layer}.mlp.experts.{expert}.{}", name.trim_start_matches("mlp."))
            }
            (Role::Expert(layer, expert, _), Kind::Gguf) => {
                format!("blk.{layer}.{}.{expert}.weight", name.trim_end_matches(".weight"))
            }
            _ => name.to_owned(),
        }
    }

    pub fn shape(self, config: &Config) -> Vec<usize> {
        use LayerRole::*;
        let hidden = config.hidden;
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        match self {
            Role::Embedding | Role::LmHead => vec![config.vocab, hidden],
            Role::FinalNorm => vec![hidden],
            Role::RopeFactors | Role::ShortFactors | Role::LongFactors => {
                let dims = config.layers.iter().find_map(|layer| layer.rope.as_ref()).map_or(0, |rope| rope.dims);
                vec![dims / 2]
            }
            Role::Layer(layer, role) | Role::Expert(layer, _, role) => match role {
                AttnNorm | MlpNorm | PreMlpNorm | PostAttnNorm | PostMlpNorm | OBias | DownBias => vec![hidden],
                Q => vec![queries, hidden],
                K | V => vec![keys, hidden],
                Qkv => vec![queries + 2 * keys, hidden],
                O => vec![hidden, queries],
                QNorm | KNorm => match config.layers[layer].qk_norm {
                    Some(QkNorm::Whole) => vec![if role == QNorm { queries } else { keys }],
                    _ => vec![config.head_dim],
                },
                QBias => vec![queries],
                KBias | VBias => vec![keys],
                ConvIn => vec![3 * hidden, hidden],
                Conv => match config.layers[layer].mixer {
                    MixerSpec::ShortConv { taps } => vec![hidden, taps],
                    MixerSpec::Attention => vec![],
                },
                ConvOut => vec![hidden, hidden],
                Gate | Up => vec![config.layers[layer].intermediate, hidden],
                GateUp | SharedGateUp => vec![2 * config.layers[layer].intermediate, hidden],
                Down | SharedDown => vec![hidden, config.layers[layer].intermediate],
                Router => vec![config.layers[layer].mixture.map_or(0, |mixture| mixture.experts.count), hidden],
                ExpertGates | ExpertUps | ExpertDowns => {
                    let matrix = if role == ExpertDowns { Down } else { Gate };
                    let count = Role::Layer(layer, Router).shape(config)[0];
                    [vec![count], Role::Layer(layer, matrix).shape(config)].concat()
                }
                GateBias | UpBias => vec![config.layers[layer].intermediate],
            },
        }
    }
}

impl LayerRole {
    /// The GGUF name and the Hugging Face name, after the layer's prefix.
    fn names(self) -> (&'static str, &'static str) {
        use LayerRole::*;
        match self {
            AttnNorm => ("attn_norm.weight", "input_layernorm.weight"),
            Q => ("attn_q.weight", "self_attn.q_proj.weight"),
            K => ("attn_k.weight", "self_attn.k_proj.weight"),
            V => ("attn_v.weight", "self_attn.v_proj.weight"),
            Qkv => ("attn_qkv.weight", "self_attn.qkv_proj.weight"),
            O => ("attn_output.weight", "self_attn.o_proj.weight"),
            QBias => ("attn_q.bias", "self_attn.q_proj.bias"),
            KBias => ("attn_k.bias", "self_attn.k_proj.bias"),
            VBias => ("attn_v.bias", "self_attn.v_proj.bias"),
            QNorm => ("attn_q_norm.weight", "self_attn.q_norm.weight"),
            KNorm => ("attn_k_norm.weight", "self_attn.k_norm.weight"),
            OBias => ("attn_output.bias", "self_attn.o_proj.bias"),
            MlpNorm => ("ffn_norm.weight", "post_attention_layernorm.weight"),
            PreMlpNorm => ("ffn_norm.weight", "pre_feedforward_layernorm.weight"),
            PostAttnNorm => ("post_attention_norm.weight", "post_attention_layernorm.weight"),
            PostMlpNorm => ("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
            ConvIn => ("shortconv.in_proj.weight", "conv.in_proj.weight"),
            Conv => ("shortconv.conv.weight", "conv.conv.weight"),
            ConvOut => ("shortconv.out_proj.weight", "conv.out_proj.weight"),
            Gate => ("ffn_gate.weight", "mlp.gate_proj.weight"),
            Up => ("ffn_up.weight", "mlp.up_proj.weight"),
            // The name that converters use if the two are stacked.
            GateUp => ("ffn_up.weight", "mlp.gate_up_proj.weight"),
            Down => ("ffn_down.weight", "mlp.down_proj.weight"),
            // Converters split the stacked tensor, and name the parts as those of a plain MLP.
            SharedGateUp => ("ffn_up.weight", "shared_mlp.input_linear.weight"),
            SharedDown => ("ffn_down.weight", "shared_mlp.output_linear.weight"),
            Router => ("ffn_gate_inp.weight", "mlp.gate.weight"),
            ExpertGates => ("ffn_gate_exps.weight", "mlp.experts.gate_proj.weight"),
            ExpertUps => ("ffn_up_exps.weight", "mlp.experts.up_proj.weight"),
            ExpertDowns => ("ffn_down_exps.weight", "mlp.experts.down_proj.weight"),
            GateBias => ("ffn_gate.bias", "mlp.gate_proj.bias"),
            UpBias => ("ffn_up.bias", "mlp.up_proj.bias"),
            DownBias => ("ffn_down.bias", "mlp.down_proj.bias"),
        }
    }
}

impl Stacked {
    /// The tensors of the matrices of attention.
    fn attention(self) -> &'static [LayerRole] {
        use LayerRole::*;
        match self {
            Stacked::Nothing | Stacked::SharedGateUp | Stacked::Experts => &[Q, K, V, O],
            Stacked::QkvAndGateUp => &[Qkv, O],
        }
    }

    /// The tensors of the MLP's matrices.
    fn mlp(self) -> &'static [LayerRole] {
        use LayerRole::*;
        match self {
            Stacked::Nothing => &[Gate, Up, Down],
            Stacked::QkvAndGateUp => &[GateUp, Down],
            Stacked::SharedGateUp => &[SharedGateUp, SharedDown],
            Stacked::Experts => &[ExpertGates, ExpertUps, ExpertDowns],
        }
    }
}

impl Norms {
    /// The norms over the inputs of attention and MLP, and those over their outputs.
    pub(super) fn before(self) -> Option<[LayerRole; 2]> {
        use LayerRole::*;
        match self {
            Norms::Before => Some([AttnNorm, MlpNorm]),
            Norms::Around => Some([AttnNorm, PreMlpNorm]),
            Norms::After => None,
        }
    }

    pub(super) fn after(self) -> Option<[LayerRole; 2]> {
        (self != Norms::Before).then_some([LayerRole::PostAttnNorm, LayerRole::PostMlpNorm])
    }

    fn roles(self) -> &'static [LayerRole] {
        use LayerRole::*;
        match self {
            Norms::Before => &[AttnNorm, MlpNorm],
            Norms::After => &[PostAttnNorm, PostMlpNorm],
            Norms::Around => &[AttnNorm, PostAttnNorm, PreMlpNorm, PostMlpNorm],
        }
    }
}

#[doc(hidden)]
impl Config {
    /// The location of a matrix's rows: a tensor, and a range of its rows.
    pub fn rows(&self, role: Role) -> (Role, Range<usize>) {
        use LayerRole::*;
        let (layer, matrix) = match role {
            Role::Layer(layer, matrix) => (layer, matrix),
            Role::Expert(layer, expert, matrix) if self.layers[layer].stacked == Stacked::Experts => {
                let rows = role.shape(self)[0];
                let all = match matrix {
                    Gate => ExpertGates,
                    Up => ExpertUps,
                    _ => ExpertDowns,
                };
                return (Role::Layer(layer, all), expert * rows..(expert + 1) * rows);
            }
            _ => return (role, 0..role.shape(self)[0]),
        };
        let rows = |role| Role::Layer(layer, role).shape(self)[0];
        let (tensor, first) = match (self.layers[layer].stacked, matrix) {
            (Stacked::QkvAndGateUp, Q) => (Qkv, 0),
            (Stacked::QkvAndGateUp, K) => (Qkv, rows(Q)),
            (Stacked::QkvAndGateUp, V) => (Qkv, rows(Q) + rows(K)),
            (Stacked::QkvAndGateUp, Gate) => (GateUp, 0),
            (Stacked::QkvAndGateUp, Up) => (GateUp, rows(Gate)),
            (Stacked::SharedGateUp, Gate) => (SharedGateUp, 0),
            (Stacked::SharedGateUp, Up) => (SharedGateUp, rows(Gate)),
            (Stacked::SharedGateUp, Down) => (SharedDown, 0),
            _ => (matrix, 0),
        };
        (Role::Layer(layer, tensor), first..first + rows(matrix))
    }

    /// Every tensor that a model of this configuration needs, in the order of use.
    pub fn roles(&self) -> Vec<Role> {
        use LayerRole::*;
        let mut roles = vec![Role::Embedding];
        let ropes = self.layers.iter().filter_map(|layer| layer.rope.as_ref());
        if let Some(rope) = ropes.into_iter().find(|rope| matches!(rope.scaling, Scaling::LongRope { lists: None, .. }))
        {
            roles.push(rope.factors());
        }
        for (index, spec) in self.layers.iter().enumerate() {
            let attends = spec.mixer == MixerSpec::Attention;
            let groups = [
                (true, spec.norms.roles()),
                (true, if attends { spec.stacked.attention() } else { &[ConvIn, Conv, ConvOut] }),
                (spec.mixture.is_some(), &[Router]),
                (spec.mixture.is_none() || spec.stacked == Stacked::Experts, spec.stacked.mlp()),
                (attends && spec.qkv_bias, &[QBias, KBias, VBias]),
                (attends && spec.qk_norm.is_some(), &[QNorm, KNorm]),
                (attends && spec.o_bias, &[OBias]),
                (spec.mlp_bias, &[GateBias, UpBias, DownBias]),
            ];
            let present = groups.into_iter().filter(|(present, _)| *present);
            roles.extend(present.flat_map(|(_, group)| group).map(|&role| Role::Layer(index, role)));
            if let Some(mixture) = spec.mixture.filter(|_| spec.stacked != Stacked::Experts) {
                let each = |expert| spec.stacked.mlp().iter().map(move |&role| Role::Expert(index, expert, role));
                roles.extend((0..mixture.experts.count).flat_map(each));
            }
        }
        roles.push(Role::FinalNorm);
        if !self.tied_embeddings {
            roles.push(Role::LmHead);
        }
        roles
    }

    /// The tensor for a role. Fails with [`Error::Tensor`] if it is missing or its shape is not the one that the
    /// configuration requires.
    pub fn tensor<'a>(&self, checkpoint: &'a Checkpoint, role: Role) -> Result<&'a TensorInfo> {
        let found = self.optional_tensor(checkpoint, role)?;
        found.ok_or_else(|| self.misfit(checkpoint, role, "none".to_owned()))
    }

    /// As [`Config::tensor`], but a missing tensor is `None`.
    pub fn optional_tensor<'a>(&self, checkpoint: &'a Checkpoint, role: Role) -> Result<Option<&'a TensorInfo>> {
        let found = checkpoint.find(&role.renamed(checkpoint.kind(), self.names))?;
        // In transformers, a depthwise convolution has an inner dimension of 1.
        let is_conv = matches!(role, Role::Layer(_, LayerRole::Conv));
        let fits = |tensor: &TensorInfo| match &tensor.shape[..] {
            [cols, 1, taps] if is_conv => role.shape(self) == [*cols, *taps],
            shape => role.shape(self) == shape,
        };
        match found {
            Some(tensor) if !fits(tensor) => Err(self.misfit(checkpoint, role, format!("{:?}", tensor.shape))),
            found => Ok(found),
        }
    }

    /// Checks every tensor that the model needs, so that loading does not fail halfway, and that no other tensor would
    /// change the results.
    pub fn check_tensors(&self, checkpoint: &Checkpoint) -> Result<()> {
        let mut read = BTreeSet::new();
        for role in self.roles() {
            self.tensor(checkpoint, role)?;
            read.insert(role.renamed(checkpoint.kind(), self.names));
        }
        let ignored = |name: &str| match checkpoint.kind() {
            Kind::Gguf => name.starts_with("rope_f"),
            // Ignored tensors: layers beyond the last, biases that the configuration disables, RoPE frequencies that
            // follow from it, an LM head that tied embeddings replace, and other parts of a multimodal model.
            Kind::HuggingFace => {
                let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
                layer.is_some_and(|layer: usize| layer >= self.layers.len())
                    || [".bias", "rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
                    || name == "lm_head.weight" && self.tied_embeddings
                    || !["model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."]
                        .iter()
                        .any(|own| name.starts_with(own))
            }
        };
        match checkpoint.names().find(|name| !read.contains(*name) && !ignored(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Unsupported {
                file: checkpoint.name.clone(),
                what: format!("tensor {name}"),
                fix: format!(
                    "the architecture {} would ignore it, and the model may need it: take a file without it",
                    self.architecture
                ),
            }),
        }
    }

    fn misfit(&self, checkpoint: &Checkpoint, role: Role, found: String) -> Error {
        Error::Tensor {
            file: checkpoint.name.clone(),
            name: role.renamed(checkpoint.kind(), self.names),
            expected: format!("{:?}", role.shape(self)),
            found,
        }
    }
}
