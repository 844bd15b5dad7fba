//! Tests kernels that a driver may compute wrong before they are used: products with subgroups, products in 8 bits, and
//! products and attention with f16 matrices, each on a small input. A kernel that fails is disabled, and a note says so.
//!
//! A row must be close to the correct result, and its bits must be the same alone, among others and at any place in a
//! tile.

use std::iter::repeat_n;

use half::f16;

use crate::{
    error::{Error, Result},
    gpu::{AdapterKind, Buffer, Caps, Gpu, Instance, Preset, PromptProducts, Recording, readback::Staging},
    kernels::{
        Class, Heads, KvFormat, Matrix, PAGE, Part, SHADERS, Span,
        attention::{self, Attention, Scores, cascade::Cascade},
        linear::{Epilogue, Fusion, Input, Linear},
        plan,
    },
    quant::{Format, Layout},
};

/// Of the norm before products of decode rows.
const EPSILON: f32 = 1e-5;
/// Tokens of the prompt for attention: more than a tile, and not a whole number of pages.
const TOKENS: usize = 70;

/// Opens a GPU for models with such `heads`, restricted to kernels that it computes correctly, with notes on the
/// others.
///
/// # Errors
/// As [`Gpu::open`]. If the driver fails in a kernel that nobody requested, it is opened again without that.
pub(super) async fn open(instance: &Instance, preset: Preset, heads: Heads) -> Result<(Gpu, Vec<String>)> {
    let refused = match proved(instance, preset, heads).await {
        Err(error) if preset == Preset::Auto => error,
        other => return other,
    };
    let (gpu, mut notes) = proved(instance, Preset::F32, heads).await?;
    notes.push(format!("{} refuses f16 ({refused}), so prompts are computed in f32", gpu.info().name));
    Ok((gpu, notes))
}

async fn proved(instance: &Instance, preset: Preset, heads: Heads) -> Result<(Gpu, Vec<String>)> {
    let mut gpu = Gpu::open_on(instance, SHADERS, preset).await?;
    let notes = prove(&mut gpu, heads).await?;
    Ok((gpu, notes))
}

/// Restricts `gpu` to kernels that it computes correctly for models with such `heads`, and names the others. CPU
/// adapters are not tested here but for 8 bits, which not every browser's compiler knows: the test suite covers them.
///
/// # Errors
/// [`Error::DeviceLost`], and if there is no memory.
pub async fn prove(gpu: &mut Gpu, heads: Heads) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for class in [Class::Prompt, Class::Decode] {
        let whole = gpu.caps().clone();
        let is_gpu = whole.kind == AdapterKind::Gpu;
        let in_f32 = "prompts are computed in f32";
        let (what, instead, without) = match class {
            Class::Prompt if whole.prompts == PromptProducts::Int8 => {
                ("products in 8 bits", in_f32, Caps { prompts: PromptProducts::F32, ..whole })
            }
            Class::Prompt if whole.fragments().is_some_and(|own| is_gpu || own.emulated.is_none()) => {
                let Caps { workgroup_memory, .. } = Caps::webgpu_default(whole.kind);
                ("matrices of f16", in_f32, Caps { prompts: PromptProducts::F32, workgroup_memory, ..whole })
            }
            Class::Decode if whole.cluster_size.is_some() && is_gpu => {
                ("subgroups", "all is computed without them", whole.without_subgroups())
            }
            _ => continue,
        };
        if let Some(fault) = fault(gpu, class, heads).await? {
            gpu.restrict(without);
            notes.push(note(gpu, what, &fault, instead));
        }
    }
    Ok(notes)
}

fn note(gpu: &Gpu, what: &str, fault: &str, instead: &str) -> String {
    let info = gpu.info();
    format!("{} ({}): {what} {fault}, so {instead}", info.name, info.driver)
}

