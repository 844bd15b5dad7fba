//! What stretches RoPE: read alike from both kinds of checkpoint, with the numbers that transformers computes.

use headstart::model::{Config, Rope, Scaling};
use headstart::quant::Format;
use serde_json::{Value, json};

use crate::checkpoints::tiny;
use crate::config::{from_gguf, refused, with_json, with_key};

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
fn yarn_turns_as_transformers_does() {
    let rope = |theta, dims, factor, truncate, original_context| Rope {
        theta,
        dims,
        scaling: Scaling::Yarn { factor, beta_fast: 32.0, beta_slow: 1.0, original_context, truncate, magnitude: 1.0 },
    };
    // Qwen 2.5: pairs to 23 are kept, from 39 on divided.
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
    // No pair turns once in four tokens.
    let expected = [1.0, 0.15811388194561005, 0.05000000074505806, 0.015811389312148094];
    close(&rope(10_000.0, 16, 2.0, true, 4).inv_freq(None).unwrap()[..4], &expected);
}

#[test]
fn yarn_reads_alike_in_both_kinds_of_checkpoint() {
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
    assert_eq!((plain.context, read(json!({ "factor": 8.0 })).context), (128, 256), "what it was stretched to");
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

/// Dynamic scaling begins behind the context of the configuration, which no sequence leaves.
#[test]
fn dynamic_scaling_changes_nothing_within_the_context() {
    let dynamic = with_json(json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 4.0 } })).unwrap();
    assert_eq!(dynamic, with_json(json!({})).unwrap());
}
