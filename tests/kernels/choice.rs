//! Which permutation of a kernel is chosen: a table by adapter, matrix, class of rows and number of rows.

use headstart::gpu::{AdapterKind, Caps, Fragments, Numerics, PromptProducts};
use headstart::kernels::Class;
use headstart::kernels::attention::{self, most_splits, partial_bytes, split, tile_rows};
use headstart::kernels::linear::{Shape, Variant};
use headstart::kernels::plan::{self, Ladder, Product};
use headstart::quant::{Format, Layout};

use super::bench::heads;

/// The least and the most lanes of a subgroup.
type Subgroups = Option<(u32, u32)>;

const ADAPTERS: [(AdapterKind, Subgroups); 7] = [
    (AdapterKind::Cpu, None),
    (AdapterKind::Cpu, Some((4, 4))),
    (AdapterKind::Cpu, Some((8, 8))),
    (AdapterKind::Cpu, Some((16, 16))),
    (AdapterKind::Gpu, None),
    (AdapterKind::Gpu, Some((8, 32))),
    (AdapterKind::Gpu, Some((32, 64))),
];

fn caps(kind: AdapterKind, subgroups: Subgroups) -> Caps {
    let plain = Caps::webgpu_default(kind);
    subgroups.map_or(plain.clone(), |(least, most)| plain.with_subgroups(least, most))
}

/// A matrix whose words can be loaded in fours.
fn product(rows: usize, cols: usize, format: Format) -> Product {
    Product { rows, cols, format, fours: true, routed: false }
}

#[test]
fn gpus_reduce_within_the_lanes_that_subgroups_of_every_size_share() {
    // The least and the most lanes of a subgroup: the size that CPU kernels may rely on, and the cluster of GPU kernels.
    let table = [
        // NVIDIA; AMD with one size and with two; Intel; Qualcomm.
        ((32, 32), Some(32), Some(32)),
        ((64, 64), Some(64), Some(32)),
        ((32, 64), None, Some(32)),
        ((8, 32), None, Some(8)),
        ((16, 32), None, Some(16)),
        ((64, 128), None, Some(32)),
        // Processors, and what is reported where nothing is known.
        ((8, 8), Some(8), Some(8)),
        ((4, 4), Some(4), None),
        ((4, 64), None, None),
    ];
    for ((least, most), size, cluster) in table {
        let caps = caps(AdapterKind::Gpu, Some((least, most)));
        assert_eq!((caps.subgroup_size, caps.cluster_size), (size, cluster), "{least} to {most} lanes");
    }
}

