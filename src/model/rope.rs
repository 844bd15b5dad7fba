//! RoPE as numbers: how far each pair of a head's elements turns with a position (Su et al., arXiv 2104.09864), and what was done to
//! that so that a model reads more than it was trained on.

use super::Role;
use crate::error::{Error, Result};

/// How positions turn queries and keys.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many of a head's elements turn: even, at most `head_dim`.
    pub dims: usize,
    /// How the context was stretched.
    pub scaling: Scaling,
}

/// What stretches RoPE beyond the context it was trained on.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: usize,
    },
    /// YaRN (arXiv 2309.00071): pairs that turn fewer than `beta_slow` times in the original context divided by `factor`, those
    /// that turn more than `beta_fast` times kept, those between mixed by their number.
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original_context: usize,
        /// The mixed pairs end at whole numbers.
        truncate: bool,
        /// Cosine and sine are multiplied by it.
        magnitude: f64,
    },
    /// LongRoPE (arXiv 2402.13753): every pair's frequency divided by a number of its own, from one list where no context is
    /// longer than the original one, from another where some are.
    LongRope {
        original_context: usize,
        list: FactorList,
        /// The short list and the long one; `None` where the checkpoint has tensors of them.
        lists: Option<[Vec<f32>; 2]>,
        /// Cosine and sine are multiplied by it, whichever list is used.
        magnitude: f64,
    },
}

/// Which numbers of [`Scaling::LongRope`] frequencies are divided by. A model has one list from loading on: keys that turned by
/// one are worth nothing to queries that turn by the other.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorList {
    Short,
    Long,
}

/// How one pair of elements turns.
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

    /// What cosine and sine are multiplied by.
    #[doc(hidden)]
    pub fn magnitude(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { magnitude, .. } | Scaling::LongRope { magnitude, .. } => magnitude,
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } => 1.0,
        }
    }

    /// The tensor of numbers that frequencies are divided by, where the checkpoint has it.
    #[doc(hidden)]
    pub fn factors(&self) -> Role {
        match self.scaling {
            Scaling::LongRope { list: FactorList::Short, .. } => Role::ShortFactors,
            Scaling::LongRope { list: FactorList::Long, .. } => Role::LongFactors,
            _ => Role::RopeFactors,
        }
    }

    /// As it turns where no context is longer than `context` tokens.
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

    /// The context that it was stretched to, in tokens, where the scaling itself says so.
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