/// What is wrong with rows of `class`, for the kernels that the plan chooses.
async fn fault(gpu: &mut Gpu, class: Class, heads: Heads) -> Result<Option<String>> {
    let mut made = Made { gpu, buffers: Vec::new() };
    let right = all_right(&mut made, class, heads).await;
    made.buffers.into_iter().for_each(|buffer| made.gpu.free(buffer));
    match right {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some("give wrong results".to_owned())),
        Err(error @ (Error::Shader { .. } | Error::Gpu { .. })) => Ok(Some(format!("are refused ({error})"))),
        Err(error) => Err(error),
    }
}

/// Decoding has one kernel that loads four words at a time and one that does not.
async fn all_right(made: &mut Made<'_>, class: Class, heads: Heads) -> Result<bool> {
    let formats = match class {
        Class::Prompt if made.gpu.caps().prompts == PromptProducts::Int8 => &[Format::Q8_0][..],
        Class::Prompt => &[Format::F16],
        Class::Decode => &[Format::F16, Format::Q8_0],
    };
    for &format in formats {
        if !products(made, class, format).await? {
            return Ok(false);
        }
    }
    Ok(class == Class::Decode || attends(made, heads).await?)
}

/// A GPU with test allocations, which are freed in any case.
struct Made<'a> {
    gpu: &'a mut Gpu,
    buffers: Vec<Buffer>,
}

impl Made<'_> {
    async fn filled(&mut self, words: &[u32]) -> Result<Buffer> {
        let buffer = self.gpu.alloc("proof of kernels", 4 * words.len() as u64, "free GPU memory").await?;
        self.buffers.push(buffer);
        self.gpu.write(buffer, 0, words);
        Ok(buffer)
    }

    /// The step buffer of a span of `rows` of the batch, with `tiles` over the pages of `table`.
    async fn span(&mut self, class: Class, rows: &[u32], tiles: &[[u32; 4]], table: &[u32]) -> Result<Span> {
        let mut words = vec![0; 11];
        (words[0], words[1]) = (rows.len() as u32, 11);
        words.extend(rows);
        words[5] = words.len() as u32;
        words.extend(tiles.iter().flatten());
        words[6] = words.len() as u32;
        words.extend(table);
        let step = self.filled(&words).await?.whole();
        let (rows, tiles, cascade) = (rows.len(), tiles.len(), Cascade::default());
        Ok(Span { class, step, rows, tiles, cascade, runs: 0, context: TOKENS })
    }

    async fn run(&mut self, recording: &Recording, output: Buffer, floats: usize) -> Result<Vec<u32>> {
        self.gpu.submit_and_read(recording, output.slice(0, 4 * floats as u64), &Staging::default()).await
    }
}

/// Whether products with a matrix of `format` are correct, for decode rows after a norm.
async fn products(made: &mut Made<'_>, class: Class, format: Format) -> Result<bool> {
    let caps = made.gpu.caps().clone();
    // The columns are not a whole number of steps. Prompts have rows enough for the largest tiles. Decode rows have
    // columns enough for a sum in every lane, so that a lane in another subgroup than supposed is noticed.
    let (batch, rows, cols) = match (class, format.block()) {
        (Class::Prompt, 1) => (plan::chunk(&caps), 2048, 104),
        (Class::Prompt, _) => (plan::chunk(&caps), 2048, 160),
        (Class::Decode, 1) => (4, 540, 1000),
        (Class::Decode, _) => (4, 540, 1056),
    };
    let norm = (class == Class::Decode).then_some(EPSILON);
    let (weights, words) = matrix(format, rows, cols);
    let x = inputs(batch * cols);
    let buffer = made.filled(&words).await?;
    let input = made.filled(&x.iter().map(|x| x.to_f32().to_bits()).collect::<Vec<u32>>()).await?;
    let rounded = made.filled(&vec![0; batch * cols / 2]).await?;
    let (gains, output) = (made.filled(&vec![1f32.to_bits(); cols]).await?, made.filled(&vec![0; batch * rows]).await?);
    let matrix = Matrix { rows, cols, parts: vec![Part { buffer, format, layout: Layout::Rows, first: 0, rows }] };
    let (epilogue, consts) = (Epilogue::Store, gains.whole());
    let fusion = Fusion { epilogue, norm, bias: false, scale: 1.0, consts };
    let linear = Linear::new(matrix, &fusion, &[class], &caps);
    made.gpu.compile_all(linear.kernels()).await?;
    let of = async |made: &mut Made<'_>, list: &[u32]| {
        let span = made.span(class, list, &[], &[]).await?;
        let mut recording = Recording::new();
        let read = Input { x: input.whole(), rounded: rounded.whole() };
        linear.record(&mut recording, &span, read, output.whole(), None);
        made.run(&recording, output, list.len() * rows).await
    };
    let all: Vec<u32> = (0..batch as u32).collect();
    let whole = of(made, &all).await?;
    let mut right = whole.chunks(rows).zip(x.chunks(cols)).all(|(y, x)| close(y, x, &weights, norm));
    // Every rung of the ladder.
    for few in [17, 1].into_iter().filter(|&few| few < batch) {
        right &= of(made, &all[..few]).await? == whole[..few * rows];
    }
    // The same row at every place of a tile.
    let same = of(made, &vec![0; batch]).await?;
    Ok(right && same.chunks(rows).all(|row| row == &whole[..rows]))
}

