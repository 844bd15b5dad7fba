//! Prompts in f16: whole models with emulated cooperative matrices.

use headstart::Numerics;
use headstart::engine::{EngineOptions, proof::prove};
use headstart::gpu::{AdapterKind, Caps, Fragments, Gpu, Preset, PromptProducts};
use headstart::kernels::{Heads, KvFormat, SHADERS};
use pollster::block_on;

use crate::support::engine::{check, greedy, load, run, score_bits};
use crate::support::golden::{Golden, Known, Report, TOLERANCE, folder, last_logits};
use crate::support::model_path;
use crate::support::odd::Tiny;

/// Dense; with biases; with sliding windows and post-norms; with experts; with convolutions.
const MODELS: [&str; 5] = ["tiny-odd-f16", "tiny-qwen2-bf16", "tiny-gemma3-f16", "tiny-qwen3-moe-f16", "tiny-lfm2-f16"];

fn halves() -> EngineOptions {
    EngineOptions { kernels: Some(Preset::F16), ..EngineOptions::default() }
}

fn chunked(chunk: usize) -> EngineOptions {
    EngineOptions { chunk: Some(chunk), max_sequences: Some(chunk), ..halves() }
}

const HEADS: Heads = Heads { heads: 6, kv_heads: 2, head_dim: 64, kv: KvFormat::F16 };

#[test]
fn models_in_f16_answer_as_transformers_does() {
    let mut report = Report::default();
    for name in MODELS {
        let tiny = Tiny::read(name);
        let mut engine = load(&tiny.folder, &halves());
        assert_eq!(engine.numerics(), Numerics::F16 { fragment: 16 });
        check(&mut report, &mut engine, name, &tiny.reference, TOLERANCE, |at| Some(Known::Row(tiny.row(at))));
    }
    let reference = &Golden::read().prompts["english"].reference;
    let full = last_logits(&folder(""), reference);
    let last = reference.ids.len() - 1;
    check(&mut report, &mut load(&model_path(), &halves()), "SmolLM2", reference, TOLERANCE, |position| {
        let known = full.as_deref().map_or(Known::Top(&reference.last_top), Known::Row);
        (position == last).then_some(known)
    });
    report.finish();
}

/// Tiles of 16 and of 64 tokens give a row the same bits, whatever its neighbours are.
#[test]
fn neither_chunks_nor_the_batch_change_a_bit() {
    for name in MODELS {
        let tiny = Tiny::read(name);
        let tokens: Vec<u32> = (0..83).map(|i| (i * i * 31 + i * 17 + 104) % tiny.vocabulary as u32).collect();
        let mut engine = load(&tiny.folder, &chunked(tokens.len()));
        let whole = score_bits(&mut engine, &tokens);
        // One token at a time uses the smallest tiles alone.
        let chunks: &[usize] = if name == MODELS[0] { &[1, 16] } else { &[16] };
        for &chunk in chunks {
            assert!(whole == score_bits(&mut load(&tiny.folder, &chunked(chunk)), &tokens), "{name} by {chunk}");
        }
        let requests = [5, 16, 40].map(|length| {
            let mut request = greedy(&tokens[..length], 6);
            (request.no_cache, request.logits) = (true, true);
            request
        });
        let together = run(&mut engine, &requests);
        for (request, together) in requests.iter().zip(&together) {
            let alone = &run(&mut engine, std::slice::from_ref(request))[0];
            assert!(alone.logits == together.logits, "{name}: a prompt of {} tokens", request.tokens.len());
        }
    }
}

#[test]
fn results_in_f32_and_f16_differ_by_little() {
    let tiny = Tiny::read(MODELS[0]);
    let of = |kernels| {
        let options = EngineOptions { kernels: Some(kernels), ..EngineOptions::default() };
        score_bits(&mut load(&tiny.folder, &options), &tiny.reference.ids)
    };
    let (exact, halves) = (of(Preset::F32), of(Preset::F16));
    let delta = |(a, b): (&u32, &u32)| (f32::from_bits(*a) - f32::from_bits(*b)).abs();
    let worst = exact.iter().zip(&halves).map(delta).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < TOLERANCE, "{worst}");
    // Without subgroups, sums have another order.
    let portable = of(Preset::Portable);
    assert!(exact.iter().zip(&portable).map(delta).fold(0.0, f32::max) < TOLERANCE);
}

