//! Mixtures of experts: the experts of a row, the tiles by expert, their matrices in every shape, and their weighted sum.

use headstart::{
    gpu::{Preset, Recording},
    kernels::{
        Class, Experts,
        linear::{Activation, Epilogue, Fusion, Input, Linear, Routed},
        moe_combine::MoeCombine,
        moe_group::{MoeGroup, tile_bytes, tiles},
        moe_route::MoeRoute,
        plan,
    },
    quant::Format,
};

use super::bench::{Bench, Face, Numbers, Step, close, floats};
use crate::reference::{Bounded, linear as linear_twin, moe_combine, moe_group, moe_route};

fn step(rows: &[u32]) -> Step {
    Step { rows: rows.to_vec(), ..Step::default() }
}

#[test]
fn a_row_is_routed_to_its_highest_scores() {
    let mut bench = Bench::open();
    for (seed, (count, used)) in [(128, 8), (5, 5), (3, 1), (130, 9)].into_iter().enumerate() {
        let (face, normalized) = (Face::ALL[seed], seed % 2 == 0);
        let (numbers, experts, rows) = (Numbers::new(seed as u64), Experts { count, used }, 6);
        // Steps of 1/8, so that some scores are equal.
        let scores: Vec<f32> = (0..rows * count).map(|_| (numbers.float() * 40.0).round() / 8.0).collect();
        let (step, span) = bench.span(Class::Prompt, &step(&numbers.shuffled(rows)));
        let buffers = [bench.floats(&scores), bench.buffer(&vec![u32::MAX; 2 * rows * used + 2])];
        let route = MoeRoute::new(experts, normalized, &face.caps(bench.gpu.caps()));
        let mut recording = Recording::new();
        route.record(&mut recording, &span, buffers[0].whole(), buffers[1].whole());
        let [words] = bench.run(&recording, [buffers[1]]);
        bench.free(buffers.into_iter().chain([step]));
        for (row, scores) in scores.chunks(count).enumerate() {
            let wanted = moe_route::route(scores, used, normalized);
            let found = &words[2 * row * used..2 * (row + 1) * used];
            let (chosen, weights): (Vec<usize>, Vec<Bounded>) = wanted.into_iter().unzip();
            assert_eq!(found.iter().step_by(2).map(|&expert| expert as usize).collect::<Vec<_>>(), chosen, "{face:?}");
            let found: Vec<f32> = found.iter().skip(1).step_by(2).map(|&word| f32::from_bits(word)).collect();
            close(&found, &weights, &format!("{face:?} {experts:?} row {row}"));
        }
        assert_eq!(words[2 * rows * used..], [u32::MAX; 2], "past the end");
    }
}

/// A chosen expert always exists, so that no weight is read past the end. Its output is not finite, which is detected in the logits.
#[test]
fn scores_that_are_not_finite_choose_existing_experts() {
    let mut bench = Bench::open();
    let experts = Experts { count: 6, used: 3 };
    for face in Face::ALL {
        let scores =
            [[f32::NAN; 6], [f32::INFINITY; 6], [f32::NAN, 1.0, f32::NAN, 2.0, 0.0, f32::NEG_INFINITY]].concat();
        let (step, span) = bench.span(Class::Decode, &step(&[0, 1, 2]));
        let buffers = [bench.floats(&scores), bench.buffer(&[u32::MAX; 18])];
        let mut recording = Recording::new();
        let route = MoeRoute::new(experts, true, &face.caps(bench.gpu.caps()));
        route.record(&mut recording, &span, buffers[0].whole(), buffers[1].whole());
        let [words] = bench.run(&recording, [buffers[1]]);
        bench.free(buffers.into_iter().chain([step]));
        assert!(words.iter().step_by(2).all(|&expert| expert < 6), "{face:?}: {words:?}");
    }
}

/// The experts of each of `rows` rows, without repetition in a row.
fn choices(numbers: &Numbers, experts: Experts, rows: usize) -> Vec<usize> {
    let row = |_| numbers.shuffled(experts.count)[..experts.used].iter().map(|&e| e as usize).collect::<Vec<_>>();
    (0..rows).flat_map(row).collect()
}

/// The choices as `moe_route` writes them, with these weights.
fn words(choices: &[usize], weights: &[f32]) -> Vec<u32> {
    choices.iter().zip(weights).flat_map(|(&expert, weight)| [expert as u32, weight.to_bits()]).collect()
}

