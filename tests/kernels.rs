//! Every permutation of every kernel against its CPU twin (`tests/reference`), through the interfaces that the models use.
//!
//! One adapter serves all shapes. A kernel is chosen by the capabilities that a test passes in, so a CPU adapter runs the
//! shapes of GPUs, and a GPU those of CPUs.

mod attention;
pub mod bench;
mod cascade;
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
