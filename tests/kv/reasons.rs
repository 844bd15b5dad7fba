//! Every reason for a miss, each from a state that causes it.

use headstart::kv::{AdmitOptions, Cache, CacheConfig, Fields, Miss, Namespace, Producer, Reason, Report};

fn namespace(weights: &str, salt: &str) -> Namespace {
    Namespace::new(Fields { weights: weights.into(), salt: salt.into(), ..Fields::default() })
}

fn own() -> Namespace {
    namespace("w", "")
}

fn prompt() -> Vec<u32> {
    (0..50).collect()
}

fn learn(cache: &mut Cache, namespace: &Namespace, tokens: &[u32], producer: Producer) {
    let admission = cache.admit(namespace, tokens, &AdmitOptions::default()).expect("room");
    let mut table = admission.table;
    cache.append(&mut table, tokens.len() - admission.cached_tokens).expect("room");
    cache.publish(&mut table, &tokens[admission.cached_tokens..], producer);
    cache.release(table);
}

/// The report for the prompt, from a cache that `prepare` has filled, under `options`.
fn told(config: CacheConfig, options: &AdmitOptions, prepare: impl Fn(&mut Cache)) -> Report {
    let mut cache = Cache::new(config);
    prepare(&mut cache);
    let admission = cache.admit(&own(), &prompt(), options).expect("room");
    cache.release(admission.table);
    admission.report
}

#[test]
fn every_reason_is_reported_where_it_holds() {
    let usual = CacheConfig { capacity: 16, ..CacheConfig::default() };
    let plain = AdmitOptions::default();
    let across = AdmitOptions { across_salts: true, ..plain.clone() };
    let prefill =
        |cache: &mut Cache, namespace: &Namespace, tokens: &[u32]| learn(cache, namespace, tokens, Producer::Prefill);
    let other = [&prompt()[..20], &[999; 20]].concat();
    let cases = [
        ("cold", 0, 49, told(usual.clone(), &plain, |_| {})),
        ("diverged", 20, 29, told(usual.clone(), &plain, |cache| prefill(cache, &own(), &other))),
        (
            "below_min",
            0,
            20,
            told(usual.clone(), &AdmitOptions { min: 21, ..plain.clone() }, |cache| {
                prefill(cache, &own(), &prompt()[..20])
            }),
        ),
        (
            "evicted",
            0,
            48,
            told(CacheConfig { capacity: 4, ..usual.clone() }, &plain, |cache| {
                prefill(cache, &own(), &prompt());
                prefill(cache, &own(), &[7; 64]);
            }),
        ),
        (
            "expired",
            0,
            48,
            told(CacheConfig { ttl_ms: Some(1000), ..usual.clone() }, &plain, |cache| {
                prefill(cache, &own(), &prompt());
                cache.advance(5000);
            }),
        ),
        (
            "namespace_changed",
            0,
            49,
            told(usual.clone(), &plain, |cache| prefill(cache, &namespace("v", ""), &prompt())),
        ),
        ("salt", 0, 49, told(usual.clone(), &across, |cache| prefill(cache, &namespace("w", "s"), &prompt()))),
        (
            "decode_written",
            0,
            49,
            told(usual.clone(), &AdmitOptions { exact: true, ..plain.clone() }, |cache| {
                learn(cache, &own(), &prompt(), Producer::Decode);
            }),
        ),
        ("integrity", 0, 32, blamed(&usual, Reason::Integrity)),
        ("deadline", 0, 32, blamed(&usual, Reason::Deadline)),
    ];
    // Evicted tokens are known by whole blocks, so the prompt's last token, in a partial block, is cold.
    for (reason, from, tokens, report) in cases {
        let json = serde_json::to_value(&report).expect("JSON");
        let first = &json["misses"][0];
        assert_eq!(
            (&first["reason"], &first["from"], &first["tokens"]),
            (&reason.into(), &from.into(), &tokens.into())
        );
        assert_eq!(json["first_divergent"].is_u64(), reason == "diverged", "{reason}");
        let missed: usize = report.misses.iter().map(|miss| miss.tokens).sum();
        assert_eq!(report.reused() + missed, 49, "{reason}: {report:?}");
    }
}

/// The report after a tier could not deliver two pages that it has, for this reason.
fn blamed(config: &CacheConfig, reason: Reason) -> Report {
    let mut report = told(config.clone(), &AdmitOptions::default(), |_| {});
    report.blame(reason, 32);
    assert_eq!(report.misses[1], Miss { reason: Reason::Cold, from: 32, tokens: 17 });
    report
}

#[test]
fn the_changed_field_is_reported() {
    let told = told(CacheConfig { capacity: 16, ..CacheConfig::default() }, &AdmitOptions::default(), |cache| {
        learn(cache, &namespace("v", ""), &prompt(), Producer::Prefill);
    });
    assert_eq!(told.misses, [Miss { reason: Reason::NamespaceChanged { field: "weights" }, from: 0, tokens: 49 }]);
}
