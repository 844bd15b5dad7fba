//! Tests of the test oracles: the comparisons detect differences, and the model's CPU twin agrees with transformers.

use headstart::weights::Checkpoint;
use pollster::block_on;

use crate::support::golden::{Golden, Known, Reference, Report, TOLERANCE, folder, last_logits, worse};
use crate::support::llama::Llama;
use crate::support::model_path;
use crate::support::odd::{GGUFS, Tiny, all};

/// The effect of another order of f32 sums: about 1e-5, on logits that spread over a few units.
const ROUNDING: f32 = 1e-4;

#[test]
fn the_comparisons_detect_differences() {
    assert!(worse(1.0, f32::NAN).is_nan() && worse(f32::NAN, 1.0).is_nan());
    assert!(Known::Row(&[1.0, 2.0, 3.0]).max_delta(&[f32::NAN, 2.0, 3.0]).is_nan());
    assert_eq!(Known::Row(&[1.0, 2.0]).max_delta(&[1.5, 1.75]), 0.5);
    assert_eq!(Known::Top(&[(1, 2.0)]).max_delta(&[9.0, 2.25]), 0.25);
    let reference = Reference {
        ids: vec![7, 8],
        greedy32: vec![1, 2, 3],
        greedy_top2_gap: vec![1.0, 0.01, 1.0],
        argmax_every_position: vec![4, 5],
        top2_gap_every_position: vec![0.01, 1.0],
        logits_file: None,
        last_top: vec![],
    };
    let problems = |judge: &dyn Fn(&mut Report)| {
        let mut report = Report::default();
        judge(&mut report);
        report.problems.len()
    };
    assert_eq!(problems(&|r| r.delta("near", 0.05, TOLERANCE)), 0);
    assert_eq!(problems(&|r| r.delta("far", 0.051, TOLERANCE)), 1);
    assert_eq!(problems(&|r| r.delta("NaN", f32::NAN, TOLERANCE)), 1);
    assert_eq!(problems(&|r| r.argmax("a tie", &reference, &[9, 5])), 0);
    assert_eq!(problems(&|r| r.argmax("no tie", &reference, &[4, 9])), 1);
    assert_eq!(problems(&|r| r.argmax("one short", &reference, &[4])), 1);
    assert_eq!(problems(&|r| r.greedy("a tie", &reference, &[1, 9, 9])), 0);
    assert_eq!(problems(&|r| r.greedy("no tie", &reference, &[9, 2, 3])), 1);
    assert_eq!(problems(&|r| r.greedy("one short", &reference, &[1, 2])), 1);
}

#[test]
fn the_cpu_twin_agrees_with_transformers_on_odd_shapes() {
    let mut report = Report::default();
    for name in all() {
        let tiny = Tiny::read(name);
        let checkpoint = block_on(Checkpoint::open(&tiny.folder)).unwrap();
        for (cache, half, tolerance) in [("f32", false, ROUNDING), ("f16", true, tiny.tolerance)] {
            let mut delta = 0.0;
            Llama::load(&checkpoint, half).score(
                &tiny.reference.ids,
                |_| true,
                |position, logits| {
                    delta = worse(delta, Known::Row(tiny.row(position)).max_delta(logits));
                },
            );
            report.delta(&format!("{name}, {cache} cache"), delta, tolerance);
            report.check(half == (delta > ROUNDING), || {
                format!("{name}: an f16 cache must be detectable, and nothing else: {delta}")
            });
        }
    }
    report.finish();
}

/// The tiny models as gguf-py wrote them, with the names, keys and forms of llama.cpp's converters.
#[test]
fn the_cpu_twin_agrees_with_transformers_on_ggufs_of_each_family() {
    let mut report = Report::default();
    for name in GGUFS {
        let tiny = Tiny::read(name);
        let checkpoint = block_on(Checkpoint::open(folder(&format!("{name}.gguf")))).unwrap();
        let mut delta = 0.0;
        Llama::load(&checkpoint, false).score(
            &tiny.reference.ids,
            |_| true,
            |position, logits| {
                delta = worse(delta, Known::Row(tiny.row(position)).max_delta(logits));
            },
        );
        report.delta(&format!("{name}.gguf"), delta, ROUNDING);
    }
    report.finish();
}

#[test]
fn the_cpu_twin_agrees_with_transformers_on_the_gguf() {
    let checkpoint = block_on(Checkpoint::open(model_path())).unwrap();
    let golden = Golden::read();
    let reference = &golden.prompts["english"].reference;
    let expected = last_logits(&folder(""), reference).unwrap();
    let mut report = Report::default();
    let last = reference.ids.len() - 1;
    let each = |_: usize, logits: &[f32]| report.delta("english", Known::Row(&expected).max_delta(logits), ROUNDING);
    Llama::load(&checkpoint, false).score(&reference.ids, |position| position == last, each);
    report.finish();
}
