//! What a layer does with each token by itself: a gated MLP, or a mixture of such experts, of which a token goes through a few.
//!
//! An MLP: (norm, gate and up, gate's function), (down, residual). A mixture: (norm, router), choice, (norm, gate and up of the
//! chosen, gate's function), (their down), (weights, residual); one dispatch more for prompts, which sort rows by expert.

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
        Span,
        linear::{Epilogue, Fusion, Linear, Routed, choose_routed, variants},
        moe_combine::MoeCombine,
        moe_group::MoeGroup,
        moe_route::MoeRoute,
    },
};

pub(super) struct Mlp {
    gate_up: Linear,
    down: Linear,
    /// Where those are the matrices of experts.
    routing: Option<Routing>,
}

/// Which experts a token goes through, and what becomes of what they give.
struct Routing {
    router: Linear,
    route: MoeRoute,
    /// Where prompts take several tokens at once.
    group: Option<MoeGroup>,
    combine: MoeCombine,
}

impl Mlp {
    /// Puts that of layer `index` on the GPU. `before`: the norm of what it reads, with its epsilon; `given`: what becomes of what it
    /// gives.
    pub(super) async fn load(
        up: &mut Uploader<'_>,
        index: usize,
        before: Option<(Role, f32)>,
        given: Given,
        caps: &Caps,
    ) -> Result<Self> {
        use LayerRole::*;
        let (config, spec) = (up.config, &up.config.layers[index]);
        let role = |role| Role::Layer(index, role);
        let gated = Given { epilogue: Epilogue::Gated(spec.activation), scale: 1.0 };
        let Some(Mixture { experts, normalized }) = spec.mixture else {
            let gate_up = [Segment {
                weights: vec![role(Gate), role(Up)],
                biases: if spec.mlp_bias { vec![role(GateBias), role(UpBias)] } else { vec![] },
                order: Order::Alternate,
            }];
            let down = [segment(index, Down, spec.mlp_bias.then_some(DownBias), Order::Plain)];
            return Ok(Self {
                gate_up: linear(up, "the MLP", &gate_up, before, gated, caps).await?,
                down: linear(up, "the MLP", &down, None, given, caps).await?,
                routing: None,
            });
        };
        let each = |roles: &[LayerRole], order| -> Vec<Segment> {
            let weights = |expert| roles.iter().map(|&role| Role::Expert(index, expert, role)).collect();
            (0..experts.count).map(|expert| Segment { weights: weights(expert), biases: vec![], order }).collect()
        };
        let (gate_up, down) = (each(&[Gate, Up], Order::Alternate), each(&[Down], Order::Plain));
        let (of_tokens, of_choices) = (Routed { experts, from_tokens: true }, Routed { experts, from_tokens: false });
        let stored = Given { epilogue: Epilogue::Store, scale: 1.0 };
        let router = [segment(index, Router, None, Order::Plain)];
        let tokens = variants(choose_routed, caps, BOTH).iter().map(|variant| variant.tokens).max().unwrap_or(1);
        Ok(Self {
            gate_up: routed(up, &gate_up, of_tokens, 2 * spec.intermediate, before, gated, caps).await?,
            down: routed(up, &down, of_choices, config.hidden, None, stored, caps).await?,
            routing: Some(Routing {
                router: linear(up, "the router", &router, before, stored, caps).await?,
                route: MoeRoute::new(experts, normalized, caps),
                group: (tokens > 1).then(|| MoeGroup::new(experts, tokens, caps)),
                combine: MoeCombine::new(experts, config.hidden, given.scale, caps),
            }),
        })
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.gate_up, &self.down].into_iter().chain(self.routing.iter().map(|routing| &routing.router))
    }

    /// Its pipelines but those of its matrices.
    pub(super) fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        let routing = self.routing.iter();
        let groups = routing.clone().flat_map(|routing| &routing.group).map(MoeGroup::kernel);
        routing.flat_map(|routing| [routing.route.kernel(), routing.combine.kernel()]).chain(groups)
    }

    /// Appends its work over `span`, from the residual stream to `out`.
    pub(super) fn record(&self, recording: &mut Recording, caps: &Caps, span: &Span, memory: &Activations, out: Slice) {
        let (hidden, inner) = (memory.hidden.whole(), memory.inner.whole());
        let Some(Routing { router, route, group, combine }) = &self.routing else {
            self.gate_up.record(recording, caps, span, hidden, inner, None);
            self.down.record(recording, caps, span, inner, out, None);
            return;
        };
        let (scores, choices, tiles) = (memory.scores.whole(), memory.choices.whole(), memory.tiles.whole());
        router.record(recording, caps, span, hidden, scores, None);
        route.record(recording, span, scores, choices);
        let chosen = match group {
            Some(group) if choose_routed(caps, span.class, span.rows).tokens > 1 => {
                group.record(recording, span, choices, tiles);
                tiles
            }
            _ => choices,
        };
        let given = memory.given.whole();
        self.gate_up.record(recording, caps, span, hidden, inner, Some(chosen));
        self.down.record(recording, caps, span, inner, given, Some(chosen));
        combine.record(recording, span, choices, given, out);
    }
}

/// The matrix of all experts, one below the other, each of `rows` rows. `norm`: of what it reads, with its epsilon.
async fn routed(
    up: &mut Uploader<'_>,
    segments: &[Segment],
    routed: Routed,
    rows: usize,
    norm: Option<(Role, f32)>,
    Given { epilogue, scale }: Given,
    caps: &Caps,
) -> Result<Linear> {
    let matrix = up.matrix("the experts", segments, rows).await?;
    let consts = up.consts(norm.map(|(role, _)| role), &[]).await?.whole();
    let fusion = Fusion { epilogue, norm: norm.map(|(_, epsilon)| epsilon), bias: false, scale, consts };
    Ok(Linear::routed(matrix, routed, &fusion, BOTH, caps))
}
