//! Every shape of `linear`, in every format, with every epilogue, norm and bias. One table contains each pair of these.

use std::collections::BTreeSet;

use headstart::{
    gpu::{Preset, Recording},
    kernels::{
        Class, Heads, Rotation,
        linear::{Activation, Epilogue, Fusion, Input, Linear},
    },
    quant::Format,
};

use super::bench::{Bench, Face, Numbers, Step, close, floats, heads};
use crate::reference::{Bounded, attention, linear as twin};

/// The shapes of the kernel, by the adapters for which `choose` selects them: rows, vector and staged with and without
/// subgroups, and tile.
const SHAPES: [(Face, Class); 5] = [
    (Face::Cpu, Class::Prompt),
    (Face::CpuPlain, Class::Prompt),
    (Face::Gpu, Class::Decode),
    (Face::GpuPlain, Class::Decode),
    (Face::Gpu, Class::Prompt),
];

/// Columns: one unit; odd numbers of units and of blocks of 32; more than a workgroup's lanes take at once.
const PLAIN_COLS: [usize; 5] = [248, 8, 40, 1000, 576];
const BLOCK_COLS: [usize; 5] = [96, 1536, 32, 288, 576];
const LARGE_BLOCK_COLS: [usize; 5] = [512, 1536, 256, 768, 256];
const ROWS: [usize; 5] = [37, 130, 5, 66, 1];
const PAIRS: [usize; 5] = [38, 130, 6, 2, 66];
const HEADS: [(usize, usize, usize, usize); 3] = [(6, 2, 40, 20), (3, 1, 64, 16), (2, 2, 8, 4)];
const ACTIVATIONS: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];
const SPANS: [usize; 6] = [33, 17, 5, 2, 3, 34];

struct Case {
    face: Face,
    class: Class,
    parts: Vec<(Format, usize)>,
    cols: usize,
    epilogue: Epilogue,
    norm: bool,
    bias: bool,
    scale: f32,
    span: usize,
}

