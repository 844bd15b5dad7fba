//! RoPE scaling: the same from both kinds of checkpoint, with the numbers that transformers computes.

use headstart::engine::{EngineOptions, KvIdentity};
use headstart::gpu::Numerics;
use headstart::model::{Config, FactorList, Rope, Scaling};
use headstart::quant::Format;
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use crate::checkpoints::tiny;
use crate::config::{from_gguf, refused, with_json, with_key};
use crate::support::engine::{check, load};
use crate::support::golden::{Known, Report, folder, worse};
use crate::support::llama::Llama;
use crate::support::odd::Tiny;

fn rope(config: &Config) -> &Rope {
    config.layers[0].rope.as_ref().unwrap()
}

fn yarn(fields: Value) -> Value {
    let mut group = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    group.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "rope_scaling": group })
}

#[track_caller]
fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (x, y) in found.iter().zip(expected) {
        assert!((x / y - 1.0).abs() < 2e-6, "{found:?}, expected {expected:?}");
    }
}

/// Numbers of transformers' `_compute_yarn_parameters`, in f32.
#[test]
fn yarn_frequencies_are_those_of_transformers() {
    let rope = |theta, dims, factor, truncate, original_context| Rope {
        theta,
        dims,
        scaling: Scaling::Yarn { factor, beta_fast: 32.0, beta_slow: 1.0, original_context, truncate, magnitude: 1.0 },
    };
    // Qwen 2.5: pairs up to 23 are kept; from 39 on they are divided.
    let qwen = rope(1e6, 128, 4.0, true, 32768).inv_freq(None).unwrap();
    let some: Vec<f64> = [0, 1, 23, 24, 31, 38, 39, 40, 63].into_iter().map(|pair| qwen[pair]).collect();
    let expected = [
        1.0,
        0.8058422207832336,
        0.006978305988013744,
        0.005375321488827467,
        0.000802959781140089,
        9.262301318813115e-05,
        6.490394298452884e-05,
        4.4456985051510856e-05,
        3.102344408034696e-07,
    ];
    close(&some, &expected);
    let expected = [
        1.0,
        0.3162277638912201,
        0.10000000149011612,
        0.023914724588394165,
        0.005124999675899744,
        0.0008498621755279601,
        2.499999936844688e-05,
        7.905694474175107e-06,
    ];
    close(&rope(1e4, 16, 40.0, true, 4096).inv_freq(None).unwrap(), &expected);
    let expected = [
        1.0,
        0.22541800141334534,
        0.05081327259540558,
        0.006794959306716919,
        0.0004564839182421565,
        1.818833698052913e-05,
        4.099978468730114e-06,
        9.242089618055616e-07,
    ];
    close(&rope(150_000.0, 16, 32.0, false, 4096).inv_freq(None).unwrap(), &expected);
    // No pair completes a rotation within four tokens.
    let expected = [1.0, 0.15811388194561005, 0.05000000074505806, 0.015811389312148094];
    close(&rope(10_000.0, 16, 2.0, true, 4).inv_freq(None).unwrap()[..4], &expected);
}

