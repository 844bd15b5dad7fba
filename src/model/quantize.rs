//! Which formats matrices get if 16- and 32-bit weights are quantised while loading.

use super::{Config, LayerRole, Role};
use crate::{
    error::Result,
    quant::Format,
    weights::{Checkpoint, TensorInfo},
};

/// How much of a model [`EngineOptions::quantize`](crate::engine::EngineOptions) affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantizable {
    /// Matrices with 16- or 32-bit weights.
    pub matrices: usize,
    /// Those of them that stay as they are, because their rows do not consist of whole blocks.
    pub left: usize,
}

impl Config {
    /// How many matrices quantising to `format` would affect.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) if the checkpoint does not fit this configuration.
    pub fn quantizable(&self, checkpoint: &Checkpoint, format: Format) -> Result<Quantizable> {
        let mut found = Quantizable { matrices: 0, left: 0 };
        for role in self.roles() {
            let tensor = self.tensor(checkpoint, role)?;
            let is_wide = tensor.format.block() == 1 && tensor.shape.len() > 1;
            let Some(wanted) = wanted(role, format).filter(|_| is_wide) else { continue };
            found.matrices += 1;
            found.left += usize::from(!tensor.cols().is_multiple_of(wanted.block()));
        }
        Ok(found)
    }
}

/// The target format of a role's weights. The embedding and the LM head never go below Q8_0. A router, and weights that
/// are not matrix products, stay as they are.
fn wanted(role: Role, format: Format) -> Option<Format> {
    match role {
        Role::Embedding | Role::LmHead => Some(Format::Q8_0),
        Role::Layer(_, LayerRole::Router | LayerRole::Conv) => None,
        _ => Some(format),
    }
}

/// The format of a role's matrix. Rows that do not consist of whole blocks stay as they are.
pub(super) fn target(role: Role, tensor: &TensorInfo, quantize: Option<Format>) -> Format {
    let wanted = quantize.filter(|_| tensor.format.block() == 1).and_then(|format| wanted(role, format));
    wanted.filter(|wanted| tensor.cols().is_multiple_of(wanted.block())).unwrap_or(tensor.format)
}
