//! Kernels that are compiled beside other work.

use std::sync::Arc;

use headstart::engine::{Engine, EngineOptions, Progress, Stage};
use headstart::error::Error;
use headstart::gpu::{Access, Gpu, Kernel, Preset};
use headstart::weights::Checkpoint;
use pollster::block_on;

use crate::support::odd::{NAMES, Tiny};

/// A shader with one binding, which adds a term.
macro_rules! source {
    ($term:literal) => {
        concat!(
            "@group(0) @binding(0) var<storage, read_write> y: array<u32>;\n",
            "@compute @workgroup_size(1) fn main() { y[0] += ${N}u * ",
            $term,
            "; }"
        )
    };
}
const LIBRARY: &[(&str, &str)] = &[("good", source!("1u")), ("bad", source!("nothing"))];

fn kernel(name: &'static str, number: u32) -> Arc<Kernel> {
    Arc::new(Kernel { name, defines: vec![("N", number)], bindings: &[Access::ReadWrite] })
}

fn open() -> Gpu {
    block_on(Gpu::open(LIBRARY, Preset::F32)).unwrap()
}

#[test]
fn a_refused_kernel_is_named_and_errors_beside_it_stay_apart() {
    let mut gpu = open();
    let mut first: Vec<_> = (0..12).map(|number| kernel("good", number)).collect();
    first.insert(6, kernel("bad", 6));
    let second: Vec<_> = (12..24).map(|number| kernel("good", number)).collect();
    let with_bad = gpu.start_compiling(&first);
    let without = gpu.start_compiling(&second);
    // What is done on the device meanwhile has its own errors, and no others.
    let buffer = block_on(gpu.alloc("a test", 4, "")).unwrap();
    gpu.write(buffer, 0, &[1]);
    gpu.flush().unwrap();
    gpu.write(buffer, 4, &[2]);
    assert!(matches!(gpu.flush(), Err(Error::Gpu { .. })));
    let mut told = Vec::new();
    block_on(gpu.finish_compiling(without, &mut |done, total| told.push((done, total)))).unwrap();
    assert_eq!(told, (0..=12).map(|done| (done, 12)).collect::<Vec<_>>());
    match block_on(gpu.finish_compiling(with_bad, &mut |_, _| {})) {
        Err(Error::Shader { name, problem }) => assert!(name == "bad{N=6}" && problem.contains("nothing"), "{problem}"),
        other => panic!("{other:?}"),
    }
    // Neither the error nor what was compiled before it is in the way of later work.
    gpu.flush().unwrap();
    first.iter().filter(|kernel| kernel.name == "good").for_each(|kernel| block_on(gpu.compile(kernel)).unwrap());
    assert!(matches!(block_on(gpu.compile(&first[6])), Err(Error::Shader { .. })));
}

#[test]
fn a_lost_device_is_no_fault_of_a_kernel() {
    let mut gpu = open();
    gpu.destroy();
    let error = block_on(gpu.compile(&kernel("bad", 1))).unwrap_err();
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
}

/// As after a load that failed.
#[test]
fn nothing_compiles_after_its_compilation_is_dropped() {
    let gpu = open();
    let kernels: Vec<_> = (0..200).map(|number| kernel("good", number)).collect();
    drop(gpu.start_compiling(&kernels));
    // Whoever compiles a kernel holds it.
    assert!(kernels.iter().all(|kernel| Arc::strong_count(kernel) == 1));
}

#[test]
fn shaders_are_counted_behind_the_weights() {
    let checkpoint = block_on(Checkpoint::open(&Tiny::read(NAMES[0]).folder)).unwrap();
    let mut told: Vec<Progress> = Vec::new();
    block_on(Engine::load(&checkpoint, &EngineOptions::default(), &mut |progress| told.push(progress))).unwrap();
    let (weights, shaders) = told.split_at(told.iter().position(|told| told.stage == Stage::Shaders).unwrap());
    assert!(weights.iter().all(|told| told.stage == Stage::Weights));
    assert!(weights.last().is_some_and(|told| told.done == told.total));
    let total = shaders[0].total;
    let each = (0..=total).map(|done| Progress { stage: Stage::Shaders, done, total });
    assert!(total > 10 && each.eq(shaders.iter().copied()), "{shaders:?}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_its_weights_are_read() {
    let checkpoint = block_on(Checkpoint::open(&Tiny::read(NAMES[0]).folder)).unwrap();
    let options = EngineOptions { max_sequences: Some(1 << 26), ..EngineOptions::default() };
    let loaded = block_on(Engine::load(&checkpoint, &options, &mut |progress| panic!("{progress:?}")));
    let error = loaded.err().unwrap();
    assert!(matches!(error, Error::GpuMemory { .. }), "{error}");
}
