//! Sequences that share pages and decode together: they read these pages once, and no bit changes.

use headstart::engine::{EngineOptions, Request};
use headstart::kernels::{
    Heads, KvFormat,
    attention::cascade::{Row, Sharing},
};
use serde_json::Value;

use crate::cli::{headstart, json_of};
use crate::reuse::{cold, prompt};
use crate::support::engine::{generate, greedy, load, run, run_behind};
use crate::support::odd::Tiny;
use crate::support::variant::Speaker;

/// Dense and with windows, in both formats of pages.
const MODELS: [(&str, KvFormat); 3] =
    [("tiny-odd-f16", KvFormat::F16), ("tiny-gemma3-f16", KvFormat::F16), ("tiny-gemma2-f16", KvFormat::Q8)];

/// A request for `answer` tokens that begins with the first `shared` tokens of prompt `seed`, and goes on with `own` others.
fn behind(vocabulary: usize, seed: usize, shared: usize, own: usize, answer: usize) -> Request {
    let tokens = [prompt(shared, vocabulary, seed), prompt(own, vocabulary, seed + 10 * own + answer)].concat();
    Request { logits: true, exact: true, ..greedy(&tokens, answer) }
}

/// Two groups and a loner. The second group comes while the first decodes; sequences of both end before others.
#[test]
fn sequences_that_share_pages_answer_as_each_alone() {
    for (name, kv) in MODELS {
        let tiny = Tiny::read(name);
        let of = |seed, shared, own, answer| behind(tiny.vocabulary, seed, shared, own, answer);
        let first = [of(1, 272, 3, 24), of(1, 272, 19, 18), of(1, 272, 1, 21), of(1, 272, 40, 20), of(3, 9, 1, 22)];
        let second = [of(2, 300, 5, 4), of(2, 300, 2, 9), of(2, 300, 33, 6)];
        let mut engine = load(&tiny.folder, &EngineOptions { kv, ..EngineOptions::default() });
        let together = run_behind(&mut engine, &first, &second);
        for (request, together) in first.iter().chain(&second).zip(&together) {
            let alone = run(&mut engine, &[cold(request.clone())]).remove(0);
            let what = format!("{name}: a prompt of {} tokens", request.tokens.len());
            assert_eq!(alone.tokens, together.tokens, "{what}");
            let parted = alone.logits.iter().zip(&together.logits).position(|(a, b)| a != b);
            assert_eq!(parted, None, "{what}: token whose logits differ");
        }
    }
}

#[test]
fn pages_that_sequences_share_are_read_once_a_tile() {
    const ROWS: usize = 5;
    const PROMPT: usize = 301;
    let tiny = Tiny::read("tiny-odd-f16");
    let common = prompt(PROMPT - 1, tiny.vocabulary, 1);
    let options = EngineOptions { kv_tokens: Some(4096), ..EngineOptions::default() };
    let [mut together, mut apart] = [(); 2].map(|()| load(&tiny.folder, &options));
    // Sequences with different salts share no pages. The beginnings are known when all come, so they decode in the same steps.
    let answers = [(&mut together, false), (&mut apart, true)].map(|(engine, salted)| {
        let salt = |i: usize| if salted { i.to_string() } else { String::new() };
        let of = |tokens: &[u32], i, answer| Request { cache_salt: salt(i), ..greedy(tokens, answer) };
        (0..ROWS).for_each(|i| drop(generate(engine, &[of(&common, i, 1)])));
        let requests: Vec<Request> = (0..ROWS).map(|i| of(&[&common[..], &[i as u32]].concat(), i, 40)).collect();
        generate(engine, &requests)
    });
    assert_eq!(answers[0], answers[1]);

    let config = together.config();
    let heads = Heads { heads: config.heads, kv_heads: config.kv_heads, head_dim: config.head_dim, kv: KvFormat::F16 };
    let row = Row { position: PROMPT, pages: &[0; 64] };
    let plan = Sharing::of(&heads, together.caps(), together.context()).map(|sharing| sharing.plan(&[row; ROWS]));
    let cascade = plan.unwrap_or_default().cascade;
    // Keys and values in f16 are read less often; queries in f32 are read once more.
    let kv = (cascade.spared - cascade.read) * 2 * 2 * heads.kv_heads * heads.head_dim;
    let queries = cascade.rows * 4 * heads.heads * heads.head_dim;
    let (layers, counters, alone) = (config.layers.len() as f64, together.counters(), apart.counters());
    let spared = ROWS as f64 * (alone.bytes_read_per_token - counters.bytes_read_per_token);
    assert_eq!((spared / layers).round(), (kv - queries) as f64);
    let more = f64::from(u8::from(cascade.tiles > 0));
    assert_eq!(alone.dispatches_per_token * ROWS as f64, 6.0 * layers + 4.0);
    assert_eq!((counters.dispatches_per_token * ROWS as f64).round(), (6.0 + more) * layers + 4.0);
    assert_eq!(counters.submits_per_token, 1.0 / ROWS as f64);
    assert_eq!(counters.bind_groups_created_per_token, 0.0);
    if together.adapter_kind() == headstart::gpu::AdapterKind::Cpu {
        assert!(cascade.tiles > 0 && spared > 0.0, "{cascade:?}");
    }
}

#[test]
fn bench_measures_answers_that_share_their_context() {
    let speaker = Speaker::make();
    let folder = speaker.folder.path().to_str().unwrap();
    let flags =
        ["-m", folder, "--prefill", "8", "--decode", "4", "--depth", "300", "--batch", "4", "--runs", "1", "--json"];
    let [shared, apart] = [&["--shared"][..], &[]].map(|more| {
        let arguments = [&["bench"], &flags[..], more].concat();
        let bench = json_of(&mut headstart(&arguments));
        assert_eq!(bench["decode"][0]["shared"], !more.is_empty());
        assert!(bench["decode"][0]["tok_s"]["median"].as_f64() > Some(0.0));
        bench
    });
    let pages = |bench: &Value| bench["memory"]["kv_bytes"].as_u64().unwrap();
    assert!(pages(&shared) < pages(&apart), "{shared} {apart}");
}
