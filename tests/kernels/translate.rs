//! Every permutation, without a device: it is valid WGSL within WebGPU's limits, has the bindings that its Rust counterpart
//! says, and translates to Vulkan, Metal and Direct3D.

use std::collections::HashSet;
use std::sync::Arc;

use headstart::{
    gpu::{Access, AdapterKind, Buffer, Caps, Fragments, Kernel, PromptProducts, shader::expand},
    kernels::{
        Class, Experts, Heads, KvFormat, Matrix, Part, Rotation, SHADERS,
        attention::{Attention, Scores},
        attention_merge::AttentionMerge,
        embed::Embed,
        head_norm::{HeadNorm, QkNorm},
        linear::{Activation, Epilogue, Fusion, Linear, Routed},
        moe_combine::MoeCombine,
        moe_group::MoeGroup,
        moe_route::MoeRoute,
        plan,
        post_norm::PostNorm,
        short_conv::ShortConv,
        topk::TopK,
    },
    quant::{Format, Layout},
};
use naga::{AddressSpace, StorageAccess, back, valid};
use serde_json::{Value, json};

use super::bench::heads;

/// Kinds of adapters without subgroups, and with every size of subgroups and of clusters that exists.
fn adapters() -> Vec<Caps> {
    let of = |kind: AdapterKind, sizes: &[(u32, u32)]| {
        let plain = Caps::webgpu_default(kind);
        let with = sizes.iter().map(|&(least, most)| plain.clone().with_subgroups(least, most));
        with.chain([plain.clone()]).collect::<Vec<_>>()
    };
    let cpu = of(AdapterKind::Cpu, &[(4, 4), (8, 8), (16, 16)]);
    let gpu = of(AdapterKind::Gpu, &[(8, 32), (16, 32), (32, 64)]);
    [cpu, gpu].concat()
}

/// The same with f16 matrices of side 16 and 8, native or emulated, with this much workgroup memory in KiB.
fn with_fragments() -> [Caps; 4] {
    [(16, None, 48), (16, None, 32), (16, Some(32), 48), (8, None, 32)].map(|(side, emulated, kib)| Caps {
        prompts: PromptProducts::F16(Fragments { side, emulated }),
        workgroup_memory: kib << 10,
        ..Caps::webgpu_default(AdapterKind::Gpu)
    })
}

/// Widths that exercise each way of splitting a sum, as far as the format allows.
fn widths(format: Format) -> [usize; 3] {
    if format.block() > 32 { [768, 1536, 256] } else { [576, 1536, 96] }
}

/// Each width with and without a norm and a bias.
fn extras(format: Format) -> impl Iterator<Item = (usize, Option<f32>, bool)> {
    let of = |cols| [(cols, None, false), (cols, None, true), (cols, Some(1e-5), false), (cols, Some(1e-5), true)];
    widths(format).into_iter().flat_map(of)
}

/// Kernels that exist for products in 8 bits alone.
fn in_bytes() -> HashSet<Arc<Kernel>> {
    let buffer = Buffer { id: 0, size: 1 << 20 };
    let caps = Caps { prompts: PromptProducts::Int8, ..Caps::webgpu_default(AdapterKind::Gpu) };
    let rotation = Rotation { pairs: 32, first: 0, all: 32 };
    let parts = |format, rows| vec![Part { buffer, format, layout: Layout::Rows, first: 0, rows }];
    let mut all = HashSet::new();
    for format in Format::ALL.into_iter().filter(|format| format.block() > 1) {
        let matrix = Matrix { rows: 640, cols: 512, parts: parts(format, 640) };
        for (epilogue, norm) in [(Epilogue::Qkv(heads(6, 2, 64), rotation), Some(1e-5)), (gated(), None)] {
            let fusion = Fusion { epilogue, norm, bias: false, scale: 1.0, consts: buffer.whole() };
            all.extend(Linear::new(matrix.clone(), &fusion, &[Class::Prompt], &caps).kernels().cloned());
        }
    }
    for from_tokens in [true, false] {
        let matrix = Matrix { rows: 5 * 128, cols: 512, parts: parts(Format::Q4K, 640) };
        let fusion = Fusion { epilogue: Epilogue::Store, norm: None, bias: false, scale: 1.0, consts: buffer.whole() };
        let routed = Routed { experts: Experts { count: 5, used: 2 }, from_tokens };
        all.extend(Linear::routed(matrix, routed, &fusion, &[Class::Prompt], &caps).kernels().cloned());
    }
    all
}