fn table() -> Vec<Case> {
    let mut table = Vec::new();
    for (c, (face, class)) in SHAPES.into_iter().enumerate() {
        for (f, format) in Format::ALL.into_iter().enumerate() {
            let extras = (c + 3 * f + c / 2) % 4;
            let scale = [1.0, -0.75][c % 2];
            let (epilogue, rows) = match (c + f) % 4 {
                0 => (Epilogue::Store, ROWS[((c + f) / 4 + c % 3) % 5]),
                1 => (Epilogue::Residual, ROWS[((c + f) / 4 + f % 3) % 5]),
                2 => (Epilogue::Gated(ACTIVATIONS[f % 2]), PAIRS[((c + f) / 4 + c % 3) % 5]),
                _ => {
                    let (q, kv, dim, pairs) = HEADS[(c + f) / 4 % 3];
                    // The angles of other layers come before and after these.
                    let rotation = Rotation { pairs, first: c, all: pairs + c + f };
                    (Epilogue::Qkv(heads(q, kv, dim), rotation), (q + 2 * kv) * dim)
                }
            };
            let cols = match format.block() {
                1 => PLAIN_COLS,
                32 => BLOCK_COLS,
                _ => LARGE_BLOCK_COLS,
            }[(c + f * 2) % 5];
            let span = SPANS[(c + f) % 6];
            let (norm, bias) = (extras % 2 == 1, extras / 2 == 1);
            table.push(Case { face, class, parts: vec![(format, rows)], cols, epilogue, norm, bias, scale, span });
        }
    }
    // Logits, with and without a soft cap.
    for ((face, class), cap) in SHAPES.into_iter().zip([Some(1.5), None, Some(30.0), Some(0.5), None]) {
        let (parts, epilogue) = (vec![(Format::Q8_0, 66)], Epilogue::Logits { cap });
        table.push(Case { face, class, parts, cols: 96, epilogue, norm: true, bias: false, scale: 0.25, span: 3 });
    }
    // Gate and up in different formats, and therefore in two matrices.
    for (c, (face, class)) in SHAPES.into_iter().enumerate() {
        let epilogues = [Epilogue::Gate(ACTIVATIONS[c % 2]), Epilogue::Times];
        for (epilogue, format) in epilogues.into_iter().zip([Format::Q4_1, Format::F16]) {
            let (parts, bias) = (vec![(format, ROWS[c])], c % 2 == 1);
            table.push(Case { face, class, parts, cols: 96, epilogue, norm: true, bias, scale: 1.0, span: SPANS[c] });
        }
    }
    // A matrix in two parts of two formats.
    for (face, class) in [SHAPES[0], SHAPES[3], SHAPES[4]] {
        let parts = vec![(Format::Q4_1, 34), (Format::Q8_0, 31)];
        let epilogue = Epilogue::Store;
        table.push(Case { face, class, parts, cols: 64, epilogue, norm: true, bias: true, scale: 1.0, span: 5 });
    }
    // Teams of a workgroup's lanes: some passes and part of one, as many rows as columns, and long columns.
    let each_loading =
        [Format::Q4_0, Format::Q8_0, Format::Q5_1, Format::Q4K, Format::Q3K, Format::Q6K, Format::Iq4Xs, Format::Mxfp4];
    for (f, format) in each_loading.into_iter().enumerate() {
        let face = [[Face::Clusters(4), Face::Gpu][f / 4], Face::GpuPlain][f % 2];
        let (cols, rows) = [(2304, 1161), (8192, 9)][f / 2 % 2];
        let (parts, span) = (vec![(format, rows)], [6, 1][(f / 4 + f) % 2]);
        let (epilogue, norm) = (Epilogue::Store, f % 3 > 0);
        table.push(Case { face, class: Class::Decode, parts, cols, epilogue, norm, bias: false, scale: 1.0, span });
    }
    let (parts, epilogue) = (vec![(Format::F16, 37)], Epilogue::Store);
    let (class, norm, face) = (Class::Decode, true, Face::Clusters(4));
    table.push(Case { face, class, parts, cols: 1000, epilogue, norm, bias: false, scale: 1.0, span: 5 });
    // Enough rows for four to a team.
    for (face, span) in [(Face::Gpu, 5), (Face::GpuPlain, 2)] {
        let (cols, parts, epilogue) = (160, vec![(Format::Q4_0, 8198)], Epilogue::Gated(ACTIVATIONS[0]));
        let (class, norm) = (Class::Decode, true);
        table.push(Case { face, class, parts, cols, epilogue, norm, bias: true, scale: 1.0, span });
    }
    // Enough rows and tokens for the large tile; alone, a row goes through the small one.
    for (f, format) in [Format::Q4_0, Format::F16].into_iter().enumerate() {
        let epilogue = [Epilogue::Gated(ACTIVATIONS[0]), Epilogue::Residual][f];
        let (cols, parts) = ([96, 40][f], vec![(format, 64 * 64)]);
        let (norm, bias) = (true, f == 1);
        table.push(Case {
            face: Face::Gpu,
            class: Class::Prompt,
            parts,
            cols,
            epilogue,
            norm,
            bias,
            scale: 1.0,
            span: 130,
        });
    }
    // Enough rows and tokens for eight tokens at once on a CPU; alone, a row goes through another permutation.
    let (q, kv, dim, pairs) = HEADS[0];
    let epilogues = [
        (Epilogue::Store, 133),
        (Epilogue::Residual, 162),
        (Epilogue::Gated(ACTIVATIONS[0]), 130),
        (Epilogue::Qkv(heads(q, kv, dim), Rotation { pairs, first: 0, all: pairs }), (q + 2 * kv) * dim),
    ];
    let formats =
        [Format::Q4_1, Format::F16, Format::Q6K, Format::Q4K, Format::Iq4Xs, Format::Q8_0, Format::F32, Format::Q2K];
    for (f, format) in formats.into_iter().enumerate() {
        let (epilogue, rows) = epilogues[f % 4];
        let cols = match format.block() {
            1 => 40,
            32 => 96,
            _ => 512,
        };
        let (parts, norm, bias) = (vec![(format, rows)], f % 3 > 0, f / 4 == 1);
        let (face, class, span) = (Face::Cpu, Class::Prompt, 105 + f);
        table.push(Case { face, class, parts, cols, epilogue, norm, bias, scale: 1.0, span });
    }
    table
}

