//! The norm before f16 products.

use half::f16;

use headstart::{
    gpu::{Preset, Recording},
    kernels::{Class, norm::Norm},
};

use super::bench::{Bench, Face, Numbers, Step, close};
use crate::reference::{Bounded, norm as twin};

const EPSILON: f32 = 1e-2;

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
        let kernel = Norm::new(cols, gains_buffer.whole(), epsilon, &face.caps(bench.gpu.caps()));
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
