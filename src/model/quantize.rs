//! What matrices become where 16- and 32-bit weights are quantised while they are loaded.

use super::{LayerRole, Role};
use crate::{quant::Format, weights::TensorInfo};

/// What the weights of a matrix are put into: the embedding and the LM head never go below Q8_0, a router stays as it is, and what
/// is no product of matrices too.
fn wanted(role: Role, format: Format) -> Option<Format> {
    match role {
        Role::Embedding | Role::LmHead => Some(Format::Q8_0),
        Role::Layer(_, LayerRole::Router | LayerRole::Conv) => None,
        _ => Some(format),
    }
}

/// What the matrix of a role becomes. Rows that are no whole blocks stay as they are.
pub(super) fn target(role: Role, tensor: &TensorInfo, quantize: Option<Format>) -> Format {
    let wanted = quantize.filter(|_| tensor.format.block() == 1).and_then(|format| wanted(role, format));
    wanted.filter(|wanted| tensor.cols().is_multiple_of(wanted.block())).unwrap_or(tensor.format)
}