/// Matrices of f16, given as (side, lanes of a subgroup): every way of loading and every epilogue, with and without a norm;
/// rows and columns that do not fill a tile, and spans for each tile size.
fn halves() -> Vec<Case> {
    let qkv = |(q, kv, dim, pairs): (usize, usize, usize, usize)| {
        (Epilogue::Qkv(heads(q, kv, dim), Rotation { pairs, first: 1, all: pairs + 2 }), (q + 2 * kv) * dim)
    };
    let of = |(side, lanes), format, (epilogue, rows), cols, (norm, bias), span| Case {
        face: Face::Halves(side, lanes),
        class: Class::Prompt,
        parts: vec![(format, rows)],
        cols,
        epilogue,
        norm,
        bias,
        scale: [1.0, -0.75][span % 2],
        span,
    };
    use Epilogue::{Gate, Gated, Logits, Residual, Store, Times};
    let [silu, gelu] = ACTIVATIONS;
    vec![
        of((16, 32), Format::Q4_0, (Store, 37), 96, (false, false), 5),
        of((16, 64), Format::Q4_1, (Residual, 130), 288, (false, true), 17),
        of((16, 16), Format::Q8_0, (Gated(silu), 66), 576, (true, false), 33),
        of((16, 32), Format::F16, qkv(HEADS[0]), 248, (true, true), 34),
        of((16, 32), Format::Bf16, (Gated(gelu), 38), 40, (true, true), 3),
        of((16, 64), Format::Q4K, (Gate(silu), 70), 256, (true, false), 18),
        of((16, 16), Format::Q6K, (Times, 5), 512, (true, false), 2),
        of((16, 32), Format::Mxfp4, (Logits { cap: Some(1.5) }, 66), 32, (true, false), 4),
        of((8, 32), Format::Q5_0, (Residual, 130), 288, (false, false), 19),
        of((8, 64), Format::Q3K, qkv(HEADS[1]), 256, (true, false), 35),
        // Enough of both for the large tile.
        of((16, 64), Format::Q4_0, (Gated(silu), 64 * 128), 96, (true, false), 130),
        of((8, 16), Format::F16, (Residual, 64 * 128), 40, (false, true), 129),
        // f32 weights keep f32, for their precision.
        of((16, 32), Format::F32, (Store, 37), 96, (true, false), 5),
    ]
}

/// Every way of loading and every epilogue, with and without a norm, for spans of each tile size.
fn bytes() -> Vec<Case> {
    let of = |(f, format): (usize, Format)| {
        let (q, kv, dim, pairs) = HEADS[f % 3];
        let (epilogue, rows) = match f % 6 {
            0 => (Epilogue::Store, ROWS[f % 5]),
            1 => (Epilogue::Residual, ROWS[f % 5]),
            2 => (Epilogue::Gated(ACTIVATIONS[f / 6 % 2]), PAIRS[f % 5]),
            3 => (Epilogue::Qkv(heads(q, kv, dim), Rotation { pairs, first: 1, all: pairs + 2 }), (q + 2 * kv) * dim),
            4 => (Epilogue::Gate(ACTIVATIONS[f / 6 % 2]), ROWS[f % 5]),
            _ => (Epilogue::Times, PAIRS[f % 5]),
        };
        let cols = if format.block() == 256 { LARGE_BLOCK_COLS } else { BLOCK_COLS }[f % 4];
        let (norm, bias, scale, span) = (f % 3 > 0, f % 2 == 1, [1.0, -0.75][f / 2 % 2], [5, 16, 33, 12, 1][f % 5]);
        Case {
            face: Face::Bytes,
            class: Class::Prompt,
            parts: vec![(format, rows)],
            cols,
            epilogue,
            norm,
            bias,
            scale,
            span,
        }
    };
    let mut all: Vec<Case> = Format::ALL.into_iter().filter(|format| format.block() > 1).enumerate().map(of).collect();
    // Two parts, whose scales belong to 32 and to 16 elements.
    let parts = vec![(Format::Q4_1, 34), (Format::Q6K, 31)];
    all.push(Case { parts, cols: 256, epilogue: Epilogue::Store, norm: true, ..of((0, Format::Q4_1)) });
    all
}

