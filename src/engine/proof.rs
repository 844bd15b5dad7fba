//! Kernels that a driver may compute wrong prove themselves before they are used: products by subgroups and by matrices of
//! f16, each over a small matrix. What fails is left out, and a note says so.
//!
//! A row must come close to what it is, and be the same bits among many rows and alone: in whichever tile it lies.

use half::f16;

use crate::{
    error::{Error, Result},
    gpu::{AdapterKind, Buffer, Caps, Gpu, Recording, readback::Staging},
    kernels::{
        Class, Matrix, Part, Span,
        linear::{Epilogue, Fusion, Linear},
        plan,
    },
    quant::Format,
};

/// Enough for the largest tiles, and no whole number of steps along them.
const ROWS: usize = 2048;
const COLS: usize = 104;

/// Restricts `gpu` to what it computes right, and says what it does not. An adapter on the CPU is not asked: those are tested.
///
/// # Errors
/// [`Error::Gpu`] where it computes even that wrong which every adapter can do.
pub async fn prove(gpu: &mut Gpu) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if gpu.caps().kind == AdapterKind::Cpu {
        return Ok(notes);
    }
    let whole = gpu.caps().clone();
    if whole.fragments.is_some() && !holds(gpu, Class::Prompt).await? {
        gpu.restrict(Caps { fragments: None, ..whole.clone() });
        notes.push(wrong(gpu, "matrices of f16", "prompts are computed in f32"));
    }
    if whole.subgroup.is_some() && !holds(gpu, Class::Decode).await? {
        gpu.restrict(Caps { subgroup: None, ..gpu.caps().clone() });
        notes.push(wrong(gpu, "subgroups", "answers are computed without them"));
    }
    Ok(notes)
}

fn wrong(gpu: &Gpu, what: &str, instead: &str) -> String {
    let info = gpu.info();
    format!("{} ({}) computes products by {what} wrong, so {instead}", info.name, info.driver)
}

/// Whether rows of `class` come right, by what the plan chooses. A kernel that the driver refuses does not.
async fn holds(gpu: &mut Gpu, class: Class) -> Result<bool> {
    match products(gpu, class).await {
        Err(Error::Shader { .. } | Error::Gpu { .. }) => Ok(false),
        other => other,
    }
}

async fn products(gpu: &mut Gpu, class: Class) -> Result<bool> {
    let batch = if class == Class::Decode { 4 } else { plan::chunk(gpu.caps()) };
    let (weights, x) = (numbers(ROWS * COLS, 1), numbers(batch * COLS, 2));
    let pair = |pair: &[f16]| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16;
    let floats: Vec<u32> = x.iter().map(|x| x.to_f32().to_bits()).collect();
    let matrix = filled(gpu, &weights.chunks_exact(2).map(pair).collect::<Vec<u32>>()).await?;
    let (input, unused) = (filled(gpu, &floats).await?, filled(gpu, &[0]).await?);
    let output = filled(gpu, &vec![0; batch * ROWS]).await?;
    let part = Part { buffer: matrix, format: Format::F16, first: 0, rows: ROWS };
    let matrix = Matrix { rows: ROWS, cols: COLS, parts: vec![part] };
    let (epilogue, consts) = (Epilogue::Store, unused.whole());
    let fusion = Fusion { epilogue, norm: None, bias: false, scale: 1.0, consts };
    let linear = Linear::new(matrix, &fusion, &[class], gpu.caps());
    gpu.compile_all(linear.kernels(), &mut |_, _| {}).await?;
    let staging = Staging::default();
    let (mut right, mut first_row) = (true, Vec::new());
    // Each rung of the ladder, the largest first.
    for rows in [batch, 17, 1].into_iter().filter(|&rows| rows <= batch) {
        let mut step = vec![rows as u32, 2];
        step.extend(0..rows as u32);
        let step = filled(gpu, &step).await?;
        let span = Span { class, step: step.whole(), rows, tiles: 0, runs: 0, context: 0 };
        let mut recording = Recording::new();
        linear.record(&mut recording, &span, input.whole(), output.whole(), None);
        let read = output.slice(0, (rows * ROWS * 4) as u64);
        let words = gpu.submit_and_read(&recording, read, &staging).await?;
        gpu.free(step);
        right &= words.chunks(ROWS).zip(x.chunks(COLS)).all(|(y, x)| close(y, x, &weights));
        let first = words[..ROWS].to_vec();
        right &= first_row.is_empty() || first_row == first;
        first_row = first;
    }
    for buffer in [part.buffer, input, unused, output] {
        gpu.free(buffer);
    }
    Ok(right)
}

/// Some of a row of y, from each tile, against what it is.
fn close(y: &[u32], x: &[f16], weights: &[f16]) -> bool {
    (0..ROWS).step_by(61).all(|row| {
        let terms = weights[row * COLS..(row + 1) * COLS].iter().zip(x).map(|(w, x)| w.to_f64() * x.to_f64());
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
        (f64::from(f32::from_bits(y[row])) - sum).abs() <= 1e-5 * size
    })
}

async fn filled(gpu: &mut Gpu, words: &[u32]) -> Result<Buffer> {
    let buffer = gpu.alloc("proof of kernels", 4 * words.len() as u64, "free GPU memory").await?;
    gpu.write(buffer, 0, words);
    Ok(buffer)
}

/// Between -1 and 1, the same every time.
fn numbers(count: usize, seed: u32) -> Vec<f16> {
    let number = |i: usize| {
        let mixed = (i as u32).wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b));
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d);
        f16::from_f32((mixed >> 8) as f32 / (1u32 << 23) as f32 - 1.0)
    };
    (0..count).map(number).collect()
}
