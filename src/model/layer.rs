//! One layer by its specification: first the part that mixes tokens (`mixer`), then the part that processes each token
//! alone (`mlp`).
//!
//! Dispatches between them: (output, residual), and one more, (norm, residual), for each norm after mixer and MLP.

use std::sync::Arc;

use super::{
    Activations, LayerRole, MixerSpec, Role,
    mixer::Mixer,
    mlp::Mlp,
    upload::{Order, ROW_PAIR, Segment, Uploader},
};
use crate::{
    error::Result,
    gpu::{Caps, Kernel, Recording, Slice},
    kernels::{
        Class, Rotation, Span,
        linear::{Epilogue, Fusion, Linear},
        post_norm::PostNorm,
    },
};

pub(super) struct Layer {
    mixer: Mixer,
    output: Linear,
    mlp: Mlp,
    /// The norms after the mixer and after the MLP.
    post_norms: Option<[PostNorm; 2]>,
}

pub(super) const BOTH: &[Class] = &[Class::Prompt, Class::Decode];

impl Layer {
    /// Places layer `index` on the GPU. `rotation` rotates its queries and keys; `context` bounds the rows' contexts, in
    /// tokens.
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
        let bias = |present: bool, role| present.then_some(role);

        let output = match spec.mixer {
            MixerSpec::Attention => segment(index, O, bias(spec.o_bias, OBias), Order::Plain),
            MixerSpec::ShortConv { .. } => segment(index, ConvOut, None, Order::Plain),
        };
        let eps = config.rms_eps;
        let before = spec.norms.before().map(|norms| (role(norms[1]), eps));
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
        Ok(Self {
            mixer: Mixer::place(up, index, rotation, context, caps).await?,
            output: linear(up, "attention", &[output], None, given, caps).await?,
            mlp: Mlp::place(up, index, before, given, caps).await?,
            post_norms,
        })
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [self.mixer.linear(), &self.output].into_iter().chain(self.mlp.linears())
    }

    pub(super) fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        let post_norms = self.post_norms.iter().flatten().map(PostNorm::kernel);
        let own = self.mixer.kernels().into_iter().chain(self.mlp.kernels());
        self.linears().flat_map(Linear::kernels).chain(own).chain(post_norms)
    }

    /// Bytes of its matrices on the GPU.
    pub(super) fn bytes(&self) -> u64 {
        self.linears().map(Linear::bytes).sum()
    }

    /// Appends the layer's work over `spans`, with its `pages`.
    pub(super) fn record(&self, recording: &mut Recording, spans: &[Span], memory: &Activations, pages: Slice) {
        let (hidden, mixed) = (memory.hidden.whole(), memory.input(memory.attended));
        self.mixer.prepare(recording, spans, memory, pages);
        for span in spans {
            self.mixer.record(recording, span, memory, pages);
            match &self.post_norms {
                None => {
                    self.output.record(recording, span, mixed, hidden, None);
                    self.mlp.record(recording, span, memory, hidden);
                }
                Some([of_mixer, of_mlp]) => {
                    let given = memory.given.whole();
                    self.output.record(recording, span, mixed, given, None);
                    of_mixer.record(recording, span, given, hidden);
                    self.mlp.record(recording, span, memory, given);
                    of_mlp.record(recording, span, given, hidden);
                }
            }
        }
    }
}

/// A matrix of layer `index` from one tensor, with its bias if it has one.
pub(super) fn segment(index: usize, weight: LayerRole, bias: Option<LayerRole>, order: Order) -> Segment {
    let role = |role| Role::Layer(index, role);
    Segment { weights: vec![role(weight)], biases: bias.into_iter().map(role).collect(), order }
}

/// What happens to the sums of a matrix, and the factor that multiplies them before.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) epilogue: Epilogue,
    pub(super) scale: f32,
}

/// `norm`: the norm of its input, with its epsilon.
pub(super) async fn linear(
    up: &mut Uploader<'_>,
    what: &str,
    segments: &[Segment],
    norm: Option<(Role, f32)>,
    Given { epilogue, scale }: Given,
    caps: &Caps,
) -> Result<Linear> {
    let matrix = up.matrix(what, segments, ROW_PAIR).await?;
    let consts = up.consts(norm.map(|(role, _)| role), segments).await?.whole();
    let bias = segments.iter().any(|segment| !segment.biases.is_empty());
    let fusion = Fusion { epilogue, norm: norm.map(|(_, epsilon)| epsilon), bias, scale, consts };
    Ok(Linear::new(matrix, &fusion, BOTH, caps))
}
