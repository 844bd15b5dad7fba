//! The engine against Hugging Face transformers, on the same weights: logits, the best token everywhere, greedy text.

use std::collections::BTreeMap;
use std::path::Path;

use headstart::engine::EngineOptions;
use serde::Deserialize;

use crate::support::engine::{check, load};
use crate::support::golden::{Golden, Known, Reference, Report, TOLERANCE, folder, json, last_logits, worse};
use crate::support::odd::{self, Tiny};
use crate::support::{convert, model_path};

#[test]
fn the_gguf_answers_as_transformers_does() {
    let golden = Golden::read();
    let references = golden.prompts.iter().map(|(name, prompt)| (name.as_str(), &prompt.reference));
    hold(&model_path(), &folder(""), references, TOLERANCE);
}

#[test]
fn the_directory_that_save_pretrained_makes_answers_as_transformers_does() {
    #[derive(Deserialize)]
    struct Record {
        prompts: BTreeMap<String, Reference>,
    }
    let committed = folder("smollm2-hf");
    let record: Record = json(&committed.join("reference.json"));
    let directory = tempfile::tempdir().unwrap();
    convert::smollm2_hf(&model_path(), directory.path());
    let references = record.prompts.iter().map(|(name, reference)| (name.as_str(), reference));
    hold(directory.path(), &committed, references, TOLERANCE);
}

/// Every position of every model: 3 query heads to a KV head and 8, heads of 40 and 24 wide, a vocabulary that no tile divides,
/// biases, Llama-3 scaling, tied and separate heads, f16, bf16 and f32 weights, one file and shards.
#[test]
fn odd_shapes_answer_as_transformers_does() {
    let mut report = Report::default();
    for name in odd::NAMES {
        let tiny = Tiny::read(name);
        let mut engine = load(&tiny.folder, &EngineOptions::default());
        check(&mut report, &mut engine, name, &tiny.reference, tiny.tolerance, |at| Some(Known::Row(tiny.row(at))));
    }
    report.finish();
}

#[test]
fn the_comparison_bites() {
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

/// Loads `model` once and holds it against every reference, whose files lie in `committed`.
fn hold<'a>(model: &Path, committed: &Path, references: impl Iterator<Item = (&'a str, &'a Reference)>, tolerance: f32) {
    let mut engine = load(model, &EngineOptions::default());
    let mut report = Report::default();
    for (name, reference) in references {
        let full = last_logits(committed, reference);
        let last = reference.ids.len() - 1;
        check(&mut report, &mut engine, name, reference, tolerance, |at| {
            let known = full.as_deref().map_or(Known::Top(&reference.last_top), Known::Row);
            (at == last).then_some(known)
        });
    }
    report.finish();
}
