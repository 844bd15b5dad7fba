//! The positional encoding of layers, read from a checkpoint: RoPE and windows.

use serde_json::Value;

use super::{
    Rope, Scaling,
    keys::{ConfigKey, Keys, MAX_HEAD_DIM, ROPE_DIMS, positive, unsupported},
    scaling::Group,
};
use crate::{
    error::Result,
    weights::{Field, Fields, Kind, Metadata},
};

const FULL: &str = "rope_parameters.full_attention";
const SLIDING: &str = "rope_parameters.sliding_attention";
const WINDOW: ConfigKey = ConfigKey("attention.sliding_window", "sliding_window");

impl Keys<'_> {
    /// As [`Keys::json`], but null counts as absent.
    pub(super) fn given(&self, key: &str) -> Option<&Value> {
        self.json(key).filter(|value| !value.is_null())
    }

    pub(super) fn gguf_rope(&self, head_dim: usize, context: usize) -> Result<Rope> {
        Ok(Rope {
            theta: positive(self, &format!("{}.rope.freq_base", self.architecture), Some(10_000.0))?,
            dims: self.size(ROPE_DIMS, MAX_HEAD_DIM, Some(head_dim))?,
            scaling: self.gguf_scaling(context)?,
        })
    }

    pub(super) fn hugging_face_rope(&self, head_dim: usize, context: usize) -> Result<Rope> {
        // Release 5 of transformers collects in `rope_parameters` what release 4 has in `rope_scaling` and beside it.
        // If kinds of layers differ in RoPE, it has one object for each kind.
        let groups = [FULL, "rope_parameters", "rope_scaling"];
        let path = groups.into_iter().find(|group| self.given(group).is_some()).unwrap_or("rope_scaling");
        if let Some(value) = self.given(path)
            && !value.is_object()
        {
            return Err(self.wrong(path, format!("expected an object, found {value}")));
        }
        let group = Group { keys: self, path };
        let part = group.either("partial_rotary_factor");
        let share = positive(self, &part, Some(1.0))?;
        if share > 1.0 {
            return Err(self.wrong(&part, format!("{share} is more than the whole head")));
        }
        let dims = (head_dim as f64 * share) as usize;
        Ok(Rope {
            theta: positive(self, &group.either("rope_theta"), Some(10_000.0))?,
            dims,
            scaling: group.scaling(context, dims)?,
        })
    }

    /// The RoPE of layers with a window, if they have their own.
    pub(super) fn local_rope(&self, head_dim: usize) -> Result<Rope> {
        let theta = match self.kind() {
            Kind::Gguf => format!("{}.rope.freq_base_swa", self.architecture),
            Kind::HuggingFace if self.given(SLIDING).is_some() => match self.str(&format!("{SLIDING}.rope_type"))? {
                None | Some("default") => format!("{SLIDING}.rope_theta"),
                Some(other) => {
                    let fix = "take a model whose layers with a window turn without scaling";
                    return Err(unsupported(self, format!("RoPE scaling {other:?} in a window"), fix));
                }
            },
            Kind::HuggingFace => "rope_local_base_freq".to_owned(),
        };
        Ok(Rope { theta: positive(self, &theta, Some(10_000.0))?, dims: head_dim, scaling: Scaling::None })
    }

    /// The window of the layers that have one, in tokens; `default` if the field is absent, `None` if it is null or 0.
    pub(super) fn window(&self, default: Option<u64>) -> Result<Option<usize>> {
        let name = self.name(WINDOW);
        let window = match self.json(&name) {
            Some(Value::Null) => None,
            _ => self.u64(&name)?.or(default),
        };
        Ok(window.filter(|&window| window > 0).map(|window| usize::try_from(window).unwrap_or(usize::MAX)))
    }

    /// The window of each of `layers` layers, in tokens, with `default` as in [`Keys::window`]. Unless the file lists
    /// the layers, every `pattern`-th has none.
    pub(super) fn windows(&self, default: Option<u64>, pattern: usize, layers: usize) -> Result<Vec<Option<usize>>> {
        let window = self.window(default)?;
        let slides = match self.layers_that_slide(layers)? {
            Some(slides) => slides,
            None => {
                let pattern = self.window_pattern(pattern)?;
                (1..=layers).map(|layer| !layer.is_multiple_of(pattern)).collect()
            }
        };
        if window.is_none() && slides.contains(&true) {
            return Err(self.wrong(&self.name(WINDOW), "some layers need a window, and the file has none".to_owned()));
        }
        Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
    }

    /// The list of which layers have a window, if there is one.
    fn layers_that_slide(&self, layers: usize) -> Result<Option<Vec<bool>>> {
        const TYPES: &str = "layer_types";
        let (key, list): (String, Option<Vec<Option<bool>>>) = match &self.checkpoint.metadata {
            Metadata::Gguf(metadata) => {
                let key = format!("{}.attention.sliding_window_pattern", self.architecture);
                let list = match self.lookup(&key) {
                    Some(Field::Other(_)) => metadata.bools(&key)?,
                    _ => None,
                };
                (key, list.map(|list| list.into_iter().map(Some).collect()))
            }
            Metadata::HuggingFace(_) => {
                let slides = |value: &Value| match value.as_str() {
                    Some("sliding_attention") => Some(true),
                    Some("full_attention") => Some(false),
                    _ => None,
                };
                let list = self.given(TYPES).map(|value| match value.as_array() {
                    Some(list) => list.iter().map(slides).collect(),
                    None => vec![None],
                });
                (TYPES.to_owned(), list)
            }
        };
        let Some(list) = list else { return Ok(None) };
        match list.into_iter().collect::<Option<Vec<_>>>() {
            Some(list) if list.len() == layers => Ok(Some(list)),
            _ => {
                let problem = format!("expected for each of the {layers} layers whether it sees a window");
                Err(self.wrong(&key, problem))
            }
        }
    }

    fn window_pattern(&self, default: usize) -> Result<usize> {
        let keys = match self.kind() {
            Kind::Gguf => vec![format!("{}.attention.sliding_window_pattern", self.architecture)],
            Kind::HuggingFace => ["sliding_window_pattern", "_sliding_window_pattern"].map(str::to_owned).to_vec(),
        };
        let key = keys.into_iter().find(|key| self.lookup(key).is_some());
        key.map_or(Ok(default), |key| self.count(&key, default))
    }

    /// The factor of scores: `query_pre_attn_scalar^(-1/2)`. GGUF has no such field; there `head_dim` takes its place.
    pub(super) fn query_scale(&self, head_dim: usize) -> Result<f32> {
        let scalar = match self.kind() {
            Kind::Gguf => head_dim as f64,
            Kind::HuggingFace => positive(self, "query_pre_attn_scalar", Some(256.0))?,
        };
        Ok(scalar.powf(-0.5) as f32)
    }
}