/// An adapter claims features that it lacks, as a broken driver would.
#[test]
fn features_that_compute_wrong_results_are_disabled_with_a_note() {
    let emulated = Fragments { side: 16, emulated: Some(32) };
    let table = [
        // Clusters and matrices that it claims; those that remain; the notes.
        (None, Some(emulated), None, Some(emulated), &[][..]),
        (None, Some(Fragments { side: 16, emulated: None }), None, None, &["matrices of f16 are refused"]),
        (Some(16), Some(emulated), None, Some(emulated), &["subgroups give wrong results"]),
    ];
    for (cluster_size, fragments, left_cluster_size, left_fragments, told) in table {
        let mut gpu = block_on(Gpu::open(SHADERS, Preset::F16)).unwrap();
        let own = gpu.caps().clone();
        if own.kind == AdapterKind::Gpu {
            // A real GPU has what it claims.
            assert_eq!((block_on(prove(&mut gpu, HEADS)).unwrap(), gpu.caps()), (vec![], &own));
            continue;
        }
        let prompts = fragments.map_or(PromptProducts::F32, PromptProducts::F16);
        gpu.restrict(Caps { kind: AdapterKind::Gpu, cluster_size, prompts, ..own });
        let notes = block_on(prove(&mut gpu, HEADS)).unwrap();
        assert_eq!((gpu.caps().cluster_size, gpu.caps().fragments()), (left_cluster_size, left_fragments), "{notes:?}");
        assert_eq!(notes.len(), told.len(), "{notes:?}");
        assert!(notes.iter().zip(told).all(|(note, about)| note.contains(about)), "{notes:?}");
    }
    // Products in 8 bits that work stay enabled.
    let mut gpu = block_on(Gpu::open(SHADERS, Preset::Int8)).unwrap();
    assert!(block_on(prove(&mut gpu, HEADS)).unwrap().is_empty() && gpu.caps().prompts == PromptProducts::Int8);
    // Clusters that work stay enabled, in every decode kernel, here in subgroups of twice their size.
    let mut gpu = block_on(Gpu::open(SHADERS, Preset::F32)).unwrap();
    let cluster_size = gpu.caps().cluster_size.map(|size| size / 2);
    assert!(cluster_size.is_some());
    let claimed = Caps { kind: AdapterKind::Gpu, cluster_size, ..gpu.caps().clone() };
    gpu.restrict(claimed.clone());
    assert_eq!((block_on(prove(&mut gpu, HEADS)).unwrap(), gpu.caps()), (vec![], &claimed));
}

/// No specification promises that the invocations of a subgroup are neighbours by index. Here they are apart, in the kernel that
/// is proved last.
#[test]
fn subgroups_whose_lanes_are_no_neighbours_are_disabled_with_a_note() {
    let apart = |&(path, text): &(&'static str, &'static str)| {
        if path != "linear/staged" {
            return (path, text);
        }
        let renamed = text.replace("local_invocation_index) lane: u32", "local_invocation_index) index: u32");
        let (head, body) = renamed.split_once(") {\n  if (elsewhere").unwrap();
        let lane = "let lane = index % 8u * (LANES / 8u) + index / 8u;";
        (path, &*format!("{head}) {{\n  {lane}\n  if (elsewhere{body}").leak())
    };
    let shaders: Vec<_> = SHADERS.iter().map(apart).collect();
    let mut gpu = block_on(Gpu::open(shaders.leak(), Preset::F32)).unwrap();
    let cluster_size = gpu.caps().cluster_size.map(|size| size / 2);
    gpu.restrict(Caps { kind: AdapterKind::Gpu, cluster_size, ..gpu.caps().clone() });
    let notes = block_on(prove(&mut gpu, HEADS)).unwrap();
    assert!(notes.len() == 1 && notes[0].contains("subgroups give wrong results"), "{notes:?}");
    assert_eq!((gpu.caps().subgroup_size, gpu.caps().cluster_size), (None, None));
}

#[test]
fn the_names_of_presets_are_checked() {
    assert_eq!(Preset::named("portable"), Some(Preset::Portable));
    assert_eq!(Preset::named("F16"), None);
}
