//! Weight formats. One enum arm, one `quant/<format>.rs` and one `shaders/quant/<format>.wgsl` each: nothing outside
//! this folder and the shader of the same name knows how a format lays out its bits.
//!
//! On the GPU a matrix `[rows, cols]` is two planes in one buffer: values, then scales. Both are row-major u32.
//! Elements keep their order along a row; `cols` is padded with zeros to a multiple of [`UNIT`] (or of the block).

/// Elements a shader unpacks at once; every format's values plane is made of whole units.
pub const UNIT: usize = 8;
