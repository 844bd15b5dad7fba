//! Whether stored KV is loaded or computed, as a table of cases.

use headstart::engine::choice::{Rate, Stored, worthwhile};

/// A rate of this many units per millisecond.
fn rate(units: f64) -> Rate {
    let mut rate = Rate::default();
    rate.measure(units, 1.0);
    rate
}

#[test]
fn blocks_are_loaded_as_long_as_that_saves_time() {
    const NEAR: usize = 0;
    const FAR: usize = 1;
    // A token has 100 bytes and takes a millisecond to compute.
    let (near, far, broken) = (rate(1000.0), rate(20.0), Rate::default());
    let block = |tier| Stored { tier, tokens: 16, size: 16 };
    let part = |tier, tokens| Stored { tier, tokens, size: 16 };
    let all = |tier, count: usize| vec![block(tier); count];
    let sized = |blocks: Vec<Stored>| -> Vec<(Stored, f64)> {
        blocks.into_iter().map(|stored| (stored, stored.size as f64 * 100.0)).collect()
    };
    let cases: [(&str, Vec<Stored>, usize); 9] = [
        ("nothing is stored", vec![], 0),
        ("loading is ten times as fast", all(NEAR, 5), 5),
        ("loading takes five times as long", all(FAR, 5), 0),
        ("the near ones, but not the far ones behind them", [all(NEAR, 2), all(FAR, 3)].concat(), 2),
        ("far ones, whose cost near ones behind them outweigh", [all(FAR, 1), all(NEAR, 5)].concat(), 6),
        ("far ones, whose cost near ones do not outweigh", [all(FAR, 3), all(NEAR, 2)].concat(), 0),
        ("a part of a block that does not justify loading the whole block", vec![block(NEAR), part(NEAR, 1)], 1),
        ("a part of a block that justifies loading the whole block", vec![block(NEAR), part(NEAR, 2)], 2),
        ("a block that costs as much as it saves", vec![part(NEAR, 2), block(NEAR), part(FAR, 16)], 2),
    ];
    for (what, blocks, expected) in cases {
        assert_eq!(worthwhile(&sized(blocks), &rate(1.0), &[near, far]), expected, "{what}");
    }
    // A rate that was never measured is worth trying.
    assert_eq!(worthwhile(&sized(all(FAR, 3)), &rate(1.0), &[near, broken]), 3);
    assert_eq!(worthwhile(&sized(all(FAR, 3)), &Rate::default(), &[near, far]), 3);
    // Blocks of which only a small part has to be loaded.
    assert_eq!(
        worthwhile(
            &all(FAR, 3).into_iter().map(|stored| (stored, 300.0)).collect::<Vec<_>>(),
            &rate(1.0),
            &[near, far]
        ),
        3
    );
}

#[test]
fn rates_follow_measurements_and_decay() {
    let mut rate = rate(10.0);
    assert_eq!(rate.ms(20.0), Some(2.0));
    for _ in 0..30 {
        rate.measure(10.0, 5.0);
    }
    assert!((rate.ms(10.0).unwrap() - 5.0).abs() < 1e-3);
    let before = rate.ms(10.0).unwrap();
    rate.relent();
    assert!((rate.ms(10.0).unwrap() / before - 0.95).abs() < 1e-9);
    assert_eq!(Rate::default().ms(1.0), None);
}