#[test]
fn matrices_choose_by_adapter_class_rows_and_shape() {
    use AdapterKind::{Cpu, Gpu};
    use Class::{Decode, Prompt};
    use Format::{F16, Q4_0, Q4_1, Q6K};
    let of =
        |shape, lanes, rows, tokens, step, wide, subgroup| Variant { shape, lanes, rows, tokens, step, wide, subgroup };
    let (small, large) =
        (of(Shape::Tile, 128, 64, 32, 4, false, false), of(Shape::Tile, 128, 64, 128, 2, false, false));
    let table = [
        // As many lanes as a subgroup has; subgroups of fewer than eight lanes are not used.
        (Cpu, None, Decode, (640, 576, Q4_1), 1, of(Shape::Rows, 4, 2, 1, 1, false, false)),
        (Cpu, Some((4, 4)), Decode, (640, 576, Q4_1), 1, of(Shape::Rows, 4, 2, 1, 1, false, false)),
        (Cpu, Some((8, 8)), Decode, (640, 576, Q4_1), 2, of(Shape::Rows, 8, 2, 1, 4, true, true)),
        (Cpu, Some((16, 16)), Decode, (640, 576, Q4_1), 3, of(Shape::Rows, 16, 2, 4, 4, true, true)),
        (Cpu, Some((8, 8)), Prompt, (640, 576, Q4_1), 1, of(Shape::Rows, 8, 2, 1, 4, true, true)),
        (Cpu, Some((8, 8)), Prompt, (640, 576, Q4_1), 31, of(Shape::Rows, 8, 2, 4, 4, true, true)),
        // Eight tokens at once if that leaves enough workgroups.
        (Cpu, Some((8, 8)), Prompt, (640, 576, Q4_1), 32, of(Shape::Rows, 8, 4, 8, 4, false, true)),
        (Cpu, Some((8, 8)), Prompt, (49152, 576, F16), 8, of(Shape::Rows, 8, 4, 8, 4, false, true)),
        (Cpu, Some((8, 8)), Prompt, (96, 576, Q4_1), 512, of(Shape::Rows, 8, 2, 4, 4, true, true)),
        (Cpu, None, Prompt, (640, 576, Q4_1), 512, of(Shape::Rows, 4, 4, 4, 1, false, false)),
        // Four rows of four words spill registers if values are in several planes.
        (Cpu, Some((8, 8)), Prompt, (640, 768, Q6K), 2, of(Shape::Rows, 8, 2, 1, 4, true, true)),
        (Cpu, Some((8, 8)), Prompt, (640, 768, Q6K), 3, of(Shape::Rows, 8, 4, 4, 2, false, true)),
        // Decode reduces along the columns, long ones with more lanes; several tokens share the loads of the weights.
        (Gpu, None, Decode, (640, 576, Q4_1), 1, of(Shape::Staged { along: 32 }, 128, 8, 1, 4, true, false)),
        (Gpu, Some((32, 32)), Decode, (2048, 2048, Q4_0), 4, of(Shape::Staged { along: 32 }, 128, 8, 4, 4, true, true)),
        (Gpu, Some((32, 32)), Decode, (2048, 8192, Q4_0), 1, of(Shape::Staged { along: 64 }, 128, 4, 1, 4, true, true)),
        (
            Gpu,
            Some((32, 32)),
            Decode,
            (16384, 2048, Q4_0),
            2,
            of(Shape::Staged { along: 32 }, 128, 16, 4, 4, true, true),
        ),
        // Subgroups of any size of eight lanes or more are used, and all sizes share a shape.
        (Gpu, Some((64, 128)), Decode, (640, 576, Q4_1), 4, of(Shape::Staged { along: 32 }, 128, 8, 4, 4, true, true)),
        (Gpu, Some((8, 32)), Decode, (640, 576, Q4_1), 4, of(Shape::Staged { along: 32 }, 128, 8, 4, 4, true, true)),
        (Gpu, Some((4, 64)), Decode, (640, 576, Q4_1), 4, of(Shape::Staged { along: 32 }, 128, 8, 4, 4, true, false)),
        // Matrices without words to load in fours.
        (Gpu, Some((16, 32)), Decode, (2048, 2048, F16), 1, of(Shape::Vector, 64, 4, 1, 2, false, true)),
        (Gpu, None, Decode, (640, 512, F16), 4, of(Shape::Vector, 64, 4, 4, 1, false, false)),
        // Tiles are large if there are enough of them.
        (Gpu, None, Prompt, (576, 576, Q4_1), 512, small),
        (Gpu, Some((32, 32)), Prompt, (2048, 8192, Q4_0), 255, small),
        (Gpu, Some((32, 32)), Prompt, (2048, 8192, Q4_0), 256, large),
        (Gpu, Some((32, 32)), Prompt, (16384, 2048, Q4_0), 127, small),
        (Gpu, Some((32, 32)), Prompt, (16384, 2048, Q4_0), 128, large),
    ];
    for (kind, subgroups, class, (rows, cols, format), tokens, expected) in table {
        let chosen = plan::linear(&caps(kind, subgroups), class, &product(rows, cols, format));
        let what =
            format!("{kind:?} with subgroups of {subgroups:?}, {tokens} rows of {class:?}, {rows}x{cols} {format}");
        assert_eq!(*chosen.at(tokens), expected, "{what}");
    }
}

