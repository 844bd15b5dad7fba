//! Uploads a checkpoint to the GPU, in two steps. The first allocates every buffer, so that a model that does not fit is
//! refused, and all kernels are known, before weights are read. The second fills the buffers: tensors are read a few rows
//! at a time, converted to the order and format that the kernels need, and written, so no tensor has to fit in memory.

use std::{mem, ops::Range, rc::Rc};

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
    /// A vector `[cols, taps]` becomes `[taps, cols]`, and its taps are reversed.
    Taps {
        taps: usize,
        cols: usize,
    },
}

impl Order {
    /// The tensor and the row in it that become row `row` of the segment.
    fn source(self, row: usize) -> (usize, usize) {
        match self {
            Order::Plain => (0, row),
            Order::Alternate => (row % 2, row / 2),
            Order::Taps { taps, cols } => (0, row % cols * taps + (taps - 1 - row / cols)),
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

/// Places, reads, repacks and writes weights, and reports progress.
pub(crate) struct Uploader<'a> {
    pub(crate) gpu: &'a mut Gpu,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) config: &'a Config,
    quantize: Option<Format>,
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
    /// What is placed and not filled yet.
    fills: Vec<(Buffer, Fill<'a>)>,
}

/// What goes into a buffer.
enum Fill<'a> {
    /// Rows `range` of consecutive segments, `[rows, cols]`, repacked.
    Rows { run: Rc<[Placed<'a>]>, range: Range<usize>, packing: (Format, Layout), cols: usize },
    /// Vectors as f32, one after another.
    Vectors(Vec<Vector<'a>>),
}

#[derive(Clone)]
struct Placed<'a> {
    /// Each with its first needed row.
    tensors: Vec<(&'a TensorInfo, usize)>,
    order: Order,
    format: Format,
    rows: usize,
}

/// Tensors that become one vector.
struct Vector<'a> {
    tensors: Vec<&'a TensorInfo>,
    order: Order,
    /// Added to every element.
    offset: f32,
}

impl<'a> Uploader<'a> {
    /// `quantize`: the format of 16- and 32-bit matrices; `None` keeps theirs. `progress` is called with the bytes read
    /// and the total.
    pub(crate) fn new(
        gpu: &'a mut Gpu,
        checkpoint: &'a Checkpoint,
        config: &'a Config,
        quantize: Option<Format>,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let total = checkpoint.tensors.values().map(|tensor| tensor.bytes).sum();
        Self { gpu, checkpoint, config, quantize, progress, done: 0, total, fills: Vec::new() }
    }

    /// The GPU format of a role's matrix.
    pub(crate) fn format(&self, role: Role) -> Result<Format> {
        let (tensor, _) = self.config.rows(role);
        Ok(quantize::target(role, self.config.tensor(self.checkpoint, tensor)?, self.quantize))
    }

    /// Places a matrix, the stacked `segments`, whose parts end where `unit` rows do.
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
            let are_whole = run[..run.len() - 1].iter().all(|p| p.rows.is_multiple_of(BAND));
            let (layout, unit) = match plan::layout(caps, format, cols) {
                Layout::Bands if are_whole && BAND.is_multiple_of(unit) => (Layout::Bands, BAND),
                Layout::Bands if are_whole && unit.is_multiple_of(BAND) => (Layout::Bands, unit),
                _ => (Layout::Rows, unit),
            };
            let fit = (fit as usize / unit * unit).max(unit);
            let run: Rc<[Placed]> = run.into();
            for start in (0..run_rows).step_by(fit) {
                let range = start..run_rows.min(start + fit);
                let padded = layout.padded(range.len());
                let buffer = self.gpu.alloc(what, padded as u64 * row_bytes as u64, FIX).await?;
                parts.push(Part { buffer, format, layout, first: first + start, rows: range.len() });
                self.fills.push((buffer, Fill::Rows { run: Rc::clone(&run), range, packing: (format, layout), cols }));
            }
            first += run_rows;
        }
        Ok(Matrix { rows, cols, parts })
    }

    /// Places the gains of a norm, followed by the biases of `segments` in the order of the matrix's rows, as f32.
    pub(crate) async fn consts(&mut self, norm: Option<Role>, segments: &[Segment]) -> Result<Buffer> {
        let mut vectors = Vec::new();
        if let Some(role) = norm {
            vectors.push(self.gains(role, Order::Plain)?);
        }
        for Segment { biases, order, .. } in segments.iter().filter(|segment| !segment.biases.is_empty()) {
            vectors.push(self.vector(biases, *order)?);
        }
        self.vectors(vectors).await
    }

    /// Places the gains of several norms, one after another, each in its order, as f32.
    pub(crate) async fn norms(&mut self, norms: &[(Role, Order)]) -> Result<Buffer> {
        let vectors = norms.iter().map(|&(role, order)| self.gains(role, order)).collect::<Result<_>>()?;
        self.vectors(vectors).await
    }

    /// Places the taps of short convolutions, transposed from `[cols, taps]` with the newest token's last to the kernel's
    /// `[taps, cols]` with the newest token's first.
    pub(crate) async fn taps(&mut self, role: Role, taps: usize) -> Result<Buffer> {
        let plain = self.vector(&[role], Order::Plain)?;
        let order = Order::Taps { taps, cols: plain.len() / taps };
        self.vectors(vec![Vector { order, ..plain }]).await
    }

    fn gains(&self, role: Role, order: Order) -> Result<Vector<'a>> {
        Ok(Vector { offset: self.config.norm_offset, ..self.vector(&[role], order)? })
    }

    fn vector(&self, roles: &[Role], order: Order) -> Result<Vector<'a>> {
        let tensors = roles.iter().map(|&role| self.config.tensor(self.checkpoint, role)).collect::<Result<_>>()?;
        Ok(Vector { tensors, order, offset: 0.0 })
    }

