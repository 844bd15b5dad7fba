//! A request's sampling parameters, which override the model's defaults.

use super::SamplingParams;

/// `None` or an empty list keeps the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingOverrides {
    /// At least 0, which is greedy.
    pub temperature: Option<f32>,
    /// At least 1.
    pub top_k: Option<u32>,
    /// Above 0, at most 1.
    pub top_p: Option<f32>,
    /// From 0 to 1.
    pub min_p: Option<f32>,
    /// Above 0.
    pub repetition_penalty: Option<f32>,
    /// From -2 to 2.
    pub presence_penalty: Option<f32>,
    /// From -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Token ids and what is added to their logits, from -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// A new one for each request by default.
    pub seed: Option<u64>,
}

impl SamplingOverrides {
    /// These values, with `others` where one is not set.
    pub fn or(self, others: Self) -> Self {
        Self {
            temperature: self.temperature.or(others.temperature),
            top_k: self.top_k.or(others.top_k),
            top_p: self.top_p.or(others.top_p),
            min_p: self.min_p.or(others.min_p),
            repetition_penalty: self.repetition_penalty.or(others.repetition_penalty),
            presence_penalty: self.presence_penalty.or(others.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(others.frequency_penalty),
            logit_bias: if self.logit_bias.is_empty() { others.logit_bias } else { self.logit_bias },
            seed: self.seed.or(others.seed),
        }
    }

    /// Refuses values that are wrong for every model.
    ///
    /// # Errors
    /// As [`SamplingParams::validate`].
    #[cfg(feature = "cli")]
    pub(crate) fn validate(&self) -> crate::error::Result<()> {
        self.over(&SamplingParams::default(), || 0).validate(usize::MAX)
    }

    /// The model's parameters, overridden by these. If the model would be greedy, a filter without a temperature
    /// implies temperature 1; otherwise it would have no effect.
    pub(crate) fn over(&self, model: &SamplingParams, new_seed: impl FnOnce() -> u64) -> SamplingParams {
        let filtered = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let unset = if filtered && model.is_greedy() { 1.0 } else { model.temperature };
        SamplingParams {
            temperature: self.temperature.unwrap_or(unset),
            top_k: self.top_k.or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(model.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(model.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(model.frequency_penalty),
            logit_bias: if self.logit_bias.is_empty() { model.logit_bias.clone() } else { self.logit_bias.clone() },
            seed: self.seed.unwrap_or_else(new_seed),
        }
    }
}
