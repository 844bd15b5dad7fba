//! Uploads a checkpoint to the GPU. Tensors are read a few rows at a time, converted to the order and format that the
//! kernels need, and written, so no tensor has to fit in memory.

use std::ops::Range;

use super::{Config, Role, quantize};
use crate::{
    error::Result,
    gpu::{Buffer, Gpu},
    kernels::{Matrix, Part, plan},
    quant::{BAND, Format, Layout},
    weights::{Checkpoint, TensorInfo},
};

/// Bytes, as f32, of the rows that are repacked at a time: 2 to 16 MiB of the file.
const PIECE: usize = 16 << 20;
/// Bytes handed to the queue between waits.
const FLUSH: u64 = 64 << 20;

/// Rows that a kernel processes together.
pub(crate) const ROW_PAIR: usize = 2;

/// How rows of tensors become rows of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Plain,
    /// Rows of RoPE pairs, which are `rotary / 2` apart, become neighbours.
    PairHalves {
        head_dim: usize,
        rotary: usize,
    },
    /// The rows of two tensors of one format alternate.
    Alternate,
}

impl Order {
    /// The tensor and the row in it that become row `row` of the segment.
    fn source(self, row: usize) -> (usize, usize) {
        match self {
            Order::Plain => (0, row),
            Order::Alternate => (row % 2, row / 2),
            Order::PairHalves { head_dim, rotary } => match row % head_dim {
                dim if dim < rotary => (0, row - dim + dim / 2 + dim % 2 * (rotary / 2)),
                _ => (0, row),
            },
        }
    }
}

/// Tensors that become consecutive rows of one matrix, and their biases.
pub(crate) struct Segment {
    pub(crate) weights: Vec<Role>,
    pub(crate) biases: Vec<Role>,
    pub(crate) order: Order,
}

/// Reads, repacks and writes weights, and reports progress.
pub(crate) struct Uploader<'a> {
    pub(crate) gpu: &'a mut Gpu,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) config: &'a Config,
    /// The format of 16- and 32-bit matrices; `None` keeps theirs.
    pub(crate) quantize: Option<Format>,
    /// Called with the bytes read and the total.
    pub(crate) progress: &'a mut dyn FnMut(u64, u64),
    pub(crate) done: u64,
    pub(crate) total: u64,
}

struct Placed<'a> {
    /// Each with its first needed row.
    tensors: Vec<(&'a TensorInfo, usize)>,
    order: Order,
    format: Format,
    rows: usize,
}

