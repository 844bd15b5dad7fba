//! `y = W · norm(x) + b`, and the epilogues.

use half::f16;

use headstart::kernels::linear::Activation;

use super::{Bounded, ULP};

/// Rounding errors, each relative to the sum of the terms' magnitudes: one each for unpacking the weight, for the gain and for
/// the norm's factor, and five for the sum itself. A chain of n fused multiply-adds rounds n times, each relative to a partial
/// sum. For terms of both signs these add up to less than one error of this size; five leave a margin.
const ROUNDINGS: f64 = 8.0;

/// The form of the factors of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operands {
    Exact,
    /// Rounded to f16.
    Halves,
    /// Those of x rounded to multiples of the 127th part of the largest of 32.
    Bytes,
}

pub struct Linear<'a> {
    /// `[rows, cols]`.
    pub weights: &'a [f32],
    pub cols: usize,
    /// RMSNorm: gains `[cols]` and epsilon.
    pub norm: Option<(&'a [f32], f32)>,
    /// `[rows]`.
    pub bias: Option<&'a [f32]>,
    pub operands: Operands,
}

/// The nearest f16, or the largest finite one.
fn half(value: f64) -> f64 {
    f16::from_f64(value).to_f64().clamp(f64::from(f16::MIN.to_f32()), f64::from(f16::MAX.to_f32()))
}

impl Linear<'_> {
    /// `x: [cols]`; all rows of y.
    pub fn product(&self, x: &[f32]) -> Vec<Bounded> {
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / self.cols as f64;
        let input = |i: usize| match self.norm {
            Some((gains, epsilon)) => f64::from(x[i]) * f64::from(gains[i]) / (mean + f64::from(epsilon)).sqrt(),
            None => f64::from(x[i]),
        };
        let operand = |value: f64| if self.operands == Operands::Halves { half(value) } else { value };
        let mut input: Vec<f64> = (0..self.cols).map(|i| operand(input(i))).collect();
        // Of each element, the step between two multiples.
        let mut steps = vec![0.0; self.cols];
        if self.operands == Operands::Bytes {
            for (block, steps) in input.chunks_mut(32).zip(steps.chunks_mut(32)) {
                let step = block.iter().fold(0.0, |most: f64, x| most.max(x.abs())) / 127.0;
                steps.fill(step);
                block.iter_mut().filter(|_| step > 0.0).for_each(|x| *x = (*x / step).round() * step);
            }
        }
        let row = |(row, weights): (usize, &[f32])| {
            let bias = self.bias.map_or(0.0, |bias| f64::from(bias[row]));
            let terms = weights.iter().zip(&input).map(|(&w, x)| operand(f64::from(w)) * x);
            let (value, size) =
                terms.clone().fold((bias, bias.abs()), |(value, size), term| (value + term, size + term.abs()));
            // A value between two of the operands' may be rounded to either in one of the terms.
            let most = |terms: &mut dyn Iterator<Item = f64>| terms.fold(0.0, |most: f64, term| most.max(term.abs()));
            let other = match self.operands {
                Operands::Exact => 0.0,
                Operands::Halves => most(&mut terms.clone()) / 512.0,
                Operands::Bytes => most(&mut weights.iter().zip(&steps).map(|(&w, step)| f64::from(w) * step)),
            };
            Bounded { value, error: ROUNDINGS * ULP * size + other }
        };
        self.weights.chunks(self.cols).enumerate().map(row).collect()
    }
}

/// `old + y`.
pub fn residual(old: &[f32], y: &[Bounded]) -> Vec<Bounded> {
    let add = |(&old, y): (&f32, &Bounded)| {
        let value = f64::from(old) + y.value;
        Bounded { value, error: y.error + ULP * value.abs() }
    };
    old.iter().zip(y).map(add).collect()
}

/// `cap · tanh(y / cap)`. Its own error is proportional to the cap.
pub fn cap(y: &[Bounded], cap: f32) -> Vec<Bounded> {
    let cap = f64::from(cap);
    y.iter().map(|y| Bounded { value: cap * (y.value / cap).tanh(), error: y.error + 8.0 * ULP * cap }).collect()
}

/// `y · scale`.
pub fn scaled(y: &[Bounded], scale: f32) -> Vec<Bounded> {
    let scale = f64::from(scale);
    let times = |y: &Bounded| {
        let value = y.value * scale;
        Bounded { value, error: y.error * scale.abs() + ULP * value.abs() }
    };
    y.iter().map(times).collect()
}

/// `f(gate)`; the slope of f is at most 1.13.
fn activated(gate: &Bounded, activation: Activation) -> Bounded {
    // Both are gate · sigmoid(power).
    let power = match activation {
        Activation::Silu => gate.value,
        Activation::GeluTanh => {
            2.0 * (2.0 / std::f64::consts::PI).sqrt() * (gate.value + 0.044715 * gate.value.powi(3))
        }
    };
    let value = gate.value / (1.0 + (-power).exp());
    // exp may be off by 3 + 2 |power| units in the last place (WGSL, accuracy of expressions), and by the error of its power;
    // then a few more roundings.
    let own = ULP * (2.0 * (3.0 + 4.0 * power.abs()) + 7.0) * value.abs();
    Bounded { value, error: 1.13 * gate.error + own }
}

fn multiplied(a: &Bounded, b: &Bounded) -> Bounded {
    let value = a.value * b.value;
    Bounded { value, error: a.error * b.value.abs() + a.value.abs() * b.error + ULP * value.abs() }
}

/// Rows alternate gate and up: `f(gate) · up`.
pub fn gated(y: &[Bounded], activation: Activation) -> Vec<Bounded> {
    y.chunks(2).map(|pair| multiplied(&activated(&pair[0], activation), &pair[1])).collect()
}

/// `f(y)`.
pub fn gate(y: &[Bounded], activation: Activation) -> Vec<Bounded> {
    y.iter().map(|y| activated(y, activation)).collect()
}

/// `old · y`.
pub fn times(old: &[f32], y: &[Bounded]) -> Vec<Bounded> {
    let exact = |old: &f32| Bounded { value: f64::from(*old), error: 0.0 };
    old.iter().map(exact).zip(y).map(|(old, y)| multiplied(&old, y)).collect()
}

/// RoPE over neighbouring pairs of one head: `y: [head_dim]`, `turns: [pairs]` of (cos, sin). Further dims stay.
pub fn rotate(y: &[Bounded], turns: &[(f32, f32)]) -> Vec<Bounded> {
    let mut out = y.to_vec();
    for (pair, &(cos, sin)) in turns.iter().enumerate() {
        let (a, b) = (y[2 * pair], y[2 * pair + 1]);
        let (cos, sin) = (f64::from(cos), f64::from(sin));
        let error = a.error + b.error + 2.0 * ULP * (a.value.abs() + b.value.abs());
        out[2 * pair] = Bounded { value: a.value * cos - b.value * sin, error };
        out[2 * pair + 1] = Bounded { value: a.value * sin + b.value * cos, error };
    }
    out
}

/// What the cache stores: the value rounded to f16, which adds half a unit in its last place.
pub fn halves(y: &[Bounded]) -> Vec<Bounded> {
    let round = |y: &Bounded| {
        let unit = (y.value.abs() / 2048.0).max(f64::from(f16::MIN_POSITIVE_SUBNORMAL.to_f32()));
        Bounded { value: y.value, error: y.error + unit }
    };
    y.iter().map(round).collect()
}