#[test]
fn choices_are_grouped_by_expert() {
    let mut bench = Bench::open();
    let table = [(7, 3, 4, 1), (7, 3, 4, 40), (128, 8, 32, 64), (130, 1, 32, 5), (3, 3, 32, 32), (2, 1, 4, 9)];
    for (seed, (count, used, tokens, rows)) in table.into_iter().enumerate() {
        let (numbers, experts) = (Numbers::new(seed as u64), Experts { count, used });
        let face = Face::ALL[seed % 4];
        let chosen = choices(&numbers, experts, rows);
        let (step, span) = bench.span(Class::Prompt, &step(&numbers.shuffled(rows)));
        let size = tile_bytes(experts, rows, tokens) as usize / 4;
        let buffers = [bench.buffer(&words(&chosen, &vec![0.5; chosen.len()])), bench.buffer(&vec![7; size + 1])];
        let group = MoeGroup::new(experts, tokens, &face.caps(bench.gpu.caps()));
        let mut recording = Recording::new();
        group.record(&mut recording, &span, buffers[0].whole(), buffers[1].whole());
        let [found] = bench.run(&recording, [buffers[1]]);
        bench.free(buffers.into_iter().chain([step]));
        let wanted = moe_group::tiles(&chosen, count, tokens);
        assert_eq!(size, tiles(experts, rows, tokens) * (1 + tokens));
        for (tile, found) in found[..size].chunks(1 + tokens).enumerate() {
            match wanted.get(tile) {
                None => assert_eq!(found[0], u32::MAX, "{experts:?}: tile {tile} of nobody"),
                Some((expert, own)) => {
                    let own = own.iter().map(|&choice| choice as u32).chain(std::iter::repeat(u32::MAX));
                    let wanted: Vec<u32> = [*expert as u32].into_iter().chain(own).take(1 + tokens).collect();
                    assert_eq!(found, wanted, "{face:?} {experts:?} tile {tile}");
                }
            }
        }
        assert!(wanted.len() * (1 + tokens) <= size && found[size] == 7, "{experts:?}");
    }
}

#[test]
fn the_experts_outputs_are_added_to_the_batch_rows() {
    let mut bench = Bench::open();
    for (seed, ((cols, used), face)) in [(8, 1), (248, 3), (640, 8), (1000, 2)].into_iter().zip(Face::ALL).enumerate() {
        let (batch, rows, scale) = (9, 5, [1.0, 0.22][seed % 2]);
        let (numbers, experts) = (Numbers::new(seed as u64), Experts { count: 9, used });
        let list = numbers.shuffled(batch)[..rows].to_vec();
        let (weights, x) = (numbers.floats(rows * used), numbers.floats(rows * used * cols));
        let old = numbers.floats(batch * cols);
        let (step, span) = bench.span(Class::Decode, &step(&list));
        let chosen = words(&choices(&numbers, experts, rows), &weights);
        let buffers = [bench.buffer(&chosen), bench.floats(&x), bench.floats(&old)];
        let combine = MoeCombine::new(experts, cols, scale, &face.caps(bench.gpu.caps()));
        let mut recording = Recording::new();
        combine.record(&mut recording, &span, buffers[0].whole(), buffers[1].whole(), buffers[2].whole());
        let [found] = bench.run(&recording, [buffers[2]]);
        bench.free(buffers.into_iter().chain([step]));
        let mut wanted: Vec<Bounded> =
            old.iter().map(|&value| Bounded { value: f64::from(value), error: 0.0 }).collect();
        for (i, &row) in list.iter().enumerate() {
            for col in 0..cols {
                let term = |rank: usize| (weights[i * used + rank], x[(i * used + rank) * cols + col]);
                let terms: Vec<(f32, f32)> = (0..used).map(term).collect();
                let at = row as usize * cols + col;
                wanted[at] = moe_combine::combine(old[at], &terms, scale);
            }
        }
        close(floats(&found), &wanted, &format!("{face:?} {cols}"));
    }
}

struct Case {
    face: Face,
    class: Class,
    format: Format,
    experts: Experts,
    /// Number of experts in each part of the matrix.
    parts: Vec<usize>,
    rows: usize,
    cols: usize,
    gated: bool,
    span: usize,
}

fn cases() -> Vec<Case> {
    let shapes = [
        (Face::Cpu, Class::Prompt),
        (Face::CpuPlain, Class::Prompt),
        (Face::Gpu, Class::Decode),
        (Face::GpuPlain, Class::Decode),
        (Face::Gpu, Class::Prompt),
        (Face::CpuPlain, Class::Decode),
        (Face::Halves(16, 32), Class::Prompt),
        (Face::Bytes, Class::Prompt),
    ];
    let formats = [Format::F16, Format::Q4K, Format::Q8_0, Format::Q6K, Format::Q4_1, Format::F32];
    let mut all = Vec::new();
    for (s, (face, class)) in shapes.into_iter().enumerate() {
        for gated in [false, true] {
            let format = formats[(s + 3 * usize::from(gated)) % 6];
            let cols = if format.block() == 256 { 512 } else { [96, 288, 64][s % 3] };
            let rows = if gated { [24, 38, 66][s % 3] } else { [37, 130, 5][s % 3] };
            let (experts, parts) = match (s + usize::from(gated)) % 3 {
                0 => (Experts { count: 5, used: 2 }, vec![5]),
                1 => (Experts { count: 7, used: 3 }, vec![2, 4, 1]),
                _ => (Experts { count: 3, used: 3 }, vec![1, 2]),
            };
            let span = if class == Class::Decode { 3 } else { [40, 2, 13][(s + usize::from(gated)) % 3] };
            all.push(Case { face, class, format, experts, parts, rows, cols, gated, span });
        }
    }
    all
}