impl Uploader<'_> {
    /// The GPU format of a role's matrix.
    pub(crate) fn format(&self, role: Role) -> Result<Format> {
        let (tensor, _) = self.config.rows(role);
        Ok(quantize::target(role, self.config.tensor(self.checkpoint, tensor)?, self.quantize))
    }

    /// Stacks `segments` into one matrix, whose parts end where `unit` rows do.
    pub(crate) async fn matrix(&mut self, what: &str, segments: &[Segment], unit: usize) -> Result<Matrix> {
        let checkpoint = self.checkpoint;
        let mut placed = Vec::new();
        for segment in segments {
            let (mut tensors, mut rows) = (Vec::new(), 0);
            for role in &segment.weights {
                let (tensor, range) = self.config.rows(*role);
                tensors.push((self.config.tensor(checkpoint, tensor)?, range.start));
                rows += range.len();
            }
            let format = self.format(segment.weights[0])?;
            placed.push(Placed { tensors, order: segment.order, format, rows });
        }
        let cols = placed[0].tensors[0].0.cols();
        let rows = placed.iter().map(|p| p.rows).sum();
        let mut parts = Vec::new();
        let mut first = 0;
        for run in placed.chunk_by(|a, b| a.format == b.format) {
            let format = run[0].format;
            let run_rows: usize = run.iter().map(|p| p.rows).sum();
            let row_bytes = 4 * (format.values_words(cols) + format.scales_words(cols));
            // At least four rows go to a workgroup.
            let caps = self.gpu.caps();
            let fit = (caps.max_binding.min(caps.max_buffer) / row_bytes as u64).min(4 * u64::from(caps.max_groups));
            // A segment or a part begins with a band.
            let are_whole = |unit: usize| run.iter().rev().skip(1).all(|p| p.rows.is_multiple_of(unit));
            let (layout, unit) = match plan::layout(caps, format, cols) {
                Layout::Bands if are_whole(BAND) && BAND.is_multiple_of(unit) => (Layout::Bands, BAND),
                Layout::Bands if are_whole(BAND) && unit.is_multiple_of(BAND) => (Layout::Bands, unit),
                _ => (Layout::Rows, unit),
            };
            let fit = (fit as usize / unit * unit).max(unit);
            for start in (0..run_rows).step_by(fit) {
                let range = start..run_rows.min(start + fit);
                let buffer = self.part(what, run, range.clone(), (format, layout), cols).await?;
                parts.push(Part { buffer, format, layout, first: first + start, rows: range.len() });
            }
            first += run_rows;
        }
        Ok(Matrix { rows, cols, parts })
    }

    /// The gains of a norm, followed by the biases of `segments` in the order of the matrix's rows, as f32.
    pub(crate) async fn consts(&mut self, norm: Option<Role>, segments: &[Segment]) -> Result<Buffer> {
        let mut values = Vec::new();
        if let Some(role) = norm {
            values.extend(self.gains(role).await?);
        }
        for segment in segments.iter().filter(|segment| !segment.biases.is_empty()) {
            let mut biases = Vec::new();
            for role in &segment.biases {
                biases.push(self.vector(*role).await?);
            }
            let rows = biases.iter().map(Vec::len).sum();
            values.extend((0..rows).map(|row| {
                let (tensor, row) = segment.order.source(row);
                biases[tensor][row]
            }));
        }
        self.place(&values).await
    }

    /// The gains of several norms, one after another, each in its order, as f32.
    pub(crate) async fn norms(&mut self, norms: &[(Role, Order)]) -> Result<Buffer> {
        let mut values = Vec::new();
        for &(role, order) in norms {
            let gains = self.gains(role).await?;
            values.extend((0..gains.len()).map(|row| gains[order.source(row).1]));
        }
        self.place(&values).await
    }

    /// The taps of short convolutions, transposed from `[cols, taps]` with the newest token's last to the kernel's
    /// `[taps, cols]` with the newest token's first.
    pub(crate) async fn taps(&mut self, role: Role, taps: usize) -> Result<Buffer> {
        let values = self.vector(role).await?;
        let tap = |tap: usize| values.chunks_exact(taps).map(move |channel| channel[taps - 1 - tap]);
        self.place(&(0..taps).flat_map(tap).collect::<Vec<_>>()).await
    }

    async fn gains(&mut self, role: Role) -> Result<Vec<f32>> {
        let offset = self.config.norm_offset;
        Ok(self.vector(role).await?.into_iter().map(|gain| gain + offset).collect())
    }

    async fn place(&mut self, values: &[f32]) -> Result<Buffer> {
        let buffer = self.gpu.alloc("norms and biases", 4 * values.len() as u64, FIX).await?;
        self.gpu.write(buffer, 0, bytemuck::cast_slice(values));
        Ok(buffer)
    }

    /// A vector as f32.
    pub(crate) async fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        let tensor = self.config.tensor(self.checkpoint, role)?;
        let values = self.checkpoint.read_f32(tensor).await?;
        self.advance(tensor.bytes)?;
        Ok(values)
    }

    /// Rows `range` of consecutive segments, repacked into one buffer.
    async fn part(
        &mut self,
        what: &str,
        run: &[Placed<'_>],
        range: Range<usize>,
        (format, layout): (Format, Layout),
        cols: usize,
    ) -> Result<Buffer> {
        let (value_words, scale_words) = (format.values_words(cols), format.scales_words(cols));
        let plane = |words: usize| 4 * layout.padded(range.len()) as u64 * words as u64;
        let scales_at = plane(value_words);
        let buffer = self.gpu.alloc(what, scales_at + plane(scale_words), FIX).await?;
        let mut skipped = 0;
        for segment in run {
            let here = range.start.max(skipped)..range.end.min(skipped + segment.rows);
            let step = (PIECE / (4 * cols)).max(BAND) / BAND * BAND;
            for start in here.clone().step_by(step) {
                let rows = start - skipped..here.end.min(start + step) - skipped;
                let (values, scales) = self.repack(segment, rows, (format, layout), cols).await?;
                let row = (start - range.start) as u64;
                self.gpu.write(buffer, row * 4 * value_words as u64, &values);
                if scale_words > 0 {
                    self.gpu.write(buffer, scales_at + row * 4 * scale_words as u64, &scales);
                }
            }
            skipped += segment.rows;
        }
        Ok(buffer)
    }

    async fn repack(
        &mut self,
        segment: &Placed<'_>,
        rows: Range<usize>,
        (format, layout): (Format, Layout),
        cols: usize,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let source = |row| {
            let (tensor, row) = segment.order.source(row);
            (tensor, segment.tensors[tensor].1 + row)
        };
        let sources: Vec<(usize, usize)> = rows.clone().map(source).collect();
        let mut raw = Vec::new();
        for (index, (tensor, _)) in segment.tensors.iter().enumerate() {
            let wanted = sources.iter().filter(|(t, _)| *t == index).map(|(_, row)| *row);
            let first = wanted.clone().min().unwrap_or(0);
            let end = wanted.max().map_or(first, |last| last + 1);
            raw.push((first, self.checkpoint.read_rows(tensor, first..end).await?));
        }
        let (value_words, scale_words) = (format.values_words(cols), format.scales_words(cols));
        let padded = layout.padded(rows.len());
        let mut values = vec![0; padded * value_words];
        let mut scales = vec![0; padded * scale_words];
        let raw_row = |(index, row): (usize, usize)| {
            let tensor = segment.tensors[index].0;
            let (first, bytes) = &raw[index];
            (tensor.format, &bytes[(row - first) * tensor.row_bytes()..][..tensor.row_bytes()])
        };
        by_processor(
            [(&mut values, value_words), (&mut scales, scale_words)],
            padded,
            cols,
            |first, values, scales| {
                let mut floats = vec![0.0; cols];
                let (mut value, mut scale) = (vec![0; value_words], vec![0; scale_words]);
                for (i, source) in sources[first..].iter().take(values.len() / value_words).enumerate() {
                    let (own, bytes) = raw_row(*source);
                    if own == format {
                        format.pack_row(bytes, cols, &mut value, &mut scale);
                    } else {
                        own.dequantize(bytes, &mut floats);
                        format.pack_row(&format.quantize(&floats), cols, &mut value, &mut scale);
                    }
                    layout.put(i, &value, values);
                    layout.put(i, &scale, scales);
                }
            },
        );
        let read = sources.iter().map(|&source| raw_row(source).1.len() as u64).sum();
        self.advance(read)?;
        Ok((values, scales))
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        let before = self.done;
        self.done += bytes;
        (self.progress)(self.done.min(self.total), self.total);
        match before / FLUSH == self.done / FLUSH {
            true => Ok(()),
            false => self.gpu.flush(),
        }
    }
}

