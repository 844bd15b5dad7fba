//! A device to run kernels on, the step buffer that they read, and the comparison of a result with its twin.

use std::cell::Cell;

use headstart::{
    gpu::{AdapterKind, Buffer, Caps, Fragments, Gpu, Preset, PromptProducts, Recording, Slice, readback::Staging},
    kernels::{Class, Heads, KvFormat, Matrix, Part, SHADERS, Span, attention::cascade::Plan, plan},
    quant::{Format, UNIT},
};

use crate::reference::{Bounded, linear::Operands};
use crate::support::blocks;

/// The adapters that kernels are chosen for: each kind, with the subgroups of the adapter at hand and without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Cpu,
    CpuPlain,
    Gpu,
    GpuPlain,
    /// A GPU whose clusters have this many lanes, fewer than subgroups have or as many.
    Clusters(u32),
    /// Prompts in f16 with matrices of this side, emulated with subgroups of this many lanes if the adapter at hand has none.
    Halves(u32, u32),
    /// Prompts in 8 bits.
    Bytes,
}

impl Face {
    pub const ALL: [Face; 4] = [Face::Cpu, Face::CpuPlain, Face::Gpu, Face::GpuPlain];

    pub fn caps(self, own: &Caps) -> Caps {
        let kind = match self {
            Face::Cpu | Face::CpuPlain => AdapterKind::Cpu,
            Face::Gpu | Face::GpuPlain | Face::Clusters(_) | Face::Halves(..) | Face::Bytes => AdapterKind::Gpu,
        };
        let (subgroup_size, cluster_size) = match self {
            Face::Cpu | Face::Gpu => (own.subgroup_size, own.cluster_size),
            Face::Clusters(size) => (None, Some(size)),
            Face::CpuPlain | Face::GpuPlain | Face::Halves(..) | Face::Bytes => (None, None),
        };
        let prompts = match self {
            Face::Halves(side, lanes) => {
                let native = own.fragments().filter(|own| own.side == side && own.emulated.is_none());
                PromptProducts::F16(native.unwrap_or(Fragments { side, emulated: Some(lanes) }))
            }
            Face::Bytes => PromptProducts::Int8,
            _ => PromptProducts::F32,
        };
        Caps { kind, subgroup_size, cluster_size, prompts, ..own.clone() }
    }

    /// The operands of a prompt's products with weights of `format`, which may be those of `routed` rows.
    pub fn operands(self, format: Format, routed: bool) -> Operands {
        match self {
            Face::Halves(..) if routed || format != Format::F32 => Operands::Halves,
            Face::Bytes if format.block() > 1 => Operands::Bytes,
            _ => Operands::Exact,
        }
    }
}

pub struct Bench {
    pub gpu: Gpu,
    staging: Staging,
}

impl Bench {
    pub fn open() -> Self {
        Self::with(Preset::Auto)
    }

    pub fn with(preset: Preset) -> Self {
        let gpu = pollster::block_on(Gpu::open(SHADERS, preset)).expect("the kernels' tests need an adapter");
        Self { gpu, staging: Staging::default() }
    }

    pub fn buffer(&mut self, words: &[u32]) -> Buffer {
        let buffer = pollster::block_on(self.gpu.alloc("a test", 4 * words.len() as u64, "")).unwrap();
        self.gpu.write(buffer, 0, words);
        buffer
    }

    pub fn floats(&mut self, values: &[f32]) -> Buffer {
        self.buffer(bytemuck::cast_slice(values))
    }

    /// Compiles the kernels of `recording`, runs it, and reads `sources` back.
    pub fn run<const N: usize>(&mut self, recording: &Recording, sources: [Buffer; N]) -> [Vec<u32>; N] {
        for dispatch in recording.dispatches() {
            pollster::block_on(self.gpu.compile(&dispatch.kernel)).unwrap();
        }
        self.gpu.submit(recording).unwrap();
        sources.map(|source| self.read(source.whole()))
    }

    fn read(&mut self, source: Slice) -> Vec<u32> {
        pollster::block_on(self.gpu.submit_and_read(&Recording::new(), source, &self.staging)).unwrap()
    }

    pub fn free(&mut self, buffers: impl IntoIterator<Item = Buffer>) {
        buffers.into_iter().for_each(|buffer| self.gpu.free(buffer));
    }

    /// The step buffer of one span, and the span itself. The header is not at the start of the buffer.
    pub fn span(&mut self, class: Class, step: &Step) -> (Buffer, Span) {
        let offset = self.gpu.caps().binding_alignment.max(256);
        let mut words = vec![u32::MAX; offset as usize / 4];
        words.extend(step.words());
        let buffer = self.buffer(&words);
        let slice = buffer.slice(offset, buffer.size - offset);
        let (rows, tiles, runs, context) = (step.rows.len(), step.tiles.len(), step.runs.len(), step.context);
        (buffer, Span { class, step: slice, rows, tiles, cascade: step.plan.cascade, runs, context })
    }

