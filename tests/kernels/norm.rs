//! The norm before products in f16 and in 8 bits.

use half::f16;

use headstart::{
    gpu::{Preset, Recording},
    kernels::{
        Class,
        norm::{Norm, Rounding},
    },
};

use super::bench::{Bench, Face, Numbers, Step, close};
use crate::reference::{Bounded, head_norm, norm as twin};

const EPSILON: f32 = 1e-2;

/// Elements are multiples of a 127th of the largest of their 32, the nearest ones, with their sums; rows are those of the span, or
/// its choices.
#[test]
fn rows_become_bytes_with_the_sums_of_each_block() {
    let mut bench = Bench::open();
    let cases = [(32, None, None), (288, Some(EPSILON), None), (576, None, Some(3))];
    for (seed, (cols, epsilon, used)) in cases.into_iter().enumerate() {
        let (batch, span) = (9, 3);
        let numbers = Numbers::new(seed as u64);
        let rows = numbers.shuffled(batch)[..span].to_vec();
        let mut x = numbers.floats(batch * cols);
        // A block of zeros, in a row that is written.
        let zeros = if used.is_some() { 0 } else { rows[0] as usize * cols };
        x[zeros..zeros + 32].fill(0.0);
        let gains: Vec<f32> = numbers.floats(cols).iter().map(|gain| gain + 1.5).collect();
        let (step, run) = bench.span(Class::Prompt, &Step { rows: rows.clone(), ..Step::default() });
        let (x_buffer, gains_buffer) = (bench.floats(&x), bench.floats(&gains));
        let rounded = bench.buffer(&vec![7; batch * cols / 32 * 12]);
        let caps = Face::Bytes.caps(bench.gpu.caps());
        let kernel = Norm::new(cols, gains_buffer.whole(), epsilon, Rounding::Bytes, &caps);
        let kernel = if let Some(used) = used { kernel.of_choices(used) } else { kernel };
        let mut recording = Recording::new();
        kernel.record(&mut recording, &run, x_buffer.whole(), rounded.whole());
        let [words] = bench.run(&recording, [rounded]);
        bench.free([step, x_buffer, gains_buffer, rounded]);
        for row in 0..batch {
            let own = &words[row * cols / 32 * 12..(row + 1) * cols / 32 * 12];
            let written = used.map_or(rows.contains(&(row as u32)), |used| row < span * used);
            if !written {
                assert!(own.iter().all(|word| *word == 7), "{cols}: row {row} is of no span");
                continue;
            }
            let x = &x[row * cols..(row + 1) * cols];
            let exact: Vec<f64> = match epsilon {
                Some(epsilon) => head_norm::norm(x, &gains, epsilon).iter().map(|y| y.value).collect(),
                None => x.iter().map(|x| f64::from(*x)).collect(),
            };
            for (block, exact) in own.chunks(12).zip(exact.chunks(32)) {
                let q: Vec<i32> =
                    block[..8].iter().flat_map(|word| word.to_le_bytes()).map(|byte| i32::from(byte as i8)).collect();
                let factors = [8, 9, 10, 11].map(|i| f64::from(f32::from_bits(block[i])));
                let step = exact.iter().fold(0.0, |most: f64, x| most.max(x.abs())) / 127.0;
                let [low, high] = [&q[..16], &q[16..]].map(|half| f64::from(half.iter().sum::<i32>()));
                for (found, wanted) in factors.into_iter().zip([1.0, low, high, low + high]) {
                    assert!(
                        (found - step * wanted).abs() <= 1e-5 * step * wanted.abs(),
                        "{cols} row {row}: {factors:?}"
                    );
                }
                // Half a step, and the rounding errors of 127 steps.
                let near = |(q, exact): (&i32, &f64)| (f64::from(*q) * step - exact).abs() <= step * 0.501;
                assert!(q.iter().zip(exact).all(near), "{cols} row {row}: {q:?} for {exact:?}");
            }
        }
    }
}

#[test]
fn rows_of_the_span_become_f16_with_or_without_a_norm() {
    let mut bench = Bench::with(Preset::F16);
    let faces = [8, 248, 640, 1000].into_iter().zip([Face::Cpu, Face::Gpu].repeat(2));
    let cases = faces.flat_map(|(cols, face)| [(cols, face, Some(EPSILON)), (cols, face, None)]);
    for (seed, (cols, face, epsilon)) in cases.enumerate() {
        let (batch, span) = (9, 5);
        let numbers = Numbers::new(seed as u64);
        let rows = numbers.shuffled(batch)[..span].to_vec();
        // One row with large values, and one with a single nonzero value.
        let mut x = numbers.floats(batch * cols);
        let (large, single) = (rows[0] as usize * cols, rows[1] as usize * cols);
        x[large..large + cols].iter_mut().for_each(|x| *x *= 3e7);
        x[single..single + cols].fill(0.0);
        x[single] = 5.0;
        let gains: Vec<f32> = numbers.floats(cols).iter().map(|gain| gain + 1.5).collect();
        let (step, run) = bench.span(Class::Prompt, &Step { rows: rows.clone(), ..Step::default() });
        let (x_buffer, gains_buffer) = (bench.floats(&x), bench.floats(&gains));
        let normed = bench.buffer(&vec![0x7e00_7e00; batch * cols / 2]);
        let kernel = Norm::new(cols, gains_buffer.whole(), epsilon, Rounding::Halves, &face.caps(bench.gpu.caps()));
        let mut recording = Recording::new();
        kernel.record(&mut recording, &run, x_buffer.whole(), normed.whole());
        let [words] = bench.run(&recording, [normed]);
        bench.free([step, x_buffer, gains_buffer, normed]);
        let found: Vec<f32> = words
            .iter()
            .flat_map(|&word| [word as u16, (word >> 16) as u16])
            .map(|half| f16::from_bits(half).to_f32())
            .collect();
        for row in 0..batch {
            let at = row * cols..(row + 1) * cols;
            let expected: Vec<Bounded> = match rows.contains(&(row as u32)) {
                true => twin::halves(&x[at.clone()], epsilon.map(|epsilon| (&gains[..], epsilon))),
                // Rows outside the span keep their NaN.
                false => {
                    assert!(found[at].iter().all(|value| value.is_nan()), "{face:?} {cols}: row {row} is of no span");
                    continue;
                }
            };
            close(&found[at], &expected, &format!("{face:?} {cols} row {row}"));
        }
    }
}
