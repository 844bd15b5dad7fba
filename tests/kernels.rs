//! Every kernel in its permutations against its twin (`tests/reference`), through the faces that the models use.
//!
//! One adapter serves all shapes: a kernel is chosen by the capabilities a test hands to its face, so a CPU adapter runs the
//! shapes of GPUs and a GPU those of CPUs.

mod attention;
pub mod bench;
mod choice;
mod experts;
mod head_norm;
mod linear;
mod norm;
mod post_norm;
mod rows;
mod short_conv;
mod tables;
mod translate;