    /// A matrix of random rows in the given formats, one part each, laid out for `caps`, and its values.
    pub fn matrix(&mut self, cols: usize, parts: &[(Format, Vec<f32>)], caps: &Caps) -> (Matrix, Vec<f32>) {
        let (mut placed, mut weights, mut first) = (Vec::new(), Vec::new(), 0);
        for (format, values) in parts {
            let rows = values.len() / cols;
            let layout = plan::layout(caps, *format, cols);
            let (mut row_values, mut row_scales) =
                (vec![0; format.values_words(cols)], vec![0; format.scales_words(cols)]);
            let padded = layout.padded(rows);
            let mut words = vec![0; padded * (row_values.len() + row_scales.len())];
            let (value_plane, scale_plane) = words.split_at_mut(padded * row_values.len());
            for (row, values) in values.chunks(cols).enumerate() {
                let raw = blocks::of(*format, values, 1.0);
                format.pack_row(&raw, cols, &mut row_values, &mut row_scales);
                layout.put(row, &row_values, value_plane);
                layout.put(row, &row_scales, scale_plane);
                let mut exact = vec![0.0; cols];
                format.dequantize(&raw, &mut exact);
                weights.extend(exact);
            }
            placed.push(Part { buffer: self.buffer(&words), format: *format, layout, first, rows });
            first += rows;
        }
        assert!(cols.is_multiple_of(UNIT));
        (Matrix { rows: first, cols, parts: placed }, weights)
    }
}

/// The data that change from step to step, as `shaders/shared/step.wgsl` reads them.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The batch rows of the span.
    pub rows: Vec<u32>,
    /// This and the following fields are indexed by batch row.
    pub tokens: Vec<u32>,
    pub slots: Vec<u32>,
    /// cos and sin of every rotary pair.
    pub turns: Vec<(f32, f32)>,
    /// First row, count, offset of the block table, position.
    pub tiles: Vec<[u32; 4]>,
    pub tables: Vec<u32>,
    /// For each row of the span: k, temperature, top-p, min-p, u.
    pub sampling: Vec<[u32; 5]>,
    /// First row of the span, count, position, number of rows of the sequence before it, page before those.
    pub runs: Vec<[u32; 5]>,
    /// What the rows of the tiles share; by default nothing.
    pub plan: Plan,
    pub context: usize,
}

impl Step {
    fn words(&self) -> Vec<u32> {
        let mut words = vec![0; 11];
        words[0] = self.rows.len() as u32;
        let turns: Vec<u32> = self.turns.iter().flat_map(|(cos, sin)| [cos.to_bits(), sin.to_bits()]).collect();
        let (tiles, sampling, runs) = (self.tiles.concat(), self.sampling.concat(), self.runs.concat());
        let mut shared = self.plan.shared.clone();
        shared.resize(self.tiles.len(), 0);
        let tables = [&self.tables, &sampling, &runs, &shared, &self.plan.tiles];
        let lists = [&self.rows, &self.tokens, &self.slots, &turns, &tiles].into_iter().chain(tables);
        for (list, at) in lists.zip(1..) {
            words[at] = words.len() as u32;
            words.extend(list);
        }
        words
    }
}

/// Random numbers, the same on every run (SplitMix64).
pub struct Numbers(Cell<u64>);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let z = self.0.get();
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number in -1..1.
    pub fn float(&self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn floats(&self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// 0..count in random order.
    pub fn shuffled(&self, count: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count as u32).collect();
        for i in (1..count).rev() {
            all.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        all
    }
}

pub fn heads(heads: usize, kv_heads: usize, head_dim: usize) -> Heads {
    Heads { heads, kv_heads, head_dim, kv: KvFormat::F16 }
}

pub fn floats(words: &[u32]) -> &[f32] {
    bytemuck::cast_slice(words)
}

/// Checks that every value is within its error bound. Returns the largest fraction of a bound that was used.
#[track_caller]
pub fn close(found: &[f32], wanted: &[Bounded], what: &str) -> f64 {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let mut worst: f64 = 0.0;
    for (i, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
        let off = (f64::from(found) - wanted.value).abs();
        assert!(off <= wanted.error, "{what}: value {i} is {found}, not {} ± {:e}", wanted.value, wanted.error);
        worst = worst.max(off / wanted.error.max(f64::MIN_POSITIVE));
    }
    worst
}