/// Kernels that exist for f16 products alone, with the workgroup memory that they may use.
fn in_halves() -> HashSet<(Arc<Kernel>, u32)> {
    let buffer = Buffer { id: 0, size: 1 << 20 };
    let rotation = Rotation { pairs: 32, first: 0, all: 32 };
    let mut of_all = HashSet::new();
    for caps in with_fragments() {
        let mut all = HashSet::new();
        let mut add = |format, epilogue, norm, bias| {
            let matrix = Matrix {
                rows: 8192,
                cols: 512,
                parts: vec![Part { buffer, format, layout: Layout::Rows, first: 0, rows: 8192 }],
            };
            let fusion = Fusion { epilogue, norm, bias, scale: 1.0, consts: buffer.whole() };
            all.extend(Linear::new(matrix, &fusion, &[Class::Prompt], &caps).kernels().cloned());
        };
        for format in Format::ALL {
            add(format, Epilogue::Store, None, false);
        }
        for epilogue in [Epilogue::Residual, gated(), Epilogue::Times, Epilogue::Qkv(heads(32, 8, 64), rotation)] {
            for (norm, bias) in [(None, false), (None, true), (Some(1e-5), false), (Some(1e-5), true)] {
                add(Format::Q4_0, epilogue, norm, bias);
            }
        }
        for (head_dim, group) in [(64, 3), (128, 4), (256, 1), (80, 8)] {
            let windowed = Scores { scale: 0.1, cap: Some(50.0), window: Some(512) };
            for (kv, scores) in
                [(KvFormat::F16, Scores::of(head_dim)), (KvFormat::F16, windowed), (KvFormat::Q8, windowed)]
            {
                let heads = Heads { kv, ..heads(2 * group, 2, head_dim) };
                all.extend(Attention::new(heads, scores, 512, &caps).kernels().map(Arc::clone));
            }
        }
        let parts = vec![Part { buffer, format: Format::Q4K, layout: Layout::Rows, first: 0, rows: 640 }];
        let matrix = Matrix { rows: 5 * 128, cols: 512, parts };
        let fusion = Fusion { epilogue: gated(), norm: Some(1e-6), bias: false, scale: 1.0, consts: buffer.whole() };
        let routed = Routed { experts: Experts { count: 5, used: 2 }, from_tokens: true };
        all.extend(Linear::routed(matrix, routed, &fusion, &[Class::Prompt], &caps).kernels().cloned());
        of_all.extend(all.into_iter().map(|kernel: Arc<Kernel>| (kernel, caps.workgroup_memory)));
    }
    of_all
}