#[test]
fn prompts_are_multiplied_in_f16_if_the_adapter_has_f16_matrices() {
    use Class::{Decode, Prompt};
    use Format::{F32, Q4_0};
    let of = |lanes, rows, tokens, step| {
        let shape = Shape::Fragments;
        Variant { shape, lanes, rows, tokens, step, wide: false, subgroup: true }
    };
    let (skinny, small, smaller) = (of(128, 64, 16, 8), of(128, 64, 64, 8), of(128, 64, 64, 4));
    let (whole, half, least) = (of(256, 128, 128, 8), of(256, 128, 128, 4), of(128, 64, 128, 4));
    let table = [
        // First column: workgroup memory in KiB.
        (48, (2048, 2048, Q4_0), 1, skinny),
        (48, (2048, 2048, Q4_0), 16, skinny),
        (48, (2048, 2048, Q4_0), 17, small),
        (48, (2048, 2048, Q4_0), 767, small),
        (48, (2048, 2048, Q4_0), 768, whole),
        (48, (3072, 2048, Q4_0), 512, whole),
        (48, (16384, 2048, Q4_0), 128, whole),
        (32, (16384, 2048, Q4_0), 128, half),
        (20, (16384, 2048, Q4_0), 127, smaller),
        (20, (16384, 2048, Q4_0), 128, least),
        // Too few rows to keep a GPU busy with large tiles.
        (48, (576, 576, Q4_0), 512, small),
    ];
    let caps = |kib: u32, emulated: Option<u32>| Caps {
        workgroup_memory: kib << 10,
        prompts: PromptProducts::F16(Fragments { side: 16, emulated }),
        ..caps(AdapterKind::Gpu, Some((32, 32)))
    };
    for (kib, (rows, cols, format), tokens, expected) in table {
        let chosen = plan::linear(&caps(kib, None), Prompt, &product(rows, cols, format));
        assert_eq!(*chosen.at(tokens), expected, "{kib} KiB, {tokens} rows, {rows}x{cols}");
        let emulated = plan::linear(&caps(kib, Some(32)), Prompt, &product(rows, cols, format));
        assert_eq!(*emulated.at(tokens), Variant { subgroup: false, ..expected });
    }
    // Decode and f32 weights keep f32; experts use the tile size by which their choices are grouped.
    let fragments = caps(48, None);
    let decode = plan::linear(&fragments, Decode, &product(2048, 2048, Q4_0));
    assert_eq!(
        decode,
        plan::linear(&Caps { prompts: PromptProducts::F32, ..fragments.clone() }, Decode, &product(2048, 2048, Q4_0))
    );
    assert_eq!(plan::linear(&fragments, Prompt, &product(2048, 2048, F32)).at(1).shape, Shape::Tile);
    for format in [F32, Q4_0] {
        let routed = plan::linear(&fragments, Prompt, &Product { routed: true, ..product(640, 512, format) });
        assert_eq!(routed, Ladder::new(of(128, 64, 32, 8), []));
    }
    assert_eq!(plan::expert_tile(&fragments, Prompt), Ladder::new(32, []));
}

#[test]
fn rows_lie_in_bands_where_lanes_are_rows_if_their_words_are_whole_quads() {
    let layout = |kind, format, cols| plan::layout(&caps(kind, Some((8, 8))), format, cols);
    assert_eq!(layout(AdapterKind::Cpu, Format::Q4_1, 576), Layout::Bands);
    assert_eq!(layout(AdapterKind::Cpu, Format::F16, 40), Layout::Bands);
    assert_eq!(layout(AdapterKind::Cpu, Format::Q4_0, 96), Layout::Bands);
    assert_eq!(layout(AdapterKind::Cpu, Format::Q5_0, 288), Layout::Rows);
    assert_eq!(layout(AdapterKind::Gpu, Format::Q4_1, 576), Layout::Rows);
}

#[test]
fn prompts_are_multiplied_in_8_bits_where_requested_and_the_weights_are_integers() {
    use Class::{Decode, Prompt};
    use Format::{F16, F32, Q4_0, Q6K, Q8_0};
    for kind in [AdapterKind::Cpu, AdapterKind::Gpu] {
        let exact = caps(kind, Some((32, 32)));
        let caps = Caps { prompts: PromptProducts::Int8, ..exact.clone() };
        assert_eq!(caps.numerics(), Numerics::Int8);
        let of = |tokens| Variant {
            shape: Shape::Bytes,
            lanes: 128,
            rows: 64,
            tokens,
            step: 4,
            wide: false,
            subgroup: false,
        };
        for format in [Q4_0, Q8_0, Q6K] {
            let product = product(2048, 2048, format);
            assert_eq!(plan::linear(&caps, Prompt, &product), Ladder::new(of(16), [(17, of(64))]));
            assert_eq!(plan::linear(&caps, Decode, &product), plan::linear(&exact, Decode, &product));
            let routed = Product { routed: true, ..product };
            assert_eq!(plan::linear(&caps, Prompt, &routed), Ladder::new(of(32), []));
        }
        // Others keep f32, with tiles of the experts' size.
        for format in [F16, F32] {
            let routed = Product { routed: true, ..product(640, 512, format) };
            let ladder = plan::linear(&caps, Prompt, &routed);
            assert!(ladder.rungs().all(|(_, variant)| (variant.shape, variant.tokens) == (Shape::Tile, 32)));
        }
        assert_eq!(plan::expert_tile(&caps, Prompt), Ladder::new(32, []));
        assert_eq!(plan::expert_tile(&caps, Decode), Ladder::new(1, []));
    }
}

