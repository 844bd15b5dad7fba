//! The part of a layer that processes each token alone: a gated MLP, or a mixture of such experts, a few of which
//! process a token.
//!
//! Dispatches of an MLP: (norm, gate and up, activation) and (down, residual). Of a mixture: (norm, router), choice,
//! (norm, gate and up of the chosen, activation), (their down) and (weights, residual), and one more for prompts, which
//! sort rows by expert. If gate and up have different formats, there is one more: (norm, gate, activation) and (norm,
//! up, product).

use std::sync::Arc;

use super::{
    Activations, LayerRole, Mixture, Role,
    layer::{BOTH, Given, linear, segment},
    upload::{Order, Segment, Uploader},
};
use crate::{
    error::Result,
    gpu::{Caps, Kernel, Recording, Slice},
    kernels::{
        Class, Span,
        linear::{Epilogue, Fusion, Linear, Routed},
        moe_combine::MoeCombine,
        moe_group::MoeGroup,
        moe_route::MoeRoute,
        plan,
    },
};

pub(super) struct Mlp {
    /// One matrix of alternating gate and up rows, or, if their formats differ, the gate and then the up.
    gate_up: Vec<Linear>,
    down: Linear,
    /// Set if these are the matrices of experts.
    routing: Option<Routing>,
}

/// Chooses the experts of a token, and combines their outputs.
struct Routing {
    router: Linear,
    route: MoeRoute,
    /// Set if prompts process several tokens of an expert at once.
    group: Option<MoeGroup>,
    combine: MoeCombine,
}

impl Mlp {
    /// Places the MLP of layer `index` on the GPU. `before`: the norm of its input, with its epsilon; `given`: what
    /// happens to its output.
    pub(super) async fn place(
        up: &mut Uploader<'_>,
        index: usize,
        before: Option<(Role, f32)>,
        given: Given,
        caps: &Caps,
    ) -> Result<Self> {
        use LayerRole::*;
        let (config, spec) = (up.config, &up.config.layers[index]);
        let count = spec.mixture.map_or(1, |mixture| mixture.experts.count);
        let of = |owner, role| match spec.mixture {
            None => Role::Layer(index, role),
            Some(_) => Role::Expert(index, owner, role),
        };
        let mut alike = true;
        for owner in 0..count {
            alike &= up.format(of(owner, Gate))? == up.format(of(owner, Up))?;
        }
        let activation = spec.activation;
        let halves: &[(&[LayerRole], &[LayerRole], Order, Epilogue)] = match alike {
            true => &[(&[Gate, Up], &[GateBias, UpBias], Order::Alternate, Epilogue::Gated(activation))],
            false => &[
                (&[Gate], &[GateBias], Order::Plain, Epilogue::Gate(activation)),
                (&[Up], &[UpBias], Order::Plain, Epilogue::Times),
            ],
        };
        let segments = |weights: &[LayerRole], biases: &[LayerRole], order| -> Vec<Segment> {
            let segment = |owner| Segment {
                weights: weights.iter().map(|&role| of(owner, role)).collect(),
                biases: biases.iter().filter(|_| spec.mlp_bias).map(|&role| of(owner, role)).collect(),
                order,
            };
            (0..count).map(segment).collect()
        };
        let of_tokens = spec.mixture.map(|mixture| Routed { experts: mixture.experts, from_tokens: true });
        let of_choices = of_tokens.map(|routed| Routed { from_tokens: false, ..routed });
        let stored = |epilogue| Given { epilogue, scale: 1.0 };
        let mut gate_up = Vec::new();
        for &(weights, biases, order, epilogue) in halves {
            let segments = segments(weights, biases, order);
            gate_up.push(matrix(up, &segments, of_tokens, before, stored(epilogue), caps).await?);
        }
        let of_down = if spec.mixture.is_some() { stored(Epilogue::Store) } else { given };
        let down = matrix(up, &segments(&[Down], &[DownBias], Order::Plain), of_choices, None, of_down, caps).await?;
        let Some(Mixture { experts, normalized }) = spec.mixture else {
            return Ok(Self { gate_up, down, routing: None });
        };
        let router = [segment(index, Router, None, Order::Plain)];
        let (_, &tokens) = plan::expert_tile(caps, Class::Prompt).rungs().last().expect("a ladder has a rung");
        let routing = Routing {
            router: linear(up, "the router", &router, before, stored(Epilogue::Store), caps).await?,
            route: MoeRoute::new(experts, normalized, caps),
            group: (tokens > 1).then(|| MoeGroup::new(experts, tokens, caps)),
            combine: MoeCombine::new(experts, config.hidden, given.scale, caps),
        };
        Ok(Self { gate_up, down, routing: Some(routing) })
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.gate_up.iter().chain([&self.down]).chain(self.routing.iter().map(|routing| &routing.router))
    }

    /// Its pipelines, except those of its matrices.
    pub(super) fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        let routing = self.routing.iter();
        let groups = routing.clone().flat_map(|routing| &routing.group).map(MoeGroup::kernel);
        routing.flat_map(|routing| [routing.route.kernel(), routing.combine.kernel()]).chain(groups)
    }

    /// Appends its work over `span`, from the residual stream to `out`.
    pub(super) fn record(&self, recording: &mut Recording, span: &Span, memory: &Activations, out: Slice) {
        let (stream, inner) = (memory.stream(), memory.inner.whole());
        let Some(Routing { router, route, group, combine }) = &self.routing else {
            self.gate_up.iter().for_each(|half| half.record(recording, span, stream, inner, None));
            self.down.record(recording, span, memory.input(memory.inner), out, None);
            return;
        };
        let (scores, choices, tiles) = (memory.scores.whole(), memory.choices.whole(), memory.tiles.whole());
        router.record(recording, span, stream, scores, None);
        route.record(recording, span, scores, choices);
        let chosen = match group {
            Some(group) if self.down.tokens(span) > 1 => {
                group.record(recording, span, choices, tiles);
                tiles
            }
            _ => choices,
        };
        let given = memory.given.whole();
        self.gate_up.iter().for_each(|half| half.record(recording, span, stream, inner, Some(chosen)));
        self.down.record(recording, span, memory.input(memory.inner), given, Some(chosen));
        combine.record(recording, span, choices, given, out);
    }
}

/// A matrix of the MLP, or the stacked matrices of all experts. `norm`: the norm of its input, with its epsilon.
async fn matrix(
    up: &mut Uploader<'_>,
    segments: &[Segment],
    routed: Option<Routed>,
    norm: Option<(Role, f32)>,
    given: Given,
    caps: &Caps,
) -> Result<Linear> {
    let Some(routed) = routed else { return linear(up, "the MLP", segments, norm, given, caps).await };
    let rows = segments[0].weights.iter().map(|&role| up.config.rows(role).1.len()).sum();
    let matrix = up.matrix("the experts", segments, rows).await?;
    let consts = up.consts(norm.map(|(role, _)| role), &[]).await?.whole();
    let (epilogue, scale) = (given.epilogue, given.scale);
    let fusion = Fusion { epilogue, norm: norm.map(|(_, epsilon)| epsilon), bias: false, scale, consts };
    Ok(Linear::routed(matrix, routed, &fusion, BOTH, caps))
}