fn permutations() -> HashSet<Arc<Kernel>> {
    let buffer = Buffer { id: 0, size: 1 << 20 };
    let shape = heads(6, 2, 64);
    let rotation = Rotation { pairs: 32, first: 0, all: 32 };
    let mut all = HashSet::new();
    for caps in adapters() {
        for format in Format::ALL {
            let matrix = |cols, rows| {
                let layout = plan::layout(&caps, format, cols);
                Matrix { rows, cols, parts: vec![Part { buffer, format, layout, first: 0, rows }] }
            };
            all.extend(Embed::new(&matrix(widths(format)[0], 100), 1.0, &caps).kernels().cloned());
            let fusion =
                Fusion { epilogue: Epilogue::Store, norm: Some(1e-5), bias: false, scale: 1.0, consts: buffer.whole() };
            let many = Linear::new(matrix(widths(format)[0], 16_384), &fusion, &[Class::Decode], &caps);
            all.extend(many.kernels().cloned());
            for epilogue in [Epilogue::Store, Epilogue::Residual, gated(), Epilogue::Qkv(shape, rotation)] {
                for (cols, norm, bias) in extras(format) {
                    let fusion = Fusion { epilogue, norm, bias, scale: 1.0, consts: buffer.whole() };
                    let classes = [Class::Prompt, Class::Decode];
                    all.extend(Linear::new(matrix(cols, 640), &fusion, &classes, &caps).kernels().cloned());
                }
            }
        }
        for head_dim in [40, 64, 80, 128, 256] {
            for group in [1, 3, 4, 8] {
                let heads = heads(2 * group, 2, head_dim);
                let room = if group == 3 { 512 } else { 2048 };
                let norm = if group == 3 { QkNorm::Whole } else { QkNorm::Head };
                all.insert(HeadNorm::new(Some((norm, buffer)), heads, rotation, 1e-6, &caps).kernel().clone());
                let windowed = Scores { scale: 0.0625, cap: Some(50.0), window: Some(512) };
                if group > 3 {
                    let heads = Heads { kv: KvFormat::Q8, ..heads };
                    let norms = [None, Some((norm, buffer))];
                    all.extend(norms.map(|norm| HeadNorm::new(norm, heads, rotation, 1e-6, &caps).kernel().clone()));
                    all.extend(Attention::new(heads, windowed, room, &caps).kernels().map(Arc::clone));
                }
                for scores in [Some(Scores::of(head_dim)), (group == 4).then_some(windowed)].into_iter().flatten() {
                    all.extend(Attention::new(heads, scores, room, &caps).kernels().map(Arc::clone));
                    all.insert(AttentionMerge::new(heads, scores, room, &caps).kernel().clone());
                }
            }
        }
        all.extend(
            [5000, 262_144]
                .into_iter()
                .flat_map(|vocab| TopK::new(vocab, &caps).kernels().cloned().collect::<Vec<_>>()),
        );
        all.insert(PostNorm::new(640, buffer, 1e-6, 1.0, &caps).kernel().clone());
        all.insert(ShortConv::new(1024, 3, buffer, &caps).kernel().clone());
        // Features that few models have, in one format.
        let format = Format::Q4K;
        let layout = plan::layout(&caps, format, 512);
        let parts = vec![Part { buffer, format, layout, first: 0, rows: 640 }];
        let matrix = Matrix { rows: 640, cols: 512, parts: parts.clone() };
        all.extend(Embed::new(&matrix, 25.0, &caps).kernels().cloned());
        let rare = [
            Epilogue::Gated(Activation::GeluTanh),
            Epilogue::Gate(Activation::Silu),
            Epilogue::Gate(Activation::GeluTanh),
            Epilogue::Times,
            Epilogue::Logits { cap: Some(30.0) },
            Epilogue::Residual,
        ];
        for epilogue in rare {
            let fusion = Fusion { epilogue, norm: None, bias: false, scale: 0.5, consts: buffer.whole() };
            all.extend(Linear::new(matrix.clone(), &fusion, &[Class::Prompt, Class::Decode], &caps).kernels().cloned());
        }
        let experts = Experts { count: 128, used: 8 };
        all.extend([true, false].map(|normalized| MoeRoute::new(experts, normalized, &caps).kernel().clone()));
        all.extend([4, 32].map(|tokens| MoeGroup::new(experts, tokens, &caps).kernel().clone()));
        all.insert(MoeCombine::new(experts, 2048, 1.0, &caps).kernel().clone());
        for (epilogue, norm, from_tokens) in [
            (gated(), Some(1e-6), true),
            (Epilogue::Gate(Activation::Silu), Some(1e-6), true),
            (Epilogue::Times, Some(1e-6), true),
            (Epilogue::Store, None, false),
        ] {
            let fusion = Fusion { epilogue, norm, bias: false, scale: 1.0, consts: buffer.whole() };
            let matrix = Matrix { rows: 5 * 128, cols: 512, parts: parts.clone() };
            let routed = Routed { experts: Experts { count: 5, used: 2 }, from_tokens };
            let classes = [Class::Prompt, Class::Decode];
            all.extend(Linear::routed(matrix, routed, &fusion, &classes, &caps).kernels().cloned());
        }
    }
    all
}

fn gated() -> Epilogue {
    Epilogue::Gated(Activation::Silu)
}

#[test]
fn every_permutation_is_valid_within_limits_bound_as_its_face_says_and_translatable() {
    let mut all = permutations();
    assert!(all.len() > 300, "{} permutations", all.len());
    let in_halves = in_halves();
    assert!(in_halves.len() > 90, "{} permutations in f16", in_halves.len());
    all.extend(in_bytes());
    let least = all.iter().map(|kernel| (kernel, 16 << 10));
    let kernels: Vec<_> = least.chain(in_halves.iter().map(|(kernel, room)| (kernel, *room))).collect();
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for part in kernels.chunks(kernels.len().div_ceil(threads)) {
            scope.spawn(move || {
                for (kernel, room) in part {
                    translate(kernel, *room).unwrap_or_else(|problem| panic!("{}: {problem}", kernel.label()));
                }
            });
        }
    });
    if let Some(file) = std::env::var_os(LISTED) {
        std::fs::write(file, listed(&all).to_string()).unwrap();
    }
}

#[test]
fn sums_of_clusters_read_lanes_at_constant_distances_on_metal_and_direct3d() {
    let buffer = Buffer { id: 0, size: 1 << 20 };
    let caps = Caps::webgpu_default(AdapterKind::Gpu).with_subgroups(8, 32);
    for format in [Format::F16, Format::Q4_0] {
        let matrix = Matrix {
            rows: 64,
            cols: 512,
            parts: vec![Part { buffer, format, layout: Layout::Rows, first: 0, rows: 64 }],
        };
        let fusion = Fusion { epilogue: Epilogue::Store, norm: None, bias: false, scale: 1.0, consts: buffer.whole() };
        let linear = Linear::new(matrix, &fusion, &[Class::Decode], &caps);
        for kernel in linear.kernels() {
            let [metal, direct3d] = translate(kernel, 16 << 10).unwrap();
            for (text, call, before) in
                [(metal, "simd_shuffle_xor(", ", "), (direct3d, "WaveReadLaneAt(", "WaveGetLaneIndex() ^ ")]
            {
                let calls = text.lines().filter(|line| line.contains(call));
                let distances: Vec<&str> = calls.map(|line| line.rsplit(before).next().unwrap()).collect();
                assert_eq!(distances, ["1u);", "2u);", "4u);"], "{}", kernel.label());
            }
        }
    }
}

