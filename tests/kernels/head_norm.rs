//! Head norms: queries and keys are normed and rotated, values stay as they are, and each goes to its place.

use std::collections::BTreeSet;

use headstart::{
    gpu::Recording,
    kernels::{
        Class, Heads, Rotation,
        head_norm::{HeadNorm, QkNorm},
    },
};

use super::bench::{Bench, Face, Numbers, Step, close, floats};
use crate::reference::{Bounded, attention, head_norm as twin, linear};

const EPSILON: f32 = 1e-2;
/// The initial value, which no row writes.
const OLD: f32 = -7.0;

#[test]
fn heads_are_normed_rotated_and_stored() {
    let mut bench = Bench::open();
    let shapes = [(6, 2, 40, 20), (3, 1, 64, 16), (2, 2, 8, 4), (4, 2, 128, 64)];
    for (seed, ((heads, kv_heads, head_dim, pairs), face)) in shapes.into_iter().zip(Face::ALL).enumerate() {
        let heads = Heads { heads, kv_heads, head_dim };
        let rotation = Rotation { pairs, first: seed, all: pairs + seed + 1 };
        for norm in [QkNorm::Head, QkNorm::Whole] {
            check(&mut bench, face, norm, heads, rotation, &Numbers::new(seed as u64));
        }
    }
}

fn check(bench: &mut Bench, face: Face, norm: QkNorm, heads: Heads, rotation: Rotation, numbers: &Numbers) {
    let Heads { heads: queries, kv_heads, head_dim } = heads;
    let (batch, span, all) = (9, 5, queries + 2 * kv_heads);
    let turn = |_| (numbers.float() * 3.0).sin_cos();
    let step = Step {
        rows: numbers.shuffled(batch)[..span].to_vec(),
        slots: numbers.shuffled(batch + 20)[..batch].to_vec(),
        turns: (0..batch * rotation.all).map(turn).map(|(sin, cos)| (cos, sin)).collect(),
        ..Step::default()
    };
    let x = numbers.floats(span * all * head_dim);
    let of_gains = if norm == QkNorm::Whole { (queries + kv_heads) * head_dim } else { 2 * head_dim };
    let gains: Vec<f32> = numbers.floats(of_gains).iter().map(|gain| gain + 1.5).collect();
    let kv_words = (batch + 20usize).div_ceil(16) * attention::page_words(&heads);

    let (step_buffer, run) = bench.span(Class::Prompt, &step);
    let buffers = [bench.floats(&x), bench.floats(&gains)];
    let [y, kv] = [bench.floats(&vec![OLD; batch * queries * head_dim]), bench.buffer(&vec![0x7e00_7e00; kv_words])];
    let mut recording = Recording::new();
    let kernel = HeadNorm::new(norm, heads, rotation, buffers[1], EPSILON, &face.caps(bench.gpu.caps()));
    kernel.record(&mut recording, &run, buffers[0].whole(), y.whole(), kv.whole());
    let [left_y, left_kv] = bench.run(&recording, [y, kv]);
    bench.free(buffers.into_iter().chain([step_buffer, y, kv]));

    let mut expected = vec![Bounded { value: f64::from(OLD), error: 0.0 }; batch * queries * head_dim];
    let mut written = BTreeSet::new();
    for (i, &row) in step.rows.iter().enumerate() {
        let row = row as usize;
        let turns = &step.turns[row * rotation.all + rotation.first..][..rotation.pairs];
        let x = &x[i * all * head_dim..(i + 1) * all * head_dim];
        // All of Q and K, normed.
        let normed: Vec<Bounded> = match norm {
            QkNorm::Head => {
                let gains = |head| &gains[if head < queries { 0 } else { head_dim }..][..head_dim];
                let heads = x.chunks(head_dim).take(queries + kv_heads).enumerate();
                heads.flat_map(|(head, x)| twin::norm(x, gains(head), EPSILON)).collect()
            }
            QkNorm::Whole => {
                let (q, rest) = x.split_at(queries * head_dim);
                let (of_q, of_k) = gains.split_at(q.len());
                let k = &rest[..of_k.len()];
                [twin::norm(q, of_q, EPSILON), twin::norm(k, of_k, EPSILON)].concat()
            }
        };
        for (head, x) in x.chunks(head_dim).enumerate() {
            let label = format!("{face:?} {norm:?} {heads:?} row {row} head {head}");
            if head < queries {
                let at = (row * queries + head) * head_dim;
                expected[at..at + head_dim]
                    .copy_from_slice(&linear::rotate(&normed[head * head_dim..][..head_dim], turns));
                continue;
            }
            let (wanted, word, head): (_, fn(&_, _, _, _) -> _, _) = if head < queries + kv_heads {
                (linear::rotate(&normed[head * head_dim..][..head_dim], turns), attention::k_word, head - queries)
            } else {
                let exact = x.iter().map(|&x| Bounded { value: f64::from(x), error: 0.0 }).collect();
                (exact, attention::v_word, head - queries - kv_heads)
            };
            for (pair, wanted) in linear::halves(&wanted).chunks(2).enumerate() {
                let word = word(&heads, step.slots[row] as usize, head, pair);
                close(&attention::unpack(left_kv[word]), wanted, &label);
                written.insert(word);
            }
        }
    }
    close(floats(&left_y), &expected, &format!("{face:?} {heads:?}"));
    assert!((0..kv_words).all(|word| written.contains(&word) || left_kv[word] == 0x7e00_7e00), "{heads:?}");
}