#[test]
fn a_ladder_selects_the_last_rung_that_the_rows_reach() {
    let ladder = Ladder::new('a', [(3, 'b'), (64, 'c')]);
    let chosen: String = [1, 2, 3, 63, 64, 1000].iter().map(|&rows| *ladder.at(rows)).collect();
    assert_eq!(chosen, "aabbcc");
}

/// Another shape, or sums with other lanes or units, would change bits.
#[test]
fn a_class_keeps_the_order_of_its_sums_on_every_rung() {
    for ((kind, subgroups), format) in
        ADAPTERS.into_iter().flat_map(|adapter| Format::ALL.map(|format| (adapter, format)))
    {
        let caps = caps(kind, subgroups);
        for (rows, cols) in [(37, 256), (640, 768), (2048, 2048), (4096, 8192), (50_000, 1024)] {
            for (class, routed) in [Class::Prompt, Class::Decode].into_iter().flat_map(|c| [(c, false), (c, true)]) {
                let product = Product { routed, ..product(rows, cols, format) };
                let ladder = plan::linear(&caps, class, &product);
                let first = ladder.at(1);
                for (least, variant) in ladder.rungs() {
                    assert_eq!(
                        (variant.shape, variant.lanes),
                        (first.shape, first.lanes),
                        "{kind:?} {class:?} {product:?}"
                    );
                    if matches!(variant.shape, Shape::Vector | Shape::Staged { .. }) {
                        let order = |of: &Variant| (of.step, of.wide, of.subgroup);
                        assert_eq!(order(variant), order(first), "{class:?} {product:?}");
                    }
                    // Choices are grouped for the tiles that the matrices of experts use.
                    let tile = *plan::expert_tile(&caps, class).at(least);
                    assert!(!routed || variant.tokens == tile, "{kind:?} {class:?}, {least} rows: {variant:?}");
                }
            }
        }
    }
}

#[test]
fn attention_takes_as_many_rows_as_the_adapter_has_room_for() {
    let adapters = [caps(AdapterKind::Cpu, Some((8, 8))), caps(AdapterKind::Cpu, None), caps(AdapterKind::Gpu, None)];
    // Heads, KV heads, head size: rows of a tile on a CPU with subgroups, on one without, and on a GPU.
    let table = [
        ((9, 3, 64), [4, 2, 5]),
        ((32, 8, 128), [2, 1, 4]),
        ((8, 1, 256), [1, 1, 1]),
        ((4, 4, 64), [4, 4, 8]),
        ((2, 2, 8), [4, 4, 8]),
    ];
    for ((q, kv, dim), wanted) in table {
        let heads = heads(q, kv, dim);
        let rows = |class| adapters.each_ref().map(|caps| tile_rows(caps, &heads, class));
        assert_eq!(rows(Class::Prompt), wanted, "{q} heads on {kv} of {dim}");
        assert_eq!(rows(Class::Decode), [1; 3]);
    }
}

