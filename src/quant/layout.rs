//! Where the rows of a matrix lie in its planes.
//!
//! Row by row, words beside each other are read by lanes along a row, as on a GPU. Where lanes are rows, as on a CPU,
//! each reads a stream of its own, too short for the processor to fetch ahead. In bands, [`BAND`] rows are interleaved
//! by grains of [`grain`] words, and a workgroup reads a plane in sequence. On Mesa's lavapipe, SmolLM2
//! decoded in four fifths of the processor time so.

/// Rows of a band.
pub const BAND: usize = 16;

/// The order of the rows' words in a plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One row behind the other.
    #[default]
    Rows,
    /// Bands one behind the other, the last padded with zeros. In a band, the first grain of each row, then the second
    /// of each row, and so on.
    Bands,
}

impl Layout {
    /// Rows that the plane of a matrix of `rows` rows has room for.
    pub fn padded(self, rows: usize) -> usize {
        match self {
            Self::Rows => rows,
            Self::Bands => rows.next_multiple_of(BAND),
        }
    }

    /// Writes `words` as row `row` of `plane`, all of whose rows have as many words.
    pub fn put(self, row: usize, words: &[u32], plane: &mut [u32]) {
        match self {
            Self::Rows => plane[row * words.len()..][..words.len()].copy_from_slice(words),
            Self::Bands => {
                let grain = grain(words.len());
                let band = &mut plane[row / BAND * BAND * words.len()..][..BAND * words.len()];
                for (to, from) in band.chunks_exact_mut(BAND * grain).zip(words.chunks_exact(grain)) {
                    to[row % BAND * grain..][..grain].copy_from_slice(from);
                }
            }
        }
    }
}

/// Words of a row that stay neighbours in a band: four, which lanes may load at once, if they divide the row.
pub fn grain(words: usize) -> usize {
    if words.is_multiple_of(4) { 4 } else { 1 }
}