#[test]
fn yarn_is_the_same_in_both_kinds_of_checkpoint() {
    let read = |fields| with_json(yarn(fields)).unwrap();
    let plain = read(json!({}));
    let scaling = Scaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_context: 32,
        truncate: true,
        magnitude: 0.1 * 4f64.ln() + 1.0,
    };
    assert_eq!(rope(&plain).scaling, scaling);
    assert_eq!((plain.context, read(json!({ "factor": 8.0 })).context), (128, 256), "the scaled context");
    assert_eq!(rope(&read(json!({ "factor": null }))), rope(&plain), "128 tokens of 32");
    assert_eq!(rope(&read(json!({ "rope_type": null, "type": "yarn" }))), rope(&plain));

    let magnitude = |fields| rope(&read(fields)).magnitude();
    for (fields, expected) in [
        (json!({ "attention_factor": 0.9 }), 0.9),
        (json!({ "factor": 40, "mscale": 1.0, "mscale_all_dim": 0.707 }), 1.0857263992561355),
        (json!({ "factor": 40, "mscale": 1.0 }), 1.3688879454113936),
        (json!({ "mscale": 1.0, "mscale_all_dim": 1.0 }), 1.0),
        (json!({ "factor": 0.5 }), 1.0),
    ] {
        let found = magnitude(fields.clone());
        assert!((found - expected).abs() < 1e-12, "{fields}: {found}, expected {expected}");
    }
    let other = read(json!({ "beta_fast": 4, "beta_slow": 0.5, "truncate": false }));
    assert!(matches!(rope(&other).scaling, Scaling::Yarn { beta_fast: 4.0, beta_slow: 0.5, truncate: false, .. }));

    let mut file = tiny::gguf(&tiny::config(), Format::F32);
    file.set("llama.rope.scaling.type", "yarn").set("llama.rope.scaling.factor", 4.0);
    file.set("llama.rope.scaling.original_context_length", 32);
    assert_eq!(rope(&from_gguf(&file).unwrap()), rope(&plain));
    file.set("llama.rope.scaling.attn_factor", 0.5);
    assert_eq!(rope(&from_gguf(&file).unwrap()).magnitude(), 0.5 * rope(&plain).magnitude());
    file.set("llama.rope.scaling.yarn_log_multiplier", 1.0);
    assert_eq!(rope(&from_gguf(&file).unwrap()).magnitude(), 0.5);
    file.set("llama.rope.scaling.yarn_beta_fast", 4.0).set("llama.rope.scaling.yarn_beta_slow", 0.5);
    let (found, expected) = (from_gguf(&file).unwrap(), read(json!({ "beta_fast": 4, "beta_slow": 0.5 })));
    assert_eq!(rope(&found).inv_freq(None).unwrap(), rope(&expected).inv_freq(None).unwrap());
    refused(from_gguf(file.set("llama.rope.scaling.yarn_ext_factor", 0.5)), &["tiny.gguf", "yarn_ext_factor"]);

    refused(with_json(yarn(json!({ "beta_fast": 1 }))), &["config.json", "rope_scaling.beta_fast", "above"]);
    refused(with_json(yarn(json!({ "attention_factor": -1.0 }))), &["rope_scaling.attention_factor", "above 0"]);
    refused(with_key("llama.rope.scaling.type", "yarn"), &["tiny.gguf", "rope.scaling.factor", "missing"]);
}

/// Dynamic scaling begins beyond the configuration's context, which no sequence exceeds.
#[test]
fn dynamic_scaling_changes_nothing_within_the_context() {
    let dynamic = with_json(json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 4.0 } })).unwrap();
    assert_eq!(dynamic, with_json(json!({})).unwrap());
}

const PHI4: &str = "tiny-phi4-f16";
/// The longest context that uses the short list.
const ORIGINAL: usize = 71;

fn phi4() -> [Checkpoint; 2] {
    [PHI4.to_owned(), format!("{PHI4}.gguf")].map(|name| block_on(Checkpoint::open(folder(&name))).unwrap())
}

/// The comparisons over all tiny models cover the long list; this one covers the short list.
#[test]
fn longrope_takes_the_short_list_if_no_context_exceeds_the_original() {
    let short = Tiny::read(PHI4).short();
    let known = |position| Some(Known::Row(short.row(position)));
    let mut report = Report::default();
    for (checkpoint, path) in phi4().iter().zip([PHI4.to_owned(), format!("{PHI4}.gguf")]) {
        let config = Config::from_checkpoint(checkpoint).unwrap();
        let deltas = [ORIGINAL, ORIGINAL + 1].map(|context| {
            let mut delta = 0.0;
            let twin = Llama::of(checkpoint, config.clone().for_context(context), false);
            twin.score(
                &short.reference.ids,
                |_| true,
                |position, logits| {
                    delta = worse(delta, Known::Row(short.row(position)).max_delta(logits));
                },
            );
            delta
        });
        report.delta(&format!("{path}, the twin"), deltas[0], 1e-4);
        report.check(deltas[1] > 0.1, || format!("{path}: the long list must make a difference: {}", deltas[1]));
        let options = EngineOptions { context: Some(ORIGINAL), ..EngineOptions::default() };
        check(&mut report, &mut load(&folder(&path), &options), &path, &short.reference, short.tolerance, known);
    }
    report.finish();
}