    async fn vectors(&mut self, vectors: Vec<Vector<'a>>) -> Result<Buffer> {
        let elements: usize = vectors.iter().map(Vector::len).sum();
        let buffer = self.gpu.alloc("norms and biases", 4 * elements as u64, FIX).await?;
        self.fills.push((buffer, Fill::Vectors(vectors)));
        Ok(buffer)
    }

    /// Fills all that was placed, in the order in which it was, and waits for the GPU.
    pub(crate) async fn fill(mut self) -> Result<()> {
        for (buffer, fill) in mem::take(&mut self.fills) {
            match fill {
                Fill::Rows { run, range, packing, cols } => self.fill_rows(buffer, &run, range, packing, cols).await?,
                Fill::Vectors(vectors) => self.fill_vectors(buffer, &vectors).await?,
            }
        }
        (self.progress)(self.total, self.total);
        self.gpu.flush()
    }

    async fn fill_vectors(&mut self, buffer: Buffer, vectors: &[Vector<'_>]) -> Result<()> {
        let mut values: Vec<f32> = Vec::new();
        for vector in vectors {
            let mut read = Vec::new();
            for tensor in &vector.tensors {
                read.push(self.checkpoint.read_f32(tensor).await?);
                self.advance(tensor.bytes)?;
            }
            values.extend((0..vector.len()).map(|row| {
                let (tensor, row) = vector.order.source(row);
                read[tensor][row] + vector.offset
            }));
        }
        self.gpu.write(buffer, 0, bytemuck::cast_slice(&values));
        Ok(())
    }

    async fn fill_rows(
        &mut self,
        buffer: Buffer,
        run: &[Placed<'_>],
        range: Range<usize>,
        (format, layout): (Format, Layout),
        cols: usize,
    ) -> Result<()> {
        let (value_words, scale_words) = (format.values_words(cols), format.scales_words(cols));
        let scales_at = 4 * layout.padded(range.len()) as u64 * value_words as u64;
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
        Ok(())
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

impl Vector<'_> {
    fn len(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.elements() as usize).sum()
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
