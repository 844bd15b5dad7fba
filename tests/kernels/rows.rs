//! The kernels at both ends of a step: `embed` from token ids, `topk` to token ids.

use headstart::{
    gpu::Recording,
    kernels::{
        Class,
        embed::{Embed, drawn},
        topk::{MAX_K, NOT_FINITE, TopK, list_bytes},
    },
    quant::Format,
    sample::SamplingParams,
};

use super::bench::{Bench, Face, Numbers, Step, close, floats};
use crate::reference::{embed as embed_twin, linear as linear_twin, topk as topk_twin};

#[test]
fn embed_reads_the_tokens_rows_from_every_format_and_part() {
    let mut bench = Bench::open();
    for (f, format) in Format::ALL.into_iter().enumerate() {
        let face = Face::ALL[f % 4];
        let numbers = Numbers::new(f as u64);
        let cols = match format.block() {
            1 => [8, 248, 1000],
            32 => [96, 1536, 288],
            _ => [256, 1536, 512],
        }[f % 3];
        let parts = [7, 2].map(|rows| (format, numbers.floats(rows * cols)));
        let caps = face.caps(bench.gpu.caps());
        let (matrix, weights) = bench.matrix(cols, &parts, &caps);
        let tokens = [3, 8, 0, 6, 7, 3, 8];
        let rows = vec![5, 0, 6, 2, 1];
        // Some tokens were drawn by the previous step.
        let mut words = tokens.to_vec();
        (words[0], words[6]) = (drawn(2), drawn(0));
        let before = bench.buffer(&[8, 1, 3, 1]);
        let step = Step { rows: rows.clone(), tokens: words, ..Step::default() };
        let (step_buffer, span) = bench.span(Class::Prompt, &step);
        let hidden = bench.floats(&vec![-7.0; tokens.len() * cols]);
        let mut recording = Recording::new();
        let scale = [1.0, 3.5][f % 2];
        Embed::new(&matrix, scale, &caps).record(&mut recording, &span, before.whole(), hidden.whole());
        let [words] = bench.run(&recording, [hidden]);
        for (row, found) in floats(&words).chunks(cols).enumerate() {
            if !rows.contains(&(row as u32)) {
                assert!(found.iter().all(|&x| x == -7.0), "{format}: row {row} is not in the span");
                continue;
            }
            // A 4-bit code is at most 15 steps from its block's minimum, and a block spans at most -1..1.
            let largest = if format.block() == 1 { 0.0 } else { 3.0 };
            close(
                found,
                &linear_twin::scaled(&embed_twin::embed(&weights, cols, tokens[row], largest), scale),
                &format!("{format} row {row}"),
            );
        }
        bench.free(matrix.parts.iter().map(|part| part.buffer).chain([step_buffer, before, hidden]));
    }
}

#[test]
fn topk_sorts_the_best_candidates_and_samples_as_the_sampler_does() {
    let mut bench = Bench::open();
    for (vocab, face) in [(50, Face::CpuPlain), (2049, Face::Gpu), (6000, Face::Cpu), (4096, Face::GpuPlain)] {
        let numbers = Numbers::new(vocab as u64);
        let rows = 9;
        // Steps of 1/8, so that many logits are equal.
        let logits: Vec<f32> = (0..rows * vocab).map(|_| (numbers.float() * 40.0).round() / 8.0).collect();
        let params = |row: usize| SamplingParams {
            temperature: [1.0, 0.5, 2.0][row % 3],
            top_k: Some([1, 2, 40.min(vocab as u32), MAX_K.min(vocab) as u32][row % 4]),
            top_p: [1.0, 0.83, 0.4][row / 3],
            min_p: [0.0, 0.07][row % 2],
            ..SamplingParams::default()
        };
        let draws: Vec<f32> = (0..rows).map(|row| (row as f32 * 0.37 + 0.11).fract()).collect();
        for greedy in [true, false] {
            let of = |row: usize| if greedy { SamplingParams { top_k: Some(1), ..params(row) } } else { params(row) };
            let asked: Vec<_> = (0..rows).map(|row| (of(row), draws[row])).collect();
            let (best, ids) = topk(&mut bench, face, greedy, &logits, &asked);
            for row in 0..rows {
                let logits = &logits[row * vocab..(row + 1) * vocab];
                let what = format!("{face:?} vocab {vocab} greedy {greedy} row {row}");
                assert_eq!(best[row], topk_twin::best(logits, of(row).top_k.unwrap() as usize), "{what}");
                let (id, near) = topk_twin::drawn(logits, &of(row), draws[row]);
                assert!(!near, "{what}: too near a boundary to test the kernel");
                assert_eq!(ids[row], id, "{what}");
            }
        }
    }
}

/// Values around each digit boundary of their bits: zeros, subnormals, the largest.
const EDGES: [f32; 14] = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1e-38,
    -1e-38,
    1.0,
    -1.0,
    1.000_000_1,
    -1.000_000_1,
    3.3e38,
    -3.3e38,
    f32::MAX,
    f32::MIN,
];

