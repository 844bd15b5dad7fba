//! Weight formats. Each has one enum arm, one `quant/<format>.rs` and one `shaders/quant/<format>.wgsl`. Nothing
//! outside this folder and that shader knows a format's bit layout.
//!
//! In a file a row is a run of blocks, little-endian, as ggml and safetensors write them. On the GPU a matrix
//! `[rows, cols]` is two planes in one buffer: values, then scales. Both are u32, in the order of a [`Layout`]. Elements
//! keep their order along a row; `cols` is padded with zeros to a multiple of [`UNIT`] (or of the block).
//!
//! | format     | values: bits of an element in each plane                      | scales plane              |
//! |------------|----------------------------------------------------------------|---------------------------|
//! | f32        | 32                                                             | none                      |
//! | f16, bf16  | 16, two elements a u32, the first in the low half              | none                      |
//! | q8_0       | 8, four signed bytes a u32, the first lowest                   | f16 d, two blocks a u32   |
//! | q4_0       | 4, as `affine` has them                                        | f16 d, two blocks a u32   |
//! | q4_1       | as q4_0                                                        | f16 d low, m high a block |
//! | q5_0       | 4, 1                                                           | as q4_0                   |
//! | q5_1       | 4, 1                                                           | as q4_1                   |
//! | q4_k       | 4                                                              | as `k_scales` has them    |
//! | q5_k       | 4, 1                                                           | as q4_k                   |
//! | q6_k       | 4, 2                                                           | bytes, then f16           |
//! | q3_k       | 2, 1                                                           | as its file says          |
//! | q2_k       | 2                                                              | as its file says          |
//! | iq4_nl     | 4                                                              | as q4_0                   |
//! | iq4_xs     | 4                                                              | as in the file            |
//! | mxfp4      | 4                                                              | bytes, four blocks a u32  |
//!
//! Everything here is linear in the elements and allocates only what it returns. The functions assert the lengths of
//! their arguments: `weights`, which reads files, checks sizes before calling them.

mod affine;
mod bf16;
mod f16;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod layout;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
// A module named `f32` would shadow the type.
#[path = "f32.rs"]
mod single;

pub use layout::{BAND, Layout, grain};

/// Elements that a shader unpacks at once. Every format's values plane consists of whole units.
pub const UNIT: usize = 8;

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper 16 bits of an [`F32`](Format::F32).
    Bf16,
    /// Blocks of 32 signed bytes under an f16 scale: 34 bytes in a file.
    Q8_0,
    /// Blocks of 32 numbers of 4 bits under an f16 scale: 18 bytes in a file.
    Q4_0,
    /// Blocks of 32 numbers of 4 bits under an f16 scale and minimum: 20 bytes in a file.
    Q4_1,
    /// Blocks of 32 numbers of 5 bits under an f16 scale: 22 bytes in a file. Read-only.
    Q5_0,
    /// Blocks of 32 numbers of 5 bits under an f16 scale and minimum: 24 bytes in a file. Read-only.
    Q5_1,
    /// Blocks of 256 numbers of 4 bits, a scale and minimum of 6 bits for each 32: 144 bytes in a file.
    Q4K,
    /// Blocks of 256 numbers of 5 bits, a scale and minimum of 6 bits for each 32: 176 bytes in a file. Read-only.
    Q5K,
    /// Blocks of 256 numbers of 6 bits, a scale of 8 bits for each 16: 210 bytes in a file. Read-only.
    Q6K,
    /// Blocks of 256 numbers of 3 bits, a scale of 6 bits for each 16: 110 bytes in a file. Read-only.
    Q3K,
    /// Blocks of 256 numbers of 2 bits, a scale and minimum of 4 bits for each 16: 84 bytes in a file. Read-only.
    Q2K,
    /// Blocks of 32 4-bit indices of uneven levels, under an f16 scale: 18 bytes in a file. Read-only.
    Iq4Nl,
    /// Blocks of 256 numbers of 4 bits with the same levels, a scale of 6 bits for each 32: 136 bytes in a file. Read-only.
    Iq4Xs,
    /// Blocks of 32 floats of 4 bits under a power of two: 17 bytes in a file. Read-only.
    Mxfp4,
}

