//! The short convolution over pages: rows of sequences that begin anywhere, together and separately, and what pages keep.

use headstart::{
    gpu::Recording,
    kernels::{Class, PAGE, short_conv::ShortConv},
};

use super::bench::{Bench, Face, Numbers, Step, close, floats};
use crate::reference::{Bounded, short_conv as twin};

/// A sequence: its pages, the position of its first row, and the number of rows.
struct Sequence {
    pages: [u32; 3],
    begin: usize,
    count: usize,
}

const SEQUENCES: [Sequence; 4] = [
    Sequence { pages: [2, 0, 7], begin: 0, count: 1 },
    Sequence { pages: [5, 1, 8], begin: 15, count: 20 },
    Sequence { pages: [3, 9, 10], begin: 17, count: 9 },
    Sequence { pages: [4, 6, 11], begin: 2, count: 14 },
];
const PAGES: usize = 12;

/// The step for the rows of each sequence between two positions, with runs as the engine forms them.
fn step(sequences: &[(&Sequence, usize, usize)]) -> Step {
    let mut step = Step::default();
    for (sequence, from, to) in sequences {
        for position in *from..*to {
            let row = step.rows.len() as u32;
            if position == *from || position.is_multiple_of(PAGE) {
                let rows = (PAGE - position % PAGE).min(to - position);
                let page_before = sequence.pages[from.saturating_sub(1) / PAGE];
                step.runs.push([row, rows as u32, position as u32, (position - from) as u32, page_before]);
            }
            step.rows.push(row);
            step.slots.push(sequence.pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32);
        }
    }
    step
}

#[test]
fn rows_are_convolved_with_earlier_ones_wherever_a_step_begins() {
    let mut bench = Bench::open();
    for (seed, ((cols, count), face)) in [(8, 3), (72, 4), (264, 2), (640, 3)].into_iter().zip(Face::ALL).enumerate() {
        let numbers = Numbers::new(seed as u64);
        let kept = count - 1;
        let taps = numbers.floats(count * cols);
        // For each sequence, the thirds of every position from 0: `[position, 3, cols]`.
        let length = |sequence: &Sequence| sequence.begin + sequence.count;
        let thirds: Vec<Vec<f32>> = SEQUENCES.iter().map(|s| numbers.floats(length(s) * 3 * cols)).collect();
        let at = |which: usize, position: usize, third: usize, col: usize| {
            thirds[which][(position * 3 + third) * cols + col]
        };
        let buffers = [bench.floats(&taps), bench.buffer(&vec![u32::MAX; PAGES * kept * cols])];
        let kernel = ShortConv::new(cols, count, buffers[0], &face.caps(bench.gpu.caps()));
        let mut run = |parts: &[(usize, usize, usize)]| -> Vec<Vec<f32>> {
            let step = step(&parts.iter().map(|&(which, from, to)| (&SEQUENCES[which], from, to)).collect::<Vec<_>>());
            let x: Vec<f32> = parts
                .iter()
                .flat_map(|&(which, from, to)| thirds[which][from * 3 * cols..to * 3 * cols].iter().copied())
                .collect();
            let (buffer, span) = bench.span(Class::Prompt, &step);
            let own = [bench.floats(&x), bench.floats(&vec![0.0; step.rows.len() * cols])];
            let mut recording = Recording::new();
            kernel.record(&mut recording, &span, own[0].whole(), own[1].whole(), buffers[1].whole());
            let [words] = bench.run(&recording, [own[1]]);
            bench.free(own.into_iter().chain([buffer]));
            let mut rows = floats(&words).chunks_exact(cols).map(<[f32]>::to_vec).collect::<Vec<_>>().into_iter();
            parts.iter().map(|&(_, from, to)| rows.by_ref().take(to - from).flatten().collect()).collect()
        };

        let all: Vec<usize> = (0..SEQUENCES.len()).collect();
        let before: Vec<_> = all.iter().map(|&i| (i, 0, SEQUENCES[i].begin)).filter(|part| part.2 > 0).collect();
        run(&before);
        let own: Vec<_> = all.iter().map(|&i| (i, SEQUENCES[i].begin, length(&SEQUENCES[i]))).collect();
        let together = run(&own);
        for (which, y) in together.iter().enumerate() {
            let begin = SEQUENCES[which].begin;
            let expected: Vec<Bounded> = (begin..length(&SEQUENCES[which]))
                .flat_map(|position| (0..cols).map(move |col| (position, col)))
                .map(|(position, col)| {
                    let product = |back: usize| match position.checked_sub(back) {
                        Some(position) => at(which, position, 0, col) * at(which, position, 2, col),
                        None => 0.0,
                    };
                    let newest: Vec<f32> = (0..count).map(product).collect();
                    let taps: Vec<f32> = (0..count).map(|tap| taps[tap * cols + col]).collect();
                    twin::mix(at(which, position, 1, col), &newest, &taps)
                })
                .collect();
            close(y, &expected, &format!("{face:?} {cols} sequence {which}"));
        }
        // The bits are the same if each sequence starts again and takes one row, or a few, at a time.
        for which in all {
            let mut y = Vec::new();
            let end = length(&SEQUENCES[which]);
            let mut from = 0;
            while from < end {
                let to = end.min(from + 1 + from % 4);
                y.extend(run(&[(which, from, to)]).concat());
                from = to;
            }
            assert!(
                y[SEQUENCES[which].begin * cols..] == together[which],
                "{face:?} {cols}: sequence {which} by turns"
            );
        }
    }
}