/// Values that 8 bits hold exactly, as f16 does: multiples of 1/128, of which every 32 have one of the magnitude 127.
fn inputs(count: usize) -> Vec<f16> {
    let whole = |(i, x): (usize, &f16)| if i.is_multiple_of(32) { 127.0 } else { (x.to_f32() * 127.0).round() };
    numbers(count, 2).iter().enumerate().map(|of| f16::from_f32(whole(of) / 128.0)).collect()
}

/// A matrix of `format`: its weights `[rows, cols]`, and its copy on the GPU.
fn matrix(format: Format, rows: usize, cols: usize) -> (Vec<f32>, Vec<u32>) {
    let (value_words, scale_words) = (format.values_words(cols), format.scales_words(cols));
    let mut weights: Vec<f32> = numbers(rows * cols, 1).into_iter().map(f32::from).collect();
    let mut words = vec![0; rows * (value_words + scale_words)];
    let (values, scales) = words.split_at_mut(rows * value_words);
    for (row, weights) in weights.chunks_exact_mut(cols).enumerate() {
        let raw = format.quantize(weights);
        let own = &mut scales[row * scale_words..(row + 1) * scale_words];
        format.pack_row(&raw, cols, &mut values[row * value_words..(row + 1) * value_words], own);
        format.dequantize(&raw, weights);
    }
    (weights, words)
}

/// Compares some elements of a row of y, from each tile, with the correct values.
fn close(y: &[u32], x: &[f16], weights: &[f32], norm: Option<f32>) -> bool {
    let squares = x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>() / x.len() as f64;
    let factor = norm.map_or(1.0, |epsilon| (squares + f64::from(epsilon)).sqrt().recip());
    (0..y.len()).step_by(61).all(|row| {
        let own = &weights[row * x.len()..(row + 1) * x.len()];
        let terms = own.iter().zip(x).map(|(w, x)| f64::from(*w) * x.to_f64() * factor);
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
        (f64::from(f32::from_bits(y[row])) - sum).abs() <= 1e-5 * size
    })
}