/// The product of a matrix of experts with the rows of a span.
fn routed(bench: &mut Bench, case: &Case, linear: &Linear, chosen: &[usize], list: &[u32], x: &[f32]) -> Vec<u32> {
    let caps = case.face.caps(bench.gpu.caps());
    let (width, count) = (if case.gated { case.rows / 2 } else { case.rows }, list.len() * case.experts.used);
    let (step, span) = bench.span(case.class, &step(list));
    let buffers = [
        bench.buffer(&words(chosen, &vec![0.0; chosen.len()])),
        bench.floats(x),
        bench.floats(&vec![0.0; count * width + 1]),
    ];
    let mut recording = Recording::new();
    let tokens = *plan::expert_tile(&caps, case.class).at(list.len());
    let tiles = bench.buffer(&vec![7; tile_bytes(case.experts, list.len(), tokens) as usize / 4]);
    let beside = if tokens == 1 { buffers[0] } else { tiles };
    if tokens > 1 {
        MoeGroup::new(case.experts, tokens, &caps).record(&mut recording, &span, buffers[0].whole(), tiles.whole());
    }
    let rounded = bench.buffer(&vec![0; x.len() / 2]);
    let input = Input { x: buffers[1].whole(), rounded: rounded.whole() };
    linear.record(&mut recording, &span, input, buffers[2].whole(), Some(beside.whole()));
    let [y] = bench.run(&recording, [buffers[2]]);
    bench.free(buffers.into_iter().chain([step, tiles, rounded]));
    assert_eq!(y[count * width], 0, "past the end");
    y[..count * width].to_vec()
}

#[test]
fn matrices_of_experts_agree_with_their_twin_and_a_row_is_the_same_bits_alone() {
    let mut bench = Bench::with(Preset::F16);
    for (seed, case) in cases().iter().enumerate() {
        let Case { experts, rows, cols, span, .. } = *case;
        let numbers = Numbers::new(seed as u64);
        let caps = case.face.caps(bench.gpu.caps());
        let parts: Vec<_> = case.parts.iter().map(|&own| (case.format, numbers.floats(own * rows * cols))).collect();
        let (matrix, weights) = bench.matrix(cols, &parts, &caps);
        // The first matrix gets normed tokens and gates; the second gets neither.
        let gains: Vec<f32> = numbers.floats(cols).iter().map(|gain| gain + 1.5).collect();
        let consts = bench.floats(&gains);
        let epilogue = if case.gated { Epilogue::Gated(Activation::Silu) } else { Epilogue::Store };
        let norm = case.gated.then_some(1e-2);
        let fusion = Fusion { epilogue, norm, bias: false, scale: 1.0, consts: consts.whole() };
        let of = Routed { experts, from_tokens: case.gated };
        let linear = Linear::routed(matrix.clone(), of, &fusion, &[case.class], &caps);
        let batch = span + 3;
        let list = numbers.shuffled(batch)[..span].to_vec();
        let chosen = choices(&numbers, experts, span);
        let x = numbers.floats(if case.gated { batch } else { span * experts.used } * cols);
        let operands = case.face.operands(case.format, true);
        let label = format!("{:?} {:?} {} {experts:?} gated {}", case.face, case.class, case.format, case.gated);

        let y = routed(&mut bench, case, &linear, &chosen, &list, &x);
        let mut wanted = Vec::new();
        for (choice, &expert) in chosen.iter().enumerate() {
            let row = if case.gated { list[choice / experts.used] as usize } else { choice };
            let own = &weights[expert * rows * cols..(expert + 1) * rows * cols];
            let twin = linear_twin::Linear {
                weights: own,
                cols,
                norm: norm.map(|norm| (&gains[..], norm)),
                bias: None,
                operands,
            };
            let sums = twin.product(&x[row * cols..(row + 1) * cols]);
            wanted.extend(if case.gated { linear_twin::gated(&sums, Activation::Silu) } else { sums });
        }
        close(floats(&y), &wanted, &label);
        let width = y.len() / chosen.len() * experts.used;
        for i in [0, span / 2, span - 1] {
            let own = i * experts.used..(i + 1) * experts.used;
            let x = if case.gated { &x[..] } else { &x[own.start * cols..own.end * cols] };
            let alone = routed(&mut bench, case, &linear, &chosen[own], &list[i..=i], x);
            assert!(alone == y[i * width..(i + 1) * width], "{label}: row {i} alone has other bits");
        }
        bench.free(matrix.parts.iter().map(|part| part.buffer).chain([consts]));
    }
}
