//! The sampling parameters of one request, their bounds, and where the request is sampled.

use crate::error::{Error, Result};

/// Most candidates that the GPU's top-k kernel passes to the draw.
pub const MAX_GPU_TOP_K: u32 = 64;

/// Temperatures below this are greedy: dividing logits by them would only overflow (vLLM's `_SAMPLING_EPS`).
pub const GREEDY_BELOW: f32 = 1e-5;

/// How a request's tokens are drawn. The default is greedy: temperature 0 and every filter off.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by this; 0 is greedy.
    pub temperature: f32,
    /// Only the `k` best logits are candidates; `None` keeps all.
    pub top_k: Option<u32>,
    /// The smallest set of best candidates whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Candidates below this fraction of the best one's probability are dropped; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of every token of prompt or answer; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of every token of the answer; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time the answer holds it; 0 is off.
    pub frequency_penalty: f32,
    /// Added to the logits of these token ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// Together with the token's index in the answer, it determines the randomness of a draw.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// Where a token is chosen, and thus what is read back from the GPU.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingPlan {
    /// The GPU's argmax: 4 bytes a token.
    Greedy,
    /// The GPU draws among its `k` best: 4 bytes a token.
    TopK { k: u32 },
    /// The whole row of logits comes back and [`crate::sample::sample`] chooses.
    Host,
}

impl SamplingParams {
    /// Greedy draws ignore temperature, filters and seed.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW || self.top_k == Some(1)
    }

    /// Whether penalties or biases change logits before any filter.
    pub(crate) fn adjusts_logits(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || !self.logit_bias.is_empty()
    }

    #[doc(hidden)]
    pub fn plan(&self) -> SamplingPlan {
        match self.top_k {
            _ if self.adjusts_logits() => SamplingPlan::Host,
            _ if self.is_greedy() => SamplingPlan::Greedy,
            Some(k) if k <= MAX_GPU_TOP_K => SamplingPlan::TopK { k },
            _ => SamplingPlan::Host,
        }
    }

    /// Refuses values for which no draw is defined. `vocab` is the number of logits.
    ///
    /// Bounds are OpenAI's for the presence and frequency penalties (±2) and the logit bias (±100), Hugging Face's for
    /// the rest.
    ///
    /// # Errors
    /// [`Error::Request`] naming the first field that is out of its range.
    pub fn validate(&self, vocab: usize) -> Result<()> {
        let within = |field, value: f32, ok: bool, range: &str| match ok && value.is_finite() {
            true => Ok(()),
            false => Err(Error::Request { field, problem: format!("{value} is not {range}") }),
        };
        within("temperature", self.temperature, self.temperature >= 0.0, "a finite number of at least 0")?;
        within("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1")?;
        within("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1")?;
        let repetition = self.repetition_penalty;
        within("repetition_penalty", repetition, repetition > 0.0, "a finite number above 0")?;
        let openai = -2.0..=2.0;
        within("presence_penalty", self.presence_penalty, openai.contains(&self.presence_penalty), "between -2 and 2")?;
        let frequency = self.frequency_penalty;
        within("frequency_penalty", frequency, openai.contains(&frequency), "between -2 and 2")?;
        if self.top_k == Some(0) {
            let problem = "0 leaves no candidate; give at least 1, or leave it out to keep all".into();
            return Err(Error::Request { field: "top_k", problem });
        }
        for (index, &(id, bias)) in self.logit_bias.iter().enumerate() {
            within("logit_bias", bias, (-100.0..=100.0).contains(&bias), "between -100 and 100")?;
            let problem = if id as usize >= vocab {
                format!("token id {id} is not in the vocabulary of {vocab}")
            } else if self.logit_bias[..index].iter().any(|&(earlier, _)| earlier == id) {
                format!("token id {id} is given twice")
            } else {
                continue;
            };
            return Err(Error::Request { field: "logit_bias", problem });
        }
        Ok(())
    }
}