#[test]
fn topk_keeps_the_lower_ids_of_equal_logits() {
    let mut bench = Bench::open();
    // Sizes around chunk boundaries; the last chunk has fewer than k, exactly k, and more.
    for vocab in [1, 64, 2047, 2048, 2049, 4096 + 39, 4096 + 40, 4096 + 41] {
        let numbers = Numbers::new(vocab as u64);
        let any = |of: &[f32]| of[numbers.next() as usize % of.len()];
        let mut logits = vec![7.5; vocab];
        // A few are better than the rest, some of them at the end.
        logits.extend((0..vocab).map(|i| if i % 97 == 5 || i + 9 > vocab { 1.25 } else { -1.25 }));
        logits.extend((0..vocab).map(|_| any(&EDGES)));
        logits.extend((0..vocab).map(|_| any(&EDGES[..6])));
        logits.extend((0..vocab).map(|i| (i % 3000) as f32));
        // Bits that differ in the last digit alone.
        logits.extend((0..vocab).map(|_| f32::from_bits(0x4120_0000 + (numbers.next() % 300) as u32)));
        for (face, k) in
            [(Face::Cpu, 40), (Face::GpuPlain, 64), (Face::GpuPlain, 1), (Face::CpuPlain, 63), (Face::Gpu, 3)]
        {
            let params =
                SamplingParams { temperature: 1.0, top_k: Some(k.min(vocab as u32)), ..SamplingParams::default() };
            let asked = vec![(params, 0.0); logits.len() / vocab];
            for greedy in [true, false].into_iter().filter(|greedy| !greedy || k == 1) {
                let (best, ids) = topk(&mut bench, face, greedy, &logits, &asked);
                for (row, logits) in logits.chunks(vocab).enumerate() {
                    let wanted = topk_twin::best(logits, k as usize);
                    assert_eq!(best[row], wanted, "{face:?} vocab {vocab} k {k} greedy {greedy} row {row}");
                    assert_eq!(ids[row], wanted[0].0, "{face:?} vocab {vocab} k {k} greedy {greedy} row {row}");
                }
            }
        }
    }
}

/// The candidates of each row of `logits`, and the token sampled with its parameters and its random number.
fn topk(
    bench: &mut Bench,
    face: Face,
    greedy: bool,
    logits: &[f32],
    asked: &[(SamplingParams, f32)],
) -> (Vec<Vec<(u32, f32)>>, Vec<u32>) {
    let (rows, vocab) = (asked.len(), logits.len() / asked.len());
    let words = |(p, u): &(SamplingParams, f32)| {
        [p.top_k.unwrap(), p.temperature.to_bits(), p.top_p.to_bits(), p.min_p.to_bits(), u.to_bits()]
    };
    let sampling = asked.iter().map(words).collect();
    let (step, span) =
        bench.span(Class::Decode, &Step { rows: (0..rows as u32).collect(), sampling, ..Step::default() });
    let (input, drawn) = (bench.floats(logits), bench.buffer(&vec![7; rows]));
    let lists = list_bytes(vocab, rows).map(|bytes| bench.buffer(&vec![u32::MAX; bytes as usize / 4]));
    let mut recording = Recording::new();
    let slices = lists.map(|list| list.whole());
    let caps = face.caps(bench.gpu.caps());
    TopK::new(vocab, &caps).record(&mut recording, &span, greedy, input.whole(), slices, drawn.whole());
    let [best, ids] = bench.run(&recording, [lists[1], drawn]);
    bench.free(lists.into_iter().chain([step, input, drawn]));
    let stride = if greedy { 1 } else { MAX_K };
    let row = |(row, (p, _)): (usize, &(SamplingParams, f32))| {
        let pairs = best[row * stride * 2..].chunks(2).map(|pair| (pair[1], f32::from_bits(pair[0])));
        pairs.take(p.top_k.unwrap() as usize).collect()
    };
    (asked.iter().enumerate().map(row).collect(), ids)
}

#[test]
fn a_row_with_a_logit_that_is_not_finite_gives_no_token() {
    let mut bench = Bench::open();
    for (vocab, face) in [(70, Face::Cpu), (5000, Face::Gpu), (2049, Face::CpuPlain), (4096, Face::GpuPlain)] {
        let (small, last) = (-1e30, vocab - 1);
        let faults = [
            None,
            Some((0, f32::NAN)),
            Some((last, -f32::NAN)),
            Some((last / 2, f32::INFINITY)),
            Some((last / 3, f32::NEG_INFINITY)),
            None,
        ];
        let rows = faults.len();
        let mut logits: Vec<f32> = vec![small; rows * vocab];
        for (row, fault) in faults.iter().enumerate() {
            // The largest finite number must stay below an infinite one.
            logits[row * vocab + last - row] = if row % 2 == 0 { small / 2.0 } else { f32::MAX };
            fault.iter().for_each(|(at, value)| logits[row * vocab + at] = *value);
        }
        // A row in which every logit is negative infinity.
        logits[(rows - 1) * vocab..].fill(f32::NEG_INFINITY);
        for k in [1, 40] {
            let params = SamplingParams { temperature: 1.0, top_k: Some(k), ..SamplingParams::default() };
            let (_, ids) = topk(&mut bench, face, k == 1, &logits, &vec![(params.clone(), 0.5); rows]);
            let wanted: Vec<u32> = logits.chunks(vocab).map(|row| topk_twin::drawn(row, &params, 0.5).0).collect();
            assert_eq!(wanted[1..], [NOT_FINITE; 5]);
            assert_eq!(ids, wanted, "{face:?} vocab {vocab} k {k}");
        }
    }
}