#[test]
fn products_in_8_bits_agree_with_their_twin_and_a_row_is_the_same_bits_alone_and_in_a_batch() {
    check_all(Preset::Auto, &bytes(), "linear in 8 bits");
}

#[test]
fn products_in_f16_agree_with_their_twin_and_a_row_is_the_same_bits_alone_and_in_a_batch() {
    check_all(Preset::F16, &halves(), "linear in f16");
}

#[test]
fn the_table_has_every_pair_of_shape_format_epilogue_and_extras() {
    let mut pairs = BTreeSet::new();
    let few = |epilogue| matches!(epilogue, Epilogue::Logits { .. } | Epilogue::Gate(_) | Epilogue::Times);
    let plain = |case: &&Case| case.parts.len() == 1 && !few(case.epilogue) && !matches!(case.face, Face::Clusters(_));
    for case in table().iter().filter(plain) {
        let epilogue = match case.epilogue {
            Epilogue::Store => "store",
            Epilogue::Residual => "residual",
            Epilogue::Gated(_) => "gated",
            Epilogue::Qkv(..) => "qkv",
            Epilogue::Logits { .. } | Epilogue::Gate(_) | Epilogue::Times => unreachable!("only few matrices have it"),
        };
        let shape = format!("{:?} {:?}", case.face, case.class);
        let extras = format!("{} {}", case.norm, case.bias);
        let all = [shape, case.parts[0].0.to_string(), epilogue.into(), extras];
        pairs.extend((0..4).flat_map(|i| (0..i).map(|j| (all[i].clone(), all[j].clone())).collect::<Vec<_>>()));
    }
    let formats = Format::ALL.len();
    assert_eq!(pairs.len(), 5 * formats + 2 * 5 * 4 + 2 * 4 * formats + 4 * 4);
}

/// The buffers after a case.
struct Left {
    y: Vec<u32>,
    kv: Vec<u32>,
}

struct Given<'a> {
    linear: &'a Linear,
    x: &'a [f32],
    old: &'a [f32],
    kv_words: usize,
    step: &'a Step,
}

fn run(bench: &mut Bench, class: Class, input: &Given, list: &[u32]) -> Left {
    let (step_buffer, span) = bench.span(class, &Step { rows: list.to_vec(), ..input.step.clone() });
    let (x, y) = (bench.floats(input.x), bench.floats(input.old));
    let kv = bench.buffer(&vec![0x7e00_7e00; input.kv_words.max(1)]);
    let mut recording = Recording::new();
    let pages = (input.kv_words > 0).then_some(kv.whole());
    let rounded = bench.buffer(&vec![0x7e00_7e00; input.x.len() / 2]);
    let from = Input { x: x.whole(), rounded: rounded.whole() };
    input.linear.record(&mut recording, &span, from, y.whole(), pages);
    let [y_words, kv_words] = bench.run(&recording, [y, kv]);
    bench.free([step_buffer, x, rounded, y, kv]);
    Left { y: y_words, kv: kv_words }
}

#[test]
fn every_shape_agrees_with_its_twin_and_a_row_is_the_same_bits_alone_and_in_a_batch() {
    check_all(Preset::Auto, &table(), "linear");
}

