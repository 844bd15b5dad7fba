//! The engine compared with Hugging Face transformers on the same weights: logits, the best token at every position, greedy
//! text.

use std::collections::BTreeMap;
use std::path::Path;

use headstart::engine::EngineOptions;
use headstart::quant::Format;
use serde::Deserialize;

use crate::support::engine::{check, load, score_bits};
use crate::support::golden::{Golden, Known, Reference, Report, TOLERANCE, folder, json, last_logits};
use crate::support::odd::{Tiny, all};
use crate::support::{convert, model_path};

#[test]
fn the_gguf_answers_as_transformers_does() {
    let golden = Golden::read();
    let references = golden.prompts.iter().map(|(name, prompt)| (name.as_str(), &prompt.reference));
    let mut report = Report::default();
    hold(&mut report, &model_path(), &folder(""), references);
    report.finish();
}

#[test]
fn a_directory_of_save_pretrained_answers_as_transformers_does() {
    #[derive(Deserialize)]
    struct Record {
        prompts: BTreeMap<String, Reference>,
    }
    let committed = folder("smollm2-hf");
    let record: Record = json(&committed.join("reference.json"));
    let directory = tempfile::tempdir().unwrap();
    convert::smollm2_hf(&model_path(), directory.path());
    let references = record.prompts.iter().map(|(name, reference)| (name.as_str(), reference));
    let mut report = Report::default();
    hold(&mut report, directory.path(), &committed, references);
    report.finish();
    hold_quantised(directory.path(), &record.prompts["english"].ids);
}

/// Quantising while loading shrinks the weights, and moves the logits by no more than rounding explains.
fn hold_quantised(model: &Path, tokens: &[u32]) {
    let of = |quantize| {
        let mut engine = load(model, &EngineOptions { quantize, ..EngineOptions::default() });
        let bits = score_bits(&mut engine, tokens);
        (bits.into_iter().map(f32::from_bits).collect::<Vec<_>>(), engine.counters().weight_bytes as f64)
    };
    let (exact, half_bytes) = of(None);
    let size = exact.iter().map(|x| x * x).sum::<f32>().sqrt();
    // 8.5 bits for each weight; or 4.5, and 8.5 for the embedding, which is a fifth of the weights. A weight's rounding error
    // is at most 1/254 or 1/16 of its block's largest, and thirty layers amplify it a few times.
    for (format, most_bytes, least_noise, most_noise) in
        [(Format::Q8_0, 0.535, 1e-3, 0.06), (Format::Q4_0, 0.36, 0.06, 0.6)]
    {
        let (quantised, bytes) = of(Some(format));
        let change = exact.iter().zip(&quantised).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
        println!(
            "{}: {:.3} of the bytes, logits moved by {change:.4} of their size",
            format.name(),
            bytes / half_bytes
        );
        assert!(bytes < most_bytes * half_bytes, "{} bytes of {half_bytes}", bytes);
        assert!((least_noise..most_noise).contains(&change), "{}: {change}", format.name());
    }
}

/// Every position of every model: groups of 3 and 8 query heads, heads of 40 and 24, a vocabulary that no tile divides, biases,
/// Llama-3 scaling, tied and separate heads, f16, bf16 and f32 weights, one file and shards; Qwen 2 and 3, SmolLM3.
#[test]
fn odd_shapes_answer_as_transformers_does() {
    let mut report = Report::default();
    for name in all() {
        let tiny = Tiny::read(name);
        let mut engine = load(&tiny.folder, &EngineOptions::default());
        let known = |position| Some(Known::Row(tiny.row(position)));
        check(&mut report, &mut engine, name, &tiny.reference, tiny.tolerance, known);
    }
    report.finish();
}

/// Loads `model` once and compares it with every reference, whose files are in `committed`.
fn hold<'a>(
    report: &mut Report,
    model: &Path,
    committed: &Path,
    references: impl Iterator<Item = (&'a str, &'a Reference)>,
) {
    let mut engine = load(model, &EngineOptions::default());
    for (name, reference) in references {
        let full = last_logits(committed, reference);
        let last = reference.ids.len() - 1;
        check(report, &mut engine, name, reference, TOLERANCE, |position| {
            let known = full.as_deref().map_or(Known::Top(&reference.last_top), Known::Row);
            (position == last).then_some(known)
        });
    }
}