#[test]
fn attention_chooses_by_adapter_heads_class_and_room() {
    use AdapterKind::{Cpu, Gpu};
    use Class::{Decode, Prompt};
    use attention::{Shape::*, Variant, choose, variants};
    let of = |shape, lanes, rows, split| Variant { shape, lanes, rows, split };
    let (small, wide, many) = ((9, 3, 64), (32, 8, 128), (16, 1, 128));
    let table = [
        // Rows in the registers of a subgroup, or a lane for each token of a page.
        (Cpu, Some((8, 8)), small, Prompt, 4096, 4096, of(Rows, 8, 4, None)),
        (Cpu, Some((16, 16)), wide, Decode, 4096, 256, of(Rows, 16, 1, None)),
        (Cpu, Some((16, 16)), wide, Decode, 4096, 257, of(Rows, 16, 1, Some(256))),
        (Cpu, Some((4, 4)), wide, Decode, 4096, 4096, of(Group, 16, 1, Some(256))),
        (Cpu, None, small, Decode, 131_072, 4096, of(Group, 16, 1, Some(256))),
        // The same for all prompts.
        (Gpu, None, small, Prompt, 700, 700, of(Group, 64, 5, None)),
        (Gpu, Some((32, 32)), wide, Prompt, 4096, 1, of(Group, 64, 4, None)),
        // Short splits with a lane for each token, while there is room for short contexts alone.
        (Gpu, None, small, Decode, 1024, 64, of(Group, 64, 1, None)),
        (Gpu, None, small, Decode, 1024, 65, of(Group, 64, 1, Some(64))),
        (Gpu, Some((32, 32)), wide, Decode, 1025, 128, of(Group, 128, 1, None)),
        (Gpu, Some((32, 32)), wide, Decode, 8192, 129, of(Group, 128, 1, Some(128))),
        (Gpu, None, wide, Decode, 131_072, 2000, of(Group, 128, 1, Some(128))),
        // Queries so large that workgroup memory has no room for the weights of so many lanes.
        (Gpu, None, many, Decode, 8192, 8192, of(Group, 64, 1, Some(128))),
    ];
    for (kind, subgroups, (q, kv, dim), class, room, context, expected) in table {
        let heads = heads(q, kv, dim);
        let caps = caps(kind, subgroups);
        let what =
            format!("{kind:?} with subgroups of {subgroups:?}, {heads:?}, {class:?}, {context} of {room} tokens");
        assert_eq!(choose(&heads, &caps, class, room, context), expected, "{what}");
        // All chosen variants are compiled, and lanes and splits do not depend on the other contexts of the batch.
        let chosen: Vec<Variant> = (1..=room).map(|context| choose(&heads, &caps, class, room, context)).collect();
        let compiled = variants(&heads, &caps, room);
        for variant in &chosen {
            assert!(compiled.contains(variant), "{what}: {variant:?} was not compiled");
            assert_eq!((variant.shape, variant.lanes), (expected.shape, expected.lanes), "{what}");
            assert!(variant.split.is_none_or(|tokens| tokens == split(kind, room)), "{what}");
        }
    }
}

#[test]
fn prompts_attend_in_f16_if_heads_and_memory_fit() {
    use attention::{
        Shape::{self, Group},
        choose,
    };
    // Workgroup memory in KiB, side, heads: rows of a tile, or `None` for f32.
    let table = [
        (48, 16, (9, 3, 64), Some(21)),
        (48, 16, (32, 8, 128), Some(16)),
        (48, 16, (4, 1, 256), Some(8)),
        (32, 16, (32, 8, 128), Some(8)),
        (32, 8, (32, 8, 128), Some(8)),
        (16, 16, (9, 3, 64), Some(10)),
        (16, 16, (32, 8, 128), None),
        (48, 16, (4, 4, 40), None),
        (48, 8, (4, 4, 40), Some(64)),
        (48, 16, (71, 1, 64), None),
    ];
    for (kib, side, (q, kv, dim), expected) in table {
        let heads = heads(q, kv, dim);
        let prompts = PromptProducts::F16(Fragments { side, emulated: None });
        let own = Caps { workgroup_memory: kib << 10, prompts, ..caps(AdapterKind::Gpu, Some((32, 32))) };
        let chosen = choose(&heads, &own, Class::Prompt, 8192, 700);
        let found = (chosen.shape == Shape::Fragments).then_some(chosen.rows);
        assert_eq!(found, expected, "{kib} KiB, side {side}, {heads:?}");
        assert_eq!(chosen.rows, tile_rows(&own, &heads, Class::Prompt));
        let decode = choose(&heads, &own, Class::Decode, 8192, 700);
        assert_eq!(decode.shape, Group, "decode keeps f32");
    }
}

#[test]
fn there_is_room_for_at_most_64_splits() {
    // Room in tokens: number of splits on a CPU and on a GPU.
    let table = [(1, 1, 1), (1024, 4, 16), (1025, 5, 9), (8192, 32, 64), (8193, 33, 64), (131_073, 64, 64)];
    let heads = heads(4, 2, 62);
    for (room, on_cpu, on_gpu) in table {
        for (kind, splits) in [(AdapterKind::Cpu, on_cpu), (AdapterKind::Gpu, on_gpu)] {
            assert_eq!(most_splits(kind, room), splits, "{kind:?}, {room} tokens");
            assert_eq!(
                partial_bytes(kind, &heads, 3, room),
                (3 * splits * 4 * 64 * 4) as u64,
                "{kind:?}, {room} tokens"
            );
        }
    }
}