/// Drivers choose the size of subgroups for each pipeline. Clusters of 4 and of 8 lanes add the sums of 8 lanes in one order, the
/// first in subgroups larger than a cluster.
#[test]
fn a_sum_keeps_its_bits_in_subgroups_of_any_size() {
    let (mut bench, numbers) = (Bench::open(), Numbers::new(1));
    // Eight lanes of one unit each, and of four units.
    for (format, cols, norm) in [(Format::F16, 64, Some(1e-2)), (Format::Q8_0, 256, None)] {
        let caps = Face::Clusters(4).caps(bench.gpu.caps());
        let (matrix, _) = bench.matrix(cols, &[(format, numbers.floats(37 * cols))], &caps);
        let (batch, rows) = (5, matrix.rows);
        let [x, old, gains] = [batch * cols, batch * rows, cols].map(|count| numbers.floats(count));
        let consts = bench.floats(&gains);
        let fusion = Fusion { epilogue: Epilogue::Store, norm, bias: false, scale: 1.0, consts: consts.whole() };
        let list: Vec<u32> = (0..batch as u32).collect();
        let step = Step { slots: list.clone(), ..Step::default() };
        let [small, large] = [4, 8].map(|lanes| {
            let caps = Face::Clusters(lanes).caps(bench.gpu.caps());
            let linear = Linear::new(matrix.clone(), &fusion, &[Class::Decode], &caps);
            let given = Given { linear: &linear, x: &x, old: &old, kv_words: 0, step: &step };
            run(&mut bench, Class::Decode, &given, &list).y
        });
        assert!(small == large, "{format} of {cols} columns");
        bench.free(matrix.parts.iter().map(|part| part.buffer).chain([consts]));
    }
}

fn check_all(preset: Preset, cases: &[Case], what: &str) {
    let mut bench = Bench::with(preset);
    let checked = cases.iter().enumerate().map(|(seed, case)| check(&mut bench, case, seed as u64));
    eprintln!("{what}: at most {:.2} of the allowed error", checked.fold(0.0, f64::max));
}

