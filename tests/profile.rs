//! How a step's time divides: every dispatch is timed once, by the device's timestamps or the host's clock, together with the
//! bytes and operations that its formulas give.

use std::time::Duration;

use headstart::engine::{Engine, EngineOptions, Profile};
use headstart::gpu::profile::{Sample, Timed};
use headstart::gpu::{Caps, Cost, Preset, Recording};
use headstart::kernels::{Class, attention, post_norm::PostNorm};
use headstart::model::{Config, MixerSpec};
use pollster::block_on;

use crate::kernels::bench::{Bench, Numbers, Step, floats};
use crate::support::engine::{generate, greedy, load};
use crate::support::golden;

const DEPTH: usize = 20;
const ROWS: usize = 40;
const RUNS: usize = 2;

fn tiny(name: &str, kernels: Preset) -> Engine {
    let options = EngineOptions { chunk: Some(64), kernels: Some(kernels), ..EngineOptions::default() };
    load(&golden::folder(name), &options)
}

fn profile(engine: &mut Engine, decode: bool) -> Profile {
    block_on(engine.profile(decode, DEPTH, ROWS, RUNS)).unwrap()
}

/// The total cost of one kernel's dispatches.
fn cost(profile: &Profile, kernel: &str) -> Cost {
    let of = |sample: &&Sample| sample.label.split('{').next() == Some(kernel);
    profile.runs[0].samples.iter().filter(of).fold(Cost::default(), |sum, Sample { cost, .. }| Cost {
        read: sum.read + cost.read,
        written: sum.written + cost.written,
        flops: sum.flops + cost.flops,
    })
}

fn sum(run: &Timed) -> Duration {
    run.samples.iter().map(|sample| sample.time).sum()
}

#[test]
fn timestamps_and_the_gaps_between_make_up_a_step() {
    let mut engine = tiny("tiny-llama-f16", Preset::F32);
    for decode in [true, false] {
        let profile = profile(&mut engine, decode);
        assert_eq!(profile.runs.len(), RUNS);
        assert!(profile.copy_rate.unwrap() > 0.0);
        for run in &profile.runs {
            let stretch = run.stretch.expect("the tests' adapter has timestamps");
            assert_eq!(sum(run) + stretch.gaps, stretch.whole);
            assert!(run.samples.iter().all(|sample| !sample.time.is_zero()), "{run:?}");
            // Five for each layer, and the embedding, the LM head and the two stages of top-k.
            assert_eq!(run.samples.len(), 5 * engine.config().layers.len() + 4);
            assert_eq!(run.samples.len(), profile.dispatches);
        }
    }
    // A timed step leaves no trace in the engine.
    let prompt: Vec<u32> = (1..30).collect();
    let fresh = generate(&mut tiny("tiny-llama-f16", Preset::F32), &[greedy(&prompt, 8)]);
    assert_eq!(generate(&mut engine, &[greedy(&prompt, 8)]), fresh);
}

#[test]
fn without_timestamps_the_host_waits_for_each_command() {
    let mut engine = tiny("tiny-llama-f16", Preset::Portable);
    for decode in [true, false] {
        let profile = profile(&mut engine, decode);
        assert_eq!(profile.copy_rate, None);
        for run in &profile.runs {
            assert!(run.stretch.is_none());
            assert_eq!(run.samples.len(), profile.dispatches);
            assert!(run.samples.iter().all(|sample| !sample.time.is_zero()), "{run:?}");
        }
    }
}

#[test]
fn bytes_and_operations_are_those_of_the_formulas() {
    let mut engine = tiny("tiny-llama-f16", Preset::F32);
    let config = engine.config().clone();
    let (hidden, heads, layers) = (config.hidden as u64, (config.heads * config.head_dim) as u64, 2);
    let (kv, inner) = ((config.kv_heads * config.head_dim) as u64, config.layers[0].intermediate as u64);
    let matrices = [(heads + 2 * kv, hidden), (hidden, heads), (2 * inner, hidden), (hidden, inner)];
    let each = |of: fn((u64, u64)) -> u64| layers * matrices.map(of).iter().sum::<u64>();
    let head = (config.vocab as u64, hidden);

    let decode = profile(&mut engine, true);
    let bytes = |(rows, cols): (u64, u64)| 2 * rows * cols + 4 * cols;
    let linear = Cost {
        read: each(|(rows, cols)| 2 * rows * cols + 4 * cols) + bytes(head),
        written: each(|(rows, _)| 4 * rows) + 4 * head.0,
        flops: each(|(rows, cols)| 2 * rows * cols) + 2 * head.0 * head.1,
    };
    assert_eq!(cost(&decode, "linear"), linear);
    let context = DEPTH as u64 + 1;
    let attention = Cost {
        // Queries in f32; keys and values in f16.
        read: layers * (4 * heads + context * 2 * 2 * kv),
        written: layers * 4 * heads,
        flops: layers * 4 * heads * context,
    };
    assert_eq!(cost(&decode, "attention"), attention);
    assert_eq!(cost(&decode, "embed"), Cost { read: 2 * hidden, written: 4 * hidden, flops: 0 });

    let (prompt, rows) = (profile(&mut engine, false), ROWS as u64);
    let linear = cost(&prompt, "linear");
    assert_eq!(linear.flops, rows * each(|(rows, cols)| 2 * rows * cols) + 2 * head.0 * head.1);
    assert_eq!(linear.written, rows * each(|(rows, _)| 4 * rows) + 4 * head.0);
    let seen: u64 = (1..=rows).map(|row| DEPTH as u64 + row).sum();
    assert_eq!(cost(&prompt, "attention").flops, layers * 4 * heads * seen);
}

