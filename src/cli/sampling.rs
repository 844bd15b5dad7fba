//! The sampling flags. They take precedence over the model's generation config.

use clap::Args;

use super::args::{number, whole};
use crate::error::Result;
use crate::sample::SamplingOverrides;

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling (without flags: the model's generation config if it samples, else greedy)")]
pub(crate) struct SamplingArgs {
    /// Divides the logits; 0 is greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = number)]
    pub(crate) temperature: Option<f32>,

    /// Keep the K best tokens
    #[arg(long, value_name = "K", value_parser = whole::<u32>)]
    pub(crate) top_k: Option<u32>,

    /// Keep the fewest best tokens whose probabilities reach P
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    pub(crate) top_p: Option<f32>,

    /// Drop tokens below P times the best one's probability
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    pub(crate) min_p: Option<f32>,

    /// Weaken tokens that prompt or answer already hold; 1 is off
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = number)]
    pub(crate) repetition_penalty: Option<f32>,

    /// Weaken tokens that the answer already holds; 0 is off
    #[arg(long, value_name = "A", allow_negative_numbers = true, value_parser = number)]
    pub(crate) presence_penalty: Option<f32>,

    /// Weaken tokens for each time the answer holds them; 0 is off
    #[arg(long, value_name = "A", allow_negative_numbers = true, value_parser = number)]
    pub(crate) frequency_penalty: Option<f32>,

    /// Add V to the logit of token ID (repeatable)
    #[arg(long, value_name = "ID=V", allow_hyphen_values = true, value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,

    /// The same seed gives the same text [default: a new one each time]
    #[arg(long, value_parser = whole::<u64>)]
    pub(crate) seed: Option<u64>,
}

pub(crate) fn logit_bias(text: &str) -> Result<(u32, f32), &'static str> {
    let (id, bias) = text.split_once('=').ok_or("use ID=VALUE, such as 42=-5")?;
    let id = id.parse().map_err(|_| "the part before = is not a token id")?;
    Ok((id, bias.parse().map_err(|_| "the part after = is not a number")?))
}

impl SamplingArgs {
    pub(crate) fn wishes(&self) -> SamplingOverrides {
        SamplingOverrides {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
        }
    }
}