fn check(bench: &mut Bench, case: &Case, seed: u64) -> f64 {
    let numbers = Numbers::new(seed);
    let caps = case.face.caps(bench.gpu.caps());
    let cols = case.cols;
    let parts: Vec<(Format, Vec<f32>)> =
        case.parts.iter().map(|&(format, rows)| (format, numbers.floats(rows * cols))).collect();
    let (matrix, weights) = bench.matrix(cols, &parts, &caps);
    let rows = matrix.rows;
    let batch = case.span + 3;
    let x = numbers.floats(batch * cols);
    let gains: Vec<f32> = numbers.floats(cols).iter().map(|gain| gain + 1.5).collect();
    let bias = numbers.floats(rows);
    let epsilon = 1e-2;
    let mut constants = if case.norm { gains.clone() } else { vec![] };
    constants.extend(if case.bias { &bias[..] } else { &[] });
    let consts = bench.floats(if constants.is_empty() { &[0.0] } else { &constants });
    let norm = case.norm.then_some(epsilon);
    let fusion = Fusion { epilogue: case.epilogue, norm, bias: case.bias, scale: case.scale, consts: consts.whole() };
    let linear = Linear::new(matrix.clone(), &fusion, &[case.class], &caps);
    let label = format!(
        "{:?} {:?} {} {rows}x{cols} {:?} norm {} bias {} scale {} span {}",
        case.face, case.class, case.parts[0].0, case.epilogue, case.norm, case.bias, case.scale, case.span
    );

    let (width, kv_heads) = match case.epilogue {
        Epilogue::Gated(_) => (rows / 2, None),
        Epilogue::Qkv(heads, _) => (heads.heads * heads.head_dim, Some(heads)),
        _ => (rows, None),
    };
    let angles = if let Epilogue::Qkv(_, rotation) = case.epilogue { rotation.all } else { 0 };
    let step = Step {
        slots: numbers.shuffled(batch + 20)[..batch].to_vec(),
        turns: (0..batch * angles).map(|_| (numbers.float() * 3.0).sin_cos()).map(|(sin, cos)| (cos, sin)).collect(),
        ..Step::default()
    };
    let kv_words = kv_heads.map_or(0, |heads| (batch + 20usize).div_ceil(16) * attention::page_words(&heads));
    // More than is written, so that a write past the end is detected.
    let old = numbers.floats((batch + 1) * width);
    let input = Given { linear: &linear, x: &x, old: &old, kv_words, step: &step };
    let list = numbers.shuffled(batch)[..case.span].to_vec();
    let left = run(bench, case.class, &input, &list);

    let twin = twin::Linear {
        weights: &weights,
        cols,
        norm: case.norm.then_some((&gains, epsilon)),
        bias: case.bias.then_some(&bias),
        operands: case.face.operands(case.parts[0].0, false),
    };
    let mut expected: Vec<Bounded> = old.iter().map(|&value| Bounded { value: f64::from(value), error: 0.0 }).collect();
    let mut worst: f64 = 0.0;
    let mut written = BTreeSet::new();
    for (i, &row) in list.iter().enumerate() {
        let row = row as usize;
        let y = twin::scaled(&twin.product(&x[row * cols..(row + 1) * cols]), case.scale);
        let by_span = matches!(case.epilogue, Epilogue::Store | Epilogue::Logits { .. });
        let at = if by_span { i } else { row } * width;
        let out = match case.epilogue {
            Epilogue::Store | Epilogue::Logits { cap: None } => y,
            Epilogue::Logits { cap: Some(cap) } => twin::cap(&y, cap),
            Epilogue::Residual => twin::residual(&old[at..at + width], &y),
            Epilogue::Gated(activation) => twin::gated(&y, activation),
            Epilogue::Gate(activation) => twin::gate(&y, activation),
            Epilogue::Times => twin::times(&old[at..at + width], &y),
            Epilogue::Qkv(heads, Rotation { pairs, first, .. }) => {
                let (q, k, v) = qkv(&heads, &y, &step.turns[row * angles + first..][..pairs]);
                let slot = step.slots[row] as usize;
                for (wanted, word) in [(k, attention::k_word as fn(&_, _, _, _) -> _), (v, attention::v_word)] {
                    for (pair, wanted) in wanted.chunks(2).enumerate() {
                        let pairs = heads.head_dim / 2;
                        let word = word(&heads, slot, pair / pairs, pair % pairs);
                        worst = worst.max(close(&attention::unpack(left.kv[word]), wanted, &label));
                        written.insert(word);
                    }
                }
                q
            }
        };
        expected[at..at + width].copy_from_slice(&out);
    }
    worst = worst.max(close(floats(&left.y), &expected, &label));
    let untouched = (0..kv_words).filter(|word| !written.contains(word));
    assert!(untouched.into_iter().all(|word| left.kv[word] == 0x7e00_7e00), "{label}: a word of another token");

    for i in [0, case.span / 2, case.span - 1] {
        let alone = run(bench, case.class, &input, &list[i..=i]);
        let (from, to) = match case.epilogue {
            Epilogue::Store | Epilogue::Logits { .. } => (0, i),
            _ => (list[i] as usize, list[i] as usize),
        };
        let same = alone.y[from * width..(from + 1) * width] == left.y[to * width..(to + 1) * width];
        assert!(same, "{label}: row {i} alone has other bits");
        if let Some(heads) = kv_heads {
            let slot = step.slots[list[i] as usize] as usize;
            for pair in 0..heads.kv_heads * heads.head_dim / 2 {
                for word in [attention::k_word, attention::v_word] {
                    let word = word(&heads, slot, pair / (heads.head_dim / 2), pair % (heads.head_dim / 2));
                    assert_eq!(alone.kv[word], left.kv[word], "{label}: row {i} alone has other bits in its page");
                }
            }
        }
    }
    bench.free(matrix.parts.iter().map(|part| part.buffer).chain([consts]));
    worst
}

/// Rotated queries; keys and values as the cache stores them.
fn qkv(heads: &Heads, y: &[Bounded], turns: &[(f32, f32)]) -> (Vec<Bounded>, Vec<Bounded>, Vec<Bounded>) {
    let turn = |y: &[Bounded]| y.chunks(heads.head_dim).flat_map(|head| twin::rotate(head, turns)).collect::<Vec<_>>();
    let (q, rest) = y.split_at(heads.heads * heads.head_dim);
    let (k, v) = rest.split_at(heads.kv_heads * heads.head_dim);
    (turn(q), twin::halves(&turn(k)), twin::halves(v))
}
