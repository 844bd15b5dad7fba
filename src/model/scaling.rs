//! RoPE scaling, read from a checkpoint: `rope.scaling.*` of GGUF as llama.cpp reads it, and `rope_scaling` and
//! `rope_parameters` of `config.json` as transformers' `modeling_rope_utils.py` does.

use serde_json::Value;

use super::{
    FactorList, Role, Scaling,
    keys::{Keys, MAX_CONTEXT, positive, size, unsupported},
};
use crate::{error::Result, weights::Fields};

const KNOWN: &str = "take a model without RoPE scaling, or with linear, dynamic, Llama 3, YaRN or LongRoPE scaling";
/// Fields that change results in other architectures, but in none here.
const FOREIGN: [&str; 5] = ["alpha", "llama_4_scaling_beta", "long_mscale", "mrope_section", "short_mscale"];
const ORIGINAL: &str = "original_max_position_embeddings";
const ORIGINAL_GGUF: &str = "scaling.original_context_length";
/// The default bounds of rotations in the original context between which YaRN interpolates.
const BETA_FAST: f64 = 32.0;
const BETA_SLOW: f64 = 1.0;

/// An object of `config.json` about RoPE, by its path. Fields that it lacks may be outside it.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) keys: &'a Keys<'a>,
    pub(super) path: &'a str,
}

impl Group<'_> {
    pub(super) fn name(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// The path of a field: inside the object if it is there, else outside.
    pub(super) fn either(&self, field: &str) -> String {
        let own = self.name(field);
        if self.keys.given(&own).is_some() { own } else { field.to_owned() }
    }

    fn number(&self, field: &str) -> Result<f64> {
        positive(self.keys, &self.name(field), None)
    }

    /// A positive number; `None` if it is absent or 0.
    fn optional(&self, field: &str) -> Result<Option<f64>> {
        let name = self.name(field);
        match self.keys.f64(&name)? {
            None | Some(0.0) => Ok(None),
            Some(_) => positive(self.keys, &name, None).map(Some),
        }
    }

    /// The training context in tokens. A value outside the object takes precedence.
    fn original_context(&self, context: usize) -> Result<usize> {
        let inside = self.name(ORIGINAL);
        let path = if self.keys.given(ORIGINAL).is_some() { ORIGINAL } else { inside.as_str() };
        size(self.keys, path, MAX_CONTEXT, Some(context))
    }

    /// `context`: the model's context in tokens. `dims`: the number of elements that rotate.
    pub(super) fn scaling(&self, context: usize, dims: usize) -> Result<Scaling> {
        let kind = match self.keys.str(&self.name("rope_type"))? {
            Some(kind) => Some(kind),
            None => self.keys.str(&self.name("type"))?,
        };
        if let Some(field) = FOREIGN.into_iter().find(|field| self.keys.given(&self.name(field)).is_some()) {
            return Err(unsupported(self.keys, format!("the field {}", self.name(field)), KNOWN));
        }
        match kind {
            // Dynamic scaling begins beyond the configured context, which no sequence exceeds.
            None | Some("default" | "dynamic") => Ok(Scaling::None),
            Some("linear") => Ok(Scaling::Linear { factor: self.number("factor")? }),
            Some("llama3") => self.llama3(context),
            // Phi-3's first name for LongRoPE.
            Some("longrope" | "su") => self.longrope(context, dims),
            Some("yarn") if self.keys.given(&self.name("long_factor")).is_some() => self.longrope(context, dims),
            Some("yarn") => self.yarn(context),
            Some(other) => Err(unsupported(self.keys, format!("RoPE scaling {other:?}"), KNOWN)),
        }
    }

    fn llama3(&self, context: usize) -> Result<Scaling> {
        let (low_freq_factor, high_freq_factor) = (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
        if high_freq_factor <= low_freq_factor {
            let problem = format!("{high_freq_factor} is not above low_freq_factor, {low_freq_factor}");
            return Err(self.keys.wrong(&self.name("high_freq_factor"), problem));
        }
        let original_context = self.original_context(context)?;
        Ok(Scaling::Llama3 { factor: self.number("factor")?, low_freq_factor, high_freq_factor, original_context })
    }

    fn longrope(&self, context: usize, dims: usize) -> Result<Scaling> {
        let original_context = self.original_context(context)?;
        let factor = self.optional("factor")?.unwrap_or(context as f64 / original_context as f64);
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original_context as f64).ln()).sqrt() };
        let magnitude = self.optional("attention_factor")?.unwrap_or(usual);
        if !magnitude.is_finite() {
            return Err(self.keys.wrong(&self.name(ORIGINAL), format!("{original_context} is too small")));
        }
        let lists = Some([self.list("short_factor", dims / 2)?, self.list("long_factor", dims / 2)?]);
        Ok(Scaling::LongRope { original_context, list: FactorList::Short, lists, magnitude })
    }

    fn list(&self, field: &str, pairs: usize) -> Result<Vec<f32>> {
        let name = self.name(field);
        let value = self.keys.given(&name).ok_or_else(|| self.keys.missing(&name))?;
        let number = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && *x > 0.0);
        let list = value.as_array().and_then(|list| list.iter().map(number).collect::<Option<Vec<_>>>());
        let problem = || format!("expected {pairs} numbers above 0, one for each pair of elements that rotates");
        list.filter(|list| list.len() == pairs).ok_or_else(|| self.keys.wrong(&name, problem()))
    }

    fn yarn(&self, context: usize) -> Result<Scaling> {
        let original_context = self.original_context(context)?;
        let factor = self.optional("factor")?.unwrap_or(context as f64 / original_context as f64);
        let magnitude =
            match (self.optional("attention_factor")?, self.optional("mscale")?, self.optional("mscale_all_dim")?) {
                (Some(given), ..) => given,
                (None, Some(scale), Some(all)) => attention_factor(factor, scale) / attention_factor(factor, all),
                (None, ..) => attention_factor(factor, 1.0),
            };
        let beta_fast = self.optional("beta_fast")?.unwrap_or(BETA_FAST);
        let beta_slow = self.optional("beta_slow")?.unwrap_or(BETA_SLOW);
        check_betas(self.keys, &self.name("beta_fast"), beta_fast, beta_slow)?;
        let truncate = self.keys.bool(&self.name("truncate"))?.unwrap_or(true);
        Ok(Scaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, magnitude })
    }
}