/// The number of elements from which a thread pays off.
const OF_A_THREAD: usize = 1 << 17;

fn processors() -> usize {
    if cfg!(target_arch = "wasm32") { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Fills the planes of `rows` rows of `cols` elements with `work`; natively, each processor takes some of the rows.
/// `work` gets the index of its first row, which begins a band, and the words of its rows in both planes.
fn by_processor(
    planes: [(&mut [u32], usize); 2],
    rows: usize,
    cols: usize,
    work: impl Fn(usize, &mut [u32], &mut [u32]) + Sync,
) {
    let [(mut values, value_words), (mut scales, scale_words)] = planes;
    let threads = processors().min(rows * cols / OF_A_THREAD);
    if threads <= 1 {
        return work(0, values, scales);
    }
    let run = rows.div_ceil(threads).next_multiple_of(BAND);
    std::thread::scope(|scope| {
        for first in (0..rows).step_by(run) {
            let count = run.min(rows - first);
            let own_values = values.split_off_mut(..count * value_words).expect("the plane has all rows");
            let own_scales = scales.split_off_mut(..count * scale_words).expect("the plane has all rows");
            let work = &work;
            scope.spawn(move || work(first, own_values, own_scales));
        }
    });
}

const FIX: &str = "use a smaller model or --quantize q4_0, or free GPU memory";
