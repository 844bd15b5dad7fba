//! Head norms: queries and keys are normed and rotated, values stay as they are, and each goes to its place, as f16 or in 8 bits.

use std::collections::BTreeSet;

use headstart::{
    gpu::Recording,
    kernels::{
        Class, Heads, KvFormat, Rotation,
        head_norm::{HeadNorm, QkNorm},
    },
};

use super::bench::{Bench, Face, Numbers, Step, close, floats, heads};
use crate::reference::{Bounded, attention, head_norm as twin, linear};

const EPSILON: f32 = 1e-2;
/// The initial value, which no row writes.
const OLD: f32 = -7.0;
const UNWRITTEN: u32 = 0x7e00_7e00;

#[test]
fn heads_are_normed_rotated_and_stored() {
    let mut bench = Bench::open();
    let shapes = [(6, 2, 40, 20), (3, 1, 64, 16), (2, 2, 8, 4), (4, 2, 128, 64)];
    for (seed, ((queries, kv_heads, head_dim, pairs), face)) in shapes.into_iter().zip(Face::ALL).enumerate() {
        let rotation = Rotation { pairs, first: seed, all: pairs + seed + 1 };
        for norm in [QkNorm::Head, QkNorm::Whole] {
            let heads = heads(queries, kv_heads, head_dim);
            check(&mut bench, face, Some(norm), heads, rotation, &Numbers::new(seed as u64));
        }
    }
}

#[test]
fn heads_in_8_bits_are_those_of_their_twin() {
    let mut bench = Bench::open();
    let shapes = [
        (6, 2, 40, 20),
        (3, 1, 64, 16),
        (5, 5, 80, 0),
        (1, 1, 24, 12),
        (2, 1, 96, 48),
        (4, 2, 128, 64),
        (1, 1, 256, 0),
    ];
    let faces = Face::ALL.into_iter().cycle();
    for (seed, ((queries, kv_heads, head_dim, pairs), face)) in shapes.into_iter().zip(faces).enumerate() {
        let rotation = Rotation { pairs, first: seed, all: pairs + seed + 1 };
        let norm = [None, Some(QkNorm::Head), Some(QkNorm::Whole)][seed % 3];
        let heads = Heads { kv: KvFormat::Q8, ..heads(queries, kv_heads, head_dim) };
        check(&mut bench, face, norm, heads, rotation, &Numbers::new(seed as u64));
    }
}

/// Numbers at which rounding turns, the largest and the least, and those that are none in f16.
fn edges(numbers: &Numbers, x: &mut [f32]) {
    for (index, block) in x.chunks_mut(8).enumerate() {
        let unit = 2f32.powi((index % 23) as i32 - 12) * (1.0 + (index % 7) as f32 / 128.0);
        match index % 9 {
            0 => block.fill(0.0),
            1 => block.fill(-1e-21),
            2 => block[3] = 3e7,
            3 => block[1] = -65_000.0,
            // 127 units are the largest, and others lie in the middle of two or next to it.
            4..=6 => {
                let middle = |i: usize| (i as f32 - 3.5) * 9.0 * unit;
                block.iter_mut().enumerate().for_each(|(i, x)| *x = middle(i));
                block[0] = 127.0 * unit;
                block[5] = block[5].next_up();
                block[6] = block[6].next_down();
            }
            7 => block.fill(1e-19 * numbers.float()),
            _ => {}
        }
    }
}

fn check(bench: &mut Bench, face: Face, norm: Option<QkNorm>, heads: Heads, rotation: Rotation, numbers: &Numbers) {
    let Heads { heads: queries, kv_heads, head_dim, kv: format } = heads;
    let (batch, span, all) = (9, 5, queries + 2 * kv_heads);
    let turn = |_| (numbers.float() * 3.0).sin_cos();
    let step = Step {
        rows: numbers.shuffled(batch)[..span].to_vec(),
        slots: numbers.shuffled(batch + 20)[..batch].to_vec(),
        turns: (0..batch * rotation.all).map(turn).map(|(sin, cos)| (cos, sin)).collect(),
        ..Step::default()
    };
    let mut x = numbers.floats(span * all * head_dim);
    if format == KvFormat::Q8 {
        let values = x.chunks_mut(all * head_dim).map(|row| &mut row[(queries + kv_heads) * head_dim..]);
        values.for_each(|values| edges(numbers, values));
    }
    let of_gains = if norm == Some(QkNorm::Whole) { (queries + kv_heads) * head_dim } else { 2 * head_dim };
    let gains: Vec<f32> = numbers.floats(of_gains).iter().map(|gain| gain + 1.5).collect();
    let kv_words = (batch + 20usize).div_ceil(16) * attention::page_words(&heads);

    let (step_buffer, run) = bench.span(Class::Prompt, &step);
    let buffers = [bench.floats(&x), bench.floats(&gains)];
    let [y, kv] = [bench.floats(&vec![OLD; batch * queries * head_dim]), bench.buffer(&vec![UNWRITTEN; kv_words])];
    let mut recording = Recording::new();
    let norms = norm.map(|norm| (norm, buffers[1]));
    let kernel = HeadNorm::new(norms, heads, rotation, EPSILON, &face.caps(bench.gpu.caps()));
    kernel.record(&mut recording, &run, buffers[0].whole(), y.whole(), kv.whole());
    let [left_y, left_kv] = bench.run(&recording, [y, kv]);
    bench.free(buffers.into_iter().chain([step_buffer, y, kv]));

    let exact =
        |x: &[f32]| -> Vec<Bounded> { x.iter().map(|&x| Bounded { value: f64::from(x), error: 0.0 }).collect() };
    let mut expected = vec![Bounded { value: f64::from(OLD), error: 0.0 }; batch * queries * head_dim];
    let mut written = BTreeSet::new();
    for (i, &row) in step.rows.iter().enumerate() {
        let row = row as usize;
        let turns = &step.turns[row * rotation.all + rotation.first..][..rotation.pairs];
        let x = &x[i * all * head_dim..(i + 1) * all * head_dim];
        let (q, rest) = x.split_at(queries * head_dim);
        // All of Q and K, normed.
        let normed: Vec<Bounded> = match norm {
            None => exact(&x[..(queries + kv_heads) * head_dim]),
            Some(QkNorm::Head) => {
                let gains = |head| &gains[if head < queries { 0 } else { head_dim }..][..head_dim];
                let heads = x.chunks(head_dim).take(queries + kv_heads).enumerate();
                heads.flat_map(|(head, x)| twin::norm(x, gains(head), EPSILON)).collect()
            }
            Some(QkNorm::Whole) => {
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
                (exact(x), attention::v_word, head - queries - kv_heads)
            };
            let places = (0..attention::words(&heads)).map(|i| word(&heads, step.slots[row] as usize, head, i));
            let found: Vec<u32> = places.clone().map(|place| left_kv[place]).collect();
            written.extend(places);
            // What no rounding comes before is the same to the bit.
            if format == KvFormat::Q8 && wanted.iter().all(|wanted| wanted.error == 0.0) {
                assert_eq!(found, attention::stored(&heads, x), "{label}");
            }
            let kept = if format == KvFormat::Q8 { twin::kept(&wanted) } else { linear::halves(&wanted) };
            close(&attention::read(&heads, &found), &kept, &label);
        }
    }
    close(floats(&left_y), &expected, &format!("{face:?} {heads:?}"));
    assert!((0..kv_words).all(|word| written.contains(&word) || left_kv[word] == UNWRITTEN), "{heads:?}");
}