#[test]
fn kv_of_one_list_is_not_found_with_the_other() {
    let tokens: Vec<u32> = (0..40).collect();
    for checkpoint in phi4() {
        let config = Config::from_checkpoint(&checkpoint).unwrap();
        let at = |context| {
            let config = config.clone().for_context(context);
            let Scaling::LongRope { list, .. } = rope(&config).scaling else { panic!("{config:?}") };
            (list, KvIdentity::new(&config, "digest", None, Numerics::default()).keys(&tokens, ""))
        };
        let (short, long) = (at(ORIGINAL), at(ORIGINAL + 1));
        assert_eq!((short.0, long.0), (FactorList::Short, FactorList::Long));
        assert!(short.1.iter().all(|key| !long.1.contains(key)));
        assert!(at(16) == short && at(512) == long, "otherwise the context does not change the name");
        assert_eq!(
            KvIdentity::new(&config, "digest", None, Numerics::default()).keys(&tokens, ""),
            long.1,
            "the whole context"
        );
        // An engine names its KV by the context that it was loaded with.
        for (context, expected) in [(Some(ORIGINAL), &short.1), (None, &long.1)] {
            let options = EngineOptions { context, ..EngineOptions::default() };
            let engine = load(std::path::Path::new(&checkpoint.name), &options);
            let named = KvIdentity::new(engine.config(), "digest", None, Numerics::default()).keys(&tokens, "");
            assert_eq!(&named, expected);
        }
    }
}

#[test]
fn longrope_is_the_same_wherever_its_fields_are() {
    let lists = json!({ "short_factor": vec![1.0; 8], "long_factor": vec![2.5; 8] });
    let read = |kind: &str, original: Value, more: Value| {
        let mut group = lists.clone();
        group["type"] = json!(kind);
        group.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut fields = original;
        fields["rope_scaling"] = group;
        with_json(fields)
    };
    let outside = || json!({ "original_max_position_embeddings": 32 });
    let known = read("longrope", outside(), json!({})).unwrap();
    let magnitude = (1.0 + 4f64.ln() / 32f64.ln()).sqrt();
    let scaling = Scaling::LongRope {
        original_context: 32,
        list: FactorList::Long,
        lists: Some([vec![1.0; 8], vec![2.5; 8]]),
        magnitude,
    };
    assert_eq!((&rope(&known).scaling, known.context), (&scaling, 128));
    for kind in ["su", "yarn"] {
        assert_eq!(read(kind, outside(), json!({})).unwrap(), known, "{kind}, as Phi-3 called it");
    }
    assert_eq!(read("longrope", json!({}), outside()).unwrap(), known);
    let both = read("longrope", outside(), json!({ "original_max_position_embeddings": 64 })).unwrap();
    assert_eq!(both, known, "outer fields take precedence");
    let given = |more| rope(&read("longrope", outside(), more).unwrap()).magnitude();
    assert_eq!(given(json!({ "attention_factor": 1.25 })), 1.25);
    assert_eq!(given(json!({ "factor": 1.0 })), 1.0);
    let plain = Rope { scaling: Scaling::None, ..rope(&known).clone() }.inv_freq(None).unwrap();
    let halves = |context| rope(&known.clone().for_context(context)).inv_freq(None).unwrap();
    assert_eq!(halves(32), plain);
    close(&halves(33), &plain.iter().map(|x| x / 2.5).collect::<Vec<_>>());

    for (wrong, field) in [
        (json!({ "long_factor": vec![1.0; 7] }), "rope_scaling.long_factor"),
        (json!({ "short_factor": vec![0.0; 8] }), "rope_scaling.short_factor"),
        (json!({ "short_factor": "all" }), "rope_scaling.short_factor"),
    ] {
        refused(read("longrope", outside(), wrong), &["dir/config.json", field, "8 numbers above 0"]);
    }
    let without = json!({ "rope_scaling": { "type": "longrope", "short_factor": vec![1.0; 8] } });
    refused(with_json(without), &["rope_scaling.long_factor", "missing"]);
    refused(
        read("longrope", outside(), json!({ "short_mscale": 1.2 })),
        &["rope_scaling.short_mscale", "not supported"],
    );

    // A GGUF file that names the type must contain the list that is used.
    let config = with_key("llama.rope.scaling.type", "longrope").unwrap();
    let file = tiny::gguf(&tiny::config(), Format::F32).build();
    let source = Box::new(headstart::weights::MemorySource::new("tiny.gguf", file));
    let checkpoint = block_on(Checkpoint::gguf(source)).unwrap();
    refused(config.clone().for_context(128).check_tensors(&checkpoint), &["rope_factors_short.weight", "none"]);
    let phi4 = phi4();
    let config = Config::from_checkpoint(&phi4[1]).unwrap();
    assert!(config.roles().iter().any(|role| role.name(phi4[1].kind()) == "rope_factors_long.weight"));
}