/// Whether attention of a prompt is correct, with one KV head of such `heads` and its queries.
async fn attends(made: &mut Made<'_>, heads: Heads) -> Result<bool> {
    let caps = made.gpu.caps().clone();
    let heads = Heads { heads: heads.group(), kv_heads: 1, ..heads };
    if attention::choose(&heads, &caps, Class::Prompt, TOKENS, TOKENS).shape != attention::Shape::Fragments {
        return Ok(true);
    }
    let (dim, width) = (heads.head_dim, heads.heads * heads.head_dim);
    // The scores are large enough that tokens have different weights.
    let q: Vec<f32> = numbers(TOKENS * width, 3).iter().map(|q| 8.0 * q.to_f32()).collect();
    let (k, v) = (numbers(TOKENS * dim, 4), numbers(TOKENS * dim, 5));
    // The pages are in another order than the tokens.
    let table: Vec<u32> = (0..TOKENS.div_ceil(PAGE) as u32).rev().collect();
    let (k, v) = (stored(heads.kv, dim, &k), stored(heads.kv, dim, &v));
    let row = heads.row_words();
    let mut pages = vec![0u32; table.len() * 2 * row * PAGE];
    for (token, (k, v)) in k.chunks_exact(row).zip(v.chunks_exact(row)).enumerate() {
        let page = table[token / PAGE] as usize * 2 * row * PAGE;
        for word in 0..row {
            pages[page + word * PAGE + token % PAGE] = k[word];
            pages[page + (PAGE + token % PAGE) * row + word] = v[word];
        }
    }
    let queries = made.filled(&q.iter().map(|q| q.to_bits()).collect::<Vec<u32>>()).await?;
    let (kv, output) = (made.filled(&pages).await?, made.filled(&vec![0; TOKENS * width]).await?);
    let scores = Scores::of(dim);
    let attention = Attention::new(heads, scores, TOKENS, &caps);
    let of = async |made: &mut Made<'_>, size: usize| {
        let tile = |first: usize| [first, size.min(TOKENS - first), 0, first].map(|word| word as u32);
        let tiles: Vec<[u32; 4]> = (0..TOKENS).step_by(size).map(tile).collect();
        let rows: Vec<u32> = (0..TOKENS as u32).collect();
        let span = made.span(Class::Prompt, &rows, &tiles, &table).await?;
        let mut recording = Recording::new();
        attention.record(&mut recording, &span, queries.whole(), kv.whole(), output.whole());
        made.gpu.compile_all(recording.dispatches().map(|dispatch| &dispatch.kernel)).await?;
        made.run(&recording, output, TOKENS * width).await
    };
    let whole = of(made, attention::tile_rows(&caps, &heads, Class::Prompt)).await?;
    let [k, v] = [k, v].map(|words| heads.kv.floats(dim, bytemuck::cast_slice(&words)));
    let right = (0..TOKENS).all(|row| {
        let (q, found) = (&q[row * width..][..dim], &whole[row * width..][..dim]);
        let seen = 0..row + 1;
        let score = |token: usize| -> f32 { q.iter().zip(&k[token * dim..]).map(|(q, k)| q * k * scores.scale).sum() };
        let all: Vec<f32> = seen.clone().map(score).collect();
        let top = all.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f32> = all.iter().map(|score| (score - top).exp()).collect();
        let total: f32 = weights.iter().sum();
        (0..dim).all(|d| {
            let sum: f32 = seen.clone().map(|token| weights[token] / total * v[token * dim + d]).sum();
            (f32::from_bits(found[d]) - sum).abs() <= 0.02
        })
    });
    Ok(right && of(made, 1).await? == whole)
}

/// Rows of `head_dim` numbers between -1 and 1 in words, near enough.
fn stored(format: KvFormat, head_dim: usize, x: &[f16]) -> Vec<u32> {
    let halves = |two: &[f16]| u32::from(two[0].to_bits()) | u32::from(two[1].to_bits()) << 16;
    let bytes = |four: &[f16]| u32::from_le_bytes([0, 1, 2, 3].map(|i| (four[i].to_f32() * 127.0) as i8 as u8));
    // The factor 1 / 128, twice in a word.
    let factors = format.words(head_dim) - head_dim / format.width();
    let row = |row: &[f16]| -> Vec<u32> {
        match format {
            KvFormat::F16 => row.chunks_exact(2).map(halves).collect(),
            KvFormat::Q8 => row.chunks_exact(4).map(bytes).chain(repeat_n(0x3c00_3c00, factors)).collect(),
        }
    };
    x.chunks_exact(head_dim).flat_map(row).collect()
}

/// Pseudo-random values between -1 and 1, the same every time.
fn numbers(count: usize, seed: u32) -> Vec<f16> {
    let number = |i: usize| {
        let mixed = (i as u32).wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b));
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d);
        f16::from_f32((mixed >> 8) as f32 / (1u32 << 23) as f32 - 1.0)
    };
    (0..count).map(number).collect()
}
