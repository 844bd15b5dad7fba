//! Prompts in 8 bits, in whole models: the same bits however a prompt is cut and wherever its beginning comes from, and answers
//! close to those in f32.

use headstart::Numerics;
use headstart::engine::EngineOptions;
use headstart::gpu::Preset;
use headstart::quant::Format;
use pollster::block_on;

use crate::reuse::{chunked, cold, prompt, same, watched};
use crate::support::engine::{greedy, load, run, score_bits};
use crate::support::golden::Golden;
use crate::support::model_path;
use crate::support::odd::Tiny;
use crate::support::tiers::{Places, Tier};

/// Dense, of window layers and norms of heads, of convolutions, and of experts.
const MODELS: [&str; 4] = ["tiny-qwen2-bf16", "tiny-gemma3-f16", "tiny-lfm2-f16", "tiny-qwen3-moe-f16"];

/// The tiny models' weights are no integers, so they are quantised while loading.
fn with(kernels: Preset, options: EngineOptions) -> EngineOptions {
    EngineOptions { kernels: Some(kernels), quantize: Some(Format::Q8_0), ..options }
}

#[test]
fn neither_chunks_nor_company_change_a_bit() {
    for name in MODELS {
        let tiny = Tiny::read(name);
        let of = |kernels, chunk| load(&tiny.folder, &with(kernels, chunked(chunk)));
        let tokens = prompt(83, tiny.vocabulary, 1);
        let mut engine = of(Preset::Int8, tokens.len());
        assert_eq!((engine.numerics(), engine.notes()), (Numerics::Int8, &[][..]), "{name}");
        let whole = score_bits(&mut engine, &tokens);
        assert!(whole != score_bits(&mut of(Preset::F32, tokens.len()), &tokens), "{name} is computed in f32");
        assert!(whole == score_bits(&mut of(Preset::Int8, 16), &tokens), "{name} by 16");
        let requests = [5, 16, 40].map(|length| cold(watched(&tokens[..length], 6)));
        let together = run(&mut engine, &requests);
        for (request, together) in requests.iter().zip(&together) {
            let alone = &run(&mut engine, std::slice::from_ref(request))[0];
            assert!(alone == together, "{name}: a prompt of {} tokens", request.tokens.len());
        }
    }
}

/// A conversation whose process ends behind each turn finds what came before, and nothing of another class.
#[test]
fn turns_find_each_other_on_disk_and_change_no_bit() {
    let places = Places::default();
    let tiny = Tiny::read(MODELS[0]);
    let [mut engine, mut reference, mut other] =
        [Preset::Int8, Preset::Int8, Preset::F32].map(|kernels| load(&tiny.folder, &with(kernels, chunked(48))));
    let place = places.new_in(Tier::named("disk"));
    let mut tokens = Vec::new();
    for turn in 0..3 {
        place.restart(&mut engine, "digest");
        let known = tokens.len();
        tokens.extend(prompt(13 + 11 * turn, tiny.vocabulary, turn));
        let expected = run(&mut reference, &[cold(watched(&tokens, 3))]).remove(0);
        let answer = run(&mut engine, &[watched(&tokens, 3)]).remove(0);
        assert_eq!(answer.cache.sources, (place.tier.sources)(known, tokens.len() - known), "turn {turn}");
        same(&format!("turn {turn}"), &expected, &answer, known);
        block_on(engine.persist()).unwrap();
    }
    place.restart(&mut other, "digest");
    assert_eq!(run(&mut other, &[greedy(&tokens, 0)])[0].cache.sources.computed, tokens.len());
}

#[test]
fn a_model_in_4_bits_answers_almost_as_in_f32() {
    let tokens = &Golden::read().prompts["english"].reference.ids;
    let [exact, bytes] = [Preset::F32, Preset::Int8].map(|kernels| {
        let options = EngineOptions { kernels: Some(kernels), ..EngineOptions::default() };
        score_bits(&mut load(&model_path(), &options), tokens).into_iter().map(f32::from_bits).collect::<Vec<_>>()
    });
    let size = exact.iter().map(|x| x * x).sum::<f32>().sqrt();
    let change = exact.iter().zip(&bytes).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
    println!("logits moved by {change:.4} of their size");
    // Rounding x moves a product by less than rounding weights to 8 bits does, see parity.rs.
    assert!(change > 1e-4 && change < 0.06, "{change}");
}