/// Appends the blocks of some elements.
type Quantize = fn(&[f32], &mut Vec<u8>);

/// The codec of one format. Slices hold whole blocks (`dequantize`, `QUANTIZE`) or one whole row (`pack`, `unpack`);
/// [`Format`] has checked their lengths.
trait Codec {
    const NAME: &'static str;
    /// The number of the type in a GGUF tensor table (`enum ggml_type`).
    const GGUF: u32;
    /// The `dtype` of a safetensors header, if that container can hold the format.
    const SAFETENSORS: Option<&'static str>;
    const BLOCK: usize;
    const BLOCK_BYTES: usize;
    /// Bits of an element in each plane of its values.
    const PLANES: &'static [usize];
    /// Bytes of the scales plane for each block.
    const SCALE_BYTES: usize;
    /// Elements that share a scale; 32 where there is none.
    const GROUP: usize = 32;
    /// Whether the shader can load what a block's scales share separately from them.
    const HEADED: bool = false;
    /// Rows that a lane takes at most where it loads the values of four units of each at once: with more, a CPU's driver was
    /// slower than unit by unit.
    const WIDE_ROWS: usize;
    /// Quantises f32; `None` for a read-only format.
    const QUANTIZE: Option<Quantize>;

    fn dequantize(raw: &[u8], out: &mut [f32]);
    fn pack(raw: &[u8], values: &mut [u32], scales: &mut [u32]);
    fn unpack(values: &[u32], scales: &[u32], out: &mut [f32]);
}

/// The only dispatch over formats: evaluates `$body` with `$codec` bound to the format's [`Codec`].
macro_rules! with_codec {
    ($format:expr, $codec:ident => $body:expr) => {
        match $format {
            Format::F32 => with_codec!(@ single::F32, $codec, $body),
            Format::F16 => with_codec!(@ f16::F16, $codec, $body),
            Format::Bf16 => with_codec!(@ bf16::Bf16, $codec, $body),
            Format::Q8_0 => with_codec!(@ q8_0::Q8_0, $codec, $body),
            Format::Q4_0 => with_codec!(@ q4_0::Q4_0, $codec, $body),
            Format::Q4_1 => with_codec!(@ q4_1::Q4_1, $codec, $body),
            Format::Q5_0 => with_codec!(@ q5_0::Q5_0, $codec, $body),
            Format::Q5_1 => with_codec!(@ q5_1::Q5_1, $codec, $body),
            Format::Q4K => with_codec!(@ q4_k::Q4K, $codec, $body),
            Format::Q5K => with_codec!(@ q5_k::Q5K, $codec, $body),
            Format::Q6K => with_codec!(@ q6_k::Q6K, $codec, $body),
            Format::Q3K => with_codec!(@ q3_k::Q3K, $codec, $body),
            Format::Q2K => with_codec!(@ q2_k::Q2K, $codec, $body),
            Format::Iq4Nl => with_codec!(@ iq4_nl::Iq4Nl, $codec, $body),
            Format::Iq4Xs => with_codec!(@ iq4_xs::Iq4Xs, $codec, $body),
            Format::Mxfp4 => with_codec!(@ mxfp4::Mxfp4, $codec, $body),
        }
    };
    (@ $type:ty, $codec:ident, $body:expr) => {{
        type $codec = $type;
        $body
    }};
}

impl Format {
    /// All formats that weights can be stored in.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
        Format::Q3K,
        Format::Q2K,
        Format::Iq4Nl,
        Format::Iq4Xs,
        Format::Mxfp4,
    ];

    /// The name people and shaders use: `q4_1`.
    pub fn name(self) -> &'static str {
        with_codec!(self, C => C::NAME)
    }

    /// The format of this [`name`](Format::name), in lower case; `None` for any other.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The interface of a format for readers and kernels.