/// The variable that names the file in which browser tests find the shaders to compile.
const LISTED: &str = "HEADSTART_PERMUTATIONS";

/// The permutations that a browser may use; of those with subgroups, which few browsers have, one in fifty.
fn listed(all: &HashSet<Arc<Kernel>>) -> Value {
    let entry = |kernel: &Arc<Kernel>| {
        let source = expand(SHADERS, kernel.name, &kernel.defines).unwrap();
        let read: Vec<bool> = kernel.bindings.iter().map(|access| *access == Access::Read).collect();
        let subgroups = source.contains("subgroup");
        json!({ "label": kernel.label(), "source": source, "read_only": read, "subgroups": subgroups })
    };
    let mut listed: Vec<Value> = all.iter().map(entry).collect();
    listed.sort_by_cached_key(ToString::to_string);
    let (with, without): (Vec<_>, Vec<_>) = listed.into_iter().partition(|entry| entry["subgroups"] == true);
    without.into_iter().chain(with.into_iter().step_by(50)).collect()
}

/// The text for Metal and for Direct3D, empty if wgpu has no such matrices there.
fn translate(kernel: &Kernel, room: u32) -> Result<[String; 2], String> {
    let source = expand(SHADERS, kernel.name, &kernel.defines).map_err(|e| e.to_string())?;
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let subgroups = source.contains("subgroup");
    let (halves, cooperative) = (source.contains("enable f16"), source.contains("enable wgpu_cooperative_matrix"));
    let mut capabilities = valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(valid::Capabilities::SUBGROUP, subgroups);
    capabilities.set(valid::Capabilities::SHADER_FLOAT16, halves);
    capabilities.set(valid::Capabilities::COOPERATIVE_MATRIX, cooperative);
    let mut validator = valid::Validator::new(valid::ValidationFlags::all(), capabilities);
    validator.subgroup_stages(valid::ShaderStages::COMPUTE).subgroup_operations(valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(&source))?;

    let mut bound: Vec<(u32, Access)> = Vec::new();
    let mut workgroup = 0;
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    for (_, variable) in module.global_variables.iter() {
        match (variable.space, &variable.binding) {
            (AddressSpace::Storage { access }, Some(binding)) => {
                let access = if access.contains(StorageAccess::STORE) { Access::ReadWrite } else { Access::Read };
                bound.push((binding.binding, access));
            }
            (AddressSpace::WorkGroup, None) => {
                let size = layouter[variable.ty].size;
                if cooperative && !size.is_multiple_of(16) {
                    let name = variable.name.as_deref().unwrap_or("a variable");
                    return Err(format!("{name} of {size} bytes has matrices behind it begin within 16 bytes"));
                }
                workgroup += size.next_multiple_of(16);
            }
            (space, binding) => return Err(format!("{space:?} at {binding:?}")),
        }
    }
    bound.sort_by_key(|(binding, _)| *binding);
    let wanted: Vec<(u32, Access)> = (0..).zip(kernel.bindings.iter().copied()).collect();
    if bound != wanted {
        return Err(format!("bound {bound:?}, but its face says {wanted:?}"));
    }
    let lanes: u32 = module.entry_points[0].workgroup_size.iter().product();
    if workgroup > room || lanes > 256 || bound.len() > 8 {
        return Err(format!("{workgroup} bytes of workgroup memory, {lanes} invocations, {} bindings", bound.len()));
    }

    let options = back::spv::Options { lang_version: (1, 3), ..Default::default() };
    back::spv::write_vec(&module, &info, &options, None).map_err(|e| format!("SPIR-V: {e}"))?;
    // wgpu's Metal multiplies matrices of side 8, and its Direct3D none.
    if cooperative && source.contains("coop_mat16x16") {
        return Ok([String::new(), String::new()]);
    }
    let options = back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    let (metal, _) =
        back::msl::write_string(&module, &info, &options, &Default::default()).map_err(|e| format!("MSL: {e}"))?;
    if cooperative {
        return Ok([metal, String::new()]);
    }
    let options = back::hlsl::Options {
        shader_model: back::hlsl::ShaderModel::V6_0,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut direct3d = String::new();
    let pipeline = Default::default();
    let mut writer = back::hlsl::Writer::new(&mut direct3d, &options, &pipeline);
    writer.write(&module, &info, None).map_err(|e| format!("HLSL: {e}"))?;
    Ok([metal, direct3d])
}
