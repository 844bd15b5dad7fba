//! The numbers of RoPE: how far each pair of a head's elements rotates a position (Su et al., arXiv 2104.09864), and
//! how scaling extends the context beyond training.

use super::Role;
use crate::error::{Error, Result};

/// How positions rotate queries and keys.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many of a head's elements rotate: an even number, at most `head_dim`.
    pub dims: usize,
    /// How the context is extended.
    pub scaling: Scaling,
}

/// Scaling of RoPE beyond the training context.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Low frequencies are divided by `factor`, high ones are kept, and those between are interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: usize,
    },
    /// YaRN (arXiv 2309.00071): frequencies of pairs that rotate fewer than `beta_slow` times in the original context
    /// are divided by `factor`, those that rotate more than `beta_fast` times are kept, and those between are
    /// interpolated by index.
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original_context: usize,
        /// Whether the range of interpolated pairs is rounded to integers.
        truncate: bool,
        /// Cosine and sine are multiplied by it.
        magnitude: f64,
    },
    /// LongRoPE (arXiv 2402.13753): every pair's frequency has its own divisor, from one list if no context is longer
    /// than the original one, else from another.
    LongRope {
        original_context: usize,
        list: FactorList,
        /// The short and the long list; `None` if the checkpoint has them as tensors.
        lists: Option<[Vec<f32>; 2]>,
        /// Cosine and sine are multiplied by it, whichever list is used.
        magnitude: f64,
    },
}

/// Which divisors of [`Scaling::LongRope`] apply. The list is fixed when a model is loaded, since keys and queries must
/// rotate by the same frequencies.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorList {
    Short,
    Long,
}

/// The rotation of one pair of elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Angle {
    /// Radians.
    pub(crate) per_token: f64,
    /// Cosine and sine are multiplied by it.
    pub(crate) magnitude: f64,
}

impl Rope {
    /// The angle per position of each pair, radians: `dims / 2` numbers. Pair i turns by `theta^(-2i / dims)`, then
    /// - divided by `factors[i]` where the checkpoint has a tensor of them ([`Rope::factors`]: how GGUF holds Llama 3 scaling and
    ///   LongRoPE; ggml's `rope_yarn` takes `theta / freq_factor`), or the list of [`Scaling::LongRope`] that is used,
    /// - divided by the factor of [`Scaling::Linear`],
    /// - or for [`Scaling::Llama3`], by wavelength λ against the original context L: kept below `L / high_freq_factor`,
    ///   divided by `factor` above `L / low_freq_factor`, and between the two mixed by
    ///   `s = (L/λ − low) / (high − low)` as `(1 − s) · f / factor + s · f` (transformers,
    ///   `_compute_llama3_parameters`),
    /// - or for [`Scaling::Yarn`] mixed so by `s = 1 − (i − first) / (last − first)`, between the pairs that turn `beta_fast` and
    ///   `beta_slow` times in L (transformers, `_compute_yarn_parameters`).
    ///
    /// # Errors
    /// When `factors` are not `dims / 2` finite numbers above 0.
    #[doc(hidden)]
    pub fn inv_freq(&self, factors: Option<&[f32]>) -> Result<Vec<f64>> {
        let pairs = self.dims / 2;
        let factors = match &self.scaling {
            Scaling::LongRope { lists: Some(lists), list, .. } => Some(lists[*list as usize].as_slice()),
            _ => factors,
        };
        if let Some(factors) = factors
            && (factors.len() != pairs || factors.iter().any(|x| !x.is_finite() || *x <= 0.0))
        {
            return Err(Error::Request {
                field: "rope factors",
                problem: format!("expected {pairs} finite numbers above 0, found {} numbers", factors.len()),
            });
        }
        let frequency = |pair: usize| {
            let plain = self.theta.powf(-((2 * pair) as f64) / self.dims as f64);
            plain / factors.map_or(1.0, |factors| f64::from(factors[pair]))
        };
        Ok((0..pairs).map(|pair| self.stretched(pair, frequency(pair))).collect())
    }

    /// The factor of cosine and sine.
    #[doc(hidden)]
    pub fn magnitude(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { magnitude, .. } | Scaling::LongRope { magnitude, .. } => magnitude,
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } => 1.0,
        }
    }

    /// The tensor of frequency divisors, if the checkpoint has it.
    #[doc(hidden)]
    pub fn factors(&self) -> Role {
        match self.scaling {
            Scaling::LongRope { list: FactorList::Short, .. } => Role::ShortFactors,
            Scaling::LongRope { list: FactorList::Long, .. } => Role::LongFactors,
            _ => Role::RopeFactors,
        }
    }

    /// The RoPE for contexts of at most `context` tokens.
    pub(super) fn for_context(&mut self, context: usize) {
        if let Scaling::LongRope { original_context, list, .. } = &mut self.scaling {
            *list = if context > *original_context { FactorList::Long } else { FactorList::Short };
        }
    }

    /// As [`Rope::inv_freq`], with the magnitude of each pair.
    pub(crate) fn angles(&self, factors: Option<&[f32]>) -> Result<Vec<Angle>> {
        let magnitude = self.magnitude();
        let frequencies = self.inv_freq(factors)?;
        Ok(frequencies.into_iter().map(|per_token| Angle { per_token, magnitude }).collect())
    }

    /// The extended context in tokens, if the scaling states it.
    pub(super) fn stretched_context(&self) -> Option<usize> {
        match self.scaling {
            Scaling::Yarn { factor, original_context, .. } => Some((original_context as f64 * factor) as usize),
            _ => None,
        }
    }

    fn stretched(&self, pair: usize, frequency: f64) -> f64 {
        let mixed = |kept: f64, factor: f64| (1.0 - kept) * frequency / factor + kept * frequency;
        match self.scaling {
            Scaling::None | Scaling::LongRope { .. } => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let turns = original_context as f64 * frequency / std::f64::consts::TAU;
                mixed(((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0), factor)
            }
            Scaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
                let pair_of = |turns: f64| {
                    let wavelength = original_context as f64 / (turns * std::f64::consts::TAU);
                    self.dims as f64 * wavelength.ln() / (2.0 * self.theta.ln())
                };
                let (first, last) = (pair_of(beta_fast), pair_of(beta_slow));
                let (first, last) = if truncate { (first.floor(), last.ceil()) } else { (first, last) };
                let (first, last) = (first.max(0.0), last.min(self.dims as f64 - 1.0));
                let width = if last == first { 0.001 } else { last - first };
                mixed(1.0 - ((pair as f64 - first) / width).clamp(0.0, 1.0), factor)
            }
        }
    }
}