#[doc(hidden)]
impl Format {
    /// The format with this number in a GGUF tensor table, if it is one of ours.
    pub fn from_gguf(kind: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&format| format.gguf() == kind)
    }

    /// The number of this format in a GGUF tensor table.
    pub fn gguf(self) -> u32 {
        with_codec!(self, C => C::GGUF)
    }

    /// The format with this `dtype` in a safetensors header, if it is one of ours.
    pub fn from_safetensors(dtype: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| with_codec!(format, C => C::SAFETENSORS) == Some(dtype))
    }

    /// Elements in a block: a row must be a multiple of it.
    pub fn block(self) -> usize {
        with_codec!(self, C => C::BLOCK)
    }

    pub(crate) fn block_bytes(self) -> usize {
        with_codec!(self, C => C::BLOCK_BYTES)
    }

    /// Elements that share a scale; 32 where there is none.
    pub(crate) fn group(self) -> usize {
        with_codec!(self, C => C::GROUP)
    }

    /// Whether the shader can load what a block's scales share separately from them.
    pub(crate) fn headed(self) -> bool {
        with_codec!(self, C => C::HEADED)
    }

    /// Rows that a lane takes at most where it loads the values of four units of each at once.
    pub(crate) fn wide_rows(self) -> usize {
        with_codec!(self, C => C::WIDE_ROWS)
    }

    /// Bytes that `elements` (a multiple of [`Format::block`]) take in a file.
    ///
    /// # Panics
    /// When `elements` is not a multiple of the block.
    pub fn file_bytes(self, elements: usize) -> usize {
        self.blocks(elements) * self.block_bytes()
    }

    /// u32 words of the values plane for a row of `cols` elements.
    pub fn values_words(self, cols: usize) -> usize {
        let words = |bits: &usize| (cols.div_ceil(UNIT) * UNIT * bits).div_ceil(32);
        with_codec!(self, C => C::PLANES).iter().map(words).sum()
    }

    /// u32 words of the scales plane for a row of `cols` elements; 0 where the format has no scales.
    pub fn scales_words(self, cols: usize) -> usize {
        (self.blocks(cols) * with_codec!(self, C => C::SCALE_BYTES)).div_ceil(4)
    }

    /// File bytes → f32, exactly what ggml's `dequantize_row_*` gives. `raw`: [`Format::file_bytes`] of `out.len()`.
    ///
    /// # Panics
    /// When the lengths do not match.
    pub fn dequantize(self, raw: &[u8], out: &mut [f32]) {
        assert_eq!(raw.len(), self.file_bytes(out.len()), "{}: bytes for {} elements", self.name(), out.len());
        with_codec!(self, C => C::dequantize(raw, out));
    }

    /// Whether f32 can be quantised to this format; some are read-only.
    pub fn quantizes(self) -> bool {
        with_codec!(self, C => C::QUANTIZE).is_some()
    }

    /// f32 → file bytes, the same as ggml's `quantize_row_*_ref`. Each block is rounded on its own.
    ///
    /// # Panics
    /// When `elements` is not a whole number of blocks, or the format is [only read](Format::quantizes).
    pub fn quantize(self, elements: &[f32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.file_bytes(elements.len()));
        let quantize = with_codec!(self, C => C::QUANTIZE);
        quantize.unwrap_or_else(|| panic!("{} is only read", self.name()))(elements, &mut out);
        out
    }

    /// One row of a file → the row's two planes on the GPU, padding included. `raw`: `file_bytes(cols)` bytes;
    /// `values`: [`Format::values_words`]; `scales`: [`Format::scales_words`].
    ///
    /// # Panics
    /// When the lengths do not fit `cols`.
    pub fn pack_row(self, raw: &[u8], cols: usize, values: &mut [u32], scales: &mut [u32]) {
        assert_eq!(raw.len(), self.file_bytes(cols), "{}: bytes for {cols} elements", self.name());
        self.check_planes(cols, values, scales);
        with_codec!(self, C => C::pack(raw, values, scales));
    }

    /// The CPU twin of the shader's unpack: one row's planes → `cols` elements, bit for bit what
    /// [`Format::dequantize`] gives for the bytes that [`Format::pack_row`] packed.
    ///
    /// # Panics
    /// When the lengths do not fit `cols`.
    pub fn unpack_row(self, values: &[u32], scales: &[u32], cols: usize, out: &mut [f32]) {
        assert_eq!(out.len(), cols, "{}: elements out", self.name());
        self.check_planes(cols, values, scales);
        with_codec!(self, C => C::unpack(values, scales, out));
    }

    fn blocks(self, elements: usize) -> usize {
        assert!(elements.is_multiple_of(self.block()), "{}: {elements} elements are not whole blocks", self.name());
        elements / self.block()
    }

    fn check_planes(self, cols: usize, values: &[u32], scales: &[u32]) {
        assert_eq!(values.len(), self.values_words(cols), "{}: values for {cols} elements", self.name());
        assert_eq!(scales.len(), self.scales_words(cols), "{}: scales for {cols} elements", self.name());
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Layouts that several formats share.
mod shared {
    use half::f16;

    /// The 16-bit number at byte `at`.
    pub(crate) fn u16_at(raw: &[u8], at: usize) -> u16 {
        u16::from_le_bytes([raw[at], raw[at + 1]])
    }

    pub(crate) fn f16_at(raw: &[u8], at: usize) -> f32 {
        f16::from_bits(u16_at(raw, at)).to_f32()
    }

    #[inline]
    pub(crate) fn u32_at(raw: &[u8], at: usize) -> u32 {
        u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
    }

    /// Packs halves in the file's order, the low half first, padded with zeros.
    pub(crate) fn pack_halves(halves: impl Iterator<Item = u16>, words: &mut [u32]) {
        words.fill(0);
        for (i, half) in halves.enumerate() {
            words[i / 2] |= u32::from(half) << (16 * (i % 2));
        }
    }

    /// Half `i` of a plane written by [`pack_halves`].
    pub(crate) fn half_of(words: &[u32], i: usize) -> u16 {
        (words[i / 2] >> (16 * (i % 2))) as u16
    }

    /// Half `i` of a plane as f16.
    pub(crate) fn scale_of(words: &[u32], i: usize) -> f32 {
        f16::from_bits(half_of(words, i)).to_f32()
    }

    /// ggml's 16 bytes of 32 nibbles: element j low, j + 16 high in byte j.
    #[inline]
    pub(crate) fn nibbles(bytes: &[u8], out: &mut [u8]) {
        for (j, byte) in bytes.iter().enumerate() {
            (out[j], out[j + 16]) = (byte & 15, byte >> 4);
        }
    }

    /// ggml's 64 bytes of 256 numbers of 2 bits: in each 32 bytes, bits 2 k and 2 k + 1 of byte i are of element 32 k + i.
    pub(crate) fn two_bits(bytes: &[u8], out: &mut [u8]) {
        for (bytes, out) in bytes.chunks_exact(32).zip(out.chunks_exact_mut(128)) {
            out.iter_mut().enumerate().for_each(|(i, q)| *q = bytes[i % 32] >> (i / 32 * 2) & 3);
        }
    }

    /// ggml's 4 bytes of fifth bits and 16 of 32 nibbles.
    pub(crate) fn five_bits(bytes: &[u8], out: &mut [u8]) {
        nibbles(&bytes[4..], out);
        let high = u32_at(bytes, 0);
        out.iter_mut().enumerate().for_each(|(i, q)| *q |= ((high >> i & 1) as u8) << 4);
    }

    /// Appends 32 nibbles in ggml's order, taking element i from `nibble`.
    pub(crate) fn push_nibbles(out: &mut Vec<u8>, nibble: impl Fn(usize) -> u8) {
        out.extend((0..16).map(|j| nibble(j) | (nibble(j + 16) << 4)));
    }
}
