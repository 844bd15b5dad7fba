//! The norm after attention and MLP: rows of the span are normed, scaled and added to rows of the batch.

use headstart::{
    gpu::Recording,
    kernels::{Class, post_norm::PostNorm},
};

use super::bench::{Bench, Face, Numbers, Step, close, floats};
use crate::reference::{Bounded, post_norm as twin};

const EPSILON: f32 = 1e-2;

#[test]
fn rows_are_normed_and_added_to_their_rows_of_the_batch() {
    let mut bench = Bench::open();
    for (seed, (cols, face)) in [8, 248, 640, 1000].into_iter().zip(Face::ALL).enumerate() {
        let (batch, span, scale) = (9, 5, [1.0, 0.22][seed % 2]);
        let numbers = Numbers::new(seed as u64);
        let step = Step { rows: numbers.shuffled(batch)[..span].to_vec(), ..Step::default() };
        let (x, old) = (numbers.floats(span * cols), numbers.floats(batch * cols));
        let gains: Vec<f32> = numbers.floats(cols).iter().map(|gain| gain + 1.5).collect();
        let norm = |bench: &mut Bench, rows: &[u32], x: &[f32]| {
            let (step, run) = bench.span(Class::Prompt, &Step { rows: rows.to_vec(), ..step.clone() });
            let buffers = [bench.floats(&gains), bench.floats(x), bench.floats(&old)];
            let kernel = PostNorm::new(cols, buffers[0], EPSILON, scale, &face.caps(bench.gpu.caps()));
            let mut recording = Recording::new();
            kernel.record(&mut recording, &run, buffers[1].whole(), buffers[2].whole());
            let [words] = bench.run(&recording, [buffers[2]]);
            bench.free(buffers.into_iter().chain([step]));
            words
        };
        let words = norm(&mut bench, &step.rows, &x);
        let mut expected: Vec<Bounded> =
            old.iter().map(|&value| Bounded { value: f64::from(value), error: 0.0 }).collect();
        for (i, &row) in step.rows.iter().enumerate() {
            let at = row as usize * cols..(row as usize + 1) * cols;
            let own = &x[i * cols..(i + 1) * cols];
            expected[at.clone()].copy_from_slice(&twin::add(&old[at.clone()], own, &gains, EPSILON, scale));
            let alone = norm(&mut bench, &[row], own);
            assert!(alone[at.clone()] == words[at], "{face:?} {cols}: row {row} alone has other bits");
        }
        close(floats(&words), &expected, &format!("{face:?} {cols}"));
    }
}