#[test]
fn windows_limit_what_attention_computes() {
    let mut engine = tiny("tiny-gemma3-f16", Preset::F32);
    let config = engine.config().clone();
    let by = |rows: std::ops::RangeInclusive<usize>| -> u64 {
        let seen = |window: Option<usize>| rows.clone().map(|row| window.unwrap_or(row).min(row)).sum::<usize>();
        let tokens: usize = config.layers.iter().map(|layer| seen(layer.scores.window)).sum();
        (4 * config.heads * config.head_dim * tokens) as u64
    };
    assert!(config.layers.iter().any(|layer| layer.scores.window.is_some_and(|window| window < DEPTH)));
    assert_eq!(cost(&profile(&mut engine, true), "attention").flops, by(DEPTH + 1..=DEPTH + 1));
    assert_eq!(cost(&profile(&mut engine, false), "attention").flops, by(DEPTH + 1..=DEPTH + ROWS));
}

#[test]
fn a_row_is_multiplied_by_its_own_experts_alone() {
    let mut engine = tiny("tiny-qwen3-moe-f16", Preset::F32);
    let config = engine.config().clone();
    let (layer, hidden) = (&config.layers[0], config.hidden);
    let experts = layer.mixture.unwrap().experts;
    let (heads, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let dense = (heads + 2 * kv) * hidden + hidden * heads + experts.count * hidden;
    let own = experts.used * 3 * hidden * layer.intermediate;
    for (decode, rows) in [(true, 1), (false, ROWS)] {
        let flops = 2 * (rows * config.layers.len() * (dense + own) + config.vocab * hidden);
        assert_eq!(cost(&profile(&mut engine, decode), "linear").flops, flops as u64);
    }
}

#[test]
fn kernels_between_matrices_follow_their_formulas() {
    let flops = |name: &str, kernel: &str, of: &dyn Fn(&Config) -> usize| {
        let mut engine = tiny(name, Preset::F32);
        let each = of(engine.config());
        assert!(each > 0);
        assert_eq!(cost(&profile(&mut engine, false), kernel).flops, (ROWS * each) as u64, "{kernel}");
    };
    flops("tiny-gemma3-f16", "post_norm", &|config| 2 * config.layers.len() * 5 * config.hidden);
    // All dims of a head are rotated.
    let normed = |config: &Config| (config.heads + config.kv_heads) * (4 + 3) * config.head_dim;
    flops("tiny-gemma3-f16", "head_norm", &|config| config.layers.len() * normed(config));
    let used = |config: &Config| config.layers[0].mixture.unwrap().experts.used;
    flops("tiny-qwen3-moe-f16", "moe_combine", &|config| config.layers.len() * 2 * (used(config) + 1) * config.hidden);
    flops("tiny-lfm2-f16", "short_conv", &|config| {
        let taps = config.layers.iter().map(|layer| match layer.mixer {
            MixerSpec::ShortConv { taps } => 2 * taps + 2,
            MixerSpec::Attention => 0,
        });
        taps.sum::<usize>() * config.hidden
    });

    let mut engine = tiny("tiny-llama-f16", Preset::F32);
    let config = engine.config().clone();
    let (kind, context) = (engine.adapter_kind(), 301_usize);
    let splits = context.div_ceil(attention::split(kind, config.context));
    let long = block_on(engine.profile(true, context - 1, 1, 1)).unwrap();
    let merged = config.layers.len() * 2 * splits * config.heads * config.head_dim;
    assert_eq!(cost(&long, "attention_merge").flops, merged as u64);
}

/// More dispatches than one timestamp set holds; each adds to the results of those before.
#[test]
fn a_long_recording_runs_once() {
    const DISPATCHES: usize = 2500;
    const COLS: usize = 8;
    let mut bench = Bench::open();
    let own = bench.gpu.caps().clone();
    assert!(own.timestamps, "the tests' adapter has timestamps");
    let numbers = Numbers::new(1);
    let (x, gains) = (bench.floats(&numbers.floats(COLS)), bench.floats(&numbers.floats(COLS)));
    let (step, span) = bench.span(Class::Prompt, &Step { rows: vec![0], ..Step::default() });
    let kernel = PostNorm::new(COLS, gains, 1e-5, 1.0, &own);
    let recorded = |hidden| {
        let mut recording = Recording::new();
        (0..DISPATCHES).for_each(|_| kernel.record(&mut recording, &span, x.whole(), hidden));
        recording
    };
    let hidden = bench.floats(&[0.0; COLS]);
    let [wanted] = bench.run(&recorded(hidden.whole()), [hidden]);
    assert!(floats(&wanted).iter().all(|value| value.abs() > 0.0));
    for timestamps in [true, false] {
        bench.gpu.restrict(Caps { timestamps, ..own.clone() });
        bench.gpu.write(hidden, 0, &[0; COLS]);
        let run = block_on(bench.gpu.profile(&recorded(hidden.whole()))).unwrap();
        assert_eq!(run.samples.len(), DISPATCHES);
        assert!(run.samples.iter().all(|sample| !sample.time.is_zero()));
        assert_eq!(run.stretch.map(|stretch| stretch.whole - stretch.gaps), timestamps.then(|| sum(&run)));
        let [found] = bench.run(&Recording::new(), [hidden]);
        assert_eq!(found, wanted);
    }
    bench.free([x, gains, step, hidden]);
}