impl Keys<'_> {
    /// `context`: the context that the file states, in tokens.
    pub(super) fn gguf_scaling(&self, context: usize) -> Result<Scaling> {
        let key = |rest: &str| format!("{}.rope.{rest}", self.architecture);
        let kind = self.str(&key("scaling.type"))?;
        // Most converters write no type.
        if self.has(Role::LongFactors)? || kind == Some("longrope") {
            return Ok(Scaling::LongRope {
                original_context: size(self, &key(ORIGINAL_GGUF), MAX_CONTEXT, Some(context))?,
                list: FactorList::Short,
                lists: None,
                magnitude: positive(self, &key("scaling.attn_factor"), Some(1.0))?,
            });
        }
        // Files older than `scaling.type` have only a factor, under either name.
        let present = |key: &String| self.lookup(key).is_some();
        let factor = [key("scaling.factor"), key("scale_linear")].into_iter().find(present);
        match (kind, factor) {
            (Some("none"), _) | (None, None) => Ok(Scaling::None),
            (Some("linear") | None, factor) => {
                let factor = factor.unwrap_or_else(|| key("scaling.factor"));
                Ok(Scaling::Linear { factor: positive(self, &factor, None)? })
            }
            (Some("yarn"), _) => self.gguf_yarn(key, context),
            (Some(other), _) => Err(unsupported(self, format!("RoPE scaling {other:?}"), KNOWN)),
        }
    }

    fn gguf_yarn(&self, key: impl Fn(&str) -> String, context: usize) -> Result<Scaling> {
        let factor = positive(self, &key("scaling.factor"), None)?;
        let number = |field: &str, default| positive(self, &key(field), Some(default));
        let extrapolated = key("scaling.yarn_ext_factor");
        if number("scaling.yarn_ext_factor", 1.0)? != 1.0 {
            return Err(unsupported(self, format!("{extrapolated} other than 1"), KNOWN));
        }
        let all = key("scaling.yarn_log_multiplier");
        let own = match self.f64(&all)? {
            None | Some(0.0) => attention_factor(factor, 1.0),
            Some(_) => attention_factor(factor, 1.0) / attention_factor(factor, positive(self, &all, None)?),
        };
        let beta_fast = number("scaling.yarn_beta_fast", BETA_FAST)?;
        let beta_slow = number("scaling.yarn_beta_slow", BETA_SLOW)?;
        check_betas(self, &key("scaling.yarn_beta_fast"), beta_fast, beta_slow)?;
        Ok(Scaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_context: size(self, &key(ORIGINAL_GGUF), MAX_CONTEXT, Some(context))?,
            truncate: true,
            magnitude: own * number("scaling.attn_factor", 1.0)?,
        })
    }
}

/// The factor by which YaRN multiplies cosine and sine.
fn attention_factor(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

fn check_betas(keys: &Keys, name: &str, fast: f64, slow: f64) -> Result<()> {
    match fast > slow {
        true => Ok(()),
        false => Err(keys.wrong(name, format!("{fast} is not above beta_slow, {slow}"))),
    }
}
