//! The deadline and the circuit breaker, with an injected clock.

use headstart::store::{Breaker, BreakerConfig, BreakerState};

const CONFIG: BreakerConfig = BreakerConfig { failures: 3, deadline_ms: 100, pause_ms: 1_000, max_pause_ms: 4_000 };

/// Fails until it opens, and returns the time at which it did.
fn opened(breaker: &mut Breaker) -> u64 {
    for now in 0..3 {
        assert_eq!(breaker.state(now), BreakerState::Closed);
        let call = breaker.start(now).unwrap();
        assert!(!breaker.finish(call, now, false));
    }
    assert_eq!(breaker.state(2), BreakerState::Open);
    2
}

#[test]
fn consecutive_failures_open_it() {
    let mut breaker = Breaker::new(CONFIG);
    for now in 0..100 {
        let call = breaker.start(now).unwrap();
        assert_eq!(breaker.finish(call, now, now % 3 == 2), now % 3 == 2);
    }
    assert_eq!(breaker.state(100), BreakerState::Closed, "two failures, then a success, do not open it");
    let mut breaker = Breaker::new(CONFIG);
    let at = opened(&mut breaker);
    assert!(breaker.start(at).is_none() && breaker.start(at + 999).is_none());
    assert!(breaker.start(at + 1_000).is_some());
}

#[test]
fn an_answer_after_the_deadline_is_a_failure() {
    let mut breaker = Breaker::new(CONFIG);
    let call = breaker.start(50).unwrap();
    assert_eq!((call.deadline_ms, call.left(50), call.left(149), call.left(200)), (150, 100, 1, 0));
    assert!(breaker.finish(call, 150, true));
    for now in [200, 400, 600] {
        let call = breaker.start(now).unwrap();
        assert!(!breaker.finish(call, now + 101, true));
    }
    assert_eq!(breaker.state(701), BreakerState::Open);
}

#[test]
fn one_probe_at_a_time_closes_or_opens_for_longer() {
    let mut breaker = Breaker::new(CONFIG);
    let mut now = opened(&mut breaker);
    for pause in [1_000, 2_000, 4_000, 4_000, 4_000] {
        assert!(breaker.start(now + pause - 1).is_none(), "a pause of {pause}");
        now += pause;
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        let probe = breaker.start(now).unwrap();
        assert!(breaker.start(now + 1).is_none(), "a second probe");
        assert!(!breaker.finish(probe, now, false));
        assert_eq!(breaker.state(now), BreakerState::Open);
    }
    let probe = breaker.start(now + 4_000).unwrap();
    assert!(breaker.finish(probe, now + 4_050, true));
    assert_eq!(breaker.state(now + 4_050), BreakerState::Closed);
    let mut later = now + 5_000;
    for _ in 0..3 {
        let call = breaker.start(later).unwrap();
        breaker.finish(call, later, false);
    }
    later += 1_000;
    assert!(breaker.start(later).is_some(), "after a recovery the first pause is short again");
}

#[test]
fn a_probe_that_never_returns_blocks_nobody() {
    let mut breaker = Breaker::new(CONFIG);
    let at = opened(&mut breaker) + 1_000;
    let lost = breaker.start(at).unwrap();
    assert!(breaker.start(at + 100).is_none());
    let probe = breaker.start(at + 101).unwrap();
    assert!(!breaker.finish(lost, at + 102, false));
    assert_eq!(breaker.state(at + 102), BreakerState::HalfOpen, "the lost probe no longer decides anything");
    assert!(breaker.finish(probe, at + 103, true));
    assert_eq!(breaker.state(at + 103), BreakerState::Closed);
}

#[test]
fn a_late_answer_does_not_change_the_state() {
    let mut breaker = Breaker::new(CONFIG);
    let slow = breaker.start(0).unwrap();
    let at = opened(&mut breaker);
    assert!(breaker.finish(slow, at, true), "its answer may be used");
    assert_eq!(breaker.state(at), BreakerState::Open);
}

#[test]
fn a_dead_store_costs_three_deadlines_and_then_one_per_pause() {
    let mut breaker = Breaker::new(CONFIG);
    let (mut now, mut waited) = (0, 0);
    while now < 60_000 {
        match breaker.start(now) {
            Some(call) => {
                (now, waited) = (now + 101, waited + 101);
                breaker.finish(call, now, false);
            }
            None => now += 1,
        }
    }
    assert!((3 * 101..=3 * 101 + 17 * 101).contains(&waited), "{waited} ms of a minute");
    assert!(Breaker::new(CONFIG).start(u64::MAX).is_some(), "no overflow");
}
