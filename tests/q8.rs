//! Keys and values in 8 bits, in whole models: the same bits however a prompt is cut and wherever its beginning comes from, and
//! answers close to those in 16 bits.

use headstart::engine::{Engine, EngineOptions};
use headstart::gpu::Preset;
use headstart::kernels::KvFormat;
use pollster::block_on;

use crate::reuse::{chunked, cold, prompt, same, watched};
use crate::support::engine::{greedy, load, run, score_bits};
use crate::support::golden::{Golden, worse};
use crate::support::model_path;
use crate::support::odd::Tiny;
use crate::support::tiers::{Places, Tier};

/// Dense, of window layers and norms of heads, and of convolutions.
const MODELS: [&str; 3] = ["tiny-odd-f16", "tiny-gemma3-f16", "tiny-lfm2-f16"];

fn q8(options: EngineOptions) -> EngineOptions {
    EngineOptions { kv: KvFormat::Q8, ..options }
}

#[test]
fn neither_chunks_nor_company_change_a_bit() {
    let classes = [(Preset::F32, &MODELS[..]), (Preset::F16, &MODELS[..1])];
    for (preset, name) in classes.into_iter().flat_map(|(preset, names)| names.iter().map(move |name| (preset, name))) {
        let tiny = Tiny::read(name);
        let of = |chunk| load(&tiny.folder, &q8(EngineOptions { kernels: Some(preset), ..chunked(chunk) }));
        let tokens = prompt(83, tiny.vocabulary, 1);
        let mut engine = of(tokens.len());
        let whole = score_bits(&mut engine, &tokens);
        assert!(whole == score_bits(&mut of(1), &tokens), "{name} by 1, {preset:?}");
        let requests = [5, 16, 40].map(|length| cold(watched(&tokens[..length], 6)));
        let together = run(&mut engine, &requests);
        for (request, together) in requests.iter().zip(&together) {
            let alone = &run(&mut engine, std::slice::from_ref(request))[0];
            assert!(alone == together, "{name}: a prompt of {} tokens, {preset:?}", request.tokens.len());
        }
    }
}

/// A conversation whose process ends behind each turn. Every turn finds all that came before on disk and answers as one that
/// computes it.
#[test]
fn turns_find_each_other_on_disk_and_change_no_bit() {
    let places = Places::default();
    for name in MODELS {
        let tiny = Tiny::read(name);
        let options = q8(chunked(48));
        let [mut engine, mut reference] = [(); 2].map(|()| load(&tiny.folder, &options));
        let place = places.new_in(Tier::named("disk"));
        let mut tokens = Vec::new();
        for turn in 0..4 {
            place.restart(&mut engine, "digest");
            let known = tokens.len();
            tokens.extend(prompt(13 + 11 * turn, tiny.vocabulary, turn));
            let what = format!("{name}, turn {turn}");
            let expected = run(&mut reference, &[cold(watched(&tokens, 3))]).remove(0);
            let answer = run(&mut engine, &[watched(&tokens, 3)]).remove(0);
            assert_eq!(answer.cache.sources, (place.tier.sources)(known, tokens.len() - known), "{what}");
            same(&what, &expected, &answer, known);
            block_on(engine.persist()).unwrap();
        }
    }
}

#[test]
fn a_block_on_disk_takes_about_half_of_its_bytes_and_is_no_block_of_the_other_format() {
    let path = model_path();
    let tokens = &Golden::read().prompts["long"].reference.ids[..64];
    let places = Places::default();
    let place = places.new_in(Tier::named("disk"));
    let mut bytes: Vec<f64> = Vec::new();
    let mut engines = [EngineOptions::default(), q8(EngineOptions::default())].map(|options| load(&path, &options));
    for engine in &mut engines {
        place.restart(engine, "digest");
        let before = bytes.iter().sum::<f64>();
        let answer = run(engine, &[greedy(tokens, 0)]).remove(0);
        assert_eq!(answer.cache.sources.computed, tokens.len());
        block_on(engine.persist()).unwrap();
        bytes.push(used(engine) as f64 - before);
    }
    // 17 words instead of 32 for a head of 64 elements, beside headers, tokens and a hidden state.
    assert!((0.53..0.56).contains(&(bytes[1] / bytes[0])), "{bytes:?}");
    let [usual, halved] = engines.each_ref().map(|engine| engine.kv_bytes() as f64);
    assert_eq!(halved / usual, 17.0 / 32.0);
    for engine in &mut engines {
        place.restart(engine, "digest");
        let answer = run(engine, &[greedy(tokens, 0)]).remove(0);
        assert_eq!(answer.cache.sources, (place.tier.sources)(tokens.len(), 0));
    }
}

/// Bytes that the place of an engine holds.
fn used(engine: &Engine) -> u64 {
    engine.tiers().unwrap().stores().last().unwrap().usage().bytes
}

/// How far the logits of a position move at most, of their size: 1.25 times what was measured.
#[test]
fn logits_are_close_to_those_in_16_bits() {
    let tiny = MODELS.map(Tiny::read).map(|tiny| (tiny.folder, tiny.reference.ids, tiny.vocabulary));
    let smol = Golden::read().prompts["long"].reference.ids[..131].to_vec();
    let all = tiny.into_iter().chain([(model_path(), smol, 49_152)]);
    for ((path, ids, vocabulary), most) in all.zip([0.0122, 0.0307, 0.0056, 0.0623]) {
        let of = |kv| {
            let options = EngineOptions { kv, kernels: Some(Preset::F32), ..chunked(ids.len()) };
            score_bits(&mut load(&path, &options), &ids)
        };
        let (exact, rounded) = (of(KvFormat::F16), of(KvFormat::Q8));
        let apart = |(exact, rounded): (&[u32], &[u32])| {
            let floats = |bits: &[u32]| bits.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>();
            let (exact, rounded) = (floats(exact), floats(rounded));
            let spread = (exact.iter().map(|x| x * x).sum::<f32>() / exact.len() as f32).sqrt();
            let delta = exact.iter().zip(&rounded).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / exact.len() as f32;
            delta.sqrt() / spread
        };
        let worst = exact.chunks(vocabulary).zip(rounded.chunks(vocabulary)).map(apart).fold(0.0, worse);
        eprintln!("{}: {worst} of the logits' size", path.display());
        assert!(worst > 0.0 && worst < most, "{}: {worst}", path.display());
    }
}

#[test]
fn names_of_formats_are_checked() {
    assert_eq!(KvFormat::ALL.map(|(name, format)| KvFormat::named(name) == Some(format)), [true; 2]);
    assert_eq!(KvFormat::named("q4"), None);
}
