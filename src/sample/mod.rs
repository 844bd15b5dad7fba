//! How the next token is chosen from logits: the parameters of a request and the seeded reference sampler.
//!
//! It is pure arithmetic without a GPU, a clock or global random state. A draw depends only on the logits, the
//! parameters, the tokens so far and `(seed, step)`, so a request gives the same text whatever runs beside it.

mod overrides;
mod params;
#[doc(hidden)]
mod sampler;

pub use overrides::SamplingOverrides;
pub use params::{GREEDY_BELOW, MAX_GPU_TOP_K, SamplingParams, SamplingPlan};
pub use sampler::{adjust, argmax, draw, sample, top_candidates, uniform};
