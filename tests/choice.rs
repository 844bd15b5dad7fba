//! Whether stored KV is loaded or computed, as a table.

use headstart::engine::choice::{Rate, Stored, worthwhile};

/// So many units in a millisecond.
fn rate(units: f64) -> Rate {
    let mut rate = Rate::default();
    rate.measure(units, 1.0);
    rate
}

#[test]
fn blocks_are_loaded_as_far_as_that_saves_time() {
    const NEAR: usize = 0;
    const FAR: usize = 1;
    // A token is 100 bytes, and computing it takes a millisecond.
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
        ("the near ones, and none behind them", [all(NEAR, 2), all(FAR, 3)].concat(), 2),
        ("far ones that near ones behind them pay for", [all(FAR, 1), all(NEAR, 5)].concat(), 6),
        ("far ones that near ones do not pay for", [all(FAR, 3), all(NEAR, 2)].concat(), 0),
        ("a part of a block, the rest of which is loaded in vain", vec![block(NEAR), part(NEAR, 1)], 1),
        ("a part that is worth the whole", vec![block(NEAR), part(NEAR, 2)], 2),
        ("a block that costs as much as it saves", vec![part(NEAR, 2), block(NEAR), part(FAR, 16)], 2),
    ];
    for (what, blocks, expected) in cases {
        assert_eq!(worthwhile(&sized(blocks), &rate(1.0), &[near, far]), expected, "{what}");
    }
    // What was never measured is worth trying.
    assert_eq!(worthwhile(&sized(all(FAR, 3)), &rate(1.0), &[near, broken]), 3);
    assert_eq!(worthwhile(&sized(all(FAR, 3)), &Rate::default(), &[near, far]), 3);
    // Of a block of which little has to be loaded.
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
fn rates_follow_what_is_measured_and_relent() {
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
