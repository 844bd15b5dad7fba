//! Naive CPU twins of the kernels, one file each with the shader's name, written from the formulas in f64, one row at a time.
//! Every value comes with a bound on its rounding error, from the sum of its terms' magnitudes.

pub mod attention;
pub mod attention_merge;
pub mod embed;
pub mod head_norm;
pub mod linear;
pub mod moe_combine;
pub mod moe_group;
pub mod moe_route;
pub mod norm;
pub mod post_norm;
pub mod short_conv;
pub mod topk;

/// Half the distance from 1 to the next f32: the largest relative error of one rounding.
pub const ULP: f64 = 1.0 / (1u64 << 24) as f64;

/// A value, and how far rounding may move it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounded {
    pub value: f64,
    pub error: f64,
}
